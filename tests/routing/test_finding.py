"""Selectors under access, with an upstream that can be held and broken: `_find` and `filter=_selector`."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.callers import Caller
from gateway.errors import InvalidQuery, TooLarge, TooManyRequests, Unavailable, UpstreamUnreachable
from gateway.mango.query import parse_find
from gateway.mango.selector import selector
from tests.routing.world import ADMIN, World, until, world_in


async def find(world: World, caller: Caller, **query: Any) -> dict[str, Any]:
    return dict(json.loads(await world.database.find(caller, parse_find({"selector": {}, **query}))))


async def found(world: World, caller: Caller, **query: Any) -> list[str]:
    return [doc["_id"] for doc in (await find(world, caller, **query))["docs"]]


async def test_a_query_fails_when_bodies_cannot_be_read(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "d", channels=["a"])
    world.cache.drop_database("notes")
    world.upstream.gone = True
    with pytest.raises(UpstreamUnreachable):
        await find(world, ann)


async def test_a_selected_feed_ends_with_an_error_instead_of_passing_over_what_it_cannot_read(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "d", channels=["a"])
    world.cache.drop_database("notes")
    world.upstream.gone = True
    for feed in ("normal", "longpoll", "continuous"):
        running = world.feed(ann, feed=feed, selector={"v": 1})
        with pytest.raises(UpstreamUnreachable):
            async for _ in running.events():
                pass
        assert running.last_seq.partition("-")[0] == "0"


async def test_a_document_that_cannot_be_read_hides_no_other(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ann = await world.user("ann", ["a"])
    revs = {id: await world.write(ADMIN, id, channels=["a"], v=id) for id in ("c", "d", "e")}
    world.cache.drop_database("notes")
    world.upstream.unreadable.add(revs["d"])
    assert await found(world, ann) == ["c", "e"]
    assert [row["id"] for row in await world.changes(ann, selector={})] == ["c", "e"]
    assert "cannot be read" in caplog.text


async def test_a_revision_replaced_and_gone_before_it_was_read_is_found_by_its_successor(world: World) -> None:
    ann = await world.user("ann", ["a"])
    first = await world.write(ADMIN, "d", channels=["a"], v=1)
    (kept,) = (await world.upstream.inner.leaves(["d"]))[0]
    world.cache.drop_database("notes")
    read, replaced = world.upstream.read, asyncio.Event()

    async def late(wanted: Any, *, attachments: bool = False) -> Any:
        if [ref.rev for ref in wanted] == [first]:
            world.upstream.read = read  # type: ignore[method-assign]
            world.cache.put("notes", kept)  # for the router, which would wait for this very read
            await world.direct("d", first, channels=["a"], v=2)
            await world.routed()
            replaced.set()
            return [None]  # compacted
        return await read(wanted, attachments=attachments)

    world.upstream.read = late  # type: ignore[method-assign]
    assert (await find(world, ann, selector={"v": {"$gt": 0}}))["docs"][0]["v"] == 2
    assert replaced.is_set()


async def test_too_many_queries_at_once_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FINDS_COUNT", 3)
    monkeypatch.setattr(limits, "FINDS_OF_USER_COUNT", 2)
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["a"])
    await world.write(ADMIN, "d", channels=["a"])
    world.cache.drop_database("notes")
    go, read, waiting = asyncio.Event(), world.upstream.read, 0

    async def held(wanted: Any, *, attachments: bool = False) -> Any:
        nonlocal waiting
        waiting += 1
        await go.wait()
        return await read(wanted, attachments=attachments)

    world.upstream.read = held  # type: ignore[method-assign]
    running = [asyncio.create_task(found(world, who)) for who in (ann, ann, bob)]
    await until(lambda: waiting > 0)
    with pytest.raises(Unavailable):
        await find(world, bob)
    running.pop().cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await find(world, ann)
    go.set()
    assert await asyncio.gather(*running) == [["d"], ["d"]]
    assert await found(world, ann) == await found(world, bob) == ["d"]


async def test_a_long_scan_lets_a_short_one_go_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SELECTOR_BATCH_DOCUMENTS_COUNT", 1)
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["b"])
    await asyncio.gather(*(world.write(ADMIN, f"d{number:02}", channels=["a"]) for number in range(40)))
    await world.write(ADMIN, "e", channels=["b"])
    long = [asyncio.create_task(found(world, ann, limit=100)) for _ in range(4)]
    short = asyncio.create_task(found(world, bob))
    done, _ = await asyncio.wait([*long, short], return_when=asyncio.FIRST_COMPLETED)
    assert done == {short}
    assert all(len(ids) == 40 for ids in await asyncio.gather(*long))


async def test_a_query_that_takes_too_long_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIND_SECONDS", 0.0)
    ann = await world.user("ann", ["a"])
    await world.write(ADMIN, "d", channels=["a"])
    with pytest.raises(InvalidQuery, match="FIND_SECONDS"):
        await find(world, ann)


async def test_answers_and_sorts_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = await world.user("ann", ["a"])
    for number in range(5):
        await world.write(ADMIN, f"d{number}", channels=["a"], text="x" * 500, n=number)
    with pytest.raises(TooLarge, match="FIND_SORT_ROWS_COUNT"):
        await find(world, ann, sort=["n"], limit=limits.FIND_SORT_ROWS_COUNT + 1)
    monkeypatch.setattr(limits, "FIND_ANSWER_BYTES", 1_500)
    for sort in ([], ["n"]):
        with pytest.raises(TooLarge, match="FIND_ANSWER_BYTES"):
            await find(world, ann, sort=sort)
        assert len(await found(world, ann, sort=sort, fields=["n", "_id"])) == 5
    monkeypatch.setattr(limits, "FINDS_ANSWERS_BYTES", 100)
    with pytest.raises(Unavailable):
        await find(world, ann, fields=["_id", "text"], limit=1)


async def test_a_user_who_is_gone_finds_nothing(world: World) -> None:
    with pytest.raises(Exception, match="Invalid login"):
        await find(world, Caller("nobody"))


# Every query is the readable documents put through a plain matcher, and its pages give each row once.

_TEXT = st.sampled_from(["", "a", "A", "á", "b", "_", "1"])
_VALUE = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from([0.5, 2.0]) | _TEXT
_DEEP = _VALUE | st.lists(_VALUE, max_size=3) | st.dictionaries(st.sampled_from("kl"), _VALUE, max_size=2)
_DOCS = st.dictionaries(
    st.sampled_from([f"{letter}{number}" for letter in "abé" for number in range(5)]),
    st.fixed_dictionaries(
        {"channels": st.sampled_from([["a"], ["b"], ["a", "b"], []])},
        optional={"x": _DEEP, "y": _DEEP, "_deleted": st.just(True)},
    ),
    max_size=10,
)
_COMPARED = st.tuples(st.sampled_from(["$eq", "$ne", "$lt", "$lte", "$gt", "$gte"]), _DEEP)
_LISTED = st.tuples(st.sampled_from(["$in", "$nin", "$all"]), st.lists(_VALUE, max_size=3))
_OTHERS = st.sampled_from(
    [
        *(("$exists", True), ("$exists", False), ("$type", "string"), ("$size", 2), ("$mod", [2, 1])),
        *(("$regex", "^[aA]"), ("$beginsWith", "a"), ("$elemMatch", {"$gt": 0}), ("$allMatch", {"$type": "number"})),
        ("$keyMapMatch", {"$eq": "k"}),
    ]
)
_CONDITION = st.dictionaries(
    st.sampled_from(["x", "y", "x.k", "y.0", "_id"]),
    (_COMPARED | _LISTED | _OTHERS).map(lambda one: dict([one])),
    min_size=1,
    max_size=2,
)
_SELECTOR = st.recursive(
    _CONDITION,
    lambda inner: (
        st.tuples(st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=2)).map(
            lambda one: dict([one])
        )
        | inner.map(lambda one: {"$not": one})
    ),
    max_leaves=4,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_DOCS, st.lists(st.just({}) | _SELECTOR, min_size=5, max_size=10), st.integers(1, 4))
def test_a_query_is_a_plain_matcher_over_the_readable_documents(
    docs: dict[str, dict[str, Any]], selectors: list[dict[str, Any]], limit: int
) -> None:
    async def check() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with world_in(Path(directory)) as world:
                ann = await world.user("ann", ["a"])
                written = [{"_id": id, "_rev": f"1-{at:032x}", **doc} for at, (id, doc) in enumerate(docs.items())]
                await world.database.bulk_docs(ADMIN, written, new_edits=False)
                readable = [doc for doc in written if "a" in doc["channels"] and not doc.get("_deleted")]
                readable.sort(key=lambda doc: str(doc["_id"]))
                for wanted in selectors:
                    matches = selector(wanted)
                    expected = [doc for doc in readable if matches(doc)]
                    assert await _pages(world, ann, limit, selector=wanted) == expected
                    backwards = await _pages(world, ann, limit, selector=wanted, sort=[{"_id": "desc"}])
                    assert backwards == expected[::-1]
                    rows = await world.changes(ann, selector=wanted, active_only=True)
                    assert {row["id"] for row in rows} == {doc["_id"] for doc in expected}

    asyncio.run(check())


async def _pages(world: World, caller: Caller, limit: int, **query: Any) -> list[dict[str, Any]]:
    docs: list[dict[str, Any]] = []
    bookmark = "nil"
    while some := (page := await find(world, caller, limit=limit, bookmark=bookmark, **query))["docs"]:
        docs += some
        bookmark = page["bookmark"]
    return docs
