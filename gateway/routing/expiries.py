"""What ends by itself: grants that are over and documents that expire, each by a timer of its own.

Access never changes by the clock alone (routing-rules W13): the timer of grants commits their end, at a sequence, as
any other loss. The timer of documents writes tombstones upstream, which the router routes as any other row. Two timers,
since the upstream may be slow or away, and access ends all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway import limits
from gateway.couch.batching import Batcher
from gateway.errors import GatewayError
from gateway.store.protocol import DatabaseStore, Expiring

log = logging.getLogger(__name__)


class Timer:
    """Does `work(now)` whenever something is due by the wall clock; `work` answers when the next is (unix seconds).

    The clock may be set, and the machine may sleep: so nothing sleeps longer than CLOCK_LOOK_SECONDS without a look at
    it. Errors are logged, and `work` is done again after a pause.
    """

    def __init__(self, name: str, work: Callable[[float], Awaitable[float | None]]) -> None:
        self._name = name
        self._work = work
        self._next: float | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End the task; a transaction that is being committed is committed or not, both are right."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note(self, moment: float) -> None:
        """Something ends at that moment that the last `work` did not know of."""
        if self._next is None or moment < self._next:
            self._next = moment
            self._changed.set()

    async def _run(self) -> None:
        pause = limits.UPSTREAM_RETRY_FIRST_SECONDS
        while True:
            self._next = None  # what is noted while the work is done counts beside what it answers
            try:
                following = await self._work(time.time())
                pause = limits.UPSTREAM_RETRY_FIRST_SECONDS
            except Exception as error:
                reason = error.reason if isinstance(error, GatewayError) else "failed"
                log.warning("%s: %s; trying again", self._name, reason, exc_info=not isinstance(error, GatewayError))
                await asyncio.sleep(pause)
                pause = min(pause * 2, limits.UPSTREAM_RETRY_LAST_SECONDS)
                continue
            if following is not None:
                self.note(following)
            await self._wait()

    async def _wait(self) -> None:
        """Until something is due, or for EXPIRIES_LOOK_SECONDS."""
        looked_at = time.monotonic()
        while True:
            self._changed.clear()
            seconds = limits.CLOCK_LOOK_SECONDS
            if self._next is not None:
                seconds = min(seconds, self._next - time.time())
            if seconds <= 0 or time.monotonic() - looked_at >= limits.EXPIRIES_LOOK_SECONDS:
                return
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue


async def end_what_is_over(store: DatabaseStore) -> None:
    """Commit the end of all grants that are over. Done before a database is served: nothing that ended while the
    gateway was down is read again."""
    while await store.end_grants(time.time(), limits.GRANTS_ENDED_COUNT) == limits.GRANTS_ENDED_COUNT:
        pass


class Expiries:
    """Both timers of one database."""

    def __init__(
        self,
        name: str,
        store: DatabaseStore,
        batcher: Batcher,
        *,
        is_online: Callable[[], bool],
        route_again: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        """`is_online`: whether the index is known to be about this upstream (W8). `route_again` reads documents
        upstream and routes what is found."""
        self._name = name
        self._store = store
        self._batcher = batcher
        self._is_online = is_online
        self._route_again = route_again
        self._grants = Timer(f"ends of grants:{name}", self._end_grants)
        self._documents = Timer(f"expiry of documents:{name}", self._expire_documents)
        self._tried: tuple[float, int, str] | None = None  # those up to here could not be deleted, or are done
        self._again_at = 0.0  # on the monotonic clock: then they are tried again
        self._pause = limits.EXPIRED_RETRY_FIRST_SECONDS
        self.expired_count = 0  # documents

    def start(self) -> None:
        self._grants.start()
        self._documents.start()

    async def stop(self) -> None:
        await self._grants.stop()
        await self._documents.stop()

    def note(self, moment: float | None) -> None:
        """A transaction was committed of which something ends at that moment by itself."""
        if moment is not None:
            self._grants.note(moment)
            self._documents.note(moment)

    async def _end_grants(self, now: float) -> float | None:
        """One batch."""
        following = await self._store.next_grant_end()
        if following is None or following > now:
            return following
        count = await self._store.end_grants(now, limits.GRANTS_ENDED_COUNT)
        log.info("database %s: %d grants ended", self._name, count)
        return await self._store.next_grant_end()

    async def _expire_documents(self, now: float) -> float | None:
        """One batch of those that are due, but for those tried in vain: these have their turn after a pause."""
        if not self._is_online():
            return now + limits.CLOCK_LOOK_SECONDS
        if self._tried is not None and time.monotonic() >= self._again_at:
            self._tried = None
        most = limits.DOCUMENTS_EXPIRED_COUNT
        found = await self._store.expiring(self._tried, most)
        due = [leaf for leaf in found if leaf.expiry <= now]
        if not due:
            if self._tried is None:
                self._pause = limits.EXPIRED_RETRY_FIRST_SECONDS
            return self._next(found)
        left = await self._delete(due)
        if left:
            if self._tried is None:
                self._again_at = time.monotonic() + self._pause
                self._pause = min(self._pause * 2, limits.EXPIRED_RETRY_LAST_SECONDS)
            self._tried = due[-1][:3]
        return now if len(due) == most else self._next(found[len(due) :])

    def _next(self, found: Sequence[Expiring]) -> float | None:
        moments = [leaf.expiry for leaf in found[:1]]
        if self._tried is not None:
            moments.append(time.time() + max(self._again_at - time.monotonic(), 0))
        return min(moments, default=None)

    async def _delete(self, due: Sequence[Expiring]) -> bool:
        """Write a tombstone over each leaf; whether some are not deleted.

        Written straight upstream, and routed before this returns: the sync function says where the tombstone belongs,
        and cannot keep the document. A leaf that is none any more is a conflict upstream: what replaced it has an
        expiry of its own.
        """
        tombstones = [{"_id": leaf.id, "_rev": leaf.rev, "_deleted": True} for leaf in due]
        results = await self._batcher.write_many(tombstones, new_edits=True)
        errors = [result for result in results if isinstance(result, GatewayError)]
        if len(errors) == len(due):
            raise errors[0]
        await self._route_again(sorted({leaf.id for leaf in due}))
        refused = [result for result in results if isinstance(result, GatewayError) or result.rev is None]
        reasons = [one.reason for one in refused if isinstance(one, GatewayError) or one.error != "conflict"]
        if reasons:
            count = len(reasons)
            log.warning("database %s: %d expired documents were not deleted: %s", self._name, count, reasons[0])
        self.expired_count += len(due) - len(refused)
        log.info("database %s: %d documents expired", self._name, len(due) - len(refused))
        return bool(refused)
