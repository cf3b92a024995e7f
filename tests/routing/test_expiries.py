"""The timers of a whole database: grants end and documents expire, on real files, with a real router."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import limits
from gateway.callers import Caller
from gateway.errors import Forbidden, UpstreamUnreachable
from gateway.routing.expiries import Timer
from tests.routing.scripted import ScriptedDatabase
from tests.routing.world import ADMIN, World, until, world_in

SYNC = """
function (doc, oldDoc) {
  if (doc._deleted && oldDoc && oldDoc.keep) { throw({forbidden: "never deleted"}); }
  channel(doc.channels);
  if (doc.grant) { access(doc.grant, doc.to, {expires: doc.until}); }
  if (doc.expires) { expiry(doc.expires); }
  if (doc._deleted) { channel("bin"); expiry(1); }
}
"""


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_LAST_SECONDS", 0.02)
    monkeypatch.setattr(limits, "EXPIRED_RETRY_FIRST_SECONDS", 0.05)
    async with world_in(tmp_path, SYNC) as opened:
        await opened.caught_up()
        yield opened


async def deleted(world: World, doc_id: str) -> bool:
    row = await world.row(doc_id)
    return row is not None and row.deleted


# Grants


async def test_a_grant_ends_by_itself_within_a_second(world: World) -> None:
    ann = await world.user("ann")
    await world.write(ADMIN, "d", channels="A")
    end = time.time() + 2
    await world.write(ADMIN, "g", grant="ann", to="A", until=2)
    assert await world.listed(ann) == {"d": (await world.get(ann, "d"))["_rev"]}
    seq = await world.seq()
    await until(lambda: _has_no_channels(world))
    assert end - 0.1 <= time.time() <= end + 1.5
    assert await world.seq() == seq + 1
    assert await world.listed(ann) == {}
    with pytest.raises(Forbidden):
        await world.get(ann, "d")
    assert [row["id"] for row in await world.changes(ann, revocations=True)] == []
    (row,) = await world.changes(ann, seq, revocations=True)
    assert (row["id"], row["changes"]) == ("d", [])


async def _has_no_channels(world: World) -> bool:
    return not await world.channels_of("ann")


async def test_an_end_that_comes_before_the_others_is_not_missed(world: World) -> None:
    await world.user("ann")
    await world.write(ADMIN, "late", grant="ann", to="B", until=600)
    await world.write(ADMIN, "soon", grant="ann", to="A", until=2)
    assert await world.channels_of("ann") == {"A", "B"}

    async def only_b() -> bool:
        return await world.channels_of("ann") == {"B"}

    await until(only_b)


async def test_what_ended_while_the_gateway_was_down_is_over_before_anything_is_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await world.user("ann")
    await world.write(ADMIN, "d", channels="A")
    await world.write(ADMIN, "g", grant="ann", to="A", until=60)
    await world.close()
    seen: list[Timer] = []

    def script(upstream: ScriptedDatabase) -> None:
        later = time.time() + 60
        monkeypatch.setattr(time, "time", lambda: later)
        monkeypatch.setattr(Timer, "start", lambda timer: seen.append(timer))  # noqa: PLW0108 - a method

    await world.open(script)
    assert seen, "the timers would have done it"
    assert await world.listed(ann) == {}
    monkeypatch.undo()


async def test_a_failing_store_does_not_end_the_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_FIRST_SECONDS", 0.001)
    done = asyncio.Event()
    calls = []

    async def work(now: float) -> float | None:
        calls.append(now)
        if len(calls) == 1:
            raise RuntimeError("the disk is full")
        if len(calls) == 2:
            raise UpstreamUnreachable("no")
        done.set()
        return None

    timer = Timer("a timer", work)
    timer.start()
    async with asyncio.timeout(20):
        await done.wait()
    await timer.stop()


@pytest.mark.parametrize("jump", [+3600.0, -3600.0])
async def test_a_clock_that_is_set_is_noticed(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    monkeypatch.setattr(limits, "CLOCK_LOOK_SECONDS", 0.01)
    shift = 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    ended = asyncio.Event()
    end = real() + (1800 if jump > 0 else -1800)  # reached only by the clock that was set, or only before
    looks = []

    async def work(now: float) -> float | None:
        looks.append(now)
        if now >= end:
            ended.set()
            return None
        return end

    if jump < 0:
        shift = jump
    timer = Timer("a timer", work)
    timer.start()
    await until(lambda: len(looks) > 0)
    assert not ended.is_set()
    shift = jump if jump > 0 else 0.0
    async with asyncio.timeout(20):
        await ended.wait()
    await timer.stop()


# Documents


async def test_a_document_expires_and_its_readers_are_told(world: World) -> None:
    ann = await world.user("ann", ["A"])
    await world.write(ADMIN, "d", channels="A", expires=2)
    await world.write(ADMIN, "stays", channels="A")
    seq = await world.seq()
    await until(lambda: deleted(world, "d"))
    (row,) = await world.changes(ann, seq)
    assert (row["id"], row["deleted"]) == ("d", True)
    assert row["changes"][0]["rev"].startswith("2-")
    assert await world.ids(ann) == ["stays"]
    assert await world.channels("d") == set(), "a tombstone is alive in no channel"
    await until(lambda: world.database.status()["expired_count"] == 1)
    # Its tombstone said expiry(1) too, and nothing comes of that.
    assert (await world.leaves("d")).keys() == {row["changes"][0]["rev"]}


async def test_a_function_that_forbids_the_deletion_does_not_stop_it_and_readers_are_told(world: World) -> None:
    ann = await world.user("ann", ["A"])
    await world.write(ADMIN, "d", channels="A", expires=2, keep=True)
    seq = await world.seq()
    await until(lambda: deleted(world, "d"))
    (row,) = await world.changes(ann, seq)
    assert (row["id"], row["deleted"]) == ("d", True)
    (leaf,) = (await world.leaves("d")).values()
    assert (leaf.routing.channels, leaf.routing.refused) == (frozenset(), "never deleted")


async def test_a_document_that_was_changed_meanwhile_has_the_expiry_of_its_new_revision(world: World) -> None:
    rev = await world.write(ADMIN, "d", expires=2)
    await world.write(ADMIN, "d", rev, v=2)
    await world.write(ADMIN, "e", expires=2)
    await until(lambda: deleted(world, "e"))
    assert not await deleted(world, "d")


async def test_every_branch_that_has_expired_is_deleted_and_no_other(world: World) -> None:
    await world.graft(ADMIN, "d", "1-a", expires=1, channels="A")
    await world.graft(ADMIN, "d", "1-b", expires=1, channels="A")
    await world.graft(ADMIN, "e", "1-b", expires=1)
    await world.graft(ADMIN, "e", "1-a", channels="A")
    await until(lambda: deleted(world, "d"))
    assert all(leaf.deleted for leaf in (await world.leaves("d")).values())
    assert len(await world.leaves("d")) == 2

    async def only_a() -> bool:
        leaves = await world.leaves("e")
        return [leaf.rev for leaf in leaves.values() if not leaf.deleted] == ["1-a"]

    await until(only_a)


async def test_a_document_written_straight_upstream_expires_too(world: World) -> None:
    await world.direct("d", expires=1)
    await until(lambda: deleted(world, "d"))


async def test_a_document_expires_when_the_upstream_is_back(world: World) -> None:
    await world.write(ADMIN, "d", expires=1)
    writes = world.upstream.write

    failed = []

    async def unreachable(docs: object, *, new_edits: bool) -> object:
        failed.append(docs)
        raise UpstreamUnreachable("the upstream is away")

    world.upstream.write = unreachable  # type: ignore[method-assign, assignment]
    await until(lambda: len(failed) > 2)
    assert not await deleted(world, "d")
    world.upstream.write = writes  # type: ignore[method-assign]
    await until(lambda: deleted(world, "d"))


async def test_documents_that_cannot_be_deleted_do_not_hold_up_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DOCUMENTS_EXPIRED_COUNT", 2)
    validate = "function (doc) { if (doc._deleted && /^stuck/.test(doc._id)) throw({forbidden: 'no'}); }"
    await world.direct("_design/v", validate_doc_update=validate)
    for number in range(5):
        await world.write(ADMIN, f"stuck{number}", expires=1)
    await world.write(ADMIN, "d", expires=2)
    await until(lambda: deleted(world, "d"))
    assert not await deleted(world, "stuck0")
    (design,) = (await world.upstream.inner.leaves(["_design/v"]))[0]
    await world.direct("_design/v", design["_rev"])

    async def all_gone() -> bool:
        return all([await deleted(world, f"stuck{number}") for number in range(5)])

    await until(all_gone)


async def test_a_document_that_expired_while_the_gateway_was_down_is_deleted_when_it_is_back(world: World) -> None:
    ann: Caller = await world.user("ann", ["A"])
    await world.write(ADMIN, "d", channels="A", expires=1)
    await world.close()
    await asyncio.sleep(1.1)  # what is tested is that time goes on without it
    await world.open()
    await until(lambda: deleted(world, "d"))
    assert await world.listed(ann) == {}
