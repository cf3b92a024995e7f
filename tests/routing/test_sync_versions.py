"""The sync function of a running database is changed: what decides, what is wanted, and verdicts of an earlier one."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from gateway import limits
from gateway.couch.upstream import Document
from gateway.errors import BadSyncFunction, Forbidden, NotFound, PreconditionFailed
from gateway.queries import Trial
from gateway.settings.values import ImportRules
from gateway.store.protocol import DatabaseState
from gateway.store.sqlite import SqliteDatabase
from gateway.store.versions import set_in_force
from gateway.syncfn.runtime import SyncFunction
from tests.routing.world import ADMIN, SYNC, World, until

NEW = "function (doc) { if (doc.late) throw({forbidden: 'too late'}); channel('new'); access(doc.reader, 'new'); }"
OTHER = "function (doc) { channel('other'); }"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a row releases a write, and one that is not routed hangs the test."""
    monkeypatch.setattr(limits, "WRITE_ROUTED_DOUBT_SECONDS", 3600.0)
    monkeypatch.setattr(limits, "WRITE_ROUTED_WAIT_SECONDS", 3600.0)


async def bring_in_force(world: World, source: str) -> None:
    """As a resync does that finds no document to be routed otherwise."""
    wanted = await world.database.versions.put(source)
    store = world.store
    assert isinstance(store, SqliteDatabase)
    async with world.database.router.at_rest():
        await store._transaction(lambda tx, sql: set_in_force(tx, wanted.number))
        world.database.versions.taken(SyncFunction(source), wanted.number)


# What decides


async def test_the_function_in_force_decides_and_routes_until_the_wanted_one_is_in_force(world: World) -> None:
    await world.write(ADMIN, "first", channels=["a"])
    wanted = await world.database.versions.put(NEW)
    assert (wanted.number, wanted.origin) == (2, "api")
    status = world.database.status()
    assert (status["sync_version"], status["sync_wanted"], status["routing_outdated"]) == (1, 2, True)
    await world.write(ADMIN, "second", channels=["b"], late=True)
    await world.direct("third", channels=["c"])
    await world.routed()
    assert [await world.channels(doc) for doc in ("first", "second", "third")] == [{"a"}, {"b"}, {"c"}]
    await bring_in_force(world, NEW)
    status = world.database.status()
    assert (status["sync_version"], status["sync_wanted"], status["routing_outdated"]) == (2, None, False)
    with pytest.raises(Forbidden, match="too late"):
        await world.write(ADMIN, "fourth", late=True)
    await world.write(ADMIN, "fifth", channels=["a"])
    await world.direct("sixth", channels=["c"])
    await world.routed()
    assert [await world.channels(doc) for doc in ("fifth", "sixth")] == [{"new"}, {"new"}]


async def test_a_function_is_in_force_at_once_while_the_database_holds_no_document(world: World) -> None:
    assert (await world.database.versions.put(NEW)).number == 2
    assert (world.database.versions.in_force, world.database.versions.wanted) == (2, None)
    await world.write(ADMIN, "d", channels=["a"])
    assert await world.channels("d") == {"new"}
    await world.database.versions.put(OTHER)
    assert (world.database.versions.in_force, world.database.versions.wanted) == (2, 3)


async def test_a_document_being_routed_is_routed_by_the_function_it_was_read_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change waits for it, finds a document then, and is only wanted."""
    reading, may_read, leaves = asyncio.Event(), asyncio.Event(), world.upstream.leaves

    async def gated(ids: Sequence[str]) -> list[list[Document]]:
        reading.set()
        await may_read.wait()
        return await leaves(ids)

    monkeypatch.setattr(world.upstream, "leaves", gated)
    await world.direct("d", channels=["a"])
    await reading.wait()
    changing = asyncio.create_task(world.database.versions.put(NEW))
    await until(lambda: bool(world.database.versions._changes))
    assert world.database.versions.in_force == 1
    may_read.set()
    await changing
    await world.routed()
    assert await world.channels("d") == {"a"}
    assert (world.database.versions.in_force, world.database.versions.wanted) == (1, 2)


async def test_a_change_whose_client_left_is_made_all_the_same(world: World) -> None:
    async with world.database.router.at_rest():
        changing = asyncio.create_task(world.database.versions.put(NEW))
        await until(lambda: bool(world.database.versions._changes))
        changing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await changing
    await until(lambda: world.database.versions.in_force == 2)


async def test_a_change_while_another_version_comes_in_force_leaves_that_one_in_force(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change has read what was in force before, and must not bring that back."""
    await world.write(ADMIN, "d")
    versions, store = world.database.versions, world.database._store
    await versions.put(NEW)
    assert isinstance(store, SqliteDatabase)
    state, read, may_go_on = store.state, asyncio.Event(), asyncio.Event()
    reads = 0

    async def gated() -> DatabaseState:
        nonlocal reads
        reads += 1
        found = await state()
        if reads == 2:
            read.set()
            await may_go_on.wait()
        return found

    monkeypatch.setattr(store, "state", gated)
    changing = asyncio.create_task(versions.put(NEW))
    await read.wait()
    await store._transaction(lambda tx, sql: set_in_force(tx, 2))
    versions.taken(SyncFunction(NEW), 2)
    may_go_on.set()
    await changing
    assert (versions.in_force, versions.wanted) == (2, None)


# Verdicts of an earlier function


async def attached(world: World) -> None:
    data = base64.b64encode(b"text").decode()
    await world.write(ADMIN, "d", channels=["a"], _attachments={"t": {"data": data, "content_type": "text/plain"}})


async def plain(world: World) -> None:
    await world.write(ADMIN, "d", channels=["a"])


async def replicated(world: World) -> None:
    assert (await world.graft(ADMIN, "d", "1-a", channels=["a"])).routed


Write = Callable[[World], Awaitable[None]]


@pytest.mark.parametrize("write", [plain, replicated, attached])
@pytest.mark.parametrize("closed", [("may_store",), ("may_answer", "feed_open"), ("feed_open",)], ids="-".join)
async def test_a_write_is_not_routed_by_a_verdict_of_a_function_that_is_not_in_force_any_more(
    world: World, patient: None, write: Write, closed: Sequence[str]
) -> None:
    """It was accepted, stored, or answered, but not routed when another function came in force."""
    await world.write(ADMIN, "first")
    bulks, stored = len(world.upstream.bulks), world.upstream.stored_count
    gates = [getattr(world.upstream, gate) for gate in closed]
    for gate in gates:
        gate.clear()
    writing = asyncio.ensure_future(write(world))
    await until(lambda: len(world.upstream.bulks) > bulks)
    if "may_store" not in closed:
        await until(lambda: world.upstream.stored_count > stored)
    pending = world.database.router._ledger._by_id["d"][0]
    if closed == ("feed_open",):
        await asyncio.wait_for(pending.answered.wait(), 20)
    assert pending.version == 1
    await bring_in_force(world, NEW)
    for gate in gates:
        gate.set()
    await asyncio.wait_for(writing, 20)
    assert await world.channels("d") == {"new"}


@pytest.mark.parametrize("write", [plain, replicated, attached])
async def test_such_a_write_is_no_import(world: World, patient: None, write: Write) -> None:
    """Its verdict does not count any more, and yet it is not written straight to the upstream."""
    world.imports = ImportRules(enabled=False)
    await world.restart()
    await world.caught_up()
    await world.write(ADMIN, "first")
    world.upstream.feed_open.clear()
    writing = asyncio.ensure_future(write(world))
    await until(lambda: any(one.answered.is_set() for one in world.database.router._ledger._by_id.get("d", [])))
    await bring_in_force(world, NEW)
    world.upstream.feed_open.set()
    await asyncio.wait_for(writing, 20)
    assert await world.channels("d") == {"new"}


async def test_what_the_function_in_force_refuses_then_is_hidden_and_noted(world: World, patient: None) -> None:
    ann = await world.user("ann", ["a", "new"])
    await world.write(ADMIN, "first")
    world.upstream.feed_open.clear()
    writing = asyncio.create_task(world.write(ann, "d", channels=["a"], late=True))
    await until(lambda: world.upstream.stored_count == 2)
    await bring_in_force(world, NEW)
    world.upstream.feed_open.set()
    await asyncio.wait_for(writing, 20)
    assert await world.channels("d") == set()
    with pytest.raises(Forbidden):
        await world.get(ann, "d")
    assert [row["id"] for row in world.database.status()["foreign_refused"]] == ["d"]


async def test_a_verdict_is_used_where_nothing_changed(world: World, patient: None) -> None:
    """What the other tests rest on: the body is not read and the function not asked again."""
    for write in (plain, attached):
        world.upstream.leaf_reads.clear()
        await write(world)
        assert world.upstream.leaf_reads == []
        rev = (await world.get(ADMIN, "d"))["_rev"]
        await world.write(ADMIN, "d", rev, _deleted=True)


# What administrators see and do


async def test_versions_are_listed_and_going_back_is_one_call(world: World) -> None:
    versions = world.database.versions
    await world.write(ADMIN, "d")
    await bring_in_force(world, NEW)
    await versions.put(OTHER)
    told = await versions.overview()
    assert [(one["number"], one["origin"]) for one in told["versions"]] == [(1, "config"), (2, "api"), (3, "api")]
    assert (told["in_force"], told["wanted"], told["config_file"]) == (2, 3, 1)
    assert (await versions.version()).source == NEW
    assert (await versions.version(3)).source == OTHER
    assert (await versions.go_back(1)).source == SYNC
    assert (versions.in_force, versions.wanted) == (2, 1)
    await versions.put(NEW)
    assert (versions.in_force, versions.wanted) == (2, None)
    with pytest.raises(NotFound, match="no version 4"):
        await versions.go_back(4)
    with pytest.raises(NotFound):
        await versions.version(4)


async def test_a_source_that_does_not_compile_changes_nothing(world: World) -> None:
    await world.write(ADMIN, "d")
    await world.database.versions.put(OTHER)
    for bad in ("function (doc) {\n  channel(;\n}", "", "channel()", "\ud800"):
        with pytest.raises(BadSyncFunction):
            await world.database.versions.put(bad)
    with pytest.raises(BadSyncFunction, match="line 2 column 11"):
        await world.database.versions.put("function (doc) {\n  channel(;\n}")
    assert (world.database.versions.in_force, world.database.versions.wanted) == (1, 2)
    assert len((await world.database.versions.overview())["versions"]) == 2


async def test_of_two_changes_made_for_the_same_state_the_second_is_refused(world: World) -> None:
    await world.write(ADMIN, "d")
    versions = world.database.versions
    tag = versions.tag
    first, second = await asyncio.gather(versions.put(NEW, tag), versions.put(OTHER, tag), return_exceptions=True)
    refused = [one for one in (first, second) if isinstance(one, PreconditionFailed)]
    assert len(refused) == 1
    await versions.put(OTHER, versions.tag)


async def test_a_trial_asks_the_function_in_force(world: World) -> None:
    async def channels() -> Any:
        return (await world.database.try_sync_function(Trial({"_id": "d"}, None, None, None)))["channels"]

    await world.write(ADMIN, "d")
    await world.database.versions.put(NEW)
    assert await channels() == []
    await bring_in_force(world, NEW)
    assert await channels() == ["new"]


# The config file


async def test_a_change_of_the_file_is_wanted_after_a_restart_and_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.write(ADMIN, "d", channels=["a"])
    world.sync = NEW
    await world.restart()
    assert (world.database.versions.in_force, world.database.versions.wanted) == (1, 2)
    (said,) = [line for line in caplog.messages if "outdated" in line]
    assert "version 2 of the sync function is wanted, version 1 decides until POST /notes/_resync" in said
    await world.caught_up()
    await world.write(ADMIN, "e", channels=["a"])
    assert await world.channels("e") == {"a"}
    world.sync = SYNC
    await world.restart()
    assert (world.database.versions.in_force, world.database.versions.wanted) == (1, None)


async def test_a_restart_with_the_same_file_undoes_no_change_by_the_api(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.write(ADMIN, "d")
    await bring_in_force(world, NEW)
    await world.database.versions.put(OTHER)
    caplog.clear()
    await world.restart()
    assert (world.database.versions.in_force, world.database.versions.wanted) == (2, 3)
    assert any(
        "version 2 of the sync function is in force, which is not the config file's" in m for m in caplog.messages
    )
    await world.caught_up()
    await world.write(ADMIN, "e")
    assert await world.channels("e") == {"new"}


async def test_the_file_of_an_empty_database_is_in_force_after_a_restart_before_anything_is_routed(
    world: World,
) -> None:
    world.sync = NEW
    await world.close()
    server_side = World(world.directory, NEW)
    await server_side.open(lambda upstream: upstream.feed_open.clear())
    assert server_side.database.versions.in_force == 2
    await server_side.direct("d", channels=["a"])
    server_side.upstream.feed_open.set()
    await server_side.routed()
    assert await server_side.channels("d") == {"new"}
    await server_side.close()
    await world.open()


async def test_a_function_of_the_store_that_the_engine_refuses_now_stops_writes_and_nothing_else(world: World) -> None:
    await world.write(ADMIN, "d", channels=["a"])
    store = world.store
    assert isinstance(store, SqliteDatabase)
    await store._connections.write(lambda sql: sql.execute("UPDATE sync_version SET source = 'function ('"))
    await world.restart()
    await world.caught_up()
    assert await world.channels("d") == {"a"}
    with pytest.raises(Exception, match="cannot be run"):
        await world.write(ADMIN, "e")
    await bring_in_force(world, NEW)
    await world.write(ADMIN, "e")


async def test_who_watches_is_told_of_every_change_of_what_is_wanted(world: World) -> None:
    versions = world.database.versions
    told: list[int | None] = []
    await world.write(ADMIN, "d")
    versions.watch(lambda: told.append(versions.wanted))
    assert told == []
    await versions.put(NEW)
    await versions.put(NEW)
    await versions.put(OTHER)
    await versions.put(SYNC)
    assert told == [2, 3, None]
    await bring_in_force(world, NEW)
    assert told == [2, 3, None, 2, None]
    await versions.put(OTHER)
    again: list[int | None] = []
    versions.watch(lambda: again.append(versions.wanted))
    assert again == [3]
