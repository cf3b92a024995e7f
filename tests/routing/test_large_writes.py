"""A request near the limits takes its time, but others have theirs: the event loop is never held for long."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway import limits
from gateway.couch.upstream import Document
from tests.routing.world import World


class Lag:
    """The longest time for which the event loop did nothing else, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0


@asynccontextmanager
async def measured() -> AsyncIterator[Lag]:
    lag = Lag()

    async def tick() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            # CPU time of this thread: what other processes of a busy machine take does not count.
            lag.longest, before = max(lag.longest, time.thread_time() - before), time.thread_time()

    gc.collect()
    gc.disable()  # a full collection takes as long as all that other tests left behind makes it
    ticking = asyncio.create_task(tick())
    try:
        await asyncio.sleep(0)
        yield lag
        await asyncio.sleep(0)  # what was done last counts too
    finally:
        ticking.cancel()
        gc.enable()


def dense(doc_id: str, values: int) -> Document:
    return {"_id": doc_id, "channels": ["a"], "values": [[] for _ in range(values)]}


async def test_a_bulk_of_many_values_holds_the_event_loop_no_longer_than_one_of_its_documents(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.database.write(ann, dense("first", 12_000))  # whatever is started by the first write
    async with measured() as one:
        await world.database.write(ann, dense("one", 12_000))
    docs = [dense(f"d{number}", 12_000) for number in range(50)]
    async with measured() as all_of_them:
        outcomes = await world.database.bulk_docs(ann, docs, new_edits=True)
    assert all(outcome.rev for outcome in outcomes)
    assert all_of_them.longest < 8 * one.longest


async def test_looking_for_many_revisions_holds_the_event_loop_only_for_moments(world: World) -> None:
    ann = await world.user("ann", ["a"])
    asked = {f"d{number}": ["1-a", "1-b", "1-c"] for number in range(limits.KEYS_COUNT)}
    start = time.thread_time()
    async with measured() as lag:
        assert len(await world.database.revs_diff(ann, asked)) == limits.KEYS_COUNT
    assert lag.longest < (time.thread_time() - start) / 2


async def test_a_bulk_of_many_documents_while_the_router_lags_holds_the_event_loop_for_moments(world: World) -> None:
    ann = await world.user("ann", ["a"])
    docs = [{"_id": f"d{number}", "forbidden": True} for number in range(limits.BULK_DOCUMENTS_COUNT)]
    world.database.router.status.caught_up = False  # what is replaced is looked for upstream
    start = time.thread_time()
    async with measured() as lag:
        outcomes = await world.database.bulk_docs(ann, docs, new_edits=True)
    assert len(outcomes) == limits.BULK_DOCUMENTS_COUNT
    assert lag.longest < (time.thread_time() - start) / 2
