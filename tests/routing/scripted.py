"""A real upstream database whose feed and answers a test can hold, repeat, swallow, make lag and break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from gateway.couch.upstream import (
    ChangeRow,
    DatabaseInfo,
    Document,
    Identity,
    Idle,
    RevisionRef,
    UpstreamDatabase,
    UpstreamResponse,
    WriteResult,
)
from gateway.embedded.server import EmbeddedServer
from gateway.errors import GatewayError, UnreadableDocument, UpstreamOutcomeUnknown, UpstreamUnreachable


def opened() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def _at_once(wanted: Sequence[RevisionRef]) -> None:
    """Reads wait for nothing."""


class ScriptedDatabase:
    """An `UpstreamDatabase` over another one. Without a script it only passes everything through."""

    def __init__(self, inner: UpstreamDatabase) -> None:
        self.inner = inner
        self.name = inner.name
        # The feed
        self.feed_open = opened()  # cleared: rows wait, as on a slow connection
        self.swallow: Callable[[ChangeRow], bool] = lambda row: False  # rows that never come (coalesced)
        self.without_seq = False  # as between rows under seq_interval
        self.swallowed: list[ChangeRow] = []
        self.handed: list[ChangeRow] = []
        self.sinces: list[str] = []
        self._queue: asyncio.Queue[ChangeRow | Idle | Exception] = asyncio.Queue()
        # Writes
        self.may_store = opened()  # cleared: a write waits before it is stored
        self.may_answer = opened()  # cleared: a write is stored, its answer waits
        self.lose_answer: list[bool] = []  # for the next writes: is it stored before the connection breaks?
        self.results: Callable[[WriteResult], WriteResult] = lambda result: result
        self.bulks: list[list[Document]] = []
        self.stored_count = 0
        # Reads
        self.lagging: dict[str, list[list[Document]]] = {}  # the next answers of leaves() for a document
        self.leaf_reads: list[str] = []
        self.looked_ahead: list[bool] = []  # what has_changes() answered
        self.leaves_error: Callable[[Sequence[str]], Exception | None] = lambda ids: None
        self.unreadable: set[str] = set()  # revisions that cannot be read
        self.before_read: Callable[[Sequence[RevisionRef]], Awaitable[None]] = _at_once
        self.gone = False  # nothing can be reached
        self.pretended: Identity | None = None
        self.update_seq: str | None = None

    # Script

    def tell(self, *rows: ChangeRow) -> None:
        """Rows that the feed hands out now, as if they had come from upstream; then it is idle."""
        for row in rows:
            self._queue.put_nowait(row)
        self._queue.put_nowait(Idle())

    def break_feed(self) -> None:
        self._queue.put_nowait(UpstreamUnreachable("the connection broke"))

    async def row(self, doc: str, *, seq: str | None = None) -> ChangeRow:
        """The row that a document would have now."""
        leaves = await self.inner.leaves([doc])
        revs = tuple(leaf["_rev"] for leaf in leaves[0])
        return ChangeRow(doc, revs, bool(leaves[0][0].get("_deleted")), seq)

    def _reachable(self) -> None:
        if self.gone:
            raise UpstreamUnreachable("nothing is there")

    # UpstreamDatabase

    async def identity(self) -> Identity:
        self._reachable()
        return self.pretended or await self.inner.identity()

    async def info(self) -> DatabaseInfo:
        self._reachable()
        info = await self.inner.info()
        if self.pretended is not None:
            info = replace(info, instance_start_time=self.pretended.instance_start_time)
        return info if self.update_seq is None else replace(info, update_seq=self.update_seq)

    async def write(self, docs: Sequence[Document], *, new_edits: bool) -> list[WriteResult]:
        self._reachable()
        self.bulks.append(list(docs))
        lost = bool(self.lose_answer)
        if lost and not self.lose_answer.pop(0):
            raise UpstreamOutcomeUnknown("the connection broke before anything was stored")
        await self.may_store.wait()
        results = await self.inner.write(docs, new_edits=new_edits)
        self.stored_count += len(docs)
        if lost:
            raise UpstreamOutcomeUnknown("the connection broke after everything was stored")
        await self.may_answer.wait()
        return [self.results(result) for result in results]

    async def read(self, wanted: Sequence[RevisionRef], *, attachments: bool = False) -> list[Document | None]:
        await self.before_read(wanted)
        self._reachable()
        if bad := [ref.rev for ref in wanted if ref.rev in self.unreadable]:
            raise UnreadableDocument(f"revision {bad[0]} is nested too deeply")
        return await self.inner.read(wanted, attachments=attachments)

    async def leaves(self, ids: Sequence[str]) -> list[list[Document]]:
        self._reachable()
        self.leaf_reads += ids
        if (error := self.leaves_error(ids)) is not None:
            raise error
        true = await self.inner.leaves(ids)
        return [
            self.lagging[doc].pop(0) if self.lagging.get(doc) else leaves for doc, leaves in zip(ids, true, strict=True)
        ]

    async def revs_diff(self, revs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
        self._reachable()
        return await self.inner.revs_diff(revs)

    async def changes(self, since: str) -> AsyncGenerator[ChangeRow | Idle, None]:
        self._reachable()
        self.sinces.append(since)
        queue = self._queue
        pump = asyncio.create_task(self._pump(since, queue))
        try:
            while True:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, ChangeRow):
                    self.handed.append(item)
                yield item
        finally:
            self._queue = asyncio.Queue()  # what is told from now on is for the next feed
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, since: str, queue: asyncio.Queue[ChangeRow | Idle | Exception]) -> None:
        feed = self.inner.changes(since)
        try:
            async for item in feed:
                await self.feed_open.wait()
                if isinstance(item, ChangeRow):
                    if self.swallow(item):
                        self.swallowed.append(item)
                        continue
                    queue.put_nowait(replace(item, seq=None) if self.without_seq else item)
                else:
                    queue.put_nowait(item)
        except GatewayError as error:
            queue.put_nowait(error)
        finally:
            await feed.aclose()

    async def has_changes(self, since: str) -> bool:
        self._reachable()
        found = await self.inner.has_changes(since)
        self.looked_ahead.append(found)
        return found

    async def purged(self) -> list[tuple[str, list[str]]]:
        return await self.inner.purged()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        self._reachable()
        return await self.inner.request(method, path, query=query, headers=headers, body=body)


class ScriptedUpstream:
    """An `Upstream` that hands out its databases as scripted ones."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.databases: dict[str, ScriptedDatabase] = {}

    async def check(self) -> None:
        await self.server.check()

    async def open(self, name: str, *, create: bool) -> ScriptedDatabase:
        inner = await self.server.open(name, create=create)
        self.databases[name] = ScriptedDatabase(inner)
        return self.databases[name]

    async def recreate(self, name: str) -> None:
        """Delete the database and create another of that name, as a CouchDB admin may at any time."""
        await self.server.delete(name)
        self.databases[name].inner = await self.server.open(name, create=True)

    async def delete(self, name: str) -> None:
        await self.server.delete(name)

    async def all_dbs(self) -> list[str]:
        return await self.server.all_dbs()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        return await self.server.request(method, path, query=query, headers=headers, body=body)

    async def close(self) -> None:
        await self.server.close()
