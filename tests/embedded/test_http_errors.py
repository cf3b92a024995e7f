from __future__ import annotations

import base64
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway import limits
from gateway.embedded import EmbeddedServer
from gateway.embedded.http.app import Credentials, serve

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"[]",
        b"7",
        b"null",
        b'{"_id": "a", "x": ' + DEEP.encode() + b"}",
        b'{"_unknown": 1}',
        b'{"_rev": 7}',
        b'{"_rev": "1-"}',
        b'{"_revisions": {"start": 1, "ids": ["a", "b"]}}',
        b'{"_revisions": []}',
        b'{"_deleted": "yes"}',
        b'{"_attachments": []}',
        b'{"_attachments": {"f": 7}}',
        b'{"_attachments": {"f": {"data": "", "content_type": 7}}}',
        b'{"_attachments": {"f": {"data": "", "revpos": "x"}}}',
        b'{"_attachments": {"_f": {"data": ""}}}',
        b'{"_attachments": {"f": {"follows": true}}}',
    ],
)
@pytest.mark.parametrize("path", ["/db/a", "/db", "/db/_bulk_docs", "/db/_local/a"])
async def test_bad_documents_are_client_errors_and_nothing_is_stored(
    root: httpx.AsyncClient, path: str, body: bytes
) -> None:
    await root.put("/db")
    if path.endswith("_bulk_docs"):
        body = b'{"docs": [{"_id": "ok"}, ' + body + b"]}"
    headers = {"content-type": "application/json"}
    response = await root.request(
        "PUT" if path.count("/") > 1 and "_bulk" not in path else "POST", path, content=body, headers=headers
    )
    if path.endswith("_local/a") and b"_revisions" in body and b'"b"' in body:
        assert response.status_code in (201, 400)
    else:
        assert 400 <= response.status_code < 500, response.text
        assert set(response.json()) == {"error", "reason"}
    assert (await root.get("/db")).json()["doc_count"] == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("_bulk_docs", {}),
        ("_bulk_docs", {"docs": {}}),
        ("_bulk_docs", {"docs": [], "new_edits": "no"}),
        ("_bulk_docs", []),
        ("_bulk_get", {}),
        ("_bulk_get", {"docs": 7}),
        ("_bulk_get", {"docs": [7]}),
        ("_revs_diff", {"a": 7}),
        ("_revs_diff", {"a": ["x"]}),
        ("_revs_diff", []),
        ("_purge", {"a": 7}),
        ("_purge", {"a": [7]}),
        ("_purge", {f"d{n}": ["1-a"] for n in range(101)}),
        ("_find", {}),
        ("_find", {"selector": []}),
        ("_find", {"selector": {}, "limit": "x"}),
        ("_find", {"selector": {}, "fields": 7}),
        ("_find", {"selector": {}, "sort": [7]}),
        ("_find", {"selector": {}, "bookmark": "???"}),
        ("_index", {"index": {}}),
        ("_index", {"index": {"fields": [7]}}),
        ("_all_docs", {"keys": 7}),
        ("_all_docs/queries", {}),
        ("_all_docs/queries", {"queries": [7]}),
        ("_changes", {"doc_ids": 7}),
    ],
)
async def test_bodies_of_the_wrong_form_are_refused(http: httpx.AsyncClient, path: str, body: object) -> None:
    response = await http.post(path, json=body)
    assert response.status_code == 400, response.text
    assert set(response.json()) == {"error", "reason"}


async def test_a_body_that_is_not_said_to_be_json_is_refused(http: httpx.AsyncClient) -> None:
    response = await http.post("_bulk_docs", content=b"{}", headers={"content-type": "text/plain"})
    assert (response.status_code, response.json()["error"]) == (415, "bad_content_type")


async def test_a_document_over_the_limit_is_refused_naming_it(http: httpx.AsyncClient) -> None:
    response = await http.put("a", json={"text": "x" * (limits.DOCUMENT_BYTES + 1)})
    assert response.status_code == 413
    assert str(limits.DOCUMENT_BYTES) in response.json()["reason"]
    assert (await http.get("a")).status_code == 404


@pytest.mark.parametrize("length_known", [True, False])
async def test_a_body_over_the_limit_is_refused_naming_it(http: httpx.AsyncClient, length_known: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(limits.BODY_BYTES // 1_000_000 + 1):
            yield b" " * 1_000_000

    headers = {"content-type": "application/json"}
    if length_known:
        headers["content-length"] = str((limits.BODY_BYTES // 1_000_000 + 1) * 1_000_000)
    response = await http.post("_bulk_docs", content=pieces(), headers=headers)
    assert response.status_code == 413
    assert str(limits.BODY_BYTES) in response.json()["reason"]


async def test_gzipped_json_is_unpacked_within_the_limit(http: httpx.AsyncClient) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert (await http.put("a", content=gzip.compress(b'{"n": 1}'), headers=headers)).status_code == 201
    bomb = gzip.compress(b" " * (limits.BODY_BYTES + 1))
    assert (await http.put("b", content=bomb, headers=headers)).status_code == 413
    assert (await http.put("b", content=b"not gzip", headers=headers)).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nodb", 404),
        ("GET", "/nodb/doc", 404),
        ("DELETE", "/nodb", 404),
        ("PUT", "/db", 412),
        ("PUT", "/Upper", 400),
        ("PUT", "/1st", 400),
        ("PUT", "/a%20b", 400),
        ("PATCH", "/db/a", 405),
        ("GET", "/db/_bulk_docs", 405),
        ("GET", "/db/%FF", 400),
        ("GET", "/db/_local", 400),
        ("GET", "/db/_local/a/b", 400),
        ("GET", "/_users", 501),
        ("GET", "/_node/_local/_config", 501),
        ("GET", "/db/_shards", 501),
        ("GET", "/db/_design/x/_list/y", 501),
        ("GET", "/db/a?rev=bad", 400),
        ("GET", "/db/a?open_revs=7", 400),
        ("DELETE", "/db?rev=1-a", 400),
        ("GET", "/_uuids?count=9999", 400),
    ],
)
async def test_what_is_not_there_or_not_possible_says_so(
    http: httpx.AsyncClient, root: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await root.request(method, path)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error", "reason"}


async def test_a_method_that_is_not_allowed_names_those_that_are(http: httpx.AsyncClient) -> None:
    response = await http.request("DELETE", "_revs_limit")
    assert response.headers["allow"] == "GET, HEAD, PUT"
    assert response.json() == {"error": "method_not_allowed", "reason": "Only GET,HEAD,PUT allowed"}


async def test_the_server_answers_for_itself(root: httpx.AsyncClient, http: httpx.AsyncClient) -> None:
    welcome = (await root.get("/")).json()
    assert (welcome["couchdb"], len(welcome["uuid"])) == ("Welcome", 32)
    assert (await root.get("/_up")).json()["status"] == "ok"
    assert (await root.get("/_all_dbs")).json() == ["db"]
    assert (await root.get("/_session")).json()["userCtx"] == {"name": None, "roles": ["_admin"]}
    assert (await root.get("/_active_tasks")).json() == []
    assert len((await root.get("/_uuids", params={"count": "3"})).json()["uuids"]) == 3
    info = (await root.post("/_dbs_info", json={"keys": ["db", "no"]})).json()
    assert (info[0]["info"]["db_name"], info[1]) == ("db", {"key": "no", "error": "not_found"})
    full = await http.post("_ensure_full_commit", json={})
    assert (full.status_code, full.json()["ok"]) == (201, True)
    assert (await http.put("_security", json={"members": {"names": ["me"]}})).status_code == 200
    assert (await http.get("_security")).json() == {"members": {"names": ["me"]}}


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


async def test_a_port_with_a_password_lets_nobody_in_without_it(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    listener = await serve(server, credentials=Credentials("admin", "sécret:x"))
    async with httpx.AsyncClient(base_url=listener.url) as client:
        for header in ("", "Basic !!!", basic("admin", "wrong"), basic("other", "sécret:x"), "Bearer x"):
            response = await client.put("/db", headers={"authorization": header})
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Basic")
        right = basic("admin", "sécret:x")
        assert (await client.put("/db", headers={"authorization": right})).status_code == 201
    await server.close()
    await listener.close()


async def test_hundreds_of_leaves_of_one_document_are_handled(http: httpx.AsyncClient) -> None:
    docs = [{"_id": "a", "_rev": f"2-{n:04}", "_revisions": {"start": 2, "ids": [f"{n:04}", "a"]}} for n in range(500)]
    assert (await http.post("_bulk_docs", json={"docs": docs, "new_edits": False})).json() == []
    rows = (await http.get("a", params={"open_revs": "all"})).json()
    assert len(rows) == 500
    assert (
        len(json.loads((await http.get("_changes", params={"style": "all_docs"})).content)["results"][0]["changes"])
        == 500
    )
