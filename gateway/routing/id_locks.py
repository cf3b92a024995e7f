"""One write per document at a time (routing-rules W4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager


class IdLocks:
    """Locks by document id, that exist only while somebody holds or waits for them."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def hold(self, ids: Iterable[str]) -> AsyncIterator[None]:
        """Hold the locks of all `ids`, taken in order so that no two callers wait for each other."""
        held: list[str] = []
        try:
            for doc in sorted(set(ids)):
                lock = self._locks.setdefault(doc, asyncio.Lock())
                self._users[doc] = self._users.get(doc, 0) + 1
                try:
                    await lock.acquire()
                except BaseException:
                    self._leave(doc)
                    raise
                held.append(doc)
            yield
        finally:
            for doc in held:
                self._locks[doc].release()
                self._leave(doc)

    def _leave(self, doc: str) -> None:
        self._users[doc] -= 1
        if not self._users[doc]:
            del self._users[doc], self._locks[doc]
