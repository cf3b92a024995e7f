"""One running `_changes` request: pages from the index, then rows as they are committed.

An event is built, the consumer writes it, and only when it asks for the next one does the feed advance: a broken
connection costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from json.encoder import encode_basestring

from gateway import limits
from gateway.callers import Caller
from gateway.couch.upstream import Document
from gateway.feeds.page import Page, Row, Wanted, page
from gateway.feeds.selection import Selection
from gateway.feeds.viewers import Viewers
from gateway.feeds.wakes import Waiter, Wakes
from gateway.mango.fields import extract
from gateway.model.intervals import ChannelId
from gateway.model.positions import ENDLESS, START, Position
from gateway.paging import Portion
from gateway.queries import ChangesQuery
from gateway.store.protocol import DatabaseState, DatabaseStore, Entry, Index

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeedRows:
    """Rows to send, each encoded JSON without a line end, in order. Sent completely before the next event is asked."""

    rows: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing to tell for heartbeat_s: send one line end."""


@dataclass(frozen=True, slots=True)
class _Built:
    since: Position
    page: Page
    opened: Collection[ChannelId]
    last_seq: int
    awaited: ChannelId | None = None  # every change in this channel may be one for this feed


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything up to now was sent: the feed begins to wait. Told once, and on `websocket` only."""


# Documents of rows: `(doc id, rev, other readable revs)` → the document to include.
IncludeDocs = Callable[[Sequence[tuple[str, tuple[str, ...]]]], Awaitable[list[Document | None]]]


class Feed:
    """One running `_changes` request.

    Iterate `events()` to its end; `last_seq` and `pending` are what to answer after it. Taking the next event says
    that the one before was written, only then the feed advances. Raises Unauthorized in the middle when the user
    is deleted, disabled or changes the password.
    """

    def __init__(
        self,
        *,
        store: DatabaseStore,
        wakes: Wakes,
        viewers: Viewers,
        epoch: str,
        caller: Caller,
        query: ChangesQuery,
        still_valid: Callable[[], Awaitable[None]],
        include_docs: IncludeDocs,
        selection: Selection | None = None,
    ) -> None:
        """`still_valid` raises Unauthorized when the caller may not go on."""
        self._store = store
        self._wakes = wakes
        self._viewers = viewers
        self._epoch = epoch
        self._caller = caller
        self._query = query
        self._still_valid = still_valid
        self._include_docs = include_docs
        self._selection = selection
        self._selected: tuple[Sequence[Row], Sequence[tuple[str, ...]]] = ((), ())
        self._told_at = 0.0  # when the client last heard of this feed
        self._position = START
        self._begun = False
        self._doc_ids = None if query.doc_ids is None else frozenset(query.doc_ids)
        self._portion = None
        if query.include_docs:
            self._portion = Portion(attachments=query.attachments or query.att_encoding_info)
        self._left = query.limit if query.limit is not None else limits.UNLIMITED_COUNT
        self.pending = 0

    @property
    def last_seq(self) -> str:
        return self._position.encode(self._epoch)

    async def events(self) -> AsyncIterator[FeedRows | Heartbeat | CaughtUp]:
        """Rows and heartbeats until the feed is over."""
        self._told_at = asyncio.get_running_loop().time()
        if self._query.descending:
            async for event in self._descending():
                yield event
            return
        waiter = self._wakes.register(self._caller.user) if self._query.feed != "normal" else None
        try:
            sent = False
            tells = self._query.feed == "websocket"
            while True:
                built = await self._build()
                last = built.page.last
                if self._selection is None and built.page.rows:
                    yield FeedRows(await self._encode(built.page.rows))
                    sent = True
                    self._left -= len(built.page.rows)
                elif self._selection is not None:
                    async with aclosing(self._select(self._selection, built.page.rows)) as beats:
                        async for beat in beats:
                            yield beat
                    rows, revs = self._selected
                    if len(rows) >= self._left:
                        rows, revs = rows[: self._left], revs[: self._left]
                        last = rows[-1].position if rows else built.since
                    if rows:
                        yield FeedRows(await self._encode(rows, revs))
                        sent = True
                        self._told_at = asyncio.get_running_loop().time()
                        self._left -= len(rows)
                self._position = max(self._position, last)
                self.pending = built.page.pending
                if self._selection is not None and self._left <= 0:
                    self.pending = await self._count_pending()
                elif self._selection is not None and waiter is not None and self._is_silent_too_long():
                    return
                caught_up = last == Position(built.last_seq)
                if self._left <= 0 or waiter is None or (sent and caught_up and self._query.feed == "longpoll"):
                    if caught_up or self._left <= 0:
                        return
                    continue
                if not caught_up or not self._wakes.watch(waiter, built.opened, built.last_seq, built.awaited):
                    continue
                if tells:
                    tells = False
                    yield CaughtUp()
                async for event in self._wait(waiter):
                    yield event
                    sent = sent or isinstance(event, FeedRows)
                if not waiter.reread:
                    return
        finally:
            if waiter is not None:
                self._wakes.leave(waiter)

    def _begin(self, state: DatabaseState) -> Position:
        """Where the client's `since` is in this database."""
        since = self._query.since
        if since is None:
            return Position(state.last_seq)
        position = since.within(self._epoch, state.last_seq)
        if position != since.position:
            log.info("a client's position %s is not of this database's epoch: it starts from 0", since.position)
        return position

    async def _build(self) -> _Built:
        """The next page, from one snapshot with the user's access (A17)."""
        await self._still_valid()
        query = self._query
        limit = min(self._left, self._at_once)
        wanted = Wanted(
            limit=limit,
            revocations=query.revocations,
            active_only=query.active_only,
            pending=limit == self._left,
            doc_ids=query.doc_ids,
        )
        if self._selection is not None:
            wanted = replace(wanted, limit=self._at_once, pending=False)
        return await self._built(wanted)

    async def _count_pending(self) -> int:
        """The rows that follow, before the selector: CouchDB counts them so, too. Capped as in a page."""
        built = await self._built(
            Wanted(
                limit=limits.CHANGES_PAGE_ROWS_COUNT,
                revocations=self._query.revocations,
                active_only=self._query.active_only,
                pending=True,
            )
        )
        return len(built.page.rows) + built.page.pending

    async def _built(self, wanted: Wanted) -> _Built:
        query, position, begun = self._query, self._position, self._begun

        def build(index: Index) -> _Built:
            since = position if begun else self._begin(index.state)
            who = self._viewers.of(index, self._caller.user, query.channels)
            awaited = who.star if who.awaited else None
            return _Built(since, page(index, who, since, wanted), who.opened.keys(), index.state.last_seq, awaited)

        built = await self._store.read(build)
        self._begun, self._position = True, built.since
        return built

    @property
    def _at_once(self) -> int:
        """Rows to build for one event: what they hold is held until the client has taken it."""
        return limits.CHANGES_PAGE_ROWS_COUNT if self._portion is None else self._portion.count

    async def _wait(self, waiter: Waiter) -> AsyncIterator[FeedRows | Heartbeat]:
        """Rows from memory until the feed is over, or has to read the store again (`waiter.reread`)."""
        loop = asyncio.get_running_loop()
        query = self._query
        self._told_at = loop.time()
        while True:
            # A heartbeat overrides the timeout, as in CouchDB. Rows that are left out move neither.
            pause = query.timeout_s if query.heartbeat_s is None else query.heartbeat_s
            pause -= loop.time() - self._told_at
            try:
                async with asyncio.timeout(pause):
                    await waiter.woken.wait()
            except TimeoutError:
                if not waiter.woken.is_set():
                    # Nothing that concerns this feed was committed up to now: the client may skip it all.
                    self._position = max(self._position, Position(self._wakes.last_seq))
                    pause = 0
            if pause <= 0:
                if query.heartbeat_s is None:
                    return
                yield Heartbeat()
                self._told_at = loop.time()
            if not waiter.woken.is_set():
                continue
            await self._still_valid()
            if waiter.reread:
                return
            taken, upto = waiter.take()
            wanted = self._wanted_entries(taken)
            if not wanted:
                continue
            if len(wanted) > self._at_once:
                waiter.reread = True  # in pages
                return
            rows: Sequence[Row] = [
                Row(Position(entry.seq), entry.id, (entry.winner or "",), "live") for entry in wanted
            ]
            revs: Sequence[tuple[str, ...]] | None = None
            if self._selection is not None:
                async with aclosing(self._select(self._selection, rows)) as beats:
                    async for beat in beats:
                        yield beat
                rows, revs = self._selected
                revs = revs[: self._left]
            self.pending = max(len(rows) - self._left, 0)
            rows = rows[: self._left]
            if rows:
                yield FeedRows(await self._encode(rows, revs))
                self._told_at = loop.time()
                self._left -= len(rows)
            last = rows[-1].position if rows and self._left <= 0 else Position(upto)
            self._position = max(self._position, last)
            if (rows and query.feed == "longpoll") or self._left <= 0:
                return

    async def _select(self, selection: Selection, rows: Sequence[Row]) -> AsyncGenerator[Heartbeat, None]:
        """Put the rows that match, with the revisions to tell, into `_selected`. Heartbeats go on meanwhile."""
        loop = asyncio.get_running_loop()
        beat = self._query.heartbeat_s
        matching = asyncio.ensure_future(selection.passing(rows))
        try:
            while True:
                left = None if beat is None else max(self._told_at + beat - loop.time(), 0)
                done, _ = await asyncio.wait({matching}, timeout=left)
                if done:
                    break
                yield Heartbeat()
                self._told_at = loop.time()
            passed = [(row, revs) for row, revs in zip(rows, matching.result(), strict=True) if revs is not None]
            self._selected = [row for row, _ in passed], [revs for _, revs in passed]
        finally:
            matching.cancel()

    def _is_silent_too_long(self) -> bool:
        """Whether a feed that waits must end, without a heartbeat, though it has not seen everything yet."""
        if self._query.heartbeat_s is not None:
            return False
        return asyncio.get_running_loop().time() - self._told_at >= self._query.timeout_s

    def _wanted_entries(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        if self._doc_ids is not None:
            entries = [entry for entry in entries if entry.id in self._doc_ids]
        return entries

    async def _descending(self) -> AsyncIterator[FeedRows | Heartbeat]:
        """Only what is readable now, the newest first; there is nothing to wait for and nothing to resume."""
        await self._still_valid()
        before = (await self._store.state()).last_seq + 1
        self._position = Position(before - 1)
        while self._left > 0:
            upto, at_once = before, self._at_once

            def build(index: Index, upto: int = upto, at_once: int = at_once) -> tuple[list[Row], int | None]:
                who = self._viewers.of(index, self._caller.user, self._query.channels)
                found = index.live_descending(who.opened, upto, at_once)
                documents = index.documents([document for _, document in found])
                several = [number for number, document in documents.items() if document.leaves > 1]
                leaves = index.leaves(several) if several else {}
                rows = []
                for seq, number in found:
                    document = documents[number]
                    revs: tuple[str, ...] = (document.winner or "",)
                    if number in leaves:
                        revs = tuple(leaf.rev for leaf in who.readable(leaves[number]))
                    rows.append(Row(Position(seq), document.id, revs, "live"))
                full = len(found) == at_once
                return rows, found[-1][0] if full else None

            rows, next_before = await self._store.read(build)
            rows = [row for row in rows if self._doc_ids is None or row.id in self._doc_ids]
            revs: Sequence[tuple[str, ...]] | None = None
            if self._selection is not None:
                async with aclosing(self._select(self._selection, rows)) as beats:
                    async for beat in beats:
                        yield beat
                selected, revs = self._selected
                rows, revs = list(selected), revs[: self._left]
            rows = rows[: self._left]
            if rows:
                yield FeedRows(await self._encode(rows, revs))
                self._left -= len(rows)
                self._position = rows[-1].position
            if next_before is None:
                return
            before = next_before

    async def _encode(self, rows: Sequence[Row], revs: Sequence[tuple[str, ...]] | None = None) -> list[bytes]:
        """`revs`: of each row those to tell, if not all."""
        query = self._query
        docs: Sequence[Document | None] = ()
        if query.include_docs:
            docs = await self._include_docs([(row.id, row.revs) for row in rows])
            if query.fields is not None:
                docs = [doc and extract(doc, query.fields) for doc in docs]
        if revs is not None:
            rows = [row._replace(revs=some) for row, some in zip(rows, revs, strict=True)]
        if query.style == "main_only":
            rows = [row._replace(revs=row.revs[:1]) if len(row.revs) > 1 else row for row in rows]
        if not query.include_docs:
            return [_encoded(row, self._epoch) for row in rows]
        encoded = [_encoded(row, self._epoch, doc) for row, doc in zip(rows, docs, strict=True)]
        if self._portion is not None:
            self._portion.learn(len(encoded), sum(map(len, encoded)))
        return encoded


_ABSENT: Document = {}


def _encoded(row: Row, epoch: str, doc: Document | None = _ABSENT) -> bytes:
    """One row as JSON. A page is made of hundreds, so what is always the same is not left to the encoder."""
    changes = "},".join([f'{{"rev":{encode_basestring(rev)}' for rev in row.revs])
    changes += "}" if changes else ""
    text = f'{{"seq":"{row.position.encode(epoch)}","id":{encode_basestring(row.id)},"changes":[{changes}]'
    if row.kind == "deleted":
        text += ',"deleted":true'
    elif row.kind == "loss":
        text += ',"removed":true' if row.position.minor == ENDLESS else ',"revoked":true'
    if row.reset:
        text += ',"reset":true'
    if doc is not _ABSENT and row.kind != "loss":
        text += ',"doc":' + json.dumps(doc, ensure_ascii=False, separators=(",", ":"))
    return (text + "}").encode("utf-8", "surrogatepass")
