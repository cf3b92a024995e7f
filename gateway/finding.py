"""`_find` for users: the documents that they may read, matched here, the same over every upstream.

Candidates come from the routing index in order of their ids, bodies through the revision cache. CouchDB's own indexes
know nothing of channels, so each query is a scan of what its asker may read, unless it names ids.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from gateway import limits
from gateway.callers import Caller
from gateway.couch.revision_cache import RevisionReader, StoredRevision
from gateway.couch.upstream import RevisionRef
from gateway.errors import InvalidQuery, TooManyRequests, Unavailable, UnreadableDocument
from gateway.feeds.viewer import Viewer
from gateway.feeds.viewers import Viewers
from gateway.mango.ids import Ids, ids_of
from gateway.mango.matching import Matching
from gateway.mango.query import Find, Found, answer_text
from gateway.mango.rows import Rows, rows_of
from gateway.mango.selector import predicate
from gateway.store.protocol import DatabaseStore, DocumentRow, IdRange, Index

log = logging.getLogger(__name__)

_FIRST_ROWS_COUNT = 200  # of the index; most queries need no more
_GROWTH = 5


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A live document that may be read, with its winner; `conflicts` are other readable leaves that live."""

    ref: RevisionRef
    conflicts: tuple[str, ...]


class Finder:
    """The `_find` requests of one database's users."""

    def __init__(self, store: DatabaseStore, reader: RevisionReader, viewers: Viewers, matching: Matching) -> None:
        self._store = store
        self._reader = reader
        self._viewers = viewers
        self._matching = matching
        self._running: Counter[str | None] = Counter()
        self._held_bytes = 0

    async def find(self, caller: Caller, find: Find) -> bytes:
        """The body of the answer. Raises InvalidQuery, TooLarge, TooManyRequests, Unavailable, InvalidLogin, and
        UpstreamError when bodies cannot be read."""
        if self._running.total() >= limits.FINDS_COUNT:
            raise Unavailable(f"more than {limits.FINDS_COUNT} queries are running (limit FINDS_COUNT)")
        if self._running[caller.user] >= limits.FINDS_OF_USER_COUNT:
            raise TooManyRequests(
                f"more than {limits.FINDS_OF_USER_COUNT} queries of this user are running (limit FINDS_OF_USER_COUNT)"
            )
        self._running[caller.user] += 1
        try:
            return await _Scan(self, caller, find).run()
        finally:
            self._running[caller.user] -= 1
            if not self._running[caller.user]:
                del self._running[caller.user]

    def hold(self, more: int) -> None:
        """Count bytes of answers that wait to be sent. Raises Unavailable past the limit."""
        self._held_bytes += more
        if more > 0 and self._held_bytes > limits.FINDS_ANSWERS_BYTES:
            raise Unavailable(f"the answers of all queries hold more than {limits.FINDS_ANSWERS_BYTES} bytes")

    async def page(
        self, caller: Caller, find: Find, ids: Ids, after: str | None, count: int
    ) -> tuple[list[_Candidate], str | None]:
        """Up to `count` candidates after an id, in the order of the query; and the id to go on after, None at the
        end."""
        backwards = find.by_id and find.descending
        if ids.only is not None:
            left = list(reversed(ids.only)) if backwards else list(ids.only)
            if after is not None:
                left = [one for one in left if (one < after if backwards else one > after)]
            some = left[:count]
            found = await self._store.read(lambda index: self._by_ids(index, caller, some, find.conflicts))
            return found, some[-1] if len(left) > count else None
        low, high = ids.low, ids.high
        if after is not None and backwards:
            high = after if high is None else min(high, after)
        elif after is not None:
            low = after if low is None else max(low, after)
        first, last = (high, low) if backwards else (low, high)
        asked = IdRange(first, last, descending=backwards, limit=count + 1)

        def read(index: Index) -> tuple[list[_Candidate], str | None]:
            who = self._viewers.of(index, caller.user)
            rows = index.live_by_id(who.opened, asked)
            more = rows[-1].id if len(rows) > count else None
            return _candidates(index, who, [row for row in rows if row.id != after], find.conflicts), more

        return await self._store.read(read)

    def _by_ids(self, index: Index, caller: Caller, ids: Collection[str], conflicts: bool) -> list[_Candidate]:
        who = self._viewers.of(index, caller.user)
        known = index.find(ids)
        live_in = index.channels_of([row.document for row in known.values()])
        opened = who.opened.keys()
        rows = [known[one] for one in ids if one in known]
        return _candidates(
            index, who, [row for row in rows if not opened.isdisjoint(live_in.get(row.document, ()))], conflicts
        )

    async def again(self, caller: Caller, find: Find, candidates: Sequence[_Candidate]) -> list[_Candidate]:
        """What became of documents whose revision was replaced and is gone before it could be read."""
        ids = [one.ref.id for one in candidates]
        found = await self._store.read(lambda index: self._by_ids(index, caller, ids, find.conflicts))
        before = {one.ref for one in candidates}
        return [one for one in found if one.ref not in before]

    async def bodies(self, candidates: Sequence[_Candidate]) -> list[StoredRevision | None]:
        """Their bodies; None for one that is gone, or that nobody could fetch either."""
        read = await self._reader.revisions_each([one.ref for one in candidates])
        for stored in read:
            if isinstance(stored, UnreadableDocument):
                log.warning("a query passes over a document that cannot be read: %s", stored.reason)
        return [stored if isinstance(stored, StoredRevision) else None for stored in read]

    @property
    def matching(self) -> Matching:
        return self._matching


def _candidates(index: Index, who: Viewer, rows: Sequence[DocumentRow], conflicts: bool) -> list[_Candidate]:
    """The winner of a document that lives in an open channel is readable; its other leaves are looked at."""
    several = [row.document for row in rows if row.leaves > 1] if conflicts else []
    leaves = index.leaves(several) if several else {}
    found = []
    for row in rows:
        if row.winner is None or row.deleted:
            continue
        others = [leaf.rev for leaf in who.readable(leaves.get(row.document, ())) if not leaf.deleted]
        found.append(_Candidate(RevisionRef(row.id, row.winner), tuple([rev for rev in others if rev != row.winner])))
    return found


class _Scan:
    """One query on its way through the documents."""

    def __init__(self, finder: Finder, caller: Caller, find: Find) -> None:
        self._finder = finder
        self._caller = caller
        self._find = find
        self._rows: Rows = rows_of(find)
        self._examined = 0
        self._started = time.monotonic()

    async def run(self) -> bytes:
        find, matching = self._find, self._finder.matching
        await matching.run(lambda: predicate(find.node))  # a bad pattern is refused even where there is nothing
        held = 0
        try:
            if not self._rows.is_full() and not find.finds_nothing:
                async with aclosing(self._batches()) as batches:
                    async for batch in batches:
                        await self._match(batch)
                        more = self._rows.size - held
                        held += more
                        self._finder.hold(more)
                        if self._rows.is_full():
                            break
            docs = await matching.run(self._rows.docs)
            milliseconds = (time.monotonic() - self._started) * 1000
            return answer_text(find, Found(docs, self._rows.bookmark(), self._examined, milliseconds))
        finally:
            self._finder.hold(-held)

    async def _batches(self) -> AsyncGenerator[Sequence[_Candidate], None]:
        ids, after = ids_of(self._find.node), self._find.resume_id() if self._find.by_id else None
        count = _FIRST_ROWS_COUNT
        while True:
            found, after = await self._finder.page(self._caller, self._find, ids, after, count)
            for start in range(0, len(found), limits.SELECTOR_BATCH_DOCUMENTS_COUNT):
                yield found[start : start + limits.SELECTOR_BATCH_DOCUMENTS_COUNT]
            if after is None:
                return
            count = min(count * _GROWTH, limits.FIND_INDEX_ROWS_COUNT)

    async def _match(self, batch: Sequence[_Candidate]) -> None:
        async with self._finder.matching.turn():
            stored = await self._finder.bodies(batch)
            gone = [one for one, body in zip(batch, stored, strict=True) if body is None]
            if gone and (newer := await self._finder.again(self._caller, self._find, gone)):
                newest = dict(zip([one.ref.id for one in newer], newer, strict=True))
                batch = [newest.get(one.ref.id, one) for one in batch]
                stored = await self._finder.bodies(batch)
            left = limits.FIND_SECONDS - (time.monotonic() - self._started)
            if left <= 0:
                raise InvalidQuery(
                    "timeout",
                    f"the query takes longer than {limits.FIND_SECONDS:.0f} s (limit FIND_SECONDS);"
                    " narrow it down by _id",
                )
            await self._finder.matching.run(lambda: self._take(batch, stored, left))

    def _take(self, batch: Sequence[_Candidate], stored: Sequence[StoredRevision | None], seconds: float) -> None:
        """In a thread. The batch is in the order of the query."""
        matches = predicate(self._find.node, min(seconds, limits.SELECTOR_BATCH_SECONDS))
        for one, body in zip(batch, stored, strict=True):
            if body is None:
                continue
            doc = body.document(revisions=False)
            if one.conflicts:
                doc["_conflicts"] = list(one.conflicts)
            self._examined += 1
            if matches(doc):
                self._rows.take(doc)
                if self._rows.is_full():
                    return
