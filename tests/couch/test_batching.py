"""Every waiter gets exactly its own answer, whatever happens to the others."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.couch.batching import Batcher
from gateway.couch.upstream import RevisionRef, WriteResult
from gateway.errors import BadRequest, GatewayError, TooLarge, Unavailable, UnreadableDocument, UpstreamOutcomeUnknown
from tests.couch.gated import GatedDatabase

A, B = RevisionRef("a", "1-a"), RevisionRef("b", "1-a")


def doc(doc_id: str, n: int = 0, **members: Any) -> dict[str, Any]:
    return {"_id": doc_id, "n": n, **members}


async def test_a_lone_request_is_sent_at_once() -> None:
    database = GatedDatabase(open_gates=True)
    batcher = Batcher(database)
    assert await batcher.write_one(doc("a", 7), True) == WriteResult("a", "1-7")
    read = await batcher.read_one(A)
    assert read is not None and read["_id"] == "a"
    assert [bulk.kind for bulk in database.bulks] == ["edits", "read"]


async def test_calls_of_one_turn_share_a_bulk() -> None:
    database = GatedDatabase(open_gates=True)
    batcher = Batcher(database)
    results = await asyncio.gather(*(batcher.write_one(doc(f"d{n}", n), False) for n in range(20)))
    assert results == [WriteResult(f"d{n}", f"1-{n}") for n in range(20)]
    assert [(bulk.kind, len(bulk.items)) for bulk in database.bulks] == [("revisions", 20)]


async def test_while_one_bulk_is_upstream_the_next_fills() -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    first = asyncio.ensure_future(batcher.write_one(doc("a"), True))
    await database.settled()
    rest = []
    for n in range(5):
        rest.append(asyncio.ensure_future(batcher.write_one(doc(f"d{n}"), True)))
        await database.settled()
    assert [bulk.ids for bulk in database.flying] == [["a"]]
    await database.release(database.flying[0])
    assert first.done()
    assert [bulk.ids for bulk in database.flying] == [["d0", "d1", "d2", "d3", "d4"]]
    await database.release_all()
    await asyncio.gather(*rest)


async def test_a_slow_bulk_does_not_hold_up_the_next_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_BULK_PATIENCE_SECONDS", 0.01)
    database = GatedDatabase()
    batcher = Batcher(database)
    stuck = asyncio.ensure_future(batcher.write_one(doc("a"), True))
    await database.settled()
    database.open_gates = True
    async with asyncio.timeout(5):
        assert await batcher.write_one(doc("b", 2), True) == WriteResult("b", "1-2")
    assert not stuck.done()
    await database.release_all()
    await stuck


async def test_bulks_in_flight_are_few_even_when_all_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_BULK_PATIENCE_SECONDS", 0.0)
    database = GatedDatabase()
    batcher = Batcher(database)
    writes = []
    for n in range(10):
        writes.append(asyncio.ensure_future(batcher.write_one(doc(f"d{n}"), True)))
        await database.settled()
    assert len(database.flying) == limits.UPSTREAM_BULKS_COUNT
    await database.release_all()
    await asyncio.gather(*writes)


async def test_a_bulk_is_bounded_in_documents_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_BATCH_DOCUMENTS_COUNT", 3)
    monkeypatch.setattr(limits, "UPSTREAM_BATCH_BYTES", 1_000)
    database = GatedDatabase(open_gates=True)
    batcher = Batcher(database)
    await batcher.write_many([doc(f"d{n}") for n in range(7)], True)
    sizes = [400, 400, 400, 5_000, 10]
    await batcher.write_many([doc(f"e{n}") for n in range(5)], True, sizes=sizes)
    counts = [len(bulk.items) for bulk in database.bulks]
    assert counts == [3, 3, 1, 2, 1, 1, 1]


async def test_writes_of_one_id_go_one_after_the_other_in_order() -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    writes = [
        asyncio.ensure_future(batcher.write_one(doc("a", 1), True)),
        asyncio.ensure_future(batcher.write_one(doc("a", 2), False)),
        asyncio.ensure_future(batcher.write_one(doc("b", 3), True)),
        asyncio.ensure_future(batcher.write_one(doc("a", 4), True)),
    ]
    await database.settled()
    assert [(bulk.kind, bulk.ids) for bulk in database.flying] == [("edits", ["a", "b"])]
    await database.release(database.flying[0])
    assert [(bulk.kind, bulk.ids) for bulk in database.flying] == [("revisions", ["a"])]
    await database.release(database.flying[0])
    assert [bulk.items for bulk in database.flying] == [[doc("a", 4)]]
    await database.release_all()
    assert [(await write).rev for write in writes] == ["1-1", "1-2", "1-3", "1-4"]


async def test_many_writes_of_one_id_in_one_call_are_all_written_in_order() -> None:
    database = GatedDatabase(open_gates=True)
    results = await Batcher(database).write_many([doc("a", n) for n in range(5)], True)
    assert results == [WriteResult("a", f"1-{n}") for n in range(5)]
    assert [bulk.items for bulk in database.bulks] == [[doc("a", n)] for n in range(5)]


async def test_one_bad_document_fails_alone() -> None:
    database = GatedDatabase(open_gates=True)
    docs = [doc(f"d{n}", n, bad=n == 5) for n in range(9)]
    results = await Batcher(database).write_many(docs, True)
    assert [result for n, result in enumerate(results) if n != 5] == [
        WriteResult(f"d{n}", f"1-{n}") for n in range(9) if n != 5
    ]
    assert isinstance(results[5], TooLarge)
    assert len(database.bulks) <= 9


async def test_one_unreadable_document_and_one_illegal_id_fail_alone() -> None:
    database = GatedDatabase(open_gates=True)
    batcher = Batcher(database)
    refs = [RevisionRef(doc_id, "1-a") for doc_id in ("x", "deep", "y")]
    read = await asyncio.gather(*(batcher.read_one(ref) for ref in refs), return_exceptions=True)
    assert [type(one) for one in read] == [dict, UnreadableDocument, dict]
    leaves = await asyncio.gather(*(batcher.leaves_of(doc_id) for doc_id in ("x", "bad")), return_exceptions=True)
    assert [type(one) for one in leaves] == [list, BadRequest]
    with pytest.raises(UnreadableDocument):
        await batcher.read_many(refs)


async def test_a_failed_bulk_reaches_all_its_waiters_and_nobody_else() -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    writes = [asyncio.ensure_future(batcher.write_one(doc(f"d{n}", n), True)) for n in range(3)]
    await database.settled()
    later = asyncio.ensure_future(batcher.write_one(doc("d0", 9), True))
    await database.release(database.flying[0], UpstreamOutcomeUnknown("gone"))
    errors = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(error) for error in errors] == [UpstreamOutcomeUnknown] * 3
    assert len({id(error) for error in errors}) == 3  # each raises its own
    await database.release_all()
    assert await later == WriteResult("d0", "1-9")
    assert len(database.bulks) == 2


async def test_a_result_of_the_wrong_length_is_an_error_not_a_hang() -> None:
    class Short(GatedDatabase):
        async def leaves(self, ids: Any) -> Any:
            return []

    with pytest.raises(GatewayError, match="0 results for 1"):
        await asyncio.wait_for(Batcher(Short()).leaves_of("a"), 5)


async def test_a_cancelled_write_that_was_not_sent_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    first = asyncio.ensure_future(batcher.write_one(doc("a", 1), True))
    await database.settled()
    dropped = asyncio.ensure_future(batcher.write_one(doc("a", 2), True))
    also = asyncio.ensure_future(batcher.write_one(doc("b", 3), True))
    kept = asyncio.ensure_future(batcher.write_one(doc("a", 4), True))
    await database.settled()
    dropped.cancel()
    also.cancel()
    await database.release_all()
    assert await kept == WriteResult("a", "1-4")
    assert await first == WriteResult("a", "1-1")
    assert [item["n"] for bulk in database.bulks for item in bulk.items] == [1, 4]
    # what they would have taken is free again
    monkeypatch.setattr(limits, "UPSTREAM_WAITING_BYTES", 1)
    assert await batcher.write_one(doc("b", 5), True) == WriteResult("b", "1-5")


async def test_cancelling_one_waiter_of_a_bulk_in_flight_leaves_the_others() -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    one = asyncio.ensure_future(batcher.read_one(A))
    two = asyncio.ensure_future(batcher.read_one(A))
    other = asyncio.ensure_future(batcher.read_one(B))
    await database.settled()
    one.cancel()
    await database.release_all()
    read = await two
    assert read is not None and read["_id"] == "a"
    assert (await other) is not None
    assert one.cancelled()


async def test_readers_of_one_revision_share_one_read_but_not_one_document() -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    before = asyncio.ensure_future(batcher.read_one(A))
    await database.settled()
    during = [asyncio.ensure_future(batcher.read_one(A)) for _ in range(3)]
    inlined = asyncio.ensure_future(batcher.read_one(A, attachments=True))
    await database.release_all()
    documents = [await read for read in [before, *during]]
    assert [bulk.kind for bulk in database.bulks] == ["read", "attachments"]
    assert documents[0] is not None
    documents[0]["read"] = "changed"
    assert [one["read"] for one in documents[1:] if one is not None] == [1, 1, 1]
    assert await inlined is not None


async def test_a_revision_written_after_a_read_was_sent_is_found_by_who_asks_then() -> None:
    database = GatedDatabase()
    database.missing.add(A)
    batcher = Batcher(database)
    early = asyncio.ensure_future(batcher.read_one(A))
    await database.settled()
    database.missing.clear()  # stored now
    late = asyncio.ensure_future(batcher.read_one(A))
    many = asyncio.ensure_future(batcher.read_many([B, A]))
    await database.settled()
    await database.release_all()
    assert await early is None
    assert await late is not None
    assert [one is not None for one in await many] == [True, True]


async def test_leaves_are_never_older_than_the_question() -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    early = asyncio.ensure_future(batcher.leaves_of("a"))
    await database.settled()
    late = [asyncio.ensure_future(batcher.leaves_of("a")) for _ in range(2)]
    many = asyncio.ensure_future(batcher.leaves_of_many(["b", "a"]))
    await database.release_all()
    assert [one["read"] for one in await early] == [1]
    assert [[one["read"] for one in await read] for read in late] == [[2], [2]]
    assert [leaves[0]["_id"] for leaves in await many] == ["b", "a"]
    assert [bulk.ids for bulk in database.bulks] == [["a"], ["a", "b"]]


async def test_too_many_waiting_bytes_are_refused_and_nothing_of_them_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_WAITING_BYTES", 1_000)
    database = GatedDatabase()
    batcher = Batcher(database)
    first = asyncio.ensure_future(batcher.write_one(doc("a"), True, size=900))
    await database.settled()
    second = asyncio.ensure_future(batcher.write_one(doc("b"), True, size=900))
    await database.settled()
    with pytest.raises(Unavailable):
        await batcher.write_many([doc("c"), doc("d")], True, sizes=[10, 100])
    await database.release_all()
    await asyncio.gather(first, second)
    assert [bulk.ids for bulk in database.bulks] == [["a"], ["b"]]


async def test_a_document_that_is_no_json_fails_before_it_joins_others() -> None:
    database = GatedDatabase(open_gates=True)
    with pytest.raises(BadRequest):
        await Batcher(database).write_one(doc("a", x=float("nan")), True)
    with pytest.raises(ValueError, match="_id"):
        await Batcher(database).write_one({"n": 1}, True)
    assert database.bulks == []


async def test_closing_answers_everyone() -> None:
    database = GatedDatabase()
    batcher = Batcher(database)
    sent = asyncio.ensure_future(batcher.write_one(doc("a"), True))
    read = asyncio.ensure_future(batcher.read_one(A))
    await database.settled()
    blocked = asyncio.ensure_future(batcher.write_one(doc("a"), True))
    waiting = asyncio.ensure_future(batcher.write_one(doc("b"), True))
    await database.settled()
    await batcher.close()
    outcomes = await asyncio.wait_for(asyncio.gather(sent, read, blocked, waiting, return_exceptions=True), 5)
    assert [type(one) for one in outcomes] == [UpstreamOutcomeUnknown, Unavailable, Unavailable, Unavailable]
    with pytest.raises(Unavailable):
        await batcher.write_one(doc("a"), True)
    with pytest.raises(Unavailable):
        await batcher.read_one(A)
    assert len(database.bulks) == 2


IDS = st.sampled_from(["a", "b", "c", "deep"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), IDS, st.booleans(), st.booleans()),
        st.tuples(st.just("read"), IDS, st.booleans()),
        st.tuples(st.just("leaves"), IDS),
        st.tuples(st.just("many"), st.lists(IDS, max_size=4), st.booleans()),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("answer"), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.integers(0, 3)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 4))
def test_any_interleaving_gives_every_waiter_its_own_answer(steps: list[Any], documents: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "UPSTREAM_BATCH_DOCUMENTS_COUNT", documents)
        asyncio.run(_interleave(steps, documents))


class _Watched(GatedDatabase):
    """Holds the rules that every bulk must keep."""

    def __init__(self, documents: int) -> None:
        super().__init__()
        self.documents = documents
        self.cancelled: set[int] = set()

    async def write(self, docs: Any, *, new_edits: bool) -> Any:
        writing = [doc_id for bulk in self.flying if bulk.kind in {"edits", "revisions"} for doc_id in bulk.ids]
        ids = [one["_id"] for one in docs]
        assert len(set(writing + ids)) == len(writing + ids), "two writes of one id at once"
        assert len(docs) <= self.documents
        assert not self.cancelled & {one["n"] for one in docs}, "a dropped write was sent"
        return await super().write(docs, new_edits=new_edits)


async def _interleave(steps: list[Any], documents: int) -> None:
    database = _Watched(documents)
    batcher = Batcher(database)
    numbers = itertools.count()
    tasks: list[tuple[Any, asyncio.Task[Any]]] = []
    failures: set[int] = set()  # numbers of documents whose bulk was told to fail
    for step in steps:
        match step:
            case ("write", doc_id, new_edits, bad):
                written = doc(doc_id, next(numbers), bad=bad)
                tasks.append((written, asyncio.create_task(batcher.write_one(written, new_edits))))
            case ("many", ids, new_edits):
                many = [doc(doc_id, next(numbers), bad=False) for doc_id in ids]
                tasks.append((many, asyncio.create_task(batcher.write_many(many, new_edits))))
            case ("read", doc_id, attachments):
                ref = RevisionRef(doc_id, "1-a")
                tasks.append((ref, asyncio.create_task(batcher.read_one(ref, attachments))))
            case ("leaves", doc_id):
                tasks.append((doc_id, asyncio.create_task(batcher.leaves_of(doc_id))))
            case ("cancel", at) if tasks:
                asked, task = tasks[at % len(tasks)]
                sent = {item["n"] for bulk in database.bulks for item in bulk.items if isinstance(item, dict)}
                if not task.done() and isinstance(asked, (dict, list)):
                    mine = {one["n"] for one in (asked if isinstance(asked, list) else [asked])}
                    database.cancelled |= mine - sent
                task.cancel()
            case ("answer" | "fail", at) if database.flying:
                bulk = database.flying[at % len(database.flying)]
                if step[0] == "fail":
                    bulk.error = UpstreamOutcomeUnknown("broken")
                    failures |= {item["n"] for item in bulk.items if isinstance(item, dict)}
                bulk.gate.set()
            case ("turn", turns):
                for _ in range(turns):
                    await asyncio.sleep(0)
    await database.settled()
    await database.release_all()
    async with asyncio.timeout(10):
        await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
    order: dict[str, list[int]] = defaultdict(list)
    for bulk in database.bulks:
        for item in bulk.items:
            if isinstance(item, dict) and item["n"] not in order[item["_id"]]:
                order[item["_id"]].append(item["n"])
    assert all(numbers == sorted(numbers) for numbers in order.values()), "writes of one id out of order"
    for asked, task in tasks:
        if task.cancelled():
            continue
        if isinstance(asked, list):
            for one, result in zip(asked, task.result(), strict=True):
                _check_write(one, result, failures)
        elif isinstance(asked, dict):
            _check_write(asked, task.exception() or task.result(), failures)
        elif error := task.exception():
            assert isinstance(error, (UpstreamOutcomeUnknown, UnreadableDocument))
        elif isinstance(asked, RevisionRef):
            assert (task.result()["_id"], task.result()["_rev"]) == (asked.id, asked.rev)
        else:
            assert [one["_id"] for one in task.result()] == [asked]
    assert not batcher._writing
    assert batcher._waiting_bytes == 0


def _check_write(asked: dict[str, Any], outcome: Any, failures: set[int]) -> None:
    if isinstance(outcome, UpstreamOutcomeUnknown):
        assert asked["n"] in failures
    elif isinstance(outcome, TooLarge):
        assert asked["bad"]
    else:
        assert not asked["bad"]
        assert outcome == WriteResult(asked["_id"], f"1-{asked['n']}")
