"""Feeds that wait: longpoll and continuous, their heartbeats and their ends."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.protocol.site import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_longpoll_answers_at_once_when_there_is_something(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    await ann.put(notes.name("doc"), channels=notes.name("a"))
    assert await ann.listed(feed="longpoll") == [notes.name("doc")]


async def test_a_longpoll_waits_for_a_document_that_concerns_it(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    at = await ann.now()
    async with ann.waiting(since=at) as answer:
        await bob.put(notes.name("theirs"), channels=notes.name("b"))
        rev = await bob.put(notes.name("mine"), channels=notes.name("a"))
        page = await answer()
    (row,) = page["results"]
    assert (row["id"], row["changes"]) == (notes.name("mine"), [{"rev": rev}])
    assert (page["last_seq"], page["pending"]) == (row["seq"], 0)


async def test_a_longpoll_that_times_out_says_where_it_stands(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    at = await ann.now()
    async with ann.waiting(since=at, timeout=1500) as answer:
        await bob.put(notes.name("theirs"), channels=notes.name("b"))
        page = await answer()
    assert page["results"] == []
    assert page["last_seq"] == await ann.now() != at


async def test_a_waiting_longpoll_tells_a_new_grant_with_its_backfill(notes: Place) -> None:
    ann, bob = await notes.user("ann"), await notes.user("bob", notes.name("b"))
    old = notes.name("old")
    await bob.put(old, channels=notes.name("b"))
    async with ann.waiting(since=await ann.now()) as answer:
        await notes.change_user(ann, admin_channels=[notes.name("b")])
        page = await answer()
    assert [row["id"] for row in page["results"]] == [old]
    assert ":" in page["results"][0]["seq"]


async def test_an_acknowledged_write_is_on_every_feed_of_another_user_at_once(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("a"))
    doc, at = notes.name("doc"), await bob.now()
    async with bob.following(since=at) as lines, bob.waiting(since=at) as answer:
        rev = await ann.put(doc, channels=notes.name("a"))
        assert await bob.listed(since=at) == [doc]
        assert (await bob.get(f"/{doc}"))["_rev"] == rev
        assert await bob.held() == [doc]
        assert (await lines.row())["changes"] == [{"rev": rev}]
        assert (await answer())["results"][0]["changes"] == [{"rev": rev}]


async def test_a_continuous_feed_tells_what_was_and_what_comes(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    old, new = notes.name("old"), notes.name("new")
    rev = await ann.put(old, channels=notes.name("a"))
    async with ann.following() as lines:
        assert await lines.ids(1) == [old]
        await bob.put(notes.name("theirs"), channels=notes.name("b"))
        await bob.put(new, channels=notes.name("a"))
        assert await lines.ids(1) == [new]
        tombstone = await ann.delete(old, rev)
        row = await lines.row()
        assert (row["id"], row["deleted"], row["changes"]) == (old, True, [{"rev": tombstone}])


async def test_a_continuous_feed_sends_heartbeats(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    async with ann.following(heartbeat=1000) as lines:
        assert [await lines.line(), await lines.line()] == ["", ""]
        await ann.put(notes.name("doc"), channels=notes.name("a"))
        assert (await lines.row())["id"] == notes.name("doc")
        assert await lines.line() == ""


async def test_a_continuous_feed_with_a_limit_ends_with_its_position(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    ids = notes.names("d1", "d2", "d3")
    async with ann.following(limit=2) as lines:
        for doc in ids:
            await ann.put(doc, channels=notes.name("a"))
        rows = [await lines.row(), await lines.row()]
        end = await lines.row()
        with pytest.raises(StopAsyncIteration):
            await lines.line()
    assert [row["id"] for row in rows] == ids[:2]
    assert end["last_seq"] == rows[1]["seq"]
    assert await ann.listed(since=end["last_seq"]) == ids[2:]


async def test_a_continuous_feed_ends_after_its_timeout(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    await ann.put(notes.name("doc"), channels=notes.name("a"))
    answer = await ann.http.get("/_changes", params={"feed": "continuous", "timeout": 200})
    first, last = (json.loads(line) for line in answer.text.splitlines())
    assert first["id"] == notes.name("doc")
    assert last["last_seq"] == await ann.now()


async def test_a_running_feed_backfills_what_a_document_grants(notes: Place) -> None:
    ann, bob, admin = (
        await notes.user("ann", notes.name("a")),
        await notes.user("bob", notes.name("b")),
        await notes.admin(),
    )
    old = notes.names("o1", "o2", "o3")
    for doc in old:
        await bob.put(doc, channels=notes.name("b"))
    async with ann.following(since=await ann.now()) as lines:
        rev = await admin.put(notes.name("grant"), grants={ann.name: notes.name("b")})
        rows = [await lines.row() for _ in old]
        assert [row["id"] for row in rows] == old
        trigger = rows[0]["seq"].partition(":")[0]
        assert all(row["seq"].startswith(f"{trigger}:") for row in rows)
        await bob.put(notes.name("new"), channels=notes.name("b"))
        assert await lines.ids(1) == [notes.name("new")]
        await admin.delete(notes.name("grant"), rev)
        await bob.put(notes.name("later"), channels=notes.name("b"))
        await bob.put(notes.name("last"), channels=notes.name("a"))
        assert await lines.ids(1) == [notes.name("last")], "what was lost with the grant is not told any more"


async def test_a_running_feed_backfills_a_role_and_its_new_channels(notes: Place) -> None:
    ann, bob, admin = await notes.user("ann"), await notes.user("bob", *notes.names("b", "c")), await notes.admin()
    crew = await notes.role("crew", notes.name("b"))
    await bob.put(notes.name("in-b"), channels=notes.name("b"))
    await bob.put(notes.name("in-c"), channels=notes.name("c"))
    async with ann.following(since=await ann.now()) as lines:
        await admin.put(notes.name("member"), roles={ann.name: f"role:{crew}"})
        assert await lines.ids(1) == [notes.name("in-b")]
        await admin.put(notes.name("more"), grants={f"role:{crew}": notes.name("c")})
        assert await lines.ids(1) == [notes.name("in-c")]


async def test_a_running_feed_tells_documents_that_move_in_and_not_those_that_move_out(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    rev = await bob.put(doc, channels=notes.name("b"))
    async with ann.following(since=await ann.now()) as lines:
        rev = await bob.put(doc, rev=rev, channels=notes.name("a"))
        assert (await lines.row())["changes"] == [{"rev": rev}]
        rev = await bob.put(doc, rev=rev, channels=notes.name("b"))
        await bob.put(notes.name("last"), channels=notes.name("a"))
        assert await lines.ids(1) == [notes.name("last")]


async def test_a_feed_includes_documents_and_keeps_its_channel_filter(notes: Place) -> None:
    ann = await notes.user("ann", *notes.names("a", "b"))
    asked = {"include_docs": "true", "filter": "sync_gateway/bychannel", "channels": notes.name("b")}
    async with ann.following(**asked) as lines:
        await ann.put(notes.name("in-a"), channels=notes.name("a"))
        rev = await ann.put(notes.name("in-b"), channels=notes.name("b"), text="hi")
        row = await lines.row()
        assert row["doc"] == {"_id": notes.name("in-b"), "_rev": rev, "channels": notes.name("b"), "text": "hi"}


@pytest.mark.parametrize("how", ["disabled", "deleted", "password"])
async def test_a_running_feed_ends_when_its_login_does(notes: Place, how: str) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    async with ann.following() as lines:
        await ann.put(notes.name("doc"), channels=notes.name("a"))
        await lines.row()
        if how == "deleted":
            assert await admin.status("DELETE", f"/_user/{ann.name}") == 200
        else:
            await notes.change_user(ann, **({"disabled": True} if how == "disabled" else {"password": "another"}))
        last = await lines.row()
        assert last["error"] == "unauthorized"
        with pytest.raises(StopAsyncIteration):
            await lines.line()
    assert await ann.status("GET", "/_changes") == 401


async def test_many_feeds_are_all_told(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    people = [await notes.login(ann.name) for _ in range(10)]
    at = await ann.now()

    async def wait(number: int) -> list[str]:
        async with people[number].following(since=at) as lines:
            begun.release()
            return await lines.ids(3)

    begun = asyncio.Semaphore(0)
    waiting = [asyncio.create_task(wait(number)) for number in range(len(people))]
    for _ in people:
        await begun.acquire()
    ids = notes.names("d1", "d2", "d3")
    for doc in ids:
        await ann.put(doc, channels=notes.name("a"))
    assert await asyncio.gather(*waiting) == [ids] * len(people)
