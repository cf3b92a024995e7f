"""The client of an Apache CouchDB reads: bulks, repeats, and what makes no sense."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway import limits
from gateway.couch.upstream import RevisionRef
from gateway.errors import (
    UnreadableDocument,
    UpstreamError,
    UpstreamUnreachable,
)
from tests.couch.conftest import Connect
from tests.couch.handlers import (
    POUCHDB,
    always,
    broken,
    garbage_json,
    half_an_answer,
    half_and_silence,
    html_500,
    in_turn,
    silence,
)
from tests.couch.scripted import COUCHDB, Handler, Out, Request


def stored(doc_id: str, rev: str, **members: Any) -> dict[str, Any]:
    start, _, digest = rev.partition("-")
    return {"_id": doc_id, "_rev": rev, "_revisions": {"start": int(start), "ids": [digest]}, **members}


async def test_revisions_are_read_in_bulk_and_answered_in_order(connect: Connect) -> None:
    a, b = stored("a", "1-a", n=1), stored("b", "2-b", n=2)
    told = {
        "results": [  # in another order than asked, with every form of "not there"
            {"id": "b", "docs": [{"ok": b}]},
            {"id": "a", "docs": [{"ok": a}, {"missing": "2-x"}]},
            {"id": "c", "docs": [{"error": {"id": "c", "rev": "1-c", "error": "not_found", "reason": "missing"}}]},
            {"id": "d", "docs": [{}]},
        ]
    }
    server, _, database = await connect(always(200, told))
    wanted = [RevisionRef("a", "1-a"), RevisionRef("c", "1-c"), RevisionRef("b", "2-b"), RevisionRef("a", "1-a")]
    assert await database.read(wanted) == [a, None, b, a]
    assert server.requests[0].target == "/db/_bulk_get?revs=true"
    assert server.requests[0].headers["accept"] == "application/json"
    assert len(server.requests[0].json["docs"]) == 3
    await database.read(wanted[:1], attachments=True)
    assert server.requests[1].target == "/db/_bulk_get?revs=true&attachments=true"


async def test_a_read_that_failed_is_never_taken_for_not_stored(connect: Connect) -> None:
    entry = {"error": {"id": "a", "rev": "1-a", "error": "internal_fabric_error", "reason": "timeout"}}
    _, _, database = await connect(always(200, {"results": [{"id": "a", "docs": [entry]}]}))
    with pytest.raises(UpstreamError, match="timeout"):
        await database.read([RevisionRef("a", "1-a")])


@pytest.mark.parametrize("fault", [broken, half_an_answer, always(503, {}), always(504, {}), always(429, {})])
async def test_a_read_is_repeated_after_a_fault(connect: Connect, fault: Handler) -> None:
    doc = stored("a", "1-a")
    good = always(200, {"results": [{"id": "a", "docs": [{"ok": doc}]}]})
    server, _, database = await connect(in_turn(fault, fault, good))
    assert await database.read([RevisionRef("a", "1-a")]) == [doc]
    assert len(server.requests) == 3


async def test_a_read_is_given_up_after_its_retries(connect: Connect) -> None:
    server, _, database = await connect(broken)
    with pytest.raises(UpstreamUnreachable):
        await database.read([RevisionRef("a", "1-a")])
    assert len(server.requests) == 1 + limits.UPSTREAM_RETRIES_COUNT


@pytest.mark.parametrize("fault", [html_500, garbage_json, always(200, [1]), always(200, {"results": 7})])
async def test_an_answer_that_makes_no_sense_is_an_upstream_error(connect: Connect, fault: Handler) -> None:
    server, _, database = await connect(fault)
    with pytest.raises(UpstreamError) as caught:
        await database.read([RevisionRef("a", "1-a")])
    assert "stack trace" not in caught.value.reason
    assert len(server.requests) == 1


def bulk_get_of(docs: dict[str, str]) -> Handler:
    """A `_bulk_get` over JSON texts by id, so that a test may store what Python cannot write."""

    async def answer(request: Request, out: Out) -> None:
        results = [
            f'{{"id":{json.dumps(one["id"])},"docs":[{{"ok":{docs[one["id"]]}}}]}}' for one in request.json["docs"]
        ]
        await out.text(200, '{"results":[' + ",".join(results) + "]}", "application/json")

    return answer


async def test_an_answer_past_the_limit_is_asked_for_in_halves(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_ANSWER_BYTES", 3_000)
    docs = {f"d{n}": stored(f"d{n}", "1-a", text="x" * 1_000) for n in range(7)}
    server, _, database = await connect(bulk_get_of({doc_id: json.dumps(doc) for doc_id, doc in docs.items()}))
    assert await database.read([RevisionRef(doc_id, "1-a") for doc_id in docs]) == list(docs.values())
    assert len(server.requests) > 3


@pytest.mark.parametrize("odd", ["[" * 5_000 + "]" * 5_000, "9" * 5_000, '"' + "x" * 9_000 + '"'])
async def test_a_document_that_cannot_be_read_is_named_alone(
    connect: Connect, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_ANSWER_BYTES", 12_000 if odd.startswith("[") else 8_000)
    docs = {f"d{n}": json.dumps(stored(f"d{n}", "1-a")) for n in range(5)}
    docs["d3"] = f'{{"_id":"d3","_rev":"1-a","odd":{odd}}}'
    _, _, database = await connect(bulk_get_of(docs))
    with pytest.raises(UnreadableDocument, match="'d3'"):
        await database.read([RevisionRef(doc_id, "1-a") for doc_id in docs])


async def test_leaves_come_in_one_bulk_read_from_couchdb_winner_first(connect: Connect) -> None:
    loser, winner = stored("a", "3-z", _deleted=True), stored("a", "2-b")
    missing = {"error": {"id": "b", "rev": "undefined", "error": "not_found", "reason": "missing"}}
    told = {"results": [{"id": "a", "docs": [{"ok": loser}, {"ok": winner}]}, {"id": "b", "docs": [missing]}]}

    async def answer(request: Request, out: Out) -> None:
        await out.json(200, COUCHDB if request.target == "/" else told)

    server, _, database = await connect(answer)
    assert await database.leaves(["b", "a"]) == [[], [winner, loser]]
    assert server.requests[-1].json == {"docs": [{"id": "b"}, {"id": "a"}]}


async def test_leaves_come_document_by_document_from_other_servers(connect: Connect) -> None:
    one, two = stored("a/b", "2-b"), stored("a/b", "2-a")

    async def answer(request: Request, out: Out) -> None:
        if request.target == "/":
            await out.json(200, POUCHDB)
        elif request.target == "/db/a%2Fb?open_revs=all&revs=true":
            await out.json(200, [{"ok": two}, {"missing": "9-x"}, {"ok": one}])
        else:
            await out.json(404, {"error": "not_found", "reason": "missing"})

    server, _, database = await connect(answer)
    assert await database.leaves(["x", "a/b"]) == [[], [one, two]]
    assert server.requests[-1].headers["accept"] == "application/json"


async def test_one_unreadable_document_of_another_server_is_one_error(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await (out.json(200, POUCHDB) if request.target == "/" else html_500(request, out))

    _, _, database = await connect(answer)
    with pytest.raises(UpstreamError):
        await database.leaves(["a", "b", "c"])


async def test_nothing_asked_is_nothing_sent(connect: Connect) -> None:
    server, _, database = await connect(always(200, COUCHDB))
    assert await database.read([]) == []
    assert await database.write([], new_edits=True) == []
    assert await database.revs_diff({}) == {}
    assert server.requests == []


async def test_a_closed_client_says_so(connect: Connect) -> None:
    _, client, database = await connect(always(200, COUCHDB))
    await client.check()
    await client.close()
    with pytest.raises(UpstreamUnreachable, match="closed"):
        await database.info()


@pytest.mark.parametrize("fault", [silence, half_and_silence])
async def test_closing_the_client_ends_what_is_in_flight(connect: Connect, fault: Handler) -> None:
    asked = asyncio.Event()

    async def answer(request: Request, out: Out) -> None:
        asked.set()
        await fault(request, out)

    _, client, database = await connect(answer)
    reading = asyncio.ensure_future(database.info())
    await asked.wait()
    await client.close()
    with pytest.raises(UpstreamUnreachable):
        await asyncio.wait_for(reading, 5)


async def test_a_client_is_cancelled_without_waiting_for_the_upstream(connect: Connect) -> None:
    asked = asyncio.Event()

    async def answer(request: Request, out: Out) -> None:
        asked.set()
        await silence(request, out)

    server, _, database = await connect(answer)
    reading = asyncio.ensure_future(database.info())
    await asked.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.wait_for(server.ended.get(), 5)
