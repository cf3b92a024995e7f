"""What the test suites of CouchDB's JavaScript clients ask as a server admin, answered as CouchDB does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.protocol.conftest import KINDS
from tests.protocol.site import site_on
from tests.protocol.test_created_databases import LET_IN, OPS, Server
from tests.running import client

VALIDATED = {"a": "unauthorized", "b": "forbidden"}
pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=KINDS)
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    async with site_on(request.param, tmp_path_factory.mktemp("clients"), {}, **LET_IN) as site:
        running = Server(site)
        yield running
        await running.remove()


@pytest_asyncio.fixture(loop_scope="session")
async def db(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client at a new database, with the login of a server admin."""
    async with client(f"{server.url}/{await server.make()}", *OPS) as http:
        yield http


def failure(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    return answer.status_code, body["error"], body["reason"]


async def test_what_a_replicator_writes_into_documents_is_stored(db: httpx.AsyncClient) -> None:
    state = {
        "_replication_id": "test",
        "_replication_state": "triggered",
        "_replication_state_reason": "none",
        "_replication_state_time": 1,
        "_replication_stats": {},
    }
    assert (await db.put("/a", json=state)).status_code == 201
    stored = (await db.get("/a")).json()
    assert {name: value for name, value in stored.items() if name not in ("_id", "_rev")} == state
    assert failure(await db.put("/b", json={"_replication": 1}))[:2] == (400, "doc_validation")


async def test_an_attachment_whose_name_begins_with_an_underscore_is_refused(db: httpx.AsyncClient) -> None:
    refused = (400, "bad_request", "Attachment name '_a.txt' starts with prohibited character '_'")
    doc = {"_attachments": {"_a.txt": {"content_type": "text/plain", "data": "aGk="}}}
    assert failure(await db.put("/a", json=doc)) == refused
    assert failure(await db.post("/_bulk_docs", json={"docs": [{"_id": "a", **doc}]})) == refused
    assert failure(await db.put("/a/_a.txt", content=b"hi", headers={"Content-Type": "text/plain"})) == refused


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/a", {"_rev": "undefined"}),
        ("POST", "", {"_id": "a", "_rev": "undefined"}),
        ("POST", "/_bulk_docs", {"docs": [{"_id": "a", "_rev": "undefined"}]}),
        ("PUT", "/a?rev=undefined", {}),
        ("GET", "/a?rev=undefined", None),
        ("GET", '/a?open_revs=["keys"]', None),
        ("DELETE", "/a?rev=undefined", None),
    ],
)
async def test_a_malformed_revision_is_refused_in_couchdbs_words(
    db: httpx.AsyncClient, method: str, path: str, body: Any
) -> None:
    headers = {"Accept": "application/json"}
    answer = await db.request(method, path, headers=headers, **({} if body is None else {"json": body}))
    assert failure(answer) == (400, "bad_request", "Invalid rev format")


async def test_keys_of_a_body_and_a_range_of_the_query_string_do_not_go_together(db: httpx.AsyncClient) -> None:
    refused = (400, "query_parse_error", "`keys` is incompatible with `key`, `start_key` and `end_key`")
    for query in ('key="1"', 'startkey="a"', 'endkey="a"', "start_key=null"):
        assert failure(await db.post(f"/_all_docs?{query}", json={"keys": ["1", "2"]})) == refused
    assert failure(await db.post("/_all_docs", json={"keys": ["1"], "key": "1"})) == refused
    assert (await db.post('/_all_docs?key="1"', json={"keys": []})).json()["rows"] == []


async def test_the_query_string_wins_over_the_body_of_all_docs(db: httpx.AsyncClient) -> None:
    await db.post("/_bulk_docs", json={"docs": [{"_id": "a"}, {"_id": "b"}, {"_id": "c"}]})
    answer = await db.post('/_all_docs?limit=1&startkey="b"', json={"limit": 3, "start_key": "a", "descending": True})
    assert [row["id"] for row in answer.json()["rows"]] == ["b"]
    # Each of several queries wins over the query string.
    answer = await db.post("/_all_docs/queries?limit=1", json={"queries": [{"limit": 2}, {}]})
    assert [len(result["rows"]) for result in answer.json()["results"]] == [2, 1]


async def test_a_validation_function_says_that_a_write_is_unauthorized(db: httpx.AsyncClient) -> None:
    function = "function (doc) { if (doc.why) { var error = {}; error[doc.why] = 'no'; throw(error); } }"
    assert (await db.put("/_design/v", json={"validate_doc_update": function})).status_code == 201
    assert failure(await db.put("/a", json={"why": "unauthorized"})) == (401, "unauthorized", "no")
    assert failure(await db.put("/a", json={"why": "forbidden"})) == (403, "forbidden", "no")
    for more in ({}, {"new_edits": False}):
        docs = [{"_id": id, "why": why} | ({"_rev": "1-a"} if more else {}) for id, why in VALIDATED.items()]
        answer = (await db.post("/_bulk_docs", json={"docs": docs, **more})).json()
        assert {row["id"]: (row["error"], row["reason"]) for row in answer} == {
            id: (why, "no") for id, why in VALIDATED.items()
        }
