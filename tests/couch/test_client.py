"""What the client asks of a CouchDB and how it reads the answers."""

from __future__ import annotations

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
    UpstreamError,
    UpstreamOutcomeUnknown,
    UpstreamRefused,
    UpstreamUnreachable,
)
from tests.couch.conftest import Connect
from tests.couch.handlers import POUCHDB, always, broken, garbage_json, half_an_answer, html_500, in_turn, silence
from tests.couch.scripted import COUCHDB, Handler, Out, Request

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
