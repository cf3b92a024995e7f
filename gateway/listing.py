"""`_all_docs` and its kin under access: rows in the order of ids, read page after page as they are taken.

Each page is of one snapshot; a document that changes meanwhile is listed as it is when its page is read, and none is
listed twice. `total_rows` and `offset` are of the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway import limits
from gateway.callers import Caller
from gateway.documents import UNSEEN, Documents
from gateway.feeds.viewers import Viewers
from gateway.json_text import encode
from gateway.model.positions import Position
from gateway.paging import Portion
from gateway.queries import AllDocsQuery, Listing
from gateway.store.protocol import DatabaseStore, DocumentRow, IdRange, Index


@dataclass(frozen=True, slots=True)
class _Row:
    """`revs` are the winner, which is what the row tells, and the other readable leaves."""

    id: str
    revs: tuple[str, ...]


class Listings:
    """Listings of one database."""

    def __init__(self, store: DatabaseStore, viewers: Viewers, documents: Documents) -> None:
        self._store = store
        self._viewers = viewers
        self._documents = documents

    async def all_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        """Documents that the caller may read: no other counts anywhere. Raises InvalidLogin when the user is gone."""
        if query.keys is not None:
            return await self._by_keys(caller, query)
        left = limits.UNLIMITED_COUNT if query.limit is None else query.limit
        count = min(left, limits.LISTING_ROWS_COUNT)
        asked = IdRange(query.start, query.end, query.inclusive_end, query.descending, query.skip, count)

        def begin(index: Index) -> tuple[list[_Row], int, int, str]:
            opened = self._viewers.of(index, caller.user).opened
            total, below = index.count_live_by_id(opened), index.count_live_by_id(opened, asked)
            return self._rows(index, caller, asked, query), total, below, _update_seq(index)

        first, total, below, update_seq = await self._store.read(begin)
        head: dict[str, Any] = {"total_rows": total, "offset": min(total, below + query.skip)}
        if query.update_seq:
            head["update_seq"] = update_seq
        return Listing(head, self._range(caller, query, asked, first, left))

    def _rows(self, index: Index, caller: Caller, asked: IdRange, query: AllDocsQuery) -> list[_Row]:
        who = self._viewers.of(index, caller.user)
        found: Sequence[DocumentRow] = index.live_by_id(who.opened, asked)
        several = [row.document for row in found if row.leaves > 1] if query.include_docs and query.conflicts else []
        leaves = index.leaves(several) if several else {}
        return [
            _Row(
                row.id,
                tuple(leaf.rev for leaf in who.readable(leaves[row.document]))
                if row.document in leaves
                else (row.winner or "",),
            )
            for row in found
        ]

    async def _range(
        self, caller: Caller, query: AllDocsQuery, asked: IdRange, rows: list[_Row], left: int
    ) -> AsyncIterator[Sequence[bytes]]:
        while True:
            async for piece in self._encoded(rows, query):
                yield piece
            left -= len(rows)
            if len(rows) < asked.limit or left <= 0:
                return
            asked = replace(asked, after=rows[-1].id, skip=0, limit=min(left, limits.LISTING_ROWS_COUNT))

            def following(index: Index, asked: IdRange = asked) -> list[_Row]:
                return self._rows(index, caller, asked, query)

            rows = await self._store.read(following)

    async def _encoded(self, rows: Sequence[_Row], query: AllDocsQuery) -> AsyncIterator[Sequence[bytes]]:
        if not query.include_docs:
            yield [encode({"id": row.id, "key": row.id, "value": {"rev": row.revs[0]}}) for row in rows]
            return
        portion = Portion(attachments=query.attachments or query.att_encoding_info)
        at = 0
        while at < len(rows):
            some = rows[at : at + portion.count]
            at += len(some)
            docs = await self._documents.for_feed(
                [(row.id, row.revs) for row in some],
                attachments=query.attachments,
                conflicts=query.conflicts,
                encoding_info=query.att_encoding_info,
            )
            encoded = [
                encode({"id": row.id, "key": row.id, "value": {"rev": row.revs[0]}, "doc": doc})
                for row, doc in zip(some, docs, strict=True)
            ]
            portion.learn(len(encoded), sum(map(len, encoded)))
            yield encoded

    async def _by_keys(self, caller: Caller, query: AllDocsQuery) -> Listing:
        def begin(index: Index) -> int:
            return index.count_live_by_id(self._viewers.of(index, caller.user).opened)

        total = await self._store.read(begin)
        return Listing(_keys_head(total, query), self._keys(caller, query))

    async def _keys(self, caller: Caller, query: AllDocsQuery) -> AsyncIterator[Sequence[bytes]]:
        keys = _chosen(query)
        for start in range(0, len(keys), limits.LISTING_ROWS_COUNT):
            some = keys[start : start + limits.LISTING_ROWS_COUNT]
            seen = await self._documents.look(caller, {key for key in some if isinstance(key, str)})
            alive: list[_Row] = []
            for key in some:
                its = seen.get(key, UNSEEN) if isinstance(key, str) else UNSEEN
                winner = its.winner if its.winner in its.readable else None
                if winner is not None and not winner.deleted:
                    alive.append(_Row(key, tuple(leaf.rev for leaf in its.readable)))
                    continue
                if alive:
                    async for piece in self._encoded(alive, query):
                        yield piece
                    alive = []
                if winner is None:
                    yield [_no_row(key)]
                else:
                    row: dict[str, Any] = {"id": key, "key": key, "value": {"rev": winner.rev, "deleted": True}}
                    yield [encode({**row, "doc": None} if query.include_docs else row)]
            async for piece in self._encoded(alive, query):
                yield piece

    async def design_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        """What a user sees of design documents: none."""
        if query.keys is not None:
            return Listing(_keys_head(0, query), _pieces([_no_row(key) for key in _chosen(query)]))
        head: dict[str, Any] = {"total_rows": 0, "offset": 0}
        if query.update_seq:
            head["update_seq"] = await self._store.read(_update_seq)
        return Listing(head, _pieces([]))

    async def local_docs(self, caller: Caller, query: AllDocsQuery) -> Listing:
        """The caller's own local documents; CouchDB neither counts nor numbers them."""
        owner = caller.namespace
        revs = dict(await self._store.local_revs(owner))
        head: dict[str, Any] = {"total_rows": None, "offset": None}
        if query.update_seq:
            head["update_seq"] = None
        ids = _chosen(query) if query.keys is not None else _within(revs, query)
        return Listing(head, self._local(owner, revs, ids, query))

    async def _local(
        self, owner: str, revs: dict[str, str], ids: Sequence[Any], query: AllDocsQuery
    ) -> AsyncIterator[Sequence[bytes]]:
        if not query.include_docs:
            yield [_local_row(doc_id, revs[doc_id]) if _is_key(doc_id, revs) else _no_row(doc_id) for doc_id in ids]
            return
        for doc_id in ids:
            found = await self._store.local_get(owner, doc_id) if _is_key(doc_id, revs) else None
            if found is not None:
                rev, body = found
                yield [_local_row(doc_id, rev, {"_id": doc_id, "_rev": rev, **body})]
            elif query.keys is not None:
                yield [_no_row(doc_id)]


def _is_key(key: object, revs: dict[str, str]) -> bool:
    return isinstance(key, str) and key in revs


def _chosen(query: AllDocsQuery) -> Sequence[Any]:
    """The keys to answer, in order."""
    keys = list(query.keys or ())
    if query.descending:
        keys.reverse()
    return keys[query.skip :] if query.limit is None else keys[query.skip : query.skip + query.limit]


def _within(ids: Iterable[str], query: AllDocsQuery) -> Sequence[str]:
    """Those of the ids that a range chooses, in order."""
    low, high = (query.end, query.start) if query.descending else (query.start, query.end)
    found = sorted(ids, key=str.encode)
    if low is not None:
        found = [one for one in found if one.encode() >= low.encode()]
    if high is not None:
        found = [one for one in found if one.encode() <= high.encode()]
    if not query.inclusive_end:
        found = [one for one in found if one != query.end]
    if query.descending:
        found.reverse()
    return found[query.skip :] if query.limit is None else found[query.skip : query.skip + query.limit]


def _keys_head(total: int, query: AllDocsQuery) -> dict[str, Any]:
    head: dict[str, Any] = {"total_rows": total, "offset": None}
    if query.update_seq:
        head["update_seq"] = None  # as in CouchDB: with keys it asks no shard for it
    return head


def _no_row(key: Any) -> bytes:
    return encode({"key": key, "error": "not_found"})


def _local_row(doc_id: str, rev: str, doc: Any = None) -> bytes:
    row = {"id": doc_id, "key": doc_id, "value": {"rev": rev}}
    return encode(row if doc is None else {**row, "doc": doc})


async def _pieces(rows: Sequence[bytes]) -> AsyncIterator[Sequence[bytes]]:
    yield rows


def _update_seq(index: Index) -> str:
    """In the form of a feed's sequences, so that a client may go on from it."""
    return Position(index.state.last_seq).encode(index.state.epoch)
