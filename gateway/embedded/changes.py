"""Following a database: rows from the file, and rows handed over in memory at the commit."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence

from gateway import limits
from gateway.embedded.writer import Row


class Subscription:
    """One feed's hand-over. Rows arrive in commit order, on the loop that subscribed.

    When more than EMBEDDED_FEED_ROWS_COUNT wait, all are dropped and `lagging` says so: the feed reads the file again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.rows: deque[Row] = deque()
        self.lagging = False
        self.closed = False
        self._wake = asyncio.Event()

    def push(self, rows: Sequence[Row]) -> None:
        if len(self.rows) + len(rows) > limits.EMBEDDED_FEED_ROWS_COUNT:
            self.rows.clear()
            self.lagging = True
        elif not self.lagging:
            self.rows.extend(rows)
        self._wake.set()

    def lags(self) -> bool:
        """Whether rows were dropped since `lagging` was last cleared. A method: it changes while the feed waits."""
        return self.lagging

    def end(self) -> None:
        self.closed = True
        self._wake.set()

    async def wait(self, seconds: float | None) -> bool:
        """Wait until something arrived; False when the time passed first."""
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                return False
        self._wake.clear()
        return True


class Hub:
    """All subscriptions of one database. `publish` is called by the writing thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_loop: dict[asyncio.AbstractEventLoop, set[Subscription]] = {}
        self._closed = False

    def subscribe(self) -> Subscription:
        loop = asyncio.get_running_loop()
        subscription = Subscription(loop)
        with self._lock:
            self._by_loop.setdefault(loop, set()).add(subscription)
            subscription.closed = self._closed
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._lock:
            some = self._by_loop.get(subscription.loop)
            if some is not None:
                some.discard(subscription)
                if not some:
                    del self._by_loop[subscription.loop]

    def count(self) -> int:
        """How many feeds are open."""
        with self._lock:
            return sum(map(len, self._by_loop.values()))

    def publish(self, rows: list[Row]) -> None:
        with self._lock:
            loops = list(self._by_loop)
        for loop in loops:
            self._call(loop, rows)

    def close(self) -> None:
        """End every feed."""
        with self._lock:
            self._closed = True
            loops = list(self._by_loop)
        for loop in loops:
            self._call(loop, None)

    def _call(self, loop: asyncio.AbstractEventLoop, rows: list[Row] | None) -> None:
        try:
            loop.call_soon_threadsafe(self._deliver, loop, rows)
        except RuntimeError:  # that loop is closed; its feeds are gone with it
            with self._lock:
                self._by_loop.pop(loop, None)

    def _deliver(self, loop: asyncio.AbstractEventLoop, rows: list[Row] | None) -> None:
        with self._lock:
            some = list(self._by_loop.get(loop, ()))
        for subscription in some:
            if rows is None:
                subscription.end()
            else:
                subscription.push(rows)


def rows_after(connection: sqlite3.Connection, since: int, count: int, *, descending: bool = False) -> list[Row]:
    """Up to `count` rows past `since` in order of sequence; `descending` from the newest down, `since` excluded."""
    if descending:
        cursor = connection.execute(
            "SELECT seq, id, deleted, winner, leaves FROM doc WHERE seq < ? ORDER BY seq DESC LIMIT ?", (since, count)
        )
    else:
        cursor = connection.execute(
            "SELECT seq, id, deleted, winner, leaves FROM doc WHERE seq > ? ORDER BY seq LIMIT ?", (since, count)
        )
    return [Row(seq, id, _revs(winner, leaves), bool(deleted)) for seq, id, deleted, winner, leaves in cursor]


def _revs(winner: str, leaves: str | None) -> tuple[str, ...]:
    return (winner,) if leaves is None else tuple(rev for rev, _ in json.loads(leaves))


def count_after(connection: sqlite3.Connection, since: int) -> int:
    """How many rows follow `since`."""
    return int(connection.execute("SELECT count(*) FROM doc WHERE seq > ?", (since,)).fetchone()[0])
