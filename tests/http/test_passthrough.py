"""What administrators reach of the upstream, and attachments, which are streamed from it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from gateway import limits
from gateway.callers import Caller
from gateway.couch.upstream import UpstreamResponse
from tests.http.conftest import ANN, OPS, Ports
from tests.http.fake import Streamed, upstream_answer


async def test_a_view_is_asked_with_the_same_path_query_and_body(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(
        200, {"rows": []}, {"etag": '"x"', "set-cookie": "a=b", "server": "CouchDB", "www-authenticate": "Basic"}
    )
    answer = await gateway.admin.post(
        "/notes/_design/a%2Fb/_view/by%20name?key=%22a+b%22&stale=ok",
        json={"keys": ["ä"]},
        headers={"Cookie": "secret", "Authorization": "Basic eDp5", "X-Couch-Full-Commit": "true"},
    )
    assert answer.json() == {"rows": []}
    method, path, query, headers, body = gateway.db.last("upstream_request")
    assert (method, path, query) == ("POST", "/_design/a%2Fb/_view/by%20name", "key=%22a+b%22&stale=ok")
    assert body == '{"keys":["ä"]}'.encode()
    assert headers == {"accept": "application/json", "content-type": "application/json", "x-couch-full-commit": "true",
                       "accept-encoding": headers["accept-encoding"]}  # fmt: skip
    assert answer.headers["etag"] == '"x"'
    assert answer.headers["server"].startswith("CouchGateway")
    assert not {"set-cookie", "www-authenticate"} & set(answer.headers)


@pytest.mark.parametrize("path", ["_design%2Fx", "_design/x/", "_design/x"])
async def test_both_spellings_of_a_design_document_are_one(gateway: Ports, path: str) -> None:
    await gateway.admin.get(f"/notes/{path}")
    assert gateway.db.last("upstream_request")[1] == "/_design/x"


@pytest.mark.parametrize("path", ["/notes/_design/..%2F..", "/notes/_design/%2E%2E/_all_dbs", "/notes/_shards/%2e"])
async def test_nothing_leads_out_of_the_database(gateway: Ports, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    await gateway.raw(request, listener="admin")
    for what, value in gateway.db.asked:
        assert what == "upstream_request"
        assert "/../" not in value[1] + "/"
        assert "/./" not in value[1] + "/"


async def test_the_place_of_what_was_stored_upstream_is_told_as_a_place_here(gateway: Ports) -> None:
    gateway.db.upstream_name = "x/notes"
    for said, place in (
        ("http://couch:5984/x%2Fnotes/_design%2Fa", "/notes/_design%2Fa"),
        ("http://couch:5984/prefix/x%2Fnotes/_design%2Fa/b.txt", "/notes/_design%2Fa/b.txt"),
        ("http://couch:5984/elsewhere/a", None),
    ):
        gateway.db.upstream = upstream_answer(201, {"ok": True}, {"location": said})
        answer = await gateway.admin.put("/notes/_design/a", json={})
        expected = None if place is None else f"{gateway.admin.base_url}{place}"
        assert answer.headers.get("location") == expected


async def test_the_rest_of_couchdb_is_asked_as_it_is_by_administrators_only(guarded: Ports) -> None:
    for auth in (None, ANN):
        for path in ("/_active_tasks", "/_node/_local/_config", "/_replicator/_all_docs", "/_scheduler/jobs"):
            assert (await guarded.public.get(path, auth=auth)).status_code == 401
    assert not guarded.catalogue.asked
    answer = await guarded.public.put("/_node/_local/_config/a/b%2Fc?raw=true", json="x", auth=OPS)
    assert answer.json() == {"from": "server"}
    method, path, query, headers, body = guarded.catalogue.asked[-1]
    assert (method, path, query, body) == ("PUT", "/_node/_local/_config/a/b%2Fc", "raw=true", b'"x"')
    assert "authorization" not in headers
    guarded.catalogue.upstream = upstream_answer(201, {"ok": True}, {"location": "http://couch/_replicator/a"})
    put = await guarded.public.put("/_replicator/a", json={}, auth=OPS)
    assert put.headers["location"] == f"{guarded.public.base_url}/_replicator/a"


@pytest.mark.parametrize("path", ["/_node/..%2F..%2Fsecret", "/_node/%2E%2E/secret", "/_replicator/../secret", "/_dbs"])
async def test_no_server_path_leads_to_a_database_that_is_not_served(gateway: Ports, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    answer = await gateway.raw(request, listener="admin")
    for _, asked, *_ in gateway.catalogue.asked:
        assert asked == "/_node/..%2F..%2Fsecret"  # one segment, which no server resolves
    assert gateway.catalogue.asked or answer.split(b" ")[1] in (b"400", b"404")


async def test_the_filter_of_channel_filtered_pulls_can_be_read_by_everybody_and_never_changes(gateway: Ports) -> None:
    first = await gateway.ann.get("/notes/_design/sync_gateway")
    assert first.json()["filters"].keys() == {"bychannel"}
    assert (await gateway.ann.get("/notes/_design%2Fsync_gateway")).content == first.content
    assert not gateway.db.asked


async def test_mango_is_answered_here_for_users_and_passed_on_for_administrators(gateway: Ports) -> None:
    answer = await gateway.ann.post("/notes/_find", json={"selector": {}})
    assert (answer.status_code, answer.json()["bookmark"]) == (200, "nil")
    assert gateway.db.last("find")[1].limit == 25
    await gateway.admin.post("/notes/_find", json={"selector": {}})
    assert gateway.db.last("upstream_request")[:2] == ("POST", "/_find")


async def test_an_upstream_that_refuses_the_gateway_is_no_wrong_login(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(401, {"error": "unauthorized"})
    answer = await gateway.admin.get("/notes/_shards")
    assert (answer.status_code, answer.json()["code"]) == (502, "CG6002")
    content = gateway.db.upstream.content
    assert isinstance(content, Streamed)
    assert content.released.is_set()


async def test_head_releases_the_upstreams_answer(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(200, {"a": 1})
    answer = await gateway.admin.head("/notes/_design/x")
    assert (answer.content, answer.headers["content-length"]) == (b"", "7")
    content = gateway.db.upstream.content
    assert isinstance(content, Streamed)
    assert content.released.is_set()


def attachment(headers: Mapping[str, str], *chunks: bytes | Exception, status: int = 200) -> UpstreamResponse:
    return UpstreamResponse(status, headers, Streamed(chunks))


async def test_an_attachment_is_streamed_with_its_own_headers_and_can_run_no_script(gateway: Ports) -> None:
    gateway.db.upstream = attachment(
        {"content-type": "text/html", "content-length": "6", "etag": '"d"', "accept-ranges": "bytes"}, b"abc", b"def"
    )
    answer = await gateway.ann.get("/notes/a/b/c.html?rev=1-a", headers={"Range": "bytes=0-5"})
    assert (answer.status_code, answer.content) == (200, b"abcdef")
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    caller, doc_id, name, rev, method, headers = gateway.db.last("attachment")
    assert (caller, doc_id, name, rev, method) == (Caller("ann"), "a", "b/c.html", "1-a", "GET")
    assert headers["range"] == "bytes=0-5"
    assert "authorization" not in headers


async def test_ranges_and_unchanged_attachments_keep_their_status(gateway: Ports) -> None:
    gateway.db.upstream = attachment({"content-range": "bytes 0-0/9", "content-length": "1"}, b"a", status=206)
    answer = await gateway.ann.get("/notes/a/b")
    assert (answer.status_code, answer.headers["content-range"]) == (206, "bytes 0-0/9")
    gateway.db.upstream = attachment({"etag": '"d"', "content-length": "9"}, status=304)
    assert (await gateway.ann.get("/notes/a/b")).status_code == 304
    assert (await gateway.ann.get("/notes/a/b")).content == b""


async def test_the_upstreams_refusal_of_an_attachment_has_the_form_of_ours(gateway: Ports) -> None:
    gateway.db.upstream = upstream_answer(404, {"error": "not_found", "reason": "Document is missing attachment"})
    answer = await gateway.ann.get("/notes/a/b")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": "not_found", "reason": "Document is missing attachment", "code": "CG4000"},
    )
    gateway.db.upstream = upstream_answer(401, {"error": "unauthorized", "reason": "the gateway's own login"})
    assert (await gateway.ann.get("/notes/a/b")).status_code == 502
    for broken in (b"", b"<html>", b"[]", b"x" * 100_000):
        gateway.db.upstream = upstream_answer(404, broken)
        assert (await gateway.ann.get("/notes/a/b")).json()["reason"] == "Document is missing attachment"
        content = gateway.db.upstream.content
        assert isinstance(content, Streamed)
        assert content.released.is_set()
    gateway.db.upstream = upstream_answer(416, {"error": "requested_range_not_satisfiable"})
    assert (await gateway.ann.get("/notes/a/b")).status_code == 416


async def test_an_attachment_that_breaks_off_upstream_breaks_off_here(gateway: Ports) -> None:
    login = b"Host: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n"
    gateway.db.upstream = attachment({"content-type": "text/plain"}, b"half", OSError("upstream died"))
    answer = await gateway.raw(b"GET /notes/a/b HTTP/1.1\r\n%b\r\n" % login)
    assert answer.endswith(b"\r\n4\r\nhalf\r\n")  # the chunk, and no end


async def test_attachments_are_written_with_their_type_and_revision(gateway: Ports) -> None:
    put = await gateway.ann.put("/notes/a/b%2Fc?rev=1-a", content=b"\0\xff", headers={"Content-Type": "image/png"})
    assert (put.status_code, put.json()) == (201, {"ok": True, "id": "a", "rev": "1-aa"})
    assert put.headers["location"] == f"{gateway.ann.base_url}/notes/a/b%2Fc"
    told = gateway.db.last("put_attachment")
    assert told == (Caller("ann"), "a", "b/c", "1-a", "image/png", None, 2, b"\0\xff")
    await gateway.ann.put("/notes/a/b", content=b"")
    assert gateway.db.last("put_attachment")[3:] == (None, "application/octet-stream", None, 0, b"")
    packed = gzip.compress(b"as it is")
    await gateway.ann.put("/notes/a/b", content=packed, headers={"Content-Encoding": "GZip"})
    assert gateway.db.last("put_attachment")[5:] == ("gzip", len(packed), packed)
    assert (await gateway.ann.put("/notes/a/b", content=b"", headers={"Content-Encoding": "br"})).status_code == 415
    gone = await gateway.ann.delete("/notes/a/b", headers={"If-Match": '"1-aa"'})
    assert (gone.status_code, gone.json()["rev"]) == (200, "2-bb")
    assert gateway.db.last("delete_attachment") == (Caller("ann"), "a", "b", "1-aa")
    refused = await gateway.ann.put("/notes/a/_b", content=b"")
    assert refused.status_code == 400


async def test_an_attachment_past_the_limit_is_refused_before_or_while_it_comes(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = b"Host: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n"
    said = await gateway.raw(
        b"PUT /notes/a/b HTTP/1.1\r\n%bContent-Length: 1073741825\r\n\r\n" % login, one_answer=True
    )
    assert said.startswith(b"HTTP/1.1 413")
    assert b"limit ATTACHMENT_BYTES" in said
    monkeypatch.setattr("gateway.http.body.limits.ATTACHMENT_BYTES", 10)
    chunks = b"".join(b"5\r\nfive!\r\n" for _ in range(3)) + b"0\r\n\r\n"
    came = await gateway.raw(
        b"PUT /notes/a/b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n" % login + chunks, one_answer=True
    )
    assert came.startswith(b"HTTP/1.1 413")
    assert gateway.db.asked == []


async def test_more_uploads_than_a_process_takes_are_told_to_come_later(gateway: Ports) -> None:
    with ExitStack() as stack:
        for _ in range(limits.UPLOADS_COUNT):
            stack.enter_context(gateway.traffic.upload())
        refused = await gateway.ann.put("/notes/a/b", content=b"x")
        assert (refused.status_code, "limit UPLOADS_COUNT" in refused.json()["reason"]) == (503, True)
        assert refused.headers["Retry-After"] == "1"
    assert (await gateway.ann.put("/notes/a/b", content=b"x")).status_code == 201


async def test_a_client_that_stalls_while_it_sends_an_attachment_is_cut_off(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.BODY_SILENCE_SECONDS", 0.05)
    login = b"Host: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n"
    answer = await gateway.raw(b"PUT /notes/a/b HTTP/1.1\r\n%bContent-Length: 9\r\n\r\nhalf" % login, one_answer=True)
    assert answer.startswith(b"HTTP/1.1 408")
    assert gateway.db.asked == []


async def test_a_client_that_takes_nothing_of_an_answer_is_let_go(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.CLIENT_WRITE_SECONDS", 0.05)
    gateway.db.upstream = attachment({"content-type": "text/plain"}, *[b"x" * 1_000_000] * 200)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"], limit=1)
    writer.write(b"GET /notes/a/b HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n\r\n")
    content = gateway.db.upstream.content
    assert isinstance(content, Streamed)
    await asyncio.wait_for(content.released.wait(), 20)  # though it never read
    writer.close()
