"""W1 to W6, W10, W11 and W14 of the routing rules: what happens to a write between its writer and the index."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway import limits
from gateway.couch.upstream import WriteResult
from gateway.errors import Conflict, Forbidden, NotFound, RefusedBySyncFunction, UpstreamOutcomeUnknown
from tests.routing.world import ADMIN, World, grafted, until


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a row releases a write, and one that is not routed hangs the test."""
    monkeypatch.setattr(limits, "WRITE_ROUTED_DOUBT_SECONDS", 3600.0)
    monkeypatch.setattr(limits, "WRITE_ROUTED_WAIT_SECONDS", 3600.0)


# W1


async def test_w1_a_write_whose_row_was_coalesced_away_is_released_by_a_later_row_of_its_document(
    world: World, patient: None
) -> None:
    world.upstream.feed_open.clear()
    writing = asyncio.create_task(world.graft(ADMIN, "d", "1-a", channels=["a"]))
    await until(lambda: world.upstream.stored_count == 1)
    await world.direct_graft("d", "2-b", "1-a", channels=["b"])
    world.upstream.swallow = lambda row: row.revs == ("1-a",)
    world.upstream.feed_open.set()
    outcome = await asyncio.wait_for(writing, 20)
    assert (outcome.rev, outcome.routed) == ("1-a", True)
    assert await world.channels("d") == {"b"}


async def test_w1_a_write_superseded_before_its_answer_is_routed_although_no_other_row_comes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_ROUTED_DOUBT_SECONDS", 3600.0)
    monkeypatch.setattr(limits, "WRITE_IN_FLIGHT_WAIT_SECONDS", 0.01)
    world.upstream.may_answer.clear()
    writing = asyncio.create_task(world.graft(ADMIN, "d", "1-a", channels=["a"]))
    await until(lambda: world.upstream.stored_count == 1)
    await world.direct_graft("d", "2-b", "1-a", channels=["b"])
    await world.routed()
    world.upstream.may_answer.set()
    outcome = await asyncio.wait_for(writing, 20)
    assert outcome.routed
    assert await world.channels("d") == {"b"}


async def test_w1_a_row_without_the_written_revision_read_before_the_answer_does_not_release_it(
    world: World, patient: None
) -> None:
    world.upstream.feed_open.clear()
    await world.direct_graft("d", "1-z", channels=["z"])
    old = await world.upstream.row("d")
    writing = asyncio.create_task(world.graft(ADMIN, "d", "2-a", "1-z", channels=["a"]))
    await until(lambda: world.upstream.stored_count == 1)
    world.upstream.tell(old)
    outcome = await asyncio.wait_for(writing, 20)
    assert outcome.routed
    assert await world.channels("d") == {"a"}
    world.upstream.feed_open.set()


async def test_w1_a_known_revision_answers_at_once_without_a_row_and_leaves_no_verdict(
    world: World, patient: None
) -> None:
    await world.graft(ADMIN, "d", "2-b", "1-a", channels=["a"])
    bulks = len(world.upstream.bulks)
    world.upstream.feed_open.clear()
    for revs in (("2-b", "1-a"), ("1-a",)):
        outcome = await asyncio.wait_for(world.graft(ADMIN, "d", *revs, channels=["other"]), 20)
        assert (outcome.rev, outcome.routed) == (revs[0], True)
    assert len(world.upstream.bulks) == bulks
    assert await world.channels("d") == {"a"}
    world.upstream.feed_open.set()


async def test_w1_a_revision_that_another_writer_stored_first_is_answered_though_no_row_comes_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRITE_ROUTED_DOUBT_SECONDS", 0.01)
    world.upstream.may_store.clear()
    writing = asyncio.create_task(world.graft(ADMIN, "d", "1-a", channels=["a"]))
    await until(lambda: len(world.upstream.bulks) == 1)
    await world.direct_graft("d", "1-a", channels=["a"])
    await world.routed()
    world.upstream.may_store.set()
    outcome = await asyncio.wait_for(writing, 20)
    assert outcome.routed
    assert await world.channels("d") == {"a"}


# W2


async def test_w2_a_verdict_for_another_body_of_the_same_revision_is_not_used(world: World, patient: None) -> None:
    """mallory's body loses the race for the revision: its verdict would put ann's document into his channel and grant
    him another."""
    mallory, ann = await world.user("mallory", ["m"]), await world.user("ann", ["a"])
    world.upstream.may_store.clear()
    writing = asyncio.create_task(
        world.graft(mallory, "d", "1-x", channels=["m"], grant="mallory", to="a", secret="his own")
    )
    await until(lambda: len(world.upstream.bulks) == 1)
    await world.direct_graft("d", "1-x", channels=["a"], secret="hers")
    world.upstream.feed_open.clear()
    world.upstream.may_store.set()
    await until(lambda: world.upstream.stored_count == 1)
    world.upstream.feed_open.set()
    world.upstream.tell(await world.upstream.row("d"))  # the answer says 201, whoever's body it was
    await asyncio.wait_for(writing, 20)
    assert await world.channels("d") == {"a"}
    assert await world.channels_of("mallory") == {"m"}
    assert await world.ids(mallory) == []
    assert (await world.get(ann, "d"))["secret"] == "hers"
    with pytest.raises(Forbidden):
        await world.get(mallory, "d", "1-x")


async def test_w2_a_known_revision_sent_with_another_body_changes_neither_routing_nor_grants(world: World) -> None:
    mallory, ann = await world.user("mallory", ["m"]), await world.user("ann", ["a"])
    await world.graft(ann, "d", "3-c", "2-b", "1-a", channels=["a"])
    before = await world.seq()
    for rev, *older in (("3-c", "2-b", "1-a"), ("3-c",), ("2-b", "1-a"), ("3-c", "2-other")):
        assert (await world.graft(mallory, "d", rev, *older, channels=["m"], grant="mallory", to="a")).rev == rev
    assert await world.channels("d") == {"a"}
    assert await world.channels_of("mallory") == {"m"}
    assert await world.seq() == before


async def test_w2_a_verdict_of_a_write_whose_outcome_is_unknown_does_not_route_another_body(world: World) -> None:
    mallory = await world.user("mallory", ["m"])
    world.upstream.lose_answer.append(False)
    with pytest.raises(UpstreamOutcomeUnknown):
        await world.graft(mallory, "d", "1-x", channels=["m"], grant="mallory", to="a")
    await world.direct_graft("d", "1-x", channels=["a"])
    await world.routed()
    assert await world.channels("d") == {"a"}
    assert await world.channels_of("mallory") == {"m"}


async def test_w2_an_interior_revision_cannot_be_planted_as_a_new_leaf_on_another_branch(world: World) -> None:
    """CouchDB keeps one id on two branches when told so; then `rev=` may give the other body."""
    mallory, ann = await world.user("mallory", ["m"]), await world.user("ann", ["a"])
    await world.graft(ann, "d", "3-c", "2-b", "1-a", channels=["a"])
    await world.graft(mallory, "d", "1-m", channels=["m"])
    bulks = len(world.upstream.bulks)
    outcome = await world.graft(mallory, "d", "2-b", "1-m", channels=["m"])
    assert (outcome.rev, len(world.upstream.bulks)) == ("2-b", bulks), "known: answered and never sent"


async def test_w2_a_verdict_is_dropped_when_the_upstream_refuses_the_write(world: World) -> None:
    rev = await world.write(ADMIN, "d", channels=["a"])
    world.upstream.feed_open.clear()
    other = await world.direct("d", rev, channels=["b"])
    with pytest.raises(Conflict):
        await world.write(ADMIN, "d", rev, channels=["c"])
    assert len(world.database._writes._ledger) == 0
    world.upstream.feed_open.set()
    await world.routed()
    assert (await world.leaves("d")).keys() == {other}


# W3


async def test_w3_interior_revisions_are_missing_for_users(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.direct_graft("d", "3-c", "2-b", "1-a", channels=["a"])
    await world.direct_graft("d", "2-b", "1-a", channels=["a"], secret=True)
    await world.routed()
    assert (await world.upstream.inner.leaves(["d"]))[0][0]["_rev"] == "3-c"
    for rev in ("2-b", "1-a"):
        with pytest.raises(NotFound):
            await world.get(ann, "d", rev)


# W4


async def test_w4_of_two_edits_of_one_id_in_a_bulk_the_second_conflicts(world: World) -> None:
    docs = [{"_id": "d", "v": 1}, {"_id": "e", "v": 1}, {"_id": "d", "v": 2}]
    first, other, second = await world.database.bulk_docs(ADMIN, docs, new_edits=True)
    assert first.rev is not None and other.rev is not None
    assert isinstance(second.error, Conflict)
    assert all(len({doc["_id"] for doc in bulk}) == len(bulk) for bulk in world.upstream.bulks)


async def test_w4_a_child_in_one_bulk_with_its_parent_sees_it_as_old_doc(world: World) -> None:
    docs = [
        grafted("d", "2-b", "1-a", v="child", tell=True),
        grafted("d", "1-a", v="parent", tell=True),
        grafted("d", "3-c", "2-b", "1-a", v="grandchild", tell=True),
    ]
    outcomes = await world.database.bulk_docs(ADMIN, docs, new_edits=False)
    assert [outcome.rev for outcome in outcomes] == ["2-b", "1-a", "3-c"]
    assert await world.channels("d") == {"old.child"}


async def test_w4_a_rule_on_old_doc_holds_for_a_child_in_one_bulk_with_its_parent(world: World) -> None:
    ann, mallory = await world.user("ann"), await world.user("mallory")
    docs = [grafted("d", "1-a", owner="ann"), grafted("d", "2-b", "1-a", owner="mallory")]
    parent, child = await world.database.bulk_docs(mallory, docs, new_edits=False)
    assert parent.rev == "1-a"
    assert isinstance(child.error, RefusedBySyncFunction)
    assert (await world.graft(ann, "d", "2-b", "1-a", owner="ann")).rev == "2-b"


async def test_w4_concurrent_writes_of_one_document_go_upstream_one_after_the_other(world: World) -> None:
    world.upstream.may_store.clear()
    writing = [asyncio.create_task(world.graft(ADMIN, "d", f"1-{name}", v=name, tell=True)) for name in "abc"]
    await until(lambda: len(world.upstream.bulks) == 1)
    world.upstream.may_store.set()
    outcomes = await asyncio.gather(*writing)
    assert [outcome.rev for outcome in outcomes] == ["1-a", "1-b", "1-c"]
    assert [len(bulk) for bulk in world.upstream.bulks] == [1, 1, 1]
    assert (await world.channels("d")) == {"old.b"}, "1-c won over 1-b, and was shown it"


# W5


@pytest.mark.parametrize("new_edits", [True, False])
async def test_w5_extending_a_losing_leaf_over_an_unseen_winner_must_be_accepted_with_the_winner_as_old_doc(
    world: World, new_edits: bool
) -> None:
    ann, mallory = await world.user("ann"), await world.user("mallory")
    await world.graft(ADMIN, "d", "1-a", v=1)
    await world.graft(ann, "d", "2-z", "1-a", owner="ann")
    await world.direct_graft("d", "2-b", "1-a", v="mine")
    await world.routed()
    for caller in (mallory, ann):
        doc = grafted("d", "3-c", "2-b", "1-a", v="new")
        if new_edits:
            doc = {"_id": "d", "_rev": "2-b", "v": "new"}
        (outcome,) = await world.database.bulk_docs(caller, [doc], new_edits=new_edits)
        assert isinstance(outcome.error, RefusedBySyncFunction) == (caller is mallory)
    assert "2-z" in await world.leaves("d")


async def test_w5_a_branch_that_loses_is_not_asked_about_the_winner(world: World) -> None:
    mallory = await world.user("mallory")
    await world.graft(ADMIN, "d", "1-a", v=1)
    await world.direct_graft("d", "5-e", "4-d", "1-q", owner="ann")
    await world.routed()
    assert (await world.graft(mallory, "d", "2-b", "1-a", v="mine")).rev == "2-b"


async def test_w5_a_branch_from_nowhere_is_shown_the_winner(world: World) -> None:
    ann, mallory = await world.user("ann"), await world.user("mallory")
    await world.graft(ann, "d", "1-a", owner="ann")
    for revs in (("2-x", "1-x"), ("9-x",), ("1-0",)):
        with pytest.raises(RefusedBySyncFunction):
            await world.graft(mallory, "d", *revs, v="forged")


@pytest.mark.parametrize("revs", [("4-x", "3-w", "2-m", "1-a"), ("4-x", "3-dead", "2-w", "1-a")])
async def test_w5_an_invented_history_through_the_winner_does_not_hide_it(world: World, revs: tuple[str, ...]) -> None:
    mallory = await world.user("mallory")
    if "3-w" in revs:
        await world.direct_graft("d", "3-w", "2-z", "1-a", owner="ann")
        await world.direct_graft("d", "2-m", "1-a", v="mine")
    else:
        await world.direct_graft("d", "3-dead", "2-q", "1-a", v="mine", _deleted=True)
        await world.direct_graft("d", "2-w", "1-a", owner="ann")
    await world.routed()
    with pytest.raises(RefusedBySyncFunction):
        await world.graft(mallory, "d", *revs, v="forged")


# W6


async def test_w6_a_caught_refusal_refuses_the_user_and_hides_a_foreign_write(world: World) -> None:
    """What routes differently for its writer than for the router is not stored at all."""
    ann, reader = await world.user("ann"), await world.user("reader", ["caught", "x"])
    with pytest.raises(RefusedBySyncFunction):
        await world.write(ann, "d", caught="bob", channels=["x"])
    bob = await world.user("bob")
    await world.write(bob, "d", caught="bob", channels=["x"])
    assert await world.channels("d") == {"x"}
    assert await world.ids(reader) == ["d"]


async def test_w6_the_same_document_routes_the_same_for_user_admin_and_router_after_a_crash(world: World) -> None:
    bob = await world.user("bob")
    for writer, doc in ((bob, "by-user"), (ADMIN, "by-admin")):
        await world.write(writer, doc, caught="bob", channels=["x"], grant="bob", to=doc)
    world.upstream.feed_open.clear()
    writing = asyncio.create_task(world.write(bob, "crashed", caught="bob", channels=["x"], grant="bob", to="crashed"))
    await until(lambda: world.upstream.stored_count == 3)
    await world.restart()
    await asyncio.gather(writing, return_exceptions=True)
    await world.routed()
    for doc in ("by-user", "by-admin", "crashed"):
        assert await world.channels(doc) == {"x"}
    assert await world.channels_of("bob") == {"by-user", "by-admin", "crashed"}


async def test_w6_a_foreign_write_that_the_function_refuses_is_recorded_without_channels_and_listed(
    world: World,
) -> None:
    ann, everyone = await world.user("ann", ["a"]), await world.user("everyone", ["*"])
    rev = await world.direct("d", forbidden=True, channels=["a"], grant="ann", to="secret")
    await world.routed()
    (leaf,) = (await world.leaves("d")).values()
    assert leaf.routing.refused == "never"
    assert await world.channels("d") == set()
    assert await world.ids(ann) == []
    assert await world.ids(everyone) == ["d"]
    assert await world.channels_of("ann") == {"a"}
    status = world.database.status()
    assert status["foreign_refused_count"] == 1
    assert status["foreign_refused"] == [{"id": "d", "rev": rev, "reason": "never"}]


# W10


async def test_w10_refused_documents_are_tried_again_as_long_as_a_round_accepted_something(world: World) -> None:
    ann = await world.user("ann")
    docs = [
        {"_id": "1-great-grandchild", "needs": "c", "channels": ["c"]},
        {"_id": "2-grandchild", "needs": "b", "grant": "ann", "to": "c"},
        {"_id": "3-child", "needs": "a", "grant": "ann", "to": "b"},
        {"_id": "4-parent", "grant": "ann", "to": "a"},
        {"_id": "5-stranger", "needs": "z"},
    ]
    outcomes = await world.database.bulk_docs(ann, docs, new_edits=True)
    assert [outcome.error is None for outcome in outcomes] == [True, True, True, True, False]
    assert isinstance(outcomes[4].error, RefusedBySyncFunction)
    assert await world.ids(ann) == ["1-great-grandchild"]
    assert world.database.status()["refused_count"] == 1


# W11


async def test_w11_a_row_that_comes_before_the_answer_of_its_own_write_waits_for_it(
    world: World, patient: None
) -> None:
    """So the verdict is used and nothing is read."""
    world.upstream.may_answer.clear()
    writing = asyncio.create_task(world.write(ADMIN, "d", channels=["a"]))
    await until(lambda: any(row.id == "d" for row in world.upstream.handed))
    world.upstream.may_answer.set()
    await asyncio.wait_for(writing, 20)
    assert world.upstream.leaf_reads == []


async def test_w11_one_stalled_answer_holds_up_routing_only_once_and_not_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = 0
    timeout = asyncio.timeout

    def counting(delay: float | None) -> asyncio.Timeout:
        nonlocal waits
        waits += delay == limits.WRITE_IN_FLIGHT_WAIT_SECONDS
        return timeout(delay)

    monkeypatch.setattr(limits, "WRITE_IN_FLIGHT_WAIT_SECONDS", 0.011)
    monkeypatch.setattr("gateway.routing.ledger.asyncio.timeout", counting)
    world.upstream.may_answer.clear()
    writing = asyncio.create_task(world.write(ADMIN, "stalled", channels=["a"]))
    await until(lambda: world.upstream.stored_count == 1)
    for number in range(5):
        await world.direct(f"other{number}", channels=["b"])
        world.upstream.tell(await world.upstream.row("stalled"))
        await world.routed()
    assert waits == 1
    assert await world.channels("stalled") == {"a"}, "routed as a foreign write meanwhile"
    world.upstream.may_answer.set()
    await asyncio.wait_for(writing, 20)


async def test_w11_a_row_of_another_writer_does_not_wait_for_a_write_sent_after_it(world: World, patient: None) -> None:
    world.upstream.may_store.clear()
    await world.direct("d", channels=["a"])
    row = await world.upstream.row("d")
    await world.routed()
    writing = asyncio.create_task(world.graft(ADMIN, "d", "1-zzz", channels=["b"]))
    await until(lambda: len(world.upstream.bulks) == 1)
    await world.direct("e", channels=["a"])
    await world.routed()
    assert await world.channels("e") == {"a"}
    world.upstream.may_store.set()
    world.upstream.tell(row)
    await asyncio.wait_for(writing, 20)


@pytest.mark.parametrize("stored", [True, False])
async def test_w11_a_write_of_unknown_outcome_is_never_answered_as_done_and_is_routed_if_it_was_stored(
    world: World, stored: bool
) -> None:
    ann = await world.user("ann", ["a"])
    world.upstream.lose_answer.append(stored)
    with pytest.raises(UpstreamOutcomeUnknown):
        await world.write(ann, "d", only="ann", channels=["a"])
    await world.direct("other", channels=["a"])
    await world.routed()
    assert await world.ids(ann) == (["d", "other"] if stored else ["other"])
    rev = (await world.listed(ann)).get("d")
    assert (rev is not None) == stored
    assert await world.write(ann, "d", rev, only="ann", channels=["a"], v=2)
    assert (await world.get(ann, "d"))["v"] == 2


async def test_w11_of_a_bulk_that_failed_in_part_only_the_failed_documents_have_errors(world: World) -> None:
    ann = await world.user("ann", ["a"])

    def refuse_some(result: WriteResult) -> WriteResult:
        if result.id == "b":
            return WriteResult("b", None, "forbidden", "a validation function says no")
        if result.id == "c":
            return WriteResult("c", None, "internal_server_error", "disk full")
        return result

    world.upstream.results = refuse_some
    docs = [{"_id": name, "channels": ["a"]} for name in "abcd"]
    outcomes = await world.database.bulk_docs(ann, docs, new_edits=True)
    assert [outcome.rev is not None for outcome in outcomes] == [True, False, False, True]
    errors = [outcome.error for outcome in outcomes]
    assert [error.status if error else None for error in errors] == [None, 403, 502, None]


async def test_w11_a_write_that_too_few_nodes_have_stored_is_answered_202_once_routed(world: World) -> None:
    ann = await world.user("ann", ["a"])
    world.upstream.results = lambda result: replace(result, quorum=False)
    outcome = await world.database.write(ann, {"_id": "d", "channels": ["a"]})
    assert not outcome.routed
    assert outcome.rev is not None
    assert await world.ids(ann) == ["d"]
    assert len(world.database._writes._ledger) == 0


# W14


async def test_w14_design_documents_are_skipped_but_the_position_moves_on(world: World) -> None:
    before = await world.seq()
    await world.database.write(ADMIN, {"_id": "_design/app", "views": {}})
    await world.direct("_design/other", channels=["a"])
    await world.routed()
    assert await world.seq() == before
    state = await world.store.state()
    assert state.upstream_since == (await world.upstream.inner.info()).update_seq
    assert await world.row("_design/app") is None


async def test_w14_a_purged_design_document_is_not_routed_either(world: World) -> None:
    await world.direct_graft("_design/app", "1-a", channels=["a"])
    await world.direct_graft("_design/app", "1-b", channels=["a"])
    await world.database.purge({"_design/app": ["1-b"]})
    assert await world.row("_design/app") is None


async def test_a_document_with_an_attachment_is_routed_though_its_revision_cannot_be_foreseen(world: World) -> None:
    ann = await world.user("ann", ["a"])
    outcome = await world.database.write(
        ann, {"_id": "d", "only": "ann", "channels": ["a"], "_attachments": {"f": {"data": "aGk="}}}
    )
    assert outcome.routed
    assert await world.listed(ann) == {"d": outcome.rev}


async def test_a_caller_that_goes_away_does_not_stop_its_write(world: World) -> None:
    ann = await world.user("ann", ["a"])
    world.upstream.may_store.clear()
    writing = asyncio.create_task(world.write(ann, "d", channels=["a"]))
    await until(lambda: len(world.upstream.bulks) == 1)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    world.upstream.may_store.set()
    await until(lambda: not world.database._writes._running)
    assert await world.ids(ann) == ["d"]
