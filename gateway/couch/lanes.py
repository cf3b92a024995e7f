"""The mechanics of batching: a queue of calls of one kind and its bulks in flight. `batching.py` says what they are."""

from __future__ import annotations

import asyncio
import copy
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any, Generic, TypeVar

from gateway import limits
from gateway.errors import GatewayError, Unavailable, UnreadableDocument, UpstreamError

I = TypeVar("I")  # noqa: E741 - the item asked for
H = TypeVar("H", bound=Hashable)
R = TypeVar("R")

# Refusals of a whole request that have nothing to do with one of its documents.
_OF_THE_REQUEST = frozenset({401, 403, 404, 405, 406, 415, 429})


class Call(Generic[I, R]):
    """One thing asked of the upstream, and everyone who waits for it."""

    __slots__ = ("item", "over", "size", "taken", "waiters")

    def __init__(self, item: I, size: int) -> None:
        self.item = item
        self.size = size  # bytes on the wire, about
        self.taken = False  # no longer in the queue
        self.over = False  # answered, failed or dropped
        self.waiters: list[asyncio.Future[R]] = []

    def join(self) -> asyncio.Future[R]:
        waiter: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        return waiter

    @property
    def wanted(self) -> bool:
        return any(not waiter.done() for waiter in self.waiters)

    def answer(self, result: R) -> None:
        """The first waiter gets `result` itself, every other a copy: what one does to it, no other sees."""
        text: str | None = None
        first = True
        for waiter in self.waiters:
            if waiter.done():
                continue
            if first or result is None:
                waiter.set_result(result)  # he runs only after this loop
                first = False
            else:
                text = json.dumps(result) if text is None else text
                waiter.set_result(json.loads(text))

    def fail(self, error: Exception) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                # Each raises its own: a traceback grows with every raise of the same one.
                waiter.set_exception(copy.copy(error) if isinstance(error, GatewayError) else error)


class Lane(ABC, Generic[I, R]):
    """A queue and the bulks in flight: one, or up to UPSTREAM_BULKS_COUNT while the others are slow."""

    def __init__(self, documents_count: int) -> None:
        self._documents_count = documents_count
        self._queue: deque[Call[I, R]] = deque()
        self._flying: set[asyncio.Task[None]] = set()
        self._quick: set[asyncio.Task[None]] = set()  # of those in flight, the ones that are not slow (yet)
        self._turn: asyncio.Handle | None = None
        self._closed = False

    @abstractmethod
    async def send(self, items: Sequence[I]) -> list[R]:
        """One bulk request: the results in the order of `items`."""

    def left_queue(self, call: Call[I, R]) -> None:
        """`call` is about to be sent, or nobody wants it any more."""

    def finished(self, call: Call[I, R]) -> None:
        """The upstream is done with `call`, or it was never sent. Called once; its waiters run after it."""

    def abandoned(self) -> GatewayError:
        """What the waiters of a bulk get whose request was given up in the middle."""
        return Unavailable("the database was closed")

    def check_open(self) -> None:
        if self._closed:
            raise Unavailable("the database is closed")

    def enqueue(self, call: Call[I, R]) -> None:
        if self._closed:
            call.fail(Unavailable("the database is closed"))
            return
        self._queue.append(call)
        self._wake()

    def _wake(self) -> None:
        """Send at the end of this turn of the loop, so that calls made in one turn share a bulk."""
        if self._turn is None and not self._quick and self._queue:
            self._turn = asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._turn = None
        if self._closed or self._quick or len(self._flying) >= limits.UPSTREAM_BULKS_COUNT:
            return
        task = asyncio.get_running_loop().create_task(self._fly())
        self._flying.add(task)
        self._quick.add(task)

    def _take(self) -> list[Call[I, R]]:
        bulk: list[Call[I, R]] = []
        size = 0
        while self._queue and len(bulk) < self._documents_count:
            call = self._queue[0]
            if bulk and size + call.size > limits.UPSTREAM_BATCH_BYTES:
                break
            self._queue.popleft()
            self.left_queue(call)
            call.taken = True
            if call.wanted:
                bulk.append(call)
                size += call.size
            else:
                self._end(call)
        return bulk

    def _end(self, call: Call[I, R]) -> None:
        if not call.over:
            call.over = True
            self.finished(call)

    async def _fly(self) -> None:
        bulk = self._take()  # here, not in _start: what is cancelled until the very moment of sending is not sent
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        patience = loop.call_later(limits.UPSTREAM_BULK_PATIENCE_SECONDS, self._grew_slow, task)
        try:
            if bulk:
                await self._deliver(bulk)
        except BaseException:
            for call in bulk:
                call.fail(self.abandoned())
                self._end(call)
            raise
        finally:
            patience.cancel()
            self._flying.discard(task)
            self._quick.discard(task)
            self._wake()

    def _grew_slow(self, task: asyncio.Task[None]) -> None:
        self._quick.discard(task)
        self._wake()

    async def _deliver(self, bulk: Sequence[Call[I, R]]) -> None:
        """Answer every call of the bulk; after a refusal that one document may have caused, in halves."""
        try:
            results = await self.send([call.item for call in bulk])
            if len(results) != len(bulk):
                raise UpstreamError(f"the upstream gave {len(results)} results for {len(bulk)} documents")
            for call, result in zip(bulk, results, strict=True):
                call.answer(result)
                self._end(call)
        except Exception as error:
            if len(bulk) > 1 and _may_be_one_documents_fault(error):
                half = len(bulk) // 2
                await self._deliver(bulk[:half])
                await self._deliver(bulk[half:])
                return
            for call in bulk:
                call.fail(error)
                self._end(call)

    async def close(self) -> None:
        """Give up what is in flight and refuse what waits."""
        self._closed = True
        flying = list(self._flying)
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
        while self._queue:
            call = self._queue.popleft()
            self.left_queue(call)
            call.taken = True
            call.fail(Unavailable("the database is closed"))
            self._end(call)


class ReadLane(Lane[H, R]):
    """Reads of the same thing at the same time are one read.

    With `shares_sent` that holds for a request on its way too, for things that never change once they are there: only
    a None is asked for anew by those who came after it was sent.
    """

    def __init__(self, documents_count: int, *, shares_sent: bool) -> None:
        super().__init__(documents_count)
        self._shares_sent = shares_sent
        self._calls: dict[H, Call[H, R]] = {}

    def finished(self, call: Call[H, R]) -> None:
        if self._calls.get(call.item) is call:
            del self._calls[call.item]

    async def ask(self, item: H) -> R:
        while True:
            waiter, late = self._join(item)
            result = await waiter
            if not late or result is not None:
                return result

    async def ask_many(self, items: Sequence[H]) -> list[R]:
        joined = [self._join(item) for item in items]
        results: list[Any] = []
        first_error: Exception | None = None
        try:
            for item, (waiter, late) in zip(items, joined, strict=True):
                try:
                    result = await waiter
                    results.append(await self.ask(item) if late and result is None else result)
                except Exception as error:  # the others must be fetched from their futures too
                    first_error = first_error or error
        finally:
            for waiter, _ in joined:
                waiter.cancel()
        if first_error is not None:
            raise first_error
        return results

    def _join(self, item: H) -> tuple[asyncio.Future[R], bool]:
        """A future for `item`, and whether its request is on its way already."""
        self.check_open()
        call = self._calls.get(item)
        if call is None or (call.taken and not self._shares_sent):
            call = self._calls[item] = Call[H, R](item, len(repr(item)))
            waiter = call.join()
            self.enqueue(call)
            return waiter, False
        return call.join(), call.taken


def _may_be_one_documents_fault(error: Exception) -> bool:
    if isinstance(error, UnreadableDocument):
        return True
    return isinstance(error, GatewayError) and 400 <= error.status < 500 and error.status not in _OF_THE_REQUEST
