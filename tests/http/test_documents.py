"""Documents over a real port."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import NotFound
from gateway.queries import DocumentQuery
from tests.http.conftest import ANN, BOB, Ports


async def test_a_document_is_stored_read_changed_and_deleted_in_couchdbs_form(gateway: Ports) -> None:
    created = await gateway.ann.put("/notes/a", json={"text": "one"})
    rev = created.json()["rev"]
    assert created.status_code == 201
    assert created.content == b'{"ok":true,"id":"a","rev":"%b"}\n' % rev.encode()
    assert created.headers["etag"] == f'"{rev}"'
    assert created.headers["location"] == str(gateway.ann.base_url) + "/notes/a"
    assert created.headers["content-type"] == "application/json"
    assert created.headers["cache-control"] == "must-revalidate"
    assert created.headers["server"].startswith("CouchGateway/")
    read = await gateway.ann.get("/notes/a")
    assert (read.status_code, read.json()) == (200, {"_id": "a", "_rev": rev, "text": "one"})
    assert read.headers["etag"] == f'"{rev}"'
    changed = await gateway.ann.put("/notes/a", json={"_rev": rev, "text": "two"})
    assert changed.status_code == 201
    deleted = await gateway.ann.delete("/notes/a", params={"rev": changed.json()["rev"]})
    assert (deleted.status_code, deleted.json()["ok"]) == (200, True)
    assert "location" not in deleted.headers
    gone = await gateway.ann.get("/notes/a")
    assert (gone.status_code, gone.json()) == (404, {"error": "not_found", "reason": "deleted", "code": "CG4001"})


async def test_head_has_the_headers_and_no_body(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={"text": "one"})
    read, head = await gateway.ann.get("/notes/a"), await gateway.ann.head("/notes/a")
    assert head.content == b""
    assert head.headers["etag"] == read.headers["etag"]
    assert head.headers["content-length"] == str(len(read.content))
    missing = await gateway.ann.head("/notes/b")
    assert (missing.status_code, missing.content) == (404, b"")


async def test_a_client_that_holds_the_revision_gets_304(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={})
    tag = (await gateway.ann.get("/notes/a")).headers["etag"]
    for header in (tag, f'"1-other", {tag}', f"W/{tag}", "*"):
        same = await gateway.ann.get("/notes/a", headers={"If-None-Match": header})
        assert (same.status_code, same.content) == (304, b"")
    other = await gateway.ann.get("/notes/a", headers={"If-None-Match": '"1-other"'})
    assert other.status_code == 200


async def test_there_is_no_etag_when_members_can_change_without_the_revision(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={})
    answer = await gateway.ann.get("/notes/a", params={"conflicts": "true"})
    assert "etag" not in answer.headers


async def test_the_revision_comes_from_the_query_if_match_or_the_body(gateway: Ports) -> None:
    rev = (await gateway.ann.put("/notes/a", json={})).json()["rev"]
    rev = (await gateway.ann.put("/notes/a", json={"n": 1}, params={"rev": rev})).json()["rev"]
    rev = (await gateway.ann.put("/notes/a", json={"n": 2}, headers={"If-Match": f'"{rev}"'})).json()["rev"]
    assert (await gateway.ann.put("/notes/a", json={"n": 3, "_rev": rev})).status_code == 201


async def test_two_places_that_name_different_revisions_are_refused(gateway: Ports) -> None:
    asks: list[dict[str, Any]] = [
        {"params": {"rev": "1-aa"}, "json": {"_rev": "1-bb"}},
        {"headers": {"If-Match": "1-aa"}, "json": {"_rev": "1-bb"}},
        {"headers": {"If-Match": "1-aa"}, "params": {"rev": "1-bb"}, "json": {}},
    ]
    for ask in asks:
        answer = await gateway.ann.put("/notes/a", **ask)
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert not gateway.db.docs


@pytest.mark.parametrize("rev", ["x", "1", "1-", "0-a", "-1-a", "1-ä", "1-a b", ""])
async def test_a_malformed_revision_is_a_bad_request(gateway: Ports, rev: str) -> None:
    for answer in (
        await gateway.ann.get("/notes/a", params={"rev": rev}),
        await gateway.ann.put("/notes/a", params={"rev": rev}, json={}),
        await gateway.ann.put("/notes/a", json={"_rev": rev}),
        await gateway.ann.delete("/notes/a", params={"rev": rev}),
    ):
        assert answer.status_code == 400
        assert "rev" in answer.json()["reason"]


async def test_conflicts_and_refusals_have_their_status(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={})
    conflict = await gateway.ann.put("/notes/a", json={})
    assert (conflict.status_code, conflict.json()["error"]) == (409, "conflict")
    assert conflict.json()["reason"] == "Document update conflict."
    refused = await gateway.ann.put("/notes/b", json={"refuse": "forbidden"})
    assert (refused.status_code, refused.json()) == (
        403,
        {"error": "forbidden", "reason": "sg wrong user", "code": "CG5000"},
    )
    unauthorized = await gateway.ann.put("/notes/b", json={"refuse": "unauthorized"})
    assert (unauthorized.status_code, unauthorized.json()["reason"]) == (401, "not you")
    assert "www-authenticate" not in unauthorized.headers  # another login would not help
    assert (gateway.traffic.documents_written, gateway.traffic.documents_refused) == (1, 3)


async def test_what_may_not_be_read_is_403(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={"owners": ["ann"]})
    answer = await gateway.public.get("/notes/a", auth=BOB)
    assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")


async def test_deleting_without_a_revision_is_404_or_409_and_stores_nothing(gateway: Ports) -> None:
    missing = await gateway.ann.delete("/notes/a")
    assert (missing.status_code, missing.json()["reason"]) == (404, "missing")
    await gateway.ann.put("/notes/a", json={})
    assert (await gateway.ann.delete("/notes/a")).status_code == 409
    assert len(gateway.db.docs["a"]) == 1


async def test_deleting_what_one_may_not_read_is_left_to_the_write(gateway: Ports) -> None:
    rev = (await gateway.ann.put("/notes/a", json={"owners": ["ann"]})).json()["rev"]
    without = await gateway.public.delete("/notes/a", auth=BOB)
    assert without.status_code == 409
    with_rev = await gateway.public.delete("/notes/a", params={"rev": rev}, auth=BOB)
    assert with_rev.status_code == 200


async def test_a_stored_write_that_is_not_routed_yet_is_202(gateway: Ports) -> None:
    gateway.db.routed = False
    assert (await gateway.ann.put("/notes/a", json={})).status_code == 202
    bulk = await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": "b"}]})
    assert (bulk.status_code, bulk.json()[0]["accepted"]) == (202, True)


async def test_batch_ok_is_202_without_a_revision(gateway: Ports) -> None:
    answer = await gateway.ann.put("/notes/a", params={"batch": "ok"}, json={})
    assert (answer.status_code, answer.json()) == (202, {"ok": True, "id": "a"})
    assert "a" in gateway.db.docs


async def test_new_edits_false_keeps_the_given_revision(gateway: Ports) -> None:
    body = {"_rev": "3-c", "_revisions": {"start": 3, "ids": ["c", "b", "a"]}}
    answer = await gateway.ann.put("/notes/a", params={"new_edits": "false"}, json=body)
    assert (answer.status_code, answer.json()["rev"]) == (201, "3-c")
    assert gateway.db.last("write")[2] is False


async def test_post_makes_an_id_where_there_is_none(gateway: Ports) -> None:
    answer = await gateway.ann.post("/notes", json={"text": "x"})
    made = answer.json()["id"]
    assert (answer.status_code, len(made)) == (201, 32)
    assert answer.headers["location"] == f"{gateway.ann.base_url}/notes/{made}"
    for wrong in ("", None, 5):
        refused = await gateway.ann.post("/notes", json={"_id": wrong})
        assert (refused.status_code, refused.json()["error"]) == (400, "illegal_docid")
    assert (await gateway.ann.post("/notes", json=[])).json()["reason"] == "Document must be a JSON object"
    named = await gateway.ann.post("/notes/", json={"_id": "mine"})
    assert named.json()["id"] == "mine"


async def test_the_id_of_the_path_wins_over_that_of_the_body(gateway: Ports) -> None:
    assert (await gateway.ann.put("/notes/a", json={"_id": "b"})).json()["id"] == "a"
    wrong = await gateway.ann.put("/notes/a", json={"_id": 5})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "illegal_docid")


async def test_the_options_of_reading_reach_the_database(gateway: Ports) -> None:
    gateway.db.raises = NotFound()
    await gateway.ann.get("/notes/a?rev=1-a&revs=true&latest=true&attachments=true&local_seq=true&meta=true&w=3&x=y")
    query = gateway.db.last("document")[2]
    assert query == DocumentQuery(
        rev="1-a",
        revs=True,
        revs_info=True,
        conflicts=True,
        deleted_conflicts=True,
        local_seq=True,
        latest=True,
        attachments=True,
    )


@pytest.mark.parametrize("name", ["revs", "conflicts", "latest", "attachments", "meta"])
async def test_a_wrong_boolean_is_named_with_its_value(gateway: Ports, name: str) -> None:
    answer = await gateway.ann.get("/notes/a", params={name: "yes"})
    assert (answer.status_code, answer.json()["error"]) == (400, "query_parse_error")
    assert name in answer.json()["reason"]
    assert '"yes"' in answer.json()["reason"]


async def test_open_revs_lists_found_and_missing_revisions(gateway: Ports) -> None:
    rev = (await gateway.ann.put("/notes/a", json={})).json()["rev"]
    answer = await gateway.ann.get("/notes/a", params={"open_revs": f'["{rev}","9-f"]'})
    assert answer.json() == [{"ok": {"_id": "a", "_rev": rev}}, {"missing": "9-f"}]
    everything = await gateway.ann.get("/notes/a", params={"open_revs": "all"})
    assert everything.json() == [{"ok": {"_id": "a", "_rev": rev}}]
    assert (await gateway.ann.get("/notes/b", params={"open_revs": "all"})).status_code == 404


@pytest.mark.parametrize("value", ["", "x", "5", "{}", "[1]", '["x"]', "null", '["1-a"'])
async def test_malformed_open_revs_are_a_bad_request(gateway: Ports, value: str) -> None:
    answer = await gateway.ann.get("/notes/a", params={"open_revs": value})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "bad_request"),
        (b"{", "bad_request"),
        (b"{}x", "bad_request"),
        (b'{"a":NaN}', "bad_request"),
        (b'{"a":1e999}', "bad_request"),
        (b'{"a":"\\ud800"}', "bad_request"),
        (b"\xff{}", "bad_request"),
        (b"[]", "bad_request"),
        (b'"x"', "bad_request"),
        (b"null", "bad_request"),
        (b"[" * 100_000, "bad_request"),
        (b'{"a":' * 600 + b"1" + b"}" * 600, "bad_request"),
        (b'{"_nonsense":1}', "doc_validation"),
        (b'{"_deleted":1}', "doc_validation"),
    ],
)
async def test_a_malformed_document_is_refused_and_nothing_is_stored(gateway: Ports, body: bytes, error: str) -> None:
    for answer in (
        await gateway.ann.put("/notes/a", content=body),
        await gateway.ann.post("/notes", content=body, headers={"Content-Type": "application/json"}),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, error)
        assert set(answer.json()) == {"error", "reason", "code"}
    assert not gateway.db.docs


async def test_a_post_that_is_not_said_to_be_json_is_415(gateway: Ports) -> None:
    for path in ("/notes", "/notes/_bulk_docs", "/notes/_bulk_get", "/notes/_revs_diff", "/notes/_changes"):
        for headers in ({}, {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}):
            answer = await gateway.ann.post(path, content=b"{}", headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (415, "bad_content_type"), path
    said = {"Content-Type": "Application/JSON ; charset=utf-8"}
    assert (await gateway.ann.post("/notes", content=b"{}", headers=said)).status_code == 201


@pytest.mark.parametrize(
    ("path", "doc_id"),
    [
        ("a%2Fb", "a/b"),
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("%C3%A4", "ä"),
        ("%F0%9F%92%A5", "💥"),
        ("a%25", "a%"),
        ("a%3Fb%23c", "a?b#c"),
        ("..%2F..", "../.."),
        ("a%00b", "a\0b"),
        ("a/", "a"),
        ("%22", '"'),
    ],
)
async def test_the_id_in_the_path_is_decoded_exactly_once(gateway: Ports, path: str, doc_id: str) -> None:
    request = f"PUT /notes/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n"
    answer = await gateway.raw(f"{request}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    assert answer.startswith(b"HTTP/1.1 201")
    assert list(gateway.db.docs) == [doc_id]


@pytest.mark.parametrize("path", ["%", "%2", "%zz", "a%ff", "%C3", "%ED%A0%80", "\xff"])
async def test_a_malformed_path_is_a_bad_request(gateway: Ports, path: str) -> None:
    request = f"GET /notes/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1")
    answer = await gateway.raw(request)
    assert answer.partition(b"\r\n")[0].endswith(b" 400 Bad Request")
    assert b'"error":"bad_request"' in answer


async def test_reserved_and_overlong_ids_are_refused(gateway: Ports) -> None:
    reserved = await gateway.ann.put("/notes/_nonsense", json={})
    assert (reserved.status_code, reserved.json()["error"]) == (400, "illegal_docid")
    overlong = await gateway.ann.put("/notes/" + "a" * 7_169, json={})
    assert (overlong.status_code, overlong.json()["error"]) == (400, "illegal_docid")
    in_body = await gateway.ann.post("/notes", json={"_id": "_nonsense"})
    assert (in_body.status_code, in_body.json()["error"]) == (400, "illegal_docid")
    assert (await gateway.public.get("/notes/_nonsense", auth=ANN)).status_code == 404


async def test_a_request_head_over_the_limit_names_it(gateway: Ports) -> None:
    answer = await gateway.raw(b"GET /notes/" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 413 " in answer.partition(b"\r\n")[0]
    assert b"HEADER_BYTES" in answer
