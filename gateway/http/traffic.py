"""What is going on: requests, feeds, documents. Numbers for the metrics, and the way to stop in good order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from gateway import limits
from gateway.errors import Unavailable


class Stoppable(Protocol):
    """A running feed."""

    def stop(self) -> None:
        """End it, with a complete answer."""


class Traffic:
    """Shared by all listeners of a process."""

    def __init__(self, *, feeds_count: int = limits.FEEDS_COUNT, uploads_count: int = limits.UPLOADS_COUNT) -> None:
        self.draining = False
        self.requests: Counter[tuple[str, int]] = Counter()  # by listener and class of the status: 2 is 2xx
        self.feeds_begun = 0
        self.documents_written = 0
        self.documents_refused = 0
        self.connections_count = limits.CONNECTIONS_COUNT  # those of the public port that are let in
        self.connections_open = 0
        self.connections_refused = 0
        self._feeds_count = feeds_count
        self._uploads_count = uploads_count
        self._uploads = 0
        self._feeds: set[Stoppable] = set()
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def feeds_open(self) -> int:
        return len(self._feeds)

    @property
    def active(self) -> int:
        """Requests under way, feeds among them."""
        return self._active

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around every request."""
        self._active += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._quiet.set()

    def answered(self, listener: str, status: int) -> None:
        self.requests[listener, status // 100] += 1

    @contextmanager
    def feed(self, feed: Stoppable) -> Iterator[None]:
        """Around every feed. Raises Unavailable when there are FEEDS_COUNT already."""
        if len(self._feeds) >= self._feeds_count:
            raise Unavailable(f"{self._feeds_count} feeds are open already (limit FEEDS_COUNT)")
        self._feeds.add(feed)
        self.feeds_begun += 1
        try:
            yield
        finally:
            self._feeds.discard(feed)

    @contextmanager
    def upload(self) -> Iterator[None]:
        """Around every body that is streamed. Raises Unavailable when there are UPLOADS_COUNT already."""
        if self._uploads >= self._uploads_count:
            raise Unavailable(f"{self._uploads_count} uploads are under way already (limit UPLOADS_COUNT)")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    async def drain(self, seconds: float = limits.DRAIN_SECONDS) -> bool:
        """Refuse new requests, end the feeds with complete answers, wait for the rest. Whether all ended in time."""
        self.draining = True
        for feed in tuple(self._feeds):
            feed.stop()
        try:
            async with asyncio.timeout(seconds):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True
