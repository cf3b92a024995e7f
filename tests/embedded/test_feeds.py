from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import limits
from gateway.couch.upstream import ChangeRow, Idle
from gateway.embedded import EmbeddedServer
from gateway.embedded.database import EmbeddedDatabase, Silence
from gateway.embedded.writer import Row
from gateway.errors import BadRequest


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[EmbeddedDatabase]:
    server = EmbeddedServer(tmp_path)
    yield await server.open("db", create=True)
    await server.close()


async def write(database: EmbeddedDatabase, *ids: str) -> None:
    results = await database.write([{"_id": id} for id in ids], new_edits=True)
    assert all(result.rev for result in results)


async def test_a_feed_is_idle_after_each_batch_and_not_before(database: EmbeddedDatabase) -> None:
    await write(database, "a", "b")
    feed = database.changes("0")
    kinds = [type(await anext(feed)) for _ in range(3)]
    await write(database, "c", "d")
    kinds += [type(await anext(feed)) for _ in range(3)]
    assert kinds == [ChangeRow, ChangeRow, Idle] * 2


async def test_a_feed_that_is_silent_beats(database: EmbeddedDatabase) -> None:
    feed = database.follow(0, 0.01)
    async with asyncio.timeout(10):
        assert [type(await anext(feed)) for _ in range(3)] == [Idle, Silence, Silence]
    await feed.aclose()


async def test_a_slow_feed_past_its_memory_reads_the_file_again_and_loses_nothing(database: EmbeddedDatabase) -> None:
    feed = database.follow(0, 5)
    assert isinstance(await anext(feed), Idle)
    count = 2 * limits.EMBEDDED_FEED_ROWS_COUNT + 500
    for start in range(0, count, 500):
        await write(database, *(f"d{n}" for n in range(start, start + 500)))
    rows: list[Row] = []
    async with asyncio.timeout(10):
        while len(rows) < count:
            if isinstance(row := await anext(feed), Row):
                rows.append(row)
    assert [row.id for row in rows] == [f"d{n}" for n in range(count)]
    assert [row.seq for row in rows] == list(range(1, count + 1))
    await feed.aclose()


async def test_rows_come_in_order_and_once_while_writers_are_busy(database: EmbeddedDatabase) -> None:
    async def writer(name: str) -> None:
        for n in range(50):
            await write(database, f"{name}{n}")

    feed = database.follow(0, 5)
    writers = asyncio.gather(*(writer(name) for name in "abcdef"))
    seqs: list[int] = []
    async with asyncio.timeout(20):
        while len(seqs) < 300:
            if isinstance(row := await anext(feed), Row):
                seqs.append(row.seq)
    await writers
    assert seqs == sorted(set(seqs))
    await feed.aclose()


async def test_a_row_is_handed_over_before_its_write_is_answered(database: EmbeddedDatabase) -> None:
    feed = database.changes("now")
    assert isinstance(await anext(feed), Idle)
    waiting = asyncio.ensure_future(anext(feed))
    await write(database, "a")
    await asyncio.sleep(0)  # the task that holds the row may run
    assert waiting.done()
    assert isinstance(waiting.result(), ChangeRow)


async def test_a_feed_that_is_left_is_forgotten(database: EmbeddedDatabase) -> None:
    feed = database.follow(0, 5)
    await anext(feed)
    await feed.aclose()
    assert database.hub.count() == 0


async def test_writes_that_wait_share_a_commit(database: EmbeddedDatabase) -> None:
    commits: list[int] = []
    subscription = database.hub.subscribe()
    push = subscription.push
    subscription.push = lambda rows: (commits.append(len(rows)), push(rows))[1]  # type: ignore[method-assign, func-returns-value]
    await asyncio.gather(*(write(database, f"d{n}") for n in range(200)))
    database.hub.unsubscribe(subscription)
    assert sum(commits) == 200
    assert len(commits) < 100


@pytest.mark.parametrize("since", ["", "x", "-1", "1-", "1.5", "9" * 30])
async def test_a_position_that_is_none_is_refused(database: EmbeddedDatabase, since: str) -> None:
    with pytest.raises(BadRequest):
        await anext(database.changes(since))


async def test_a_position_of_another_database_starts_from_the_beginning(database: EmbeddedDatabase) -> None:
    await write(database, "a")
    row = await anext(database.changes("7-otherdatabase"))
    assert isinstance(row, ChangeRow)
    assert row.id == "a"
