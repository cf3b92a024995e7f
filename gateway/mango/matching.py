"""Selectors at work beside the event loop: a batch of documents at a time, each scan in turn with all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from gateway import limits
from gateway.errors import InvalidQuery, Unavailable
from gateway.mango.selector import Node, normalize, predicate

T = TypeVar("T")


class Matching:
    """The threads of one database in which selectors run, and who may use them next."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(limits.SELECTOR_SCANS_COUNT)
        self._threads: ThreadPoolExecutor | None = None
        self._closed = False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold it for reading and matching one batch. Turns are given in the order they are asked for, so a long scan
        lets every other go first between its batches."""
        async with self._turns:
            yield

    async def run(self, job: Callable[[], T]) -> T:
        """What the job returns, from a thread. Predicates belong to it: make them in the job."""
        if self._closed:
            raise Unavailable("the database is closed")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(limits.SELECTOR_SCANS_COUNT, thread_name_prefix="selector")

        def run() -> T:
            try:
                return job()
            except RecursionError:
                raise InvalidQuery("invalid_selector", "a value is nested too deeply to be compared") from None

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def check(self, selector: Any) -> Node:
        """The normalized selector, its patterns tried. Raises InvalidQuery."""

        def job() -> Node:
            node = normalize(selector)
            predicate(node)
            return node

        return await self.run(job)

    def close(self) -> None:
        """No new work; what runs ends within its limits."""
        self._closed = True
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
