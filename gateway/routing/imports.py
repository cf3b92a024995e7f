"""Which documents that somebody wrote straight to the upstream are taken in.

What is not taken in is not in the index, and so is nowhere for users. The gateway's own writes are told from others by
their verdicts, and after a crash by what was noted before they were sent.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

from gateway import limits
from gateway.couch.upstream import Document
from gateway.errors import GatewayError, RefusedBySyncFunction, UnauthorizedBySyncFunction
from gateway.model.routing import ADMIN, Call, Verdict, body_digest
from gateway.store.protocol import DatabaseStore
from gateway.syncfn.runtime import SyncFunction

NOTHING_IS: Final = "this database imports nothing (import: false)"
NOT_TAKEN: Final = "the import filter does not take it"
_LAST_SEMICOLON: Final = re.compile(r";\s*\Z")
_ALL: Final = "all"  # what the store remembers where everything is taken in; older stores have nothing


class Imports:
    """The rules of one database, and what it remembers for them."""

    def __init__(self, store: DatabaseStore, *, enabled: bool, filter_source: str | None, name: str) -> None:
        """`filter_source` is JavaScript, a function of a document; `name` of the database is for the log.

        Raises BadSyncFunction.
        """
        self._store = store
        self._filter: SyncFunction | None = None
        if enabled and filter_source is not None:
            self._filter = SyncFunction(_asking(filter_source), name=f"import filter of {name}")
        self.restricted = not enabled or self._filter is not None
        rule = filter_source if enabled else "none"
        self.digest = hashlib.sha256(rule.encode()).hexdigest() if rule is not None else _ALL
        self.refused_count = 0

    async def close(self) -> None:
        if self._filter is not None:
            await self._filter.close()

    async def note_own(self, writes: Collection[tuple[str, str]]) -> None:
        """Before writes, (document, digest of the body), are sent upstream. Raises StoreUnavailable."""
        if self.restricted:
            await self._store.note_own(writes, time.time())

    async def forget_own(self) -> None:
        """Once everything upstream is routed: what was sent long ago is routed, too."""
        if self.restricted:
            await self._store.forget_own(time.time() - limits.OWN_WRITES_SECONDS)

    async def reasons(self, foreign: Sequence[tuple[Document, bool]]) -> list[str | None]:
        """For each leaf without a verdict why it is not taken in; None: it is.

        With each goes whether it is followed in any case, because of what the index has of the document.
        """
        answer: list[str | None] = [None] * len(foreign)
        if not self.restricted:
            return answer
        writes = [(leaf["_id"], body_digest(leaf)) for leaf, _ in foreign]
        own = await self._store.own(writes)
        asked = [at for at, (_, followed) in enumerate(foreign) if not followed and writes[at] not in own]
        if self._filter is None:
            for at in asked:
                answer[at] = NOTHING_IS
        else:
            calls = [Call(foreign[at][0], None, ADMIN) for at in asked]
            for at, verdict in zip(asked, await self._filter.run(calls), strict=True):
                answer[at] = None if verdict.error is None else _reason(verdict.error, verdict)
        self.refused_count += sum(reason is not None for reason in answer)
        return answer

    async def follow(self, again: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """Where the rules are others than before, look again at what they left out; `again` reads documents upstream
        and routes them. What was taken in stays."""
        before = (await self._store.state()).import_rules
        if before == self.digest:
            return
        after = ""
        while before and (ids := await self._store.not_imported_ids(after, limits.ROUTER_BATCH_ROWS_COUNT)):
            await again(ids)
            after = ids[-1]
        if not self.restricted:
            await self._store.forget_not_imported()
        await self._store.remember(import_rules=self.digest)

    async def forget(self) -> None:
        """The upstream is another one: what was not taken in of the other is of no matter."""
        await self._store.forget_not_imported()

    async def note(self, found: Mapping[str, Mapping[str, str]]) -> None:
        """What is not taken in of each document that was looked at: document → revision → reason.

        Called before the index is told, whose transaction says how far the upstream was followed: after a crash
        between the two the same is looked at again.
        """
        if self.restricted:
            await self._store.note_not_imported(found, time.time())


def _asking(source: str) -> str:
    """A function for the engine of sync functions that refuses what the filter does not take.

    The filter stands first, so that the lines and columns of its errors are its own, but for one column.
    """
    source = _LAST_SEMICOLON.sub("", source)
    refuse = f"function (doc) {{ if (!take(doc)) throw({{forbidden: {NOT_TAKEN!r}}}); }}"
    return f"[{source}\n].map((take) => {refuse})[0]"


def _reason(error: GatewayError, verdict: Verdict) -> str:
    if isinstance(error, (RefusedBySyncFunction, UnauthorizedBySyncFunction)):
        return error.reason if error.reason == NOT_TAKEN else f"the import filter refused it: {error.reason}"
    thrown = verdict.thrown is not None and verdict.logs  # whose last line says what, and where
    return f"the import filter failed: {verdict.logs[-1] if thrown else error.reason}"
