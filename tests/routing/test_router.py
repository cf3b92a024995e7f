"""W7 to W9 and W12 of the routing rules, crashes, and a router that lags or fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway import limits
from gateway.errors import (
    Deleted,
    NotFound,
    RefusedBySyncFunction,
    SyncFunctionUnavailable,
    UnreadableDocument,
)
from gateway.routing.router import purges_moved
from gateway.store.protocol import PrincipalChange
from tests.routing.scripted import ScriptedDatabase
from tests.routing.world import ADMIN, World, until


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The router keeps house after each batch."""
    monkeypatch.setattr(limits, "ROUTER_HOUSEKEEPING_SECONDS", 0.0)


# W7


async def test_w7_a_document_purged_upstream_behind_our_back_becomes_a_ghost(world: World, busy: None) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob")
    rev = await world.write(ADMIN, "d", channels=["a"], grant="bob", to="a")
    await world.write(ADMIN, "e", channels=["a"])
    assert await world.channels_of("bob") == {"a"}
    await world.upstream.inner.request("POST", "/_purge", body=f'{{"d": ["{rev}"]}}'.encode())
    await world.restart()
    await until(lambda: world.database.router.status.state == "online")
    row = await world.row("d")
    assert row is not None and row.winner is None and row.purged
    assert await world.channels_of("bob") == set(), "its grants went with it"
    assert await world.ids(ann) == ["e"]
    with pytest.raises(NotFound):
        await world.get(ann, "d")
    assert await world.ids(bob) == []


async def test_w7_a_running_router_notices_a_purge_that_has_no_row(world: World, busy: None) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ADMIN, "d", channels=["a"])
    await world.upstream.inner.request("POST", "/_purge", body=f'{{"d": ["{rev}"]}}'.encode())
    await world.direct("e", channels=["a"])
    await world.routed()
    await until(lambda: "d" in world.upstream.leaf_reads)
    world.upstream.tell()

    async def purged() -> bool:
        row = await world.row("d")
        return row is not None and row.winner is None

    await until(purged)
    assert await world.ids(ann) == ["e"]


async def test_w7_purging_one_leaf_switches_to_the_other_with_its_own_channels_and_grants(world: World) -> None:
    ann, bob = await world.user("ann"), await world.user("bob")
    await world.direct_graft("d", "2-a", "1-a", channels=["old"], grant="ann", to="x")
    await world.direct_graft("d", "2-b", "1-a", channels=["new"], grant="bob", to="x")
    await world.routed()
    assert (await world.channels("d"), await world.channels_of("bob")) == ({"new"}, {"x"})
    reads = len(world.upstream.leaf_reads)
    await world.upstream.inner.request("POST", "/_purge", body=b'{"d": ["2-b"]}')
    await world.routed()
    assert await world.channels("d") == {"old"}
    assert (await world.channels_of("ann"), await world.channels_of("bob")) == ({"x"}, set())
    assert (await world.leaves("d")).keys() == {"2-a"}
    assert len(world.upstream.leaf_reads) > reads, "a smaller leaf set is believed only when it was read"
    assert ann != bob


async def test_w7_a_document_purged_through_the_gateway_is_gone_when_the_call_returns(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "d", channels=["a"])
    await world.get(ann, "d")
    await world.database.purge({"d": [rev]})
    assert await world.ids(ann) == []
    with pytest.raises(NotFound):
        await world.get(ann, "d", rev)
    assert world.cache.get("notes", "d", rev) is None
    again = await world.write(ann, "d", channels=["a"], v=2)
    assert await world.listed(ann) == {"d": again}


# W8


async def test_w8_after_the_upstream_was_deleted_and_recreated_what_is_not_there_becomes_a_ghost(world: World) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob")
    kept = await world.write(ADMIN, "kept", channels=["a"])
    await world.write(ADMIN, "gone", channels=["a"], grant="bob", to="a")
    await world.get(ann, "kept")
    seq = await world.seq()
    old = await world.upstream.inner.identity()
    world.upstream.gone = True
    await world.server.recreate("notes")
    assert await world.direct("kept", channels=["a"]) == kept
    await world.direct("new", channels=["a"])
    world.upstream.gone = False
    await world.routed()
    assert await world.listed(ann) == {"kept": kept, "new": (await world.listed(ann))["new"]}
    ghost = await world.row("gone")
    assert ghost is not None and ghost.winner is None and ghost.purged
    assert await world.channels_of("bob") == set()
    assert await world.seq() > seq, "sequences go on: clients keep their positions"
    state = await world.store.state()
    assert state.identity not in {old, None}
    assert state.identity == await world.upstream.inner.identity()
    assert await world.ids(bob) == []


async def test_w8_a_body_of_the_replaced_database_is_not_served_from_the_cache(world: World) -> None:
    await world.direct_graft("d", "1-a", channels=["!"], v="old")
    await world.routed()
    ann = await world.user("ann")
    assert (await world.get(ann, "d"))["v"] == "old"
    world.upstream.gone = True
    await world.server.recreate("notes")
    await world.direct_graft("d", "1-a", channels=["!"], v="new")
    await world.direct("e")
    world.upstream.gone = False
    await world.routed()
    assert (await world.get(ann, "d"))["v"] == "new"


async def test_w8_an_upstream_restored_to_an_older_state_is_reconciled_and_followed_from_its_beginning(
    world: World,
) -> None:
    ann = await world.user("ann", ["a"])
    old = await world.write(ADMIN, "d", channels=["a"], v=1)
    await world.write(ADMIN, "late", channels=["a"])
    new = await world.write(ADMIN, "d", old, channels=["b"], v=2)
    identity = await world.upstream.inner.identity()
    # The backup: the first revision only, at a lower sequence, under the same identity.
    world.upstream.gone = True
    await world.server.recreate("notes")
    assert await world.direct("d", channels=["a"], v=1) == old
    await world.close()
    await world.open(lambda upstream: setattr(upstream, "pretended", identity))
    await world.routed()
    assert await world.listed(ann) == {"d": old}
    assert (await world.leaves("d")).keys() == {old}
    assert world.upstream.sinces == ["0"]
    with pytest.raises(NotFound):
        await world.get(ann, "d", new)


@pytest.mark.parametrize("restored", [True, False])
async def test_w8_a_crash_in_the_middle_of_reconciling_does_it_again(
    world: World, monkeypatch: pytest.MonkeyPatch, restored: bool
) -> None:
    """Even when the upstream has grown past the recorded position meanwhile."""
    monkeypatch.setattr(limits, "ROUTER_BATCH_ROWS_COUNT", 2)
    ann = await world.user("ann", ["a"])
    names = [f"d{number}" for number in range(6)]
    await world.database.bulk_docs(ADMIN, [{"_id": name, "channels": ["a"]} for name in names], new_edits=True)
    identity = await world.upstream.inner.identity()
    world.upstream.gone = True
    await world.server.recreate("notes")
    await world.direct("d0", channels=["a"])
    await world.close()

    def crash_later(upstream: ScriptedDatabase) -> None:
        upstream.pretended = identity if restored else None
        upstream.leaves_error = lambda ids: asyncio.CancelledError() if "d4" in ids else None  # type: ignore[assignment,return-value]

    await world.open(crash_later)
    await until(lambda: "d4" in world.upstream.leaf_reads)
    done, left = await world.row("d1"), await world.row("d5")
    assert done is not None and done.winner is None
    assert left is not None and left.winner is not None
    await world.close()

    await world.open(lambda upstream: setattr(upstream, "gone", True))
    for number in range(10):
        await world.direct(f"new{number}", channels=["a"])
    world.upstream.pretended = identity if restored else None
    world.upstream.gone = False
    await world.routed()
    assert sorted(await world.listed(ann)) == ["d0", *(f"new{number}" for number in range(10))]


async def test_w8_a_database_that_is_replaced_under_a_running_feed_is_noticed(world: World, busy: None) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "d", channels=["a"])
    # The feed of the old one stays silent, as a proxy may make it.
    other = await world.server.server.open("other", create=True)
    world.upstream.inner = other
    world.upstream.tell()
    await world.direct("e", channels=["a"])
    await world.routed()
    assert list(await world.listed(ann)) == ["e"]


# W9


async def test_w9_repeated_and_stale_rows_change_nothing(world: World) -> None:
    await world.user("ann", ["a"])
    first = await world.write(ADMIN, "d", channels=["a"], grant="ann", to="b")
    old_row = await world.upstream.row("d")
    old_leaves = (await world.upstream.inner.leaves(["d"]))[0]
    await world.write(ADMIN, "d", first, channels=["a"], grant="ann", to="c", v=2)
    before, seq, access = await world.leaves("d"), await world.seq(), await world.channels_of("ann")
    # A replaced shard copy starts again, and reads may be answered by the same copy.
    world.upstream.lagging["d"] = [old_leaves]
    world.upstream.tell(old_row)
    world.upstream.tell(old_row, await world.upstream.row("d"), old_row)
    await world.direct("other")
    await world.routed()
    assert await world.leaves("d") == before
    assert await world.channels_of("ann") == access == {"a", "c"}
    assert await world.seq() == seq + 1


async def test_w9_a_read_that_is_behind_its_row_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_LAG_SECONDS", 3600.0)
    ann = await world.user("ann", ["a"])
    first = await world.write(ADMIN, "d", channels=["a"])
    old_leaves = (await world.upstream.inner.leaves(["d"]))[0]
    world.upstream.lagging["d"] = [old_leaves, [], old_leaves]
    second = await world.direct("d", first, channels=["a"], v=2)
    await world.routed()
    assert await world.listed(ann) == {"d": second}


async def test_w9_a_read_that_stays_behind_holds_up_routing_for_a_bounded_time_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_LAG_SECONDS", 0.05)
    first = await world.write(ADMIN, "d", channels=["a"])
    old_leaves = (await world.upstream.inner.leaves(["d"]))[0]
    world.upstream.lagging["d"] = [old_leaves] * 1_000
    await world.direct("d", first, channels=["a"], v=2)
    await world.direct("e", channels=["a"])
    await world.routed()
    assert (await world.leaves("d")).keys() == {first}
    assert await world.channels("e") == {"a"}


async def test_w9_a_row_without_a_sequence_is_applied_but_no_position_is_stored(world: World) -> None:
    await world.write(ADMIN, "d", channels=["a"])
    before = (await world.store.state()).upstream_since
    world.upstream.without_seq = True
    await world.write(ADMIN, "e", channels=["a"])
    assert (await world.store.state()).upstream_since == before
    await world.restart()
    await world.routed()
    assert await world.channels("e") == {"a"}
    assert world.upstream.sinces == [before]


async def test_w9_the_position_stored_is_the_last_of_a_batch_that_has_one(world: World) -> None:
    world.upstream.feed_open.clear()
    for name in "abc":
        await world.direct(name, channels=[name])
    rows = [await world.upstream.row(name) for name in "abc"]
    world.upstream.tell(rows[0], replace(rows[1], seq="2-x"), rows[2])
    await until(lambda: world.database.router.status.routed_count == 3)
    assert (await world.store.state()).upstream_since == "2-x"


async def test_one_document_that_cannot_be_read_does_not_stop_the_others(world: World) -> None:
    ann, everyone = await world.user("ann", ["a"]), await world.user("everyone", ["*"])

    def error(ids: Sequence[str]) -> Exception | None:
        return UnreadableDocument("nested deeper than JSON_DEPTH") if "bad" in ids else None

    world.upstream.leaves_error = error
    world.upstream.feed_open.clear()
    for name in ("b", "bad", "c"):
        await world.direct(name, channels=["a"])
    world.upstream.feed_open.set()
    await world.routed()
    assert await world.ids(ann) == ["b", "c"]
    assert sorted(await world.ids(everyone)) == ["b", "bad", "c"]
    (leaf,) = (await world.leaves("bad")).values()
    assert leaf.routing.refused == "nested deeper than JSON_DEPTH"


# W12


async def test_w12_concurrent_admin_and_document_changes_of_one_grant_leave_no_access_behind(world: World) -> None:
    await world.user("ann")
    rev: str | None = None
    for number in range(8):
        grants = number % 2 == 0
        document = world.write(ADMIN, "g", rev, to="a", n=number, **({"grant": "ann"} if grants else {}))
        admin = world.store.put_principal("user", "ann", PrincipalChange({}, ["a"] if grants else []))
        rev, _ = await asyncio.gather(document, admin)
        assert await world.channels_of("ann") == ({"a"} if grants else set())
    intervals = await world.store.read(lambda index: index.access("ann"))
    assert intervals is not None
    channel = (await world.store.read(lambda index: index.channel_ids(["a"])))["a"]
    spans = list(intervals.channels[channel])
    assert len(spans) == 4
    assert all(start < end for start, end in spans)


# Crashes


async def test_a_crash_between_the_upstream_write_and_the_routing_loses_and_doubles_nothing(world: World) -> None:
    ann = await world.user("ann", ["a"])
    kept = await world.write(ADMIN, "kept", channels=["a"])
    seq = await world.seq()
    world.upstream.feed_open.clear()
    docs = [{"_id": f"d{number}", "channels": ["a"], "grant": "ann", "to": f"c{number}"} for number in range(5)]
    writing = asyncio.create_task(world.database.bulk_docs(ann, docs, new_edits=True))
    await until(lambda: world.upstream.stored_count == 6)
    assert await world.ids(ann) == ["kept"]
    await world.restart()
    await asyncio.gather(writing, return_exceptions=True)
    await world.routed()
    assert await world.ids(ann) == ["kept", *(f"d{number}" for number in range(5))]
    assert await world.channels_of("ann") == {"a", *(f"c{number}" for number in range(5))}
    assert await world.seq() == seq + 5
    row = await world.row("kept")
    assert row is not None and (row.winner, row.seq) == (kept, seq)


async def test_p7_a_replay_of_the_whole_upstream_moves_no_sequence(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ADMIN, "d", channels=["a"], grant="ann", to="b")
    await world.write(ADMIN, "d", rev, channels=["a"], grant="ann", to="b", _deleted=True)
    await world.direct_graft("e", "2-a", "1-a", channels=["a"])
    await world.direct_graft("e", "2-b", "1-a", channels=["b"])
    await world.routed()
    seq, rows = await world.seq(), await world.changes(ann)
    await world.store.apply([], upstream_since="0", now=0.0)
    await world.restart()
    await world.routed()
    assert world.upstream.sinces == ["0"]
    assert await world.seq() == seq
    assert await world.changes(ann) == rows


# A router that fails


async def test_the_router_goes_on_after_the_upstream_was_away(world: World) -> None:
    ann = await world.user("ann", ["a"])
    world.upstream.gone = True
    world.upstream.break_feed()
    await until(lambda: world.database.status()["state"] == "upstream_unreachable")
    await world.direct("d", channels=["a"])
    assert await world.ids(ann) == [], "reads go on"
    world.upstream.gone = False
    await world.routed()
    assert await world.ids(ann) == ["d"]
    assert world.database.status()["state"] == "online"


async def test_the_router_goes_on_after_the_sync_function_could_not_be_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = world.database._function
    real, failing = function.run, True
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_FIRST_SECONDS", 0.01)

    async def run(*args: object, **options: object) -> object:
        if failing:
            raise SyncFunctionUnavailable("no process")
        return await real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(function, "run", run)
    await world.direct("d", channels=["a"])
    await until(lambda: world.database.status()["problem"] == "no process")
    assert world.database.status()["state"] == "failing"
    with pytest.raises(SyncFunctionUnavailable):
        await world.write(ADMIN, "e")
    assert await world.row("d") is None, "it is not routed by a function that did not answer"
    failing = False
    await world.routed()
    assert await world.channels("d") == {"a"}


async def test_the_router_goes_on_after_the_store_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = world.database.router._store
    real, failures = store.apply, 2

    async def apply(*args: object, **options: object) -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("disk full")
        return await real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "apply", apply)
    ann = await world.user("ann", ["a"])
    rev = await world.write(ann, "d", channels=["a"])
    assert await world.listed(ann) == {"d": rev}
    assert failures == 0


async def test_caught_up_is_said_anew_after_each_connect(world: World) -> None:
    world.upstream.feed_open.clear()
    await world.direct("d", channels=["a"])
    world.upstream.break_feed()
    await until(lambda: len(world.upstream.sinces) == 2)
    assert not world.database.status()["caught_up"]
    world.upstream.feed_open.set()
    await world.caught_up()
    assert await world.channels("d") == {"a"}


async def test_a_heartbeat_before_the_rows_is_not_the_end_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_HEARTBEAT_SECONDS", 0.0)
    world.upstream.feed_open.clear()
    await world.direct("d", channels=["a"])
    world.upstream.break_feed()
    await until(lambda: len(world.upstream.sinces) == 2)
    world.upstream.tell()
    await until(lambda: bool(world.upstream.looked_ahead))
    assert not world.database.status()["caught_up"]
    world.upstream.feed_open.set()
    await world.caught_up()
    assert await world.channels("d") == {"a"}


async def test_sequences_that_moved_without_rows_are_caught_up_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_HEARTBEAT_SECONDS", 0.0)
    world.upstream.update_seq = "1000-x"
    world.upstream.break_feed()
    await until(lambda: len(world.upstream.sinces) == 2)
    world.upstream.tell()
    await world.caught_up()
    assert world.upstream.looked_ahead == [False]


@pytest.mark.parametrize(
    ("before", "now", "moved"),
    [
        ("", "0", True),
        ("5", "5", False),
        ("5", "6", True),
        ("5-shards-in-one-order", "5-and-in-another", False),
        ("5-x", "6-x", True),
        ("opaque", "other", True),
    ],
)
def test_w7_purges_are_told_from_another_packing_of_the_same_shards(before: str, now: str, moved: bool) -> None:
    assert purges_moved(before, now) is moved


async def test_many_rows_at_once_are_applied_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROUTER_BATCH_ROWS_COUNT", 3)
    ann = await world.user("ann", ["a"])
    docs = [{"_id": f"d{number}", "channels": ["a"]} for number in range(10)]
    await world.upstream.inner.write(docs, new_edits=True)
    await world.routed()
    assert await world.ids(ann) == [f"d{number}" for number in range(10)]


async def test_superseded_leaves_are_forgotten_although_rows_never_stop(
    world: World, busy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await world.user("ann", ["a"])
    first = await world.write(ann, "d", channels=["a"])
    await world.write(ann, "d", first, channels=["a"], v=2)
    assert (await world.get(ann, "d", first))["_rev"] == first
    monkeypatch.setattr(limits, "SUPERSEDED_GRACE_SECONDS", -1.0)
    await world.write(ann, "e", channels=["a"])

    async def forgotten() -> bool:
        found = await world.store.read(lambda index: index.leaves([index.find(["d"])["d"].document], superseded=True))
        return all(len(leaves) == 1 for leaves in found.values())

    await until(forgotten)
    with pytest.raises(NotFound):
        await world.get(ann, "d", first)


async def test_a_deleted_document_answers_that_it_is_deleted_to_who_could_read_it(world: World) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob")
    rev = await world.write(ann, "d", channels=["a"])
    await world.write(ann, "d", rev, _deleted=True)
    with pytest.raises(Deleted):
        await world.get(ann, "d")
    with pytest.raises(NotFound) as error:
        await world.get(bob, "d")
    assert not isinstance(error.value, Deleted)


async def test_old_doc_of_a_recreated_document_is_the_tombstone(world: World) -> None:
    ann, mallory = await world.user("ann"), await world.user("mallory")
    rev = await world.write(ann, "d", owner="ann")
    await world.write(ann, "d", rev, _deleted=True, owner="ann")
    with pytest.raises(RefusedBySyncFunction):
        await world.write(mallory, "d", v=1)
    await world.write(ann, "d", tell=True)
    assert await world.channels("d") == {"old.deleted"}
