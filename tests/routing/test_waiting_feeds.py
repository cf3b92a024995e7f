"""Feeds that wait: rows from memory as from the store, wakes only for whom a commit concerns, and how feeds end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway import limits
from gateway.callers import Caller
from gateway.errors import TooManyRequests, Unauthorized, Unavailable
from gateway.feeds.wakes import Wakes
from gateway.model.names import GUEST
from gateway.model.positions import Position, parse_since
from gateway.store.protocol import Entry, Publication
from tests.routing.following import Follower
from tests.routing.world import ADMIN, World, rows_of, until

Follow = Callable[..., Follower]


@pytest.fixture
async def follow(world: World) -> AsyncIterator[Follow]:
    """Starts a follower, heartbeats far apart; stopped at the end."""
    started: list[Follower] = []

    def start(caller: Caller, since: str | int = 0, **query: Any) -> Follower:
        query = {"feed": "continuous", "heartbeat_s": 600.0, "style": "all_docs", **query}
        started.append(Follower(world, caller, since, **query))
        return started[-1]

    yield start
    for follower in started:
        await follower.stop()


async def test_a_waiting_feed_gets_rows_from_memory_without_reading_the_store(
    world: World, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await world.user("ann", ["a"])
    feed = follow(ann)
    await feed.waits()
    reads = 0
    real = Wakes.watch

    def watch(self: Wakes, *args: Any) -> bool:
        nonlocal reads
        reads += 1
        return real(self, *args)

    monkeypatch.setattr(Wakes, "watch", watch)
    rev = await world.write(ADMIN, "d", channels=["a"])
    await world.write(ADMIN, "e", channels=["a", "b"])
    await feed.sees("d", "e")
    await world.write(ADMIN, "d", rev, channels=["a"], v=2)
    await feed.sees("d", "e", "d")
    assert reads == 0
    assert feed.increasing()


async def test_a_waiting_feed_is_not_woken_by_commits_that_do_not_concern_it(world: World, follow: Follow) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["b"])
    feed, other = follow(ann), follow(bob)
    await feed.waits()
    (waiter,) = feed._waiters()
    offers = 0
    real = waiter.offer

    def offer(*args: Any) -> None:
        nonlocal offers
        offers += 1
        real(*args)

    waiter.offer = offer
    await world.write(ADMIN, "d", channels=["b"])
    await world.user("carol", ["a"])
    await world.write(ADMIN, "g", grant="bob", to="c")
    await world.write(ADMIN, "e", channels=["b"])
    await other.sees("d", "e")
    assert (feed.events, offers) == (0, 0)
    await world.write(ADMIN, "f", channels=["a"])
    await feed.sees("f")
    assert offers == 1


async def test_a_grant_brings_older_documents_into_a_running_feed(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a"])
    for name in ("1", "2", "3"):
        await world.write(ADMIN, name, channels=["b"])
    feed = follow(ann)
    await feed.waits()
    await world.write(ADMIN, "g", channels=["a"], grant="ann", to="b")
    await feed.sees("1", "2", "3", "g")
    assert feed.increasing()
    assert [":" in row["seq"] for row in feed.rows] == [True, True, True, False]
    for at, row in enumerate(feed.rows):
        rest = await world.ids(ann, row["seq"])
        assert rest == feed.ids[at + 1 :], "the feed can be resumed from any of its rows"


async def test_a_grant_that_comes_while_rows_are_being_sent_is_not_lost(world: World) -> None:
    """The consumer is slow: the commit comes while it writes the row before."""
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "old", channels=["b"])
    feed = world.feed(ann, feed="continuous", heartbeat_s=600.0, since=await world.seq())
    events = feed.events()
    first = asyncio.ensure_future(anext(events))
    await until(lambda: len(world.database._wakes) == 1 and bool(world.database._wakes._by_channel))
    await world.write(ADMIN, "live", channels=["a"])
    assert b'"live"' in (await first).rows[0]  # type: ignore[union-attr]
    await world.write(ADMIN, "g", grant="ann", to="b")  # while "live" is on its way to the socket
    async with asyncio.timeout(20):
        event = await anext(events)
    assert b'"old"' in event.rows[0]  # type: ignore[union-attr]
    await events.aclose()  # type: ignore[attr-defined]


async def test_rows_that_come_while_rows_are_being_sent_are_not_skipped_by_a_later_grant(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "old", channels=["b"])
    feed = world.feed(ann, feed="continuous", heartbeat_s=600.0, since=await world.seq())
    events = feed.events()
    first = asyncio.ensure_future(anext(events))
    await until(lambda: bool(world.database._wakes._by_channel))
    await world.write(ADMIN, "1", channels=["a"])
    await first
    second = await world.write(ADMIN, "2", channels=["a"])
    await world.write(ADMIN, "g", grant="ann", to="b")
    seen: list[bytes] = []
    async with asyncio.timeout(20):
        while len(seen) < 2:
            seen += (await anext(events)).rows  # type: ignore[union-attr]
    assert second.encode() in seen[0]
    assert b'"old"' in seen[1]
    await events.aclose()  # type: ignore[attr-defined]


async def test_an_access_change_between_waking_and_taking_rows_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "old", channels=["b"])
    feed = world.feed(ann, feed="continuous", heartbeat_s=600.0, since=await world.seq())
    real, grant = feed._still_valid, False

    async def still_valid() -> None:
        nonlocal grant
        await real()
        if grant:
            grant = False
            await world.write(ADMIN, "g", grant="ann", to="b")

    monkeypatch.setattr(feed, "_still_valid", still_valid)
    events = feed.events()
    first = asyncio.ensure_future(anext(events))
    await until(lambda: bool(world.database._wakes._by_channel))
    grant = True
    await world.write(ADMIN, "live", channels=["a"])
    seen = list((await asyncio.wait_for(first, 20)).rows)  # type: ignore[union-attr]
    async with asyncio.timeout(20):
        while len(seen) < 2:
            seen += (await anext(events)).rows  # type: ignore[union-attr]
    assert b'"live"' in seen[0] and b'"old"' in seen[1]
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_role_change_wakes_its_members(world: World, follow: Follow) -> None:
    await world.role("r", [])
    ann, bob = await world.user("ann", roles=["r"]), await world.user("bob")
    await world.write(ADMIN, "d", channels=["b"])
    feed, other = follow(ann), follow(bob)
    await feed.waits()
    await other.waits()
    await world.role("r", ["b"])
    await feed.sees("d")
    await world.write(ADMIN, "m", member="bob", roles="role:r")
    await other.sees("d")


async def test_a_document_that_moves_out_of_a_channel_is_no_row_and_the_feed_goes_on(
    world: World, follow: Follow
) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ADMIN, "d", channels=["a"])
    feed, telling = follow(ann), follow(ann, revocations=True)
    await feed.waits()
    await world.write(ADMIN, "d", rev, channels=["b"])
    await world.write(ADMIN, "e", channels=["a"])
    await feed.sees("d", "e")
    await telling.sees("d", "d", "e")
    assert telling.rows[1]["removed"] is True
    assert telling.rows[1]["changes"] == []


async def test_a_deletion_reaches_waiting_feeds_of_those_who_had_the_document(world: World, follow: Follow) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["b"])
    rev = await world.write(ADMIN, "d", channels=["a"])
    feed, other = follow(ann), follow(bob)
    await feed.sees("d")
    await feed.waits()
    gone = await world.write(ADMIN, "d", rev, _deleted=True)
    await world.write(ADMIN, "e", channels=["a", "b"])
    await feed.sees("d", "d", "e")
    assert feed.rows[1]["deleted"] is True
    assert feed.rows[1]["changes"] == [{"rev": gone}]
    await other.sees("e")


async def test_a_conflict_shows_every_readable_leaf_in_a_running_feed(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a"])
    await world.graft(ADMIN, "d", "1-a", channels=["a"])
    feed, short = follow(ann), follow(ann, style="main_only")
    await feed.sees("d")
    await feed.waits()
    await world.graft(ADMIN, "d", "1-b", channels=["a"])
    await world.graft(ADMIN, "d", "1-0", channels=["hidden"])
    await feed.sees("d", "d", "d")
    assert [[change["rev"] for change in row["changes"]] for row in feed.rows] == [
        ["1-a"],
        ["1-b", "1-a"],
        ["1-b", "1-a"],
    ]
    await short.sees("d", "d", "d")
    assert short.rows[2]["changes"] == [{"rev": "1-b"}]


async def test_include_docs_gives_bodies_in_pages_and_from_memory(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ADMIN, "d", channels=["a"], v=1)
    feed = follow(ann, include_docs=True)
    await feed.waits()
    await world.write(ADMIN, "e", channels=["a"], v=2)
    await feed.sees("d", "e")
    assert feed.rows[0]["doc"] == {"_id": "d", "_rev": rev, "channels": ["a"], "v": 1}
    assert feed.rows[1]["doc"]["v"] == 2
    await world.write(ADMIN, "d", rev, _deleted=True)
    await feed.sees("d", "e", "d")
    assert feed.rows[2]["doc"]["_deleted"] is True


async def test_doc_ids_and_channel_filters_hold_in_memory_too(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a", "b"])
    chosen, filtered = follow(ann, doc_ids=["d", "z"]), follow(ann, channels=["b", "hidden"])
    await chosen.waits()
    await filtered.waits()
    for name, channel in (("d", "a"), ("e", "b"), ("f", "hidden"), ("z", "b")):
        await world.write(ADMIN, name, channels=[channel])
    await chosen.sees("d", "z")
    await filtered.sees("e", "z")


@pytest.mark.parametrize("kind", ["normal", "longpoll", "continuous"])
async def test_a_limit_is_exact_and_last_seq_is_where_to_go_on(world: World, kind: str) -> None:
    ann = await world.user("ann", ["a"])
    docs = [{"_id": f"d{number}", "channels": ["a"]} for number in range(7)]
    await world.database.bulk_docs(ADMIN, docs, new_edits=True)
    since, seen = "0", []
    for count in (3, 3, 1):
        feed = world.feed(ann, since, feed=kind, limit=count, heartbeat_s=600.0)
        async with asyncio.timeout(20):
            rows = await rows_of(feed)
        assert len(rows) == count
        seen += [row["id"] for row in rows]
        since = feed.last_seq
    assert seen == [f"d{number}" for number in range(7)]


async def test_a_limit_is_exact_for_rows_from_memory(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a"])
    feed = follow(ann, limit=3)
    await feed.waits()
    docs = [{"_id": f"d{number}", "channels": ["a"]} for number in range(7)]
    await world.database.bulk_docs(ADMIN, docs, new_edits=True)
    await feed.end()
    assert len(feed.rows) == 3
    assert feed.feed.last_seq == feed.rows[-1]["seq"]
    rest = await world.ids(ann, feed.feed.last_seq)
    assert sorted([*feed.ids, *rest]) == [f"d{number}" for number in range(7)]


async def test_a_longpoll_that_times_out_says_how_far_it_looked(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "d", channels=["hidden"])
    start = await world.seq()
    feed = world.feed(ann, start, feed="longpoll", timeout_s=1.5)
    answer = asyncio.create_task(rows_of(feed))
    await until(lambda: bool(world.database._wakes._by_channel))
    await world.write(ADMIN, "e", channels=["hidden"])
    assert await answer == []
    found = parse_since(feed.last_seq)
    assert found is not None
    assert found.position == Position(await world.seq()) > Position(start)


async def test_heartbeats_come_while_nothing_does_and_override_the_timeout(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a"])
    feed = follow(ann, heartbeat_s=0.01, timeout_s=0.001)
    await until(lambda: feed.heartbeats >= 3)
    await world.write(ADMIN, "hidden", channels=["b"])
    await world.write(ADMIN, "d", channels=["a"])
    await feed.sees("d")


async def test_a_continuous_feed_without_heartbeat_ends_at_its_timeout(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "d", channels=["a"])
    feed = follow(ann, heartbeat_s=None, timeout_s=0.05)
    await feed.end()
    assert feed.ids == ["d"]


@pytest.mark.parametrize("change", ["deleted", "disabled", "password"])
@pytest.mark.parametrize("kind", ["longpoll", "continuous"])
async def test_a_feed_ends_when_its_user_may_not_go_on(world: World, follow: Follow, change: str, kind: str) -> None:
    ann = await world.user("ann", ["a"])
    feed = follow(ann, feed=kind)
    await feed.waits()
    if change == "deleted":
        await world.store.delete_principal("user", "ann")
    else:
        await world.user("ann", ["a"], **({"disabled": True} if change == "disabled" else {"password": "another"}))
    with pytest.raises(Unauthorized):
        await feed.end()
    assert len(world.database._wakes) == 0


async def test_other_properties_of_a_user_do_not_end_the_feed(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a"])
    feed = follow(ann)
    await feed.waits()
    await world.user("ann", ["a"], email="ann@example.com")
    await world.write(ADMIN, "d", channels=["a"])
    await feed.sees("d")


async def test_a_lost_channel_ends_its_rows_in_a_running_feed(world: World, follow: Follow) -> None:
    ann = await world.user("ann", ["a", "b"])
    feed, telling = follow(ann), follow(ann, revocations=True)
    await world.write(ADMIN, "1", channels=["b"])
    await feed.sees("1")
    await feed.waits()
    await world.user("ann", ["a"])
    await world.write(ADMIN, "2", channels=["b"])
    await world.write(ADMIN, "3", channels=["a"])
    await feed.sees("1", "3")
    await telling.sees("1", "1", "3")
    assert telling.rows[1]["revoked"] is True


async def test_a_slow_feed_with_too_many_rows_in_memory_reads_the_store(
    world: World, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEED_MEMORY_ROWS_COUNT", 2)
    ann = await world.user("ann", ["a"])
    feed = follow(ann)
    await feed.waits()
    docs = [{"_id": f"d{number}", "channels": ["a"]} for number in range(9)]
    await world.database.bulk_docs(ADMIN, docs, new_edits=True)
    await until(lambda: len(feed.rows) == 9)
    assert sorted(feed.ids) == [f"d{number}" for number in range(9)]
    assert feed.increasing()


async def test_too_many_waiting_feeds_are_refused(
    world: World, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FEEDS_COUNT", 1)
    ann = await world.user("ann", ["a"])
    first = follow(ann)
    await first.waits()
    with pytest.raises(Unavailable):
        await rows_of(world.feed(ann, feed="longpoll"))
    assert await world.ids(ann) == [], "a normal feed does not wait"


async def test_one_user_cannot_take_all_feeds(world: World, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FEEDS_OF_USER_COUNT", 1)
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["a"])
    guests = await world.user(GUEST, ["a"], disabled=None)
    first = follow(ann)
    await first.waits()
    with pytest.raises(TooManyRequests):
        await rows_of(world.feed(ann, feed="longpoll"))
    for feed in (follow(bob), follow(guests), follow(guests)):
        await feed.waits()


async def test_an_administrators_feed_has_every_document(world: World, follow: Follow) -> None:
    feed = follow(ADMIN)
    rev = await world.write(ADMIN, "d")
    await world.write(ADMIN, "e", channels=["x"])
    await world.write(ADMIN, "d", rev, _deleted=True)
    await feed.sees("d", "e", "d")


async def test_descending_lists_what_is_readable_now_the_newest_first(world: World) -> None:
    ann = await world.user("ann", ["a"])
    docs = [{"_id": f"d{number}", "channels": ["a" if number % 2 else "b"]} for number in range(6)]
    await world.database.bulk_docs(ADMIN, docs, new_edits=True)
    listed = [row["id"] for row in await world.changes(ann)]
    assert [row["id"] for row in await world.changes(ann, descending=True)] == listed[::-1]
    assert [row["id"] for row in await world.changes(ann, descending=True, limit=2)] == listed[::-1][:2]


def test_a_commit_costs_the_feeds_that_it_concerns() -> None:
    wakes = Wakes(0)
    waiters = [wakes.register(f"user{number}") for number in range(100)]
    for number, waiter in enumerate(waiters):
        assert wakes.watch(waiter, [number], 0)
    entry = Entry(1, "d", 1, "1-a", single=True, live=frozenset({7, 8}), gone=frozenset({9}))
    wakes.publish(Publication("notes", 1, 1, (entry,)))
    assert [number for number, waiter in enumerate(waiters) if waiter.woken.is_set()] == [7, 8, 9]
    assert waiters[9].reread
    for waiter in waiters:
        wakes.leave(waiter)
    assert len(wakes) == 0
    assert not wakes._by_channel
    assert not wakes._by_user


def test_a_commit_that_a_feed_has_read_already_does_not_wake_it() -> None:
    wakes = Wakes(0)
    waiter = wakes.register("ann")
    assert wakes.watch(waiter, [1], 5)
    entry = Entry(5, "d", 1, "1-a", single=True, live=frozenset({1}), gone=frozenset())
    wakes.publish(Publication("notes", 5, 5, (entry,), frozenset({"ann"})))
    assert not waiter.woken.is_set()
    assert not wakes.watch(waiter, [1], 4), "seen meanwhile: it must read again"
