"""The job of a resync: stopped, gone on with, held up by the upstream, overtaken by writes and by other functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway import limits
from gateway.couch.upstream import RevisionRef
from gateway.errors import Conflict, NotFound
from gateway.queries import ResyncStart
from gateway.store.resync_protocol import ResyncState
from tests.routing.scripted import ScriptedDatabase
from tests.routing.world import ADMIN, SYNC, World, until, world_in

BY_OWNER = SYNC.replace("channel(doc.channels);", "channel(doc.of || doc.channels);")
DOCUMENTS = [f"d{number}" for number in range(1, 7)]


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Six documents in the channel a, which go to b one by one by BY_OWNER; two are computed at once."""
    monkeypatch.setattr(limits, "RESYNC_BATCH_DOCUMENTS_COUNT", 2)
    async with world_in(tmp_path) as opened:
        for doc in DOCUMENTS:
            await opened.write(ADMIN, doc, channels=["a"], of=["b"], name=doc)
        yield opened


class Hold:
    """Reads of one document by the resync wait; `reached` once one does."""

    def __init__(self, upstream: ScriptedDatabase, doc: str) -> None:
        self._doc = doc
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()
        self.read: list[str] = []
        upstream.before_read = self._before

    async def _before(self, wanted: Sequence[RevisionRef]) -> None:
        self.read += [ref.id for ref in wanted]
        if self._doc in (ref.id for ref in wanted):
            self.reached.set()
            await self.let_go.wait()


async def begin(world: World, source: str = BY_OWNER) -> None:
    await world.database.resync.start(ResyncStart(source=source))


async def ended(world: World, state: ResyncState = "completed") -> dict[str, Any]:
    async def has_ended() -> bool:
        return bool((await world.database.resync.status())["status"] == state)

    await until(has_ended)
    return await world.database.resync.status()


async def all_moved(world: World) -> None:
    assert [await world.channels(doc) for doc in DOCUMENTS] == [{"b"}] * len(DOCUMENTS)


async def test_a_resync_that_was_stopped_goes_on_from_where_it_was(world: World) -> None:
    hold = Hold(world.upstream, "d3")
    await begin(world)
    await hold.reached.wait()
    told = await world.database.resync.status()
    assert (told["status"], told["docs_processed"], told["docs_total"], told["docs_changed"]) == ("running", 2, 6, 2)
    assert world.database.status()["resync"]["docs_computed"] == 2
    with pytest.raises(Conflict):
        await begin(world)
    await world.database.resync.stop()
    told = await ended(world, "stopped")
    assert told["docs_processed"] == 2
    assert await world.channels("d1") == {"a"}, "nothing is applied before everything is computed"
    assert world.database.status()["resync"] is None
    again = Hold(world.upstream, "")
    await world.database.resync.start(ResyncStart())
    assert (await ended(world))["docs_processed"] == 6
    assert again.read == DOCUMENTS[2:]
    await all_moved(world)


async def test_a_resync_goes_on_by_itself_after_a_restart(world: World) -> None:
    hold = Hold(world.upstream, "d5")
    await begin(world)
    await hold.reached.wait()
    again: list[Hold] = []
    await world.restart(lambda upstream: again.append(Hold(upstream, "")))
    await ended(world)
    assert [doc for doc in again[0].read if doc in DOCUMENTS] == DOCUMENTS[4:]
    await all_moved(world)
    assert world.database.versions.in_force == 2
    await world.restart()
    assert world.database.versions.in_force == 2
    await world.write(ADMIN, "new", channels=["a"], of=["c"])
    assert await world.channels("new") == {"c"}, "writes are routed by the function that came in force"


async def test_an_upstream_that_is_down_is_waited_for(world: World) -> None:
    hold = Hold(world.upstream, "d5")
    await begin(world)
    await hold.reached.wait()
    world.upstream.gone = True
    hold.let_go.set()
    await until(lambda: (world.database.resync.brief() or {})["status"] == "waiting")
    told = await world.database.resync.status()
    assert (told["status"], told["last_error"]) == ("waiting", "nothing is there")
    assert (told["rate"], told["seconds_left"]) == (None, None)
    world.upstream.gone = False
    told = await ended(world)
    assert told["last_error"] is None
    await all_moved(world)


async def test_what_is_written_meanwhile_is_routed_by_both_functions(world: World) -> None:
    hold = Hold(world.upstream, "d5")
    await begin(world)
    await hold.reached.wait()
    hold.let_go.clear()
    await world.direct("d1", (await world.row("d1") or pytest.fail("d1 is gone")).winner, channels=["a"], of=["x"])
    await world.direct("new", channels=["a"], of=["y"])
    await world.routed()
    assert (await world.channels("d1"), await world.channels("new")) == ({"a"}, {"a"})
    hold.let_go.set()
    told = await ended(world)
    assert (told["docs_total"], told["docs_changed"]) == (7, 7)
    assert (await world.channels("d1"), await world.channels("new")) == ({"x"}, {"y"})


async def test_a_resync_ends_when_another_function_is_wanted(world: World) -> None:
    hold = Hold(world.upstream, "d3")
    await begin(world)
    await hold.reached.wait()
    await world.database.versions.go_back(1)
    told = await ended(world, "stopped")
    assert told["last_error"] == "another version of the sync function is wanted"
    hold.let_go.set()
    assert world.database.versions.in_force == 1


async def test_an_automatic_resync_begins_with_the_change_of_the_function(world: World) -> None:
    world.database.versions.automatic = True
    hold = Hold(world.upstream, "d3")
    await world.database.versions.put(BY_OWNER.replace("doc.of", "doc.nothing"))
    await hold.reached.wait()
    hold.let_go.set()
    await world.database.versions.put(BY_OWNER)
    await until(lambda: world.database.versions.in_force == 3)
    await all_moved(world)


async def test_an_automatic_resync_begins_once_a_preview_has_ended(world: World) -> None:
    world.database.versions.automatic = True
    hold = Hold(world.upstream, "d3")
    await world.database.resync.start(ResyncStart(preview=True, source="function (doc) { channel('c'); }"))
    await hold.reached.wait()
    await world.database.versions.put(BY_OWNER)
    told = await world.database.resync.status()
    assert (told["status"], told["preview"]) == ("running", True)
    hold.let_go.set()
    await until(lambda: world.database.versions.wanted is None)
    await all_moved(world)


async def test_a_document_that_cannot_be_read_is_hidden_and_stops_nothing(world: World) -> None:
    row = await world.row("d4")
    assert row is not None
    assert row.winner is not None
    world.upstream.unreadable.add(row.winner)
    await begin(world)
    told = await ended(world)
    assert (told["docs_refused"], told["docs_changed"]) == (1, 6)
    (listed,) = (await world.database.resync.documents("refused", None, 0, 10))["documents"]
    assert (listed["id"], "nested too deeply" in listed["refused"]) == ("d4", True)
    assert (await world.channels("d4"), await world.channels("d5")) == (set(), {"b"})


async def test_a_function_that_runs_away_over_and_over_ends_the_resync(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RESYNC_RUNAWAYS_COUNT", 0)
    monkeypatch.setattr(limits, "RESYNC_BATCH_DOCUMENTS_COUNT", 1)
    await begin(world, "function (doc) { for (;;) {} }")
    told = await ended(world, "error")
    assert told["last_error"] == "the sync function ran away on more than 0 documents"
    assert await world.channels("d1") == {"a"}


async def test_no_write_waits_for_what_the_last_documents_take(world: World) -> None:
    """Somebody writes documents meanwhile that the wanted function has long to think about."""
    reached, let_go = asyncio.Event(), asyncio.Event()

    async def thinks(wanted: Sequence[RevisionRef]) -> None:
        read = {ref.id for ref in wanted}
        if "d6" in read and not reached.is_set():
            await world.write(ADMIN, "last", channels=["a"], of=["b"])
        elif "last" in read:  # nothing is left but this one, which is written meanwhile
            await world.write(ADMIN, "very-last", channels=["a"], of=["b"])
        elif "very-last" in read:
            reached.set()
            await let_go.wait()

    world.upstream.before_read = thinks
    await begin(world)
    await reached.wait()
    async with asyncio.timeout(limits.WRITE_ROUTED_WAIT_SECONDS / 2):
        await world.write(ADMIN, "other", channels=["a"], of=["b"])
    assert await world.channels("other") == {"a"}
    let_go.set()
    await ended(world)
    assert [await world.channels(doc) for doc in ("last", "very-last", "other")] == [{"b"}] * 3


async def test_nothing_is_told_of_the_resync_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    resync = world.database.resync
    await resync.start(ResyncStart(preview=True, source=BY_OWNER))
    assert (await ended(world))["docs_changed"] == 6
    monkeypatch.setattr(limits, "RESYNC_CLEARED_COUNT", 1)
    hold = Hold(world.upstream, "d1")
    await resync.start(ResyncStart(preview=True, source="function (doc) { channel('c'); }"))
    while not hold.reached.is_set():
        told = await resync.status()
        assert (told["docs_changed"], told["channels"]) == (0, {"entered": 0, "left": 0})
        assert (await resync.documents("changed", None, 0, 10))["documents"] == []
        assert (await resync.channels("", 10))["channels"] == []
    hold.let_go.set()
    assert (await ended(world))["docs_changed"] == 6


async def test_the_log_tells_of_some_documents_of_a_resync_and_of_all_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "RESYNC_LOGGED_DOCUMENTS_COUNT", 3)
    caplog.set_level("INFO", "gateway.syncfn.runtime")
    await begin(world, BY_OWNER.replace("{", "{ console.log('seen');", 1))
    await ended(world)
    said = [line.partition(": ")[::2] for line in caplog.messages if line.startswith("sync function")]
    assert said == [
        ("sync function of notes, in a resync", text)
        for text in [
            *(f"{doc}: seen" for doc in DOCUMENTS[:3]),
            "the log tells of no more documents of this resync",
        ]
    ]
    caplog.clear()
    await world.write(ADMIN, "new")
    assert [line.partition(": ")[::2] for line in caplog.messages] == [("sync function of notes", "new: seen")]


async def test_feeds_see_very_many_changes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESYNC_PUBLISHED_COUNT", 1)
    ann = await world.user("ann", ["b"])
    waiting = asyncio.create_task(world.changes(ann, await world.seq(), feed="longpoll", heartbeat_s=60))
    await until(lambda: len(world.database._wakes) == 1)
    await begin(world)
    assert [row["id"] for row in await waiting] == DOCUMENTS


async def test_a_superseded_revision_is_readable_by_the_new_function_only(world: World) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["b"])
    row = await world.row("d1")
    assert row is not None
    assert row.winner is not None
    await world.write(ADMIN, "d1", row.winner, channels=["c"], of=["c"])
    assert (await world.get(ann, "d1", row.winner))["_rev"] == row.winner
    await begin(world)
    await ended(world)
    assert (await world.get(bob, "d1", row.winner))["_rev"] == row.winner
    with pytest.raises(NotFound):
        await world.get(ann, "d1", row.winner)


async def test_access_for_a_time_lasts_no_longer_for_a_resync(world: World) -> None:
    lending = SYNC.replace(
        "if (doc.grant) {",
        "if (doc.lends) { access(doc.lends, doc.to, {expires: 3600}); expiry(7200); } if (doc.grant) {",
    )
    await begin(world, lending)
    await ended(world)
    await world.write(ADMIN, "loan", channels=["a"], lends="ann", to="a")
    before = (await world.leaves("loan")).popitem()[1].routing
    assert before.expiry is not None
    await begin(world, lending + "// the same")
    assert (await ended(world))["docs_changed"] == 0
    assert (await world.leaves("loan")).popitem()[1].routing == before
    await begin(world, lending.replace("3600", "1800").replace("7200", "3600"))
    assert (await ended(world))["docs_changed"] == 1
    after = (await world.leaves("loan")).popitem()[1].routing
    assert after.expiry == before.expiry - 3600
    ((_, _, end),), ((_, _, earlier),) = before.grant_ends, after.grant_ends
    assert earlier == end - 1800
    assert await world.store.next_grant_end() == earlier
