"""Joins concurrent calls into bulk requests (DESIGN, section 2), over any UpstreamDatabase.

While one bulk is upstream the next fills; nothing waits for a timer when nothing is in flight. A bulk that takes longer
than UPSTREAM_BULK_PATIENCE_SECONDS no longer holds up the next, so one slow answer does not stop a database.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeVar

from gateway import json_text, limits
from gateway.couch.lanes import Call, Lane, ReadLane
from gateway.couch.upstream import Document, RevisionRef, UpstreamDatabase, WriteResult
from gateway.errors import BadJson, GatewayError, Unavailable, UpstreamOutcomeUnknown

R = TypeVar("R")


class Batcher:
    """Single reads and writes of one database, sent in bulk. All documents handed out belong to their receiver.

    Cancelling a waiter touches nobody else; a write that was not sent yet is then never sent.
    """

    def __init__(self, database: UpstreamDatabase) -> None:
        self.database = database
        self._writing: dict[str, deque[tuple[_WriteLane, Call[Document, WriteResult]]]] = {}
        self._waiting_bytes = 0
        self._edits = _WriteLane(self, new_edits=True)
        self._revisions = _WriteLane(self, new_edits=False)
        self._reads = _RevisionLane(database, attachments=False)
        self._reads_with_attachments = _RevisionLane(database, attachments=True)
        self._leaves = _LeavesLane(database)

    async def write_one(self, doc: Document, new_edits: bool, *, size: int | None = None) -> WriteResult:
        """Write one document, which has an `_id`. `size` is its length as JSON in bytes, where the caller knows it.

        Raises whatever UpstreamDatabase.write raises for a bulk of just this document, and Unavailable when more than
        UPSTREAM_WAITING_BYTES wait already.
        """
        (result,) = await self.write_many([doc], new_edits, sizes=None if size is None else [size])
        if isinstance(result, GatewayError):
            raise result
        return result

    async def write_many(
        self, docs: Sequence[Document], new_edits: bool, *, sizes: Sequence[int] | None = None
    ) -> list[WriteResult | GatewayError]:
        """Write documents; for each its result, or the error of the bulk it was in.

        Documents of one id are written one after the other, in order. Raises Unavailable (and writes nothing) when
        more than UPSTREAM_WAITING_BYTES would wait.
        """
        if any("_id" not in doc for doc in docs):
            raise ValueError("a document without _id cannot be batched")
        measured = [_size(doc) for doc in docs] if sizes is None else sizes
        total = sum(measured)
        if self._waiting_bytes and self._waiting_bytes + total > limits.UPSTREAM_WAITING_BYTES:
            raise Unavailable("too many writes are waiting for the upstream")
        lane = self._edits if new_edits else self._revisions
        lane.check_open()
        calls = [Call[Document, WriteResult](doc, size) for doc, size in zip(docs, measured, strict=True)]
        waiters = [call.join() for call in calls]
        self._waiting_bytes += total
        for call in calls:
            self._submit(lane, call)
        try:
            return [_result(outcome) for outcome in await _outcomes(waiters)]
        finally:
            for call in calls:
                self._forget(call)

    async def read_one(self, ref: RevisionRef, attachments: bool = False) -> Document | None:
        """Exactly this revision with `_revisions`, or None; see UpstreamDatabase.read."""
        lane = self._reads_with_attachments if attachments else self._reads
        return await lane.ask(ref)

    async def read_many(self, refs: Sequence[RevisionRef], attachments: bool = False) -> list[Document | None]:
        """Exactly these revisions, in order. Raises the first error there is."""
        lane = self._reads_with_attachments if attachments else self._reads
        return await lane.ask_many(refs)

    async def leaves_of(self, doc_id: str) -> list[Document]:
        """Every leaf, winner first; `[]` for an unknown id. Read after this call was made, never before."""
        return await self._leaves.ask(doc_id)

    async def leaves_of_many(self, doc_ids: Sequence[str]) -> list[list[Document]]:
        """`leaves_of` for each id, in order. Raises the first error there is."""
        return await self._leaves.ask_many(doc_ids)

    async def close(self) -> None:
        """Give up what is in flight (a write's outcome is then unknown) and refuse what waits."""
        for lane in (self._edits, self._revisions, self._reads, self._reads_with_attachments, self._leaves):
            await lane.close()
        for queue in self._writing.values():
            for _, call in queue:
                call.fail(Unavailable("the database is closed"))
        self._writing.clear()

    def _submit(self, lane: _WriteLane, call: Call[Document, WriteResult]) -> None:
        doc_id = call.item["_id"]
        if (queue := self._writing.get(doc_id)) is not None:
            queue.append((lane, call))
        else:
            self._writing[doc_id] = deque()
            lane.enqueue(call)

    def left_queue(self, call: Call[Document, WriteResult]) -> None:
        self._waiting_bytes -= call.size

    def written(self, doc_id: str) -> None:
        """The write of this id is over: the next one of the same id may go (W4)."""
        queue = self._writing.get(doc_id)
        while queue:
            lane, call = queue.popleft()
            if call.wanted:
                lane.enqueue(call)
                return
        self._writing.pop(doc_id, None)

    def _forget(self, call: Call[Document, WriteResult]) -> None:
        """Free what a cancelled write holds while its place in the queue comes up."""
        if not call.taken:
            self._waiting_bytes -= call.size
            call.size = 0
            call.item = {"_id": call.item["_id"]}


class _WriteLane(Lane[Document, WriteResult]):
    def __init__(self, batcher: Batcher, *, new_edits: bool) -> None:
        super().__init__(limits.UPSTREAM_BATCH_DOCUMENTS_COUNT)
        self._batcher = batcher
        self._new_edits = new_edits

    async def send(self, items: Sequence[Document]) -> list[WriteResult]:
        return await self._batcher.database.write(items, new_edits=self._new_edits)

    def left_queue(self, call: Call[Document, WriteResult]) -> None:
        self._batcher.left_queue(call)

    def finished(self, call: Call[Document, WriteResult]) -> None:
        self._batcher.written(call.item["_id"])

    def abandoned(self) -> GatewayError:
        return UpstreamOutcomeUnknown("the database was closed while a write was under way")


class _RevisionLane(ReadLane[RevisionRef, Document | None]):
    """A revision never changes: a read on its way is shared too."""

    def __init__(self, database: UpstreamDatabase, *, attachments: bool) -> None:
        count = limits.UPSTREAM_BATCH_ATTACHMENTS_COUNT if attachments else limits.UPSTREAM_BATCH_DOCUMENTS_COUNT
        super().__init__(count, shares_sent=True)
        self._database = database
        self._attachments = attachments

    async def send(self, items: Sequence[RevisionRef]) -> list[Document | None]:
        return await self._database.read(items, attachments=self._attachments)


class _LeavesLane(ReadLane[str, list[Document]]):
    """Leaves change at any time: only a read that was not sent yet may be shared."""

    def __init__(self, database: UpstreamDatabase) -> None:
        super().__init__(limits.UPSTREAM_BATCH_DOCUMENTS_COUNT, shares_sent=False)
        self._database = database

    async def send(self, items: Sequence[str]) -> list[list[Document]]:
        return await self._database.leaves(items)


async def _outcomes(waiters: Iterable[asyncio.Future[R]]) -> list[R | Exception]:
    """The result or error of each; when this is cancelled, all of them are."""
    outcomes: list[R | Exception] = []
    waiting = list(waiters)
    try:
        for waiter in waiting:
            try:
                outcomes.append(await waiter)
            except Exception as error:
                outcomes.append(error)
    finally:
        for waiter in waiting:
            waiter.cancel()
    return outcomes


def _result(outcome: WriteResult | Exception) -> WriteResult | GatewayError:
    if isinstance(outcome, (WriteResult, GatewayError)):
        return outcome
    raise outcome


def _size(doc: Document) -> int:
    try:
        return len(json_text.encode(doc))
    except (ValueError, RecursionError) as error:
        raise BadJson(f"a document cannot be written as JSON: {error}") from None
