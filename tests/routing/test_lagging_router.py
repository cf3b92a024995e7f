"""Writes while the router lags behind the upstream."""

from __future__ import annotations

import asyncio

import pytest

from gateway import limits
from gateway.couch.upstream import Identity
from gateway.errors import (
    Conflict,
    UnreadableDocument,
)
from gateway.routing.router import Router
from tests.routing.world import ADMIN, World, until


@pytest.fixture
async def lagging(world: World) -> tuple[World, str, str]:
    """The index knows the first revision, the upstream has a second; the router is not caught up."""
    first = await world.write(ADMIN, "d", v=1, owner="ann")
    await world.close()
    await world.open(lambda upstream: upstream.feed_open.clear())
    second = await world.direct("d", first, v=2)
    world.upstream.break_feed()
    await until(lambda: len(world.upstream.sinces) == 2)
    assert not world.database.router.status.caught_up
    return world, first, second


async def test_a_write_under_a_lagging_router_conflicts_with_what_is_upstream(lagging: tuple[World, str, str]) -> None:
    world, first, _ = lagging
    for rev in (first, None):
        with pytest.raises(Conflict):
            await world.write(ADMIN, "d", rev, v=3)


async def test_a_write_under_a_lagging_router_sees_the_upstreams_old_doc(lagging: tuple[World, str, str]) -> None:
    world, first, second = lagging
    mallory = await world.user("mallory")
    assert await world.write(mallory, "d", second, v=3, tell=True), "the owner of the first is not asked any more"
    assert await world.channels("d") == {"old.2"}
    outcome = await world.graft(mallory, "d", "2-0", first, tell=True)
    assert outcome.rev == "2-0", "a branch is shown the winner, not the recorded leaf that it extends"
    assert (await world.leaves("d"))["2-0"].routing.channels
    world.upstream.feed_open.set()
    await world.routed()


async def test_a_stored_write_is_routed_from_the_upstream_when_its_row_is_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_ROUTED_DOUBT_SECONDS", 0.01)
    ann = await world.user("ann", ["a"])
    world.upstream.feed_open.clear()
    outcome = await world.database.write(ann, {"_id": "d", "channels": ["a"]})
    assert outcome.routed
    assert await world.listed(ann) == {"d": outcome.rev}
    seq = await world.seq()
    world.upstream.feed_open.set()
    await world.routed()
    assert await world.seq() == seq


async def test_a_write_that_is_not_routed_in_time_answers_202_and_is_routed_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_ROUTED_WAIT_SECONDS", 0.05)
    ann = await world.user("ann", ["a"])
    world.upstream.feed_open.clear()
    outcome = await world.database.write(ann, {"_id": "d", "only": "ann", "channels": ["a"], "v": 1})
    assert not outcome.routed
    with pytest.raises(Conflict):
        await world.database.write(ann, {"_id": "d", "v": 2})
    later = await world.database.write(ann, {"_id": "d", "_rev": outcome.rev, "channels": ["a"], "tell": True})
    assert not later.routed
    world.upstream.feed_open.set()
    await world.routed()
    assert await world.listed(ann) == {"d": later.rev}
    assert await world.channels("d") == {"a", "old.1"}
    assert len(world.database._writes._ledger) == 0, "the verdicts that were left are used up"


async def test_nothing_is_applied_while_the_upstream_is_not_known_to_be_the_right_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_ROUTED_DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(limits, "WRITE_ROUTED_WAIT_SECONDS", 0.05)
    world.upstream.pretended = Identity("another", "one")
    world.upstream.leaves_error = lambda ids: UnreadableDocument("not yet") if "old" in ids else None
    stuck = asyncio.Event()

    async def stay(router: Router) -> None:
        stuck.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Router, "_reconcile", stay)
    world.upstream.break_feed()
    await stuck.wait()
    outcome = await world.database.write(ADMIN, {"_id": "d"})
    assert not outcome.routed
    assert await world.row("d") is None
