"""What the client asks of a CouchDB and how it reads the answers."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from gateway import limits
from gateway.couch.client import CouchDatabase, CouchDB
from gateway.couch.upstream import Identity, RevisionRef, WriteResult
from gateway.errors import (
    BadRequest,
    GatewayError,
    NotFound,
    TooLarge,
    UnknownDatabase,
    UnreadableDocument,
    UpstreamError,
    UpstreamOutcomeUnknown,
    UpstreamRefused,
    UpstreamUnreachable,
)
from tests.couch.conftest import Connect
from tests.couch.scripted import COUCHDB, Handler, Out, Request

POUCHDB = {"express-pouchdb": "Welcome!", "vendor": {"name": "PouchDB authors"}}


def always(status: int, value: Any, **headers: str) -> Handler:
    async def answer(request: Request, out: Out) -> None:
        await out.json(status, value, **headers)

    return answer


def in_turn(*answers: Handler) -> Handler:
    """The n-th request gets the n-th answer, all later ones the last."""
    left = list(answers)

    async def answer(request: Request, out: Out) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(request, out)

    return answer


async def broken(request: Request, out: Out) -> None:
    out.abort()


async def html_500(request: Request, out: Out) -> None:
    await out.text(500, "<html>s3cret stack trace</html>")


async def half_an_answer(request: Request, out: Out) -> None:
    await out.raw(b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[{"ok":')
    out.abort()


async def silence(request: Request, out: Out) -> None:
    await asyncio.Event().wait()


async def half_and_silence(request: Request, out: Out) -> None:
    await out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await silence(request, out)


async def garbage_json(request: Request, out: Out) -> None:
    await out.text(200, '{"results": [', "application/json")


# -- check and open


async def test_a_couchdb_is_accepted_and_sees_our_login(connect: Connect) -> None:
    server, client, _ = await connect(always(200, COUCHDB))
    await client.check()
    assert server.requests[0].headers["authorization"] == "Basic YW5uOnMzY3JldA=="


async def test_a_pouchdb_server_is_accepted(connect: Connect) -> None:
    _, client, _ = await connect(always(200, POUCHDB))
    await client.check()


async def test_an_unreachable_server_is_named_without_its_password() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://ann:s3cret@127.0.0.1:{free.getsockname()[1]}"
        client = CouchDB(url)
        with pytest.raises(UpstreamUnreachable) as caught:
            await client.check()
        await client.close()
    assert url.replace(":s3cret", "") in caught.value.reason
    assert "s3cret" not in caught.value.reason


async def test_refused_credentials_are_named_as_such(connect: Connect) -> None:
    answer = {"error": "unauthorized", "reason": "Name or password is incorrect."}
    server, client, _ = await connect(always(401, answer))
    with pytest.raises(UpstreamRefused) as caught:
        await client.check()
    assert f"username or password of ann at http://ann@127.0.0.1:{server.port}" in caught.value.reason
    assert "Name or password is incorrect." in caught.value.reason
    assert "s3cret" not in caught.value.reason
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "value"), [(200, {"hello": 1}), (200, [1]), (404, {"error": "x"})])
async def test_something_else_than_a_couchdb_is_refused(connect: Connect, status: int, value: Any) -> None:
    _, client, _ = await connect(always(status, value))
    with pytest.raises(UpstreamRefused, match="there is no CouchDB at"):
        await client.check()


async def test_a_web_page_in_place_of_couchdb_is_refused(connect: Connect) -> None:
    async def page(request: Request, out: Out) -> None:
        await out.text(200, "<html>It works!</html>")

    _, client, _ = await connect(page)
    with pytest.raises(UpstreamRefused, match="200 with text/html that is no JSON"):
        await client.check()


async def test_a_redirect_is_not_followed_with_our_login(connect: Connect) -> None:
    server, client, _ = await connect(always(301, {}, Location="http://127.0.0.1:1/"))
    with pytest.raises(UpstreamRefused, match="redirect"):
        await client.check()
    assert len(server.requests) == 1


async def test_a_server_that_is_starting_is_tried_again(connect: Connect) -> None:
    _, client, _ = await connect(in_turn(always(503, {}), broken, always(200, COUCHDB)))
    await client.check()


async def test_an_existing_database_is_opened_without_creating_it(connect: Connect) -> None:
    server, client, _ = await connect(always(200, {"db_name": "a/b"}))
    database = await client.open("a/b", create=True)
    assert database.name == "a/b"
    assert [(request.method, request.target) for request in server.requests] == [("GET", "/a%2Fb")]


MISSING = always(404, {"error": "not_found", "reason": "Database does not exist."})
EXISTS = always(412, {"error": "file_exists", "reason": "The database could not be created."})


@pytest.mark.parametrize("status", [201, 202])
async def test_a_missing_database_is_created(connect: Connect, status: int) -> None:
    server, client, _ = await connect(in_turn(MISSING, always(status, {"ok": True})))
    await client.open("db", create=True)
    assert [request.method for request in server.requests] == ["GET", "PUT"]


async def test_a_database_that_another_made_first_is_opened(connect: Connect) -> None:
    server, client, _ = await connect(in_turn(MISSING, EXISTS, always(200, {"db_name": "db"})))
    await client.open("db", create=True)
    assert [request.method for request in server.requests] == ["GET", "PUT", "GET"]


async def test_a_database_whose_deletion_is_not_over_is_created_when_it_is(connect: Connect) -> None:
    server, client, _ = await connect(in_turn(MISSING, EXISTS, MISSING, EXISTS, MISSING, always(201, {"ok": True})))
    await client.open("db", create=True)
    assert [request.method for request in server.requests] == ["GET", "PUT"] * 3


async def test_a_deletion_returns_when_the_database_is_gone(connect: Connect) -> None:
    still_there = always(200, {"db_name": "db"})
    server, client, _ = await connect(in_turn(always(200, {"ok": True}), still_there, still_there, MISSING))
    await client.delete("db")
    assert [request.method for request in server.requests] == ["DELETE", "GET", "GET", "GET"]


async def test_a_missing_database_is_not_created_unasked(connect: Connect) -> None:
    server, client, _ = await connect(always(404, {"error": "not_found", "reason": "no_db_file"}))
    with pytest.raises(UnknownDatabase, match="there is no database db"):
        await client.open("db", create=False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "told", "words"),
    [
        (401, {"error": "unauthorized", "reason": "You are not a server admin."}, "no right to create the database db"),
        (403, {"error": "forbidden", "reason": "no"}, "no right to create the database db"),
        (500, {"error": "internal_server_error", "reason": "No DB shards could be opened."}, "_cluster_setup"),
        (400, {"error": "illegal_database_name", "reason": "Name: 'db'"}, "illegal_database_name"),
    ],
)
async def test_a_database_that_cannot_be_created_says_what_was_tried_and_answered(
    connect: Connect, status: int, told: dict[str, str], words: str
) -> None:
    missing = always(404, {"error": "not_found", "reason": "missing"})
    server, client, _ = await connect(in_turn(missing, always(status, told)))
    with pytest.raises(UpstreamRefused) as caught:
        await client.open("db", create=True)
    assert words in caught.value.reason
    assert f"PUT http://ann@127.0.0.1:{server.port}/db answered {status}" in caught.value.reason
    assert told["reason"] in caught.value.reason
    assert "s3cret" not in caught.value.reason


async def test_a_database_that_we_may_not_read_is_refused(connect: Connect) -> None:
    _, client, _ = await connect(always(403, {"error": "forbidden", "reason": "not yours"}))
    with pytest.raises(UpstreamRefused, match="no right to use the database db"):
        await client.open("db", create=True)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_login_that_is_locked_out_is_the_gateways_fault_and_no_documents(connect: Connect, status: int) -> None:
    locked = {"error": "forbidden", "reason": "Account is temporarily locked due to multiple authentication failures"}
    _, client, database = await connect(always(status, locked))
    for ask in (
        database.write([{"_id": "a"}], new_edits=True),
        database.write([{"_id": "a", "_rev": "1-a"}], new_edits=False),
        database.read([RevisionRef("a", "1-a")]),
        database.leaves(["a"]),
        database.revs_diff({"a": ["1-a"]}),
        database.info(),
    ):
        with pytest.raises(UpstreamRefused, match="temporarily locked"):
            await ask
    with pytest.raises(UpstreamRefused, match="temporarily locked"):
        await client.check()


async def test_a_database_that_stays_unavailable_is_unreachable(connect: Connect) -> None:
    server, client, _ = await connect(always(503, {"error": "service unavailable", "reason": "maintenance"}))
    with pytest.raises(UpstreamUnreachable, match="maintenance"):
        await client.open("db", create=True)
    assert len(server.requests) == 1 + limits.UPSTREAM_RETRIES_COUNT


async def test_deleting_an_unknown_database_is_not_found(connect: Connect) -> None:
    _, client, _ = await connect(always(404, {"error": "not_found", "reason": "Database does not exist."}))
    with pytest.raises(NotFound):
        await client.delete("db")


async def test_all_databases_are_listed_sorted(connect: Connect) -> None:
    _, client, _ = await connect(always(200, ["b", "a"]))
    assert await client.all_dbs() == ["a", "b"]


# -- facts about a database


@pytest.mark.parametrize(
    ("seq", "text"), [("12-g1AAA", "12-g1AAA"), (12, "12"), ([3, "g1"], '[3,"g1"]'), (None, "0"), (True, "0")]
)
async def test_sequences_of_every_couchdb_become_text(connect: Connect, seq: Any, text: str) -> None:
    info = {"doc_count": 2, "doc_del_count": 1, "update_seq": seq, "purge_seq": seq, "instance_start_time": "17"}
    _, _, database = await connect(always(200, info))
    told = await database.info()
    assert (told.update_seq, told.purge_seq, told.instance_start_time) == (text, text, "17")
    assert (told.doc_count, told.doc_del_count, told.raw) == (2, 1, info)


async def test_the_identity_is_the_servers_uuid_and_the_databases_birth(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(200, COUCHDB if request.target == "/" else {"instance_start_time": "17"})

    _, _, database = await connect(answer)
    assert await database.identity() == Identity("u1", "17")


async def test_a_server_without_uuid_has_an_empty_one(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(200, POUCHDB if request.target == "/" else {"instance_start_time": 17})

    _, _, database = await connect(answer)
    assert await database.identity() == Identity("", "17")


async def test_a_database_that_is_gone_is_unknown(connect: Connect) -> None:
    _, _, database = await connect(always(404, {"error": "not_found", "reason": "no_db_file"}))
    for call in (database.info(), database.purged()):
        with pytest.raises(UnknownDatabase):
            await call


async def test_purges_are_listed_and_absent_where_the_server_has_none(connect: Connect) -> None:
    old = always(404, {"error": "not_found", "reason": "missing"})
    new = always(200, {"purged_infos": [{"id": "a", "revs": ["1-x", "1-y"]}]})
    _, _, database = await connect(in_turn(old, always(405, {}), new))
    assert await database.purged() == []
    assert await database.purged() == []
    assert await database.purged() == [("a", ["1-x", "1-y"])]


async def test_revs_diff_asks_and_answers_as_couchdb_does(connect: Connect) -> None:
    told = {"a": {"missing": ["2-b"], "possible_ancestors": ["1-a"]}, "b": {"missing": ["1-c"]}}
    server, _, database = await connect(always(200, told))
    diff = await database.revs_diff({"a": ["2-b", "1-a"], "b": ("1-c",)})
    assert diff["a"] == told["a"]
    assert diff["b"] == {"missing": ["1-c"], "possible_ancestors": []}
    assert server.requests[0].json == {"a": ["2-b", "1-a"], "b": ["1-c"]}


# -- writes


async def test_a_write_answers_each_document_in_order(connect: Connect) -> None:
    told = [
        {"ok": True, "id": "a", "rev": "1-a"},
        {"id": "b", "error": "conflict", "reason": "Document update conflict."},
        {"ok": True, "id": "c", "rev": "1-c", "accepted": True},
    ]
    server, _, database = await connect(always(202, told))
    docs = [{"_id": "a"}, {"_id": "b", "_rev": "1-x"}, {"_id": "c"}]
    assert await database.write(docs, new_edits=True) == [
        WriteResult("a", "1-a"),
        WriteResult("b", None, "conflict", "Document update conflict."),
        WriteResult("c", "1-c", quorum=False),
    ]
    assert server.requests[0].json == {"docs": docs}
    assert server.requests[0].headers["content-type"] == "application/json"


async def test_revisions_written_as_they_are_answer_only_their_failures(connect: Connect) -> None:
    told = [{"id": "b", "rev": "1-b", "error": "forbidden", "reason": "not you"}]
    server, _, database = await connect(in_turn(always(201, told), always(202, [])))
    docs = [{"_id": "a", "_rev": "1-a"}, {"_id": "b", "_rev": "1-b"}]
    assert await database.write(docs, new_edits=False) == [
        WriteResult("a", "1-a"),
        WriteResult("b", None, "forbidden", "not you"),
    ]
    assert server.requests[0].json == {"docs": docs, "new_edits": False}
    assert await database.write(docs[:1], new_edits=False) == [WriteResult("a", "1-a", quorum=False)]


async def test_a_failure_that_names_no_document_counts_for_all_that_are_not_named(connect: Connect) -> None:
    told = [{"error": "internal_server_error", "reason": "shard"}, {"id": "b", "rev": "1-b", "error": "forbidden"}]
    _, _, database = await connect(always(500, told))
    results = await database.write([{"_id": "a", "_rev": "1-a"}, {"_id": "b", "_rev": "1-b"}], new_edits=False)
    assert [(result.rev, result.error) for result in results] == [
        (None, "internal_server_error"),
        (None, "forbidden"),
    ]


@pytest.mark.parametrize(
    "told",
    [[], [{"ok": True, "id": "other", "rev": "1-a"}], [{"ok": True, "id": "a"}], ["x"]],
)
async def test_results_that_do_not_fit_leave_the_outcome_unknown(connect: Connect, told: list[Any]) -> None:
    _, _, database = await connect(always(201, told))
    with pytest.raises(UpstreamOutcomeUnknown):
        await database.write([{"_id": "a"}], new_edits=True)


@pytest.mark.parametrize("fault", [broken, half_an_answer, html_500, garbage_json, always(502, {}), always(504, {})])
async def test_a_write_without_a_certain_answer_is_sent_once_and_unknown(connect: Connect, fault: Handler) -> None:
    server, _, database = await connect(fault)
    with pytest.raises(UpstreamOutcomeUnknown) as caught:
        await database.write([{"_id": "a"}], new_edits=True)
    assert len(server.requests) == 1
    assert "stack trace" not in caught.value.reason


async def test_a_write_without_answer_in_time_is_unknown(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_REQUEST_SECONDS", 0.05)

    server, _, database = await connect(silence)
    with pytest.raises(UpstreamOutcomeUnknown) as caught:
        await database.write([{"_id": "a"}], new_edits=True)
    assert "timed out" in caught.value.explained
    assert "timed out" not in caught.value.reason, "clients are not told how the gateway reaches it"
    assert len(server.requests) == 1


async def test_a_write_that_was_turned_away_is_repeated(connect: Connect) -> None:
    async def proxy(request: Request, out: Out) -> None:
        await out.text(503, "<html>no server available</html>")

    busy = always(429, {"error": "too_many_requests"}, Retry_After="0")
    server, _, database = await connect(in_turn(busy, proxy, always(201, [{"ok": True, "id": "a", "rev": "1-a"}])))
    assert await database.write([{"_id": "a"}], new_edits=True) == [WriteResult("a", "1-a")]
    assert len(server.requests) == 3


async def test_a_write_that_is_turned_away_for_good_is_not_stored(connect: Connect) -> None:
    _, _, database = await connect(always(429, {"error": "too_many_requests"}))
    with pytest.raises(UpstreamUnreachable):
        await database.write([{"_id": "a"}], new_edits=True)


async def test_a_write_without_connection_is_unreachable_not_unknown() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        client = CouchDB(f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(UpstreamUnreachable):
            await CouchDatabase(client, "db").write([{"_id": "a"}], new_edits=True)
        await client.close()


@pytest.mark.parametrize(
    ("status", "told", "kind"),
    [
        (413, {"error": "document_too_large", "reason": "a"}, TooLarge),
        (400, {"error": "bad_request", "reason": "no"}, BadRequest),
        (404, {"error": "not_found", "reason": "Database does not exist."}, UnknownDatabase),
        (401, {"error": "unauthorized", "reason": "expired"}, UpstreamRefused),
        (301, {}, UpstreamError),
    ],
)
async def test_a_refused_write_keeps_couchdbs_error(
    connect: Connect, status: int, told: dict[str, str], kind: type[GatewayError]
) -> None:
    server, _, database = await connect(always(status, told))
    with pytest.raises(kind) as caught:
        await database.write([{"_id": "a"}], new_edits=True)
    assert told.get("reason", "") in caught.value.reason
    assert len(server.requests) == 1


async def test_a_document_that_is_no_json_is_refused_before_anything_is_sent(connect: Connect) -> None:
    server, _, database = await connect(always(201, []))
    for value in (float("nan"), "\ud800"):
        with pytest.raises(BadRequest):
            await database.write([{"_id": "a", "value": value}], new_edits=True)
    assert server.requests == []


async def test_a_large_bulk_is_sent_whole(connect: Connect) -> None:
    server, _, database = await connect(always(201, []))
    docs = [{"_id": "a", "_rev": "1-a", "text": "ä" * 3_000_000}]
    await database.write(docs, new_edits=False)
    assert server.requests[0].json["docs"] == docs


# -- reads


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
