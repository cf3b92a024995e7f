"""One batch of documents after another put to another sync function, and what differs kept beside the routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from gateway import limits
from gateway.couch.upstream import Document, RevisionRef, UpstreamDatabase
from gateway.errors import (
    GatewayError,
    RefusedBySyncFunction,
    SyncFunctionRanAway,
    UnauthorizedBySyncFunction,
    UnreadableDocument,
)
from gateway.model.revisions import history
from gateway.model.routing import ADMIN, Call, Verdict
from gateway.pauses import Pauses
from gateway.resync.differences import Said, differences
from gateway.store.resync_protocol import ResyncStore, RoutedDocument
from gateway.syncfn.runtime import SyncFunction

_NOT_THERE = "this revision is not upstream any more"
_Bodies: TypeAlias = "dict[RevisionRef, Document | UnreadableDocument]"


class RanAwayTooOften(Exception):
    """The function ran away on RESYNC_RUNAWAYS_COUNT documents, a second each: it will on others, too."""


class Computing:
    """The work of one job. `function` is a process of its own, so nobody who reads or writes waits for it."""

    def __init__(self, store: ResyncStore, upstream: UpstreamDatabase, function: SyncFunction) -> None:
        self._store = store
        self._upstream = upstream
        self._function = function
        self._runaways_count = 0

    async def batch(self, cursor: int, limit: int) -> tuple[int, int]:
        """Compute the first documents after the cursor: how many there were, and the cursor after them.

        Raises what the upstream, the store and the function's process raise; then nothing of the batch is kept.
        """
        documents = await self._store.batch(cursor, limit)
        if not documents:
            return 0, cursor
        said = await self._said(documents)
        pauses = Pauses()
        computed = []
        for document in documents:
            await pauses.when_due()
            its = {leaf.rev: said[RevisionRef(document.id, leaf.rev)] for leaf in document.leaves}
            computed.append(differences(document, its))
        cursor = documents[-1].seq
        await self._store.put(computed, cursor)
        return len(documents), cursor

    async def _said(self, documents: Sequence[RoutedDocument]) -> dict[RevisionRef, Said]:
        """What the function says of each leaf, as an administrator's: as the router asks about what it reads back."""
        asked_at = {
            RevisionRef(document.id, leaf.rev): leaf.routing.asked_at or None
            for document in documents
            for leaf in document.leaves
        }
        refs = list(asked_at)
        bodies = await self._read(refs)
        parents = {ref: _parent(doc) for ref, doc in bodies.items() if isinstance(doc, dict)}
        wanted = {parent for parent in parents.values() if parent is not None and parent not in bodies}
        old = bodies | await self._read(list(wanted))
        said: dict[RevisionRef, Said] = {}
        asked: list[RevisionRef] = []
        calls: list[Call] = []
        for ref in refs:
            doc = bodies.get(ref)
            if isinstance(doc, dict):
                parent = parents[ref]
                old_doc = old.get(parent) if parent is not None else None
                asked.append(ref)
                known = old_doc if isinstance(old_doc, dict) else None
                calls.append(Call(doc, known, ADMIN, asked_at=asked_at[ref]))
            else:
                said[ref] = Said(refused=_NOT_THERE if doc is None else doc.reason)
        for ref, verdict in zip(asked, await self._function.run(calls), strict=True):
            said[ref] = self._understood(verdict)
        if self._runaways_count > limits.RESYNC_RUNAWAYS_COUNT:
            raise RanAwayTooOften
        return said

    def _understood(self, verdict: Verdict) -> Said:
        error = verdict.error
        if error is None:
            return Said(verdict.routing)
        if isinstance(error, (RefusedBySyncFunction, UnauthorizedBySyncFunction)):
            return Said(refused=error.reason)
        self._runaways_count += isinstance(error, SyncFunctionRanAway)
        return Said(refused=error.reason, failed=_explained(error, verdict))

    async def _read(self, refs: Sequence[RevisionRef]) -> _Bodies:
        """Those of the revisions that are upstream. Past the cache: what is served must not make room for this."""
        found: _Bodies = {}
        for start in range(0, len(refs), limits.UPSTREAM_BATCH_DOCUMENTS_COUNT):
            await self._read_some(refs[start : start + limits.UPSTREAM_BATCH_DOCUMENTS_COUNT], found)
        return found

    async def _read_some(self, refs: Sequence[RevisionRef], found: _Bodies) -> None:
        """The bulk that one unreadable document spoils is read in halves."""
        try:
            read = await self._upstream.read(refs)
        except UnreadableDocument as error:
            if len(refs) == 1:
                found[refs[0]] = error
                return
            half = len(refs) // 2
            await self._read_some(refs[:half], found)
            await self._read_some(refs[half:], found)
            return
        found |= {ref: doc for ref, doc in zip(refs, read, strict=True) if doc is not None}


def _parent(doc: Document) -> RevisionRef | None:
    revs = history(doc["_revisions"]) if "_revisions" in doc else []
    return RevisionRef(doc["_id"], revs[1]) if len(revs) > 1 else None


def _explained(error: GatewayError, verdict: Verdict) -> str:
    """With what was thrown, which administrators may know."""
    return f"{error.reason}: {verdict.logs[-1]}" if verdict.thrown is not None and verdict.logs else error.reason
