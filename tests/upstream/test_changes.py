from __future__ import annotations

import asyncio
import uuid

import pytest

from gateway.couch.upstream import ChangeRow, Upstream, UpstreamDatabase
from gateway.errors import UpstreamError
from tests.upstream.conftest import Feed, forget, replicate, store


async def test_a_feed_from_the_beginning_has_one_row_for_each_document(
    database: UpstreamDatabase, feeds: list[Feed]
) -> None:
    first, other = await store(database, {"_id": "a"}, {"_id": "b"})
    (second,) = await store(database, {"_id": "a", "_rev": first, "n": 2})
    feeds.append(feed := Feed(database))
    rows = await feed.caught_up(database)
    assert sorted((row.id, row.revs) for row in rows) == [("a", (second,)), ("b", (other,))]


async def test_rows_of_one_document_come_in_the_order_of_its_changes(
    database: UpstreamDatabase, feeds: list[Feed]
) -> None:
    feeds.append(feed := Feed(database))
    (rev,) = await store(database, {"_id": "a", "n": 0})
    revs = [rev]
    for n in range(1, 4):
        assert (await feed.row()).revs == (revs[-1],)
        (rev,) = await store(database, {"_id": "a", "_rev": revs[-1], "n": n})
        revs.append(rev)
    assert (await feed.row()).revs == (revs[-1],)


async def test_a_caught_up_feed_says_so(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    await store(database, {"_id": "a"})
    feeds.append(feed := Feed(database))
    await feed.row()
    assert await feed.until_idle() == []


async def test_a_write_arrives_in_a_running_feed(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    feeds.append(feed := Feed(database))
    await feed.until_idle()
    (rev,) = await store(database, {"_id": "late"})
    row = await feed.row()
    assert (row.id, row.revs, row.deleted) == ("late", (rev,), False)


async def test_a_feed_goes_on_after_the_position_it_stopped_at(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    await store(database, *({"_id": f"doc{n}"} for n in range(5)))
    feeds.append(before := Feed(database))
    rows = await before.caught_up(database)
    stopped = rows[2].seq
    assert stopped is not None
    feeds.append(after := Feed(database, stopped))
    # Across shards in any order: CouchDB promises none but for one document.
    assert {row.id for row in await after.caught_up(database)} == {row.id for row in rows[3:]}


async def test_a_row_names_all_leaves_the_winner_first(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    await replicate(database, "a", "2-b", "1-a")
    await replicate(database, "a", "3-d", "2-d", "1-a", deleted=True)
    await replicate(database, "a", "2-c", "1-a")
    feeds.append(feed := Feed(database))
    (row,) = await feed.caught_up(database)
    assert row.revs == ("2-c", "2-b", "3-d")
    assert not row.deleted


async def test_the_row_of_a_deletion_says_so(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    (first,) = await store(database, {"_id": "a"})
    (second,) = await store(database, {"_id": "a", "_rev": first, "_deleted": True})
    feeds.append(feed := Feed(database))
    (row,) = await feed.caught_up(database)
    assert (row.id, row.revs, row.deleted) == ("a", (second,), True)


async def test_design_documents_have_rows_and_local_ones_have_none(
    database: UpstreamDatabase, feeds: list[Feed]
) -> None:
    await store(database, {"_id": "_local/hidden"}, {"_id": "_design/shown"}, {"_id": "a"})
    feeds.append(feed := Feed(database))
    assert {row.id for row in await feed.caught_up(database)} == {"_design/shown", "a"}


async def test_whether_anything_follows_a_position_can_be_asked(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    assert not await database.has_changes("0")
    await store(database, {"_id": "a"}, {"_id": "b"})
    assert await database.has_changes("0")
    feeds.append(feed := Feed(database))
    first, last = await feed.caught_up(database)
    assert await database.has_changes(first.seq or "")
    assert not await database.has_changes(last.seq or "")


async def test_a_known_revision_written_again_has_no_row(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    await replicate(database, "a", "1-a")
    feeds.append(feed := Feed(database))
    await feed.row()
    await replicate(database, "a", "1-a")
    await replicate(database, "b", "1-b")
    assert (await feed.row()).id == "b"


async def test_an_interior_revision_with_a_body_has_a_row_with_the_same_leaves(
    database: UpstreamDatabase, feeds: list[Feed]
) -> None:
    await replicate(database, "a", "2-b", "1-a")
    feeds.append(feed := Feed(database))
    await feed.row()
    await replicate(database, "a", "1-a", late=True)
    assert (await feed.row()).revs == ("2-b",)


async def test_feeds_are_independent_of_each_other(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    feeds.extend(Feed(database) for _ in range(5))
    for feed in feeds:
        await feed.until_idle()
    await store(database, {"_id": "a"}, {"_id": "b"})
    rows = await asyncio.gather(*(feed.caught_up(database) for feed in feeds))
    assert [sorted(row.id for row in some) for some in rows] == [["a", "b"]] * 5


async def test_many_changes_at_once_all_arrive(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    feeds.append(feed := Feed(database))
    await feed.until_idle()
    for start in range(0, 2_500, 500):
        await store(database, *({"_id": f"doc{n}"} for n in range(start, start + 500)))
    ids: set[str] = set()
    while len(ids) < 2_500:
        ids.add((await feed.row()).id)
    assert ids == {f"doc{n}" for n in range(2_500)}


async def test_a_feed_ends_when_its_database_is_deleted(
    upstream: Upstream, database: UpstreamDatabase, feeds: list[Feed]
) -> None:
    feeds.append(feed := Feed(database))
    await feed.until_idle()
    await upstream.delete(database.name)
    with pytest.raises((UpstreamError, StopAsyncIteration)):
        while not isinstance(await feed.next(), ChangeRow):
            pass


async def test_a_feed_ends_when_the_upstream_is_closed(upstream: Upstream, feeds: list[Feed]) -> None:
    name = f"test_{uuid.uuid4().hex}"
    feeds.append(feed := Feed(await upstream.open(name, create=True)))
    await feed.until_idle()
    await upstream.close()
    with pytest.raises((UpstreamError, StopAsyncIteration)):
        while True:
            await feed.next()
    await forget(name)
