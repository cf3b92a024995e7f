"""Documents on which the sync function runs away, in requests of many: what becomes of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import limits
from gateway.errors import NotLookedAt, SyncFunctionRanAway
from tests.routing.world import World, grafted, world_in

SYNC = "function (doc) { if (doc.bad) { for (;;); } channel(doc.channels); }"


@pytest.fixture
async def runaway_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(limits, "SYNC_FUNCTION_RUNAWAYS_COUNT", 1)  # each takes a second
    async with world_in(tmp_path, SYNC) as world:
        yield world


async def test_a_bulk_on_which_the_function_runs_away_is_not_looked_at_any_further(runaway_world: World) -> None:
    ann = await runaway_world.user("ann", ["a"])
    docs = [{"_id": "before", "channels": ["a"]}, *({"_id": f"bad{n}", "bad": 1} for n in range(50))]
    outcomes = await runaway_world.database.bulk_docs(ann, [*docs, {"_id": "after", "channels": ["a"]}], new_edits=True)
    assert outcomes[0].rev is not None
    assert type(outcomes[1].error) is SyncFunctionRanAway
    assert all(type(outcome.error) is NotLookedAt for outcome in outcomes[2:])
    assert await runaway_world.ids(ann) == ["before"]
    assert await runaway_world.write(ann, "after", channels=["a"])  # the next request is looked at


async def test_a_replicator_s_other_documents_are_stored_all_the_same(runaway_world: World) -> None:
    ann = await runaway_world.user("ann", ["a"])
    bad = [grafted(f"bad{n}", "1-a", bad=1) for n in range(2)]
    good = [grafted(f"good{n}", "1-a", channels=["a"]) for n in range(3)]
    outcomes = await runaway_world.database.bulk_docs(ann, [bad[0], *good, bad[1]], new_edits=False)
    assert [outcome.rev for outcome in outcomes] == [None, "1-a", "1-a", "1-a", None]
    assert [type(outcome.error) for outcome in (outcomes[0], outcomes[-1])] == [SyncFunctionRanAway] * 2
    assert sorted(await runaway_world.ids(ann)) == ["good0", "good1", "good2"]
