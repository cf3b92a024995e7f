"""`_all_docs` and its options."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.errors import GatewayError, UpstreamUnreachable
from gateway.http.all_docs import parse
from gateway.http.params import Options, parse_query
from gateway.queries import AllDocsQuery
from tests.http.conftest import Ports
from tests.http.fake import upstream_answer


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("", AllDocsQuery()),
        ("unknown=1&_=2", AllDocsQuery()),
        ("startkey=%22a%22&endkey=%22b%22", AllDocsQuery(start="a", end="b")),
        ("start_key=%22a%22&end_key=%22b%22", AllDocsQuery(start="a", end="b")),
        ("startkey=null", AllDocsQuery()),
        ("startkey=5&endkey={}", AllDocsQuery()),
        ("key=[]", AllDocsQuery()),
        ("startkey=5&startkey_docid=a&end_key_doc_id=b", AllDocsQuery(start="a", end="b")),
        ("startkey=%22c%22&start_key_doc_id=a", AllDocsQuery(start="c")),
        ("key=%22a%22&inclusive_end=false", AllDocsQuery(start="a", end="a", inclusive_end=False)),
        ("inclusive_end=false", AllDocsQuery(inclusive_end=False)),
        ("include_docs=TRUE&stable=true&update=lazy&stale=ok&sorted=false", AllDocsQuery(include_docs=True)),
        ("keys=[]&startkey=%22a%22", AllDocsQuery(keys=[], start="a")),
        ("keys=null", AllDocsQuery()),
        ("descending=true&skip=2&limit=0", AllDocsQuery(descending=True, skip=2, limit=0)),
        ("keys=%5B%22a%22%2C1%5D", AllDocsQuery(keys=["a", 1])),
        (
            "include_docs=true&conflicts=true&attachments=true&update_seq=true",
            AllDocsQuery(include_docs=True, conflicts=True, attachments=True, update_seq=True),
        ),
        ("reduce=false", AllDocsQuery()),
        ("limit=1&limit=2", AllDocsQuery(limit=2)),
    ],
)
def test_options_are_read_as_couchdb_writes_them(query: str, parsed: AllDocsQuery) -> None:
    assert parse(Options(parse_query(query))) == parsed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "x"),
        ("limit", "-1"),
        ("limit", "1.5"),
        ("limit", ""),
        ("limit", "9" * 30),
        ("limit", "١"),
        ("skip", "x"),
        ("descending", "1"),
        ("include_docs", "1"),
        ("inclusive_end", ""),
        ("startkey", "a"),
        ("keys", "x"),
        ("keys", "{}"),
        ("reduce", "x"),
        ("reduce", "true"),
        ("group", "true"),
        ("group_level", "1"),
        ("stable", "x"),
        ("update", "x"),
        ("stale", "x"),
        ("sorted", "x"),
        ("partition", "x"),
    ],
)
async def test_a_wrong_option_is_named_with_its_value(gateway: Ports, name: str, value: str) -> None:
    answer = await gateway.ann.get("/notes/_all_docs", params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"] in ("query_parse_error", "bad_request")
    assert name.partition("_level")[0] in answer.json()["reason"].lower()
    assert not gateway.db.asked


def test_keys_exclude_a_range() -> None:
    for name in ("key", "startkey", "endkey"):
        with pytest.raises(GatewayError, match="incompatible"):
            parse(Options({"keys": '["a"]', name: '"a"'}))


async def test_a_body_gives_the_same_options_and_the_query_wins(gateway: Ports) -> None:
    body: dict[str, Any] = {"startkey": "a", "limit": 5, "descending": True, "include_docs": None}
    answer = await gateway.ann.post("/notes/_all_docs", params={"limit": "2"}, json=body)
    assert answer.status_code == 200
    assert gateway.db.last("all_docs")[1] == AllDocsQuery(start="a", limit=2, descending=True)
    await gateway.ann.post("/notes/_all_docs", json={"keys": ["b", "a", 1]})
    assert gateway.db.last("all_docs")[1] == AllDocsQuery(keys=["b", "a", 1])


@pytest.mark.parametrize(
    "body",
    [
        {"keys": "a"},
        {"keys": {}},
        {"limit": "x"},
        {"limit": True},
        {"limit": 1.5},
        {"startkey_docid": 5},
        {"sorted": "x"},
        [],
    ],
)
async def test_a_malformed_body_is_refused(gateway: Ports, body: object) -> None:
    answer = await gateway.ann.post("/notes/_all_docs", json=body)
    assert answer.status_code == 400


async def test_a_listing_has_couchdbs_form(gateway: Ports) -> None:
    empty = await gateway.ann.get("/notes/_design_docs")
    assert empty.content == b'{"total_rows":0,"offset":0,"rows":[\r\n\r\n]}\n'
    for doc_id in ("a", "b"):
        await gateway.ann.put(f"/notes/{doc_id}", json={})
    lines = (await gateway.ann.get("/notes/_all_docs")).content.split(b"\r\n")
    assert (lines[0], lines[-1]) == (b'{"total_rows":2,"offset":0,"rows":[', b"]}\n")
    assert [line.endswith(b",") for line in lines[1:3]] == [True, False]


async def test_several_queries_are_answered_in_one_object(gateway: Ports) -> None:
    await gateway.ann.put("/notes/a", json={})
    for path, what in (("_all_docs", "all_docs"), ("_design_docs", "design_docs"), ("_local_docs", "local_docs")):
        queries = [{"keys": ["a", 1]}, {"start_key": "a", "limit": 3, "descending": True}, {}]
        answer = await gateway.ann.post(f"/notes/{path}/queries?limit=2&include_docs=true", json={"queries": queries})
        assert (answer.status_code, len(answer.json()["results"])) == (200, 3)
        assert answer.content.startswith(b'{"results":[\r\n{"total_rows":')
        assert answer.content.endswith(b"]}\r\n]}\n")
        asked = [value[1] for name, value in gateway.db.asked if name == what]
        assert asked == [
            AllDocsQuery(keys=["a", 1], limit=2, include_docs=True),
            AllDocsQuery(start="a", limit=3, descending=True, include_docs=True),
            AllDocsQuery(limit=2, include_docs=True),
        ]
    none = await gateway.ann.post("/notes/_all_docs/queries", json={"queries": []})
    assert none.json() == {"results": []}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "POST body must include `queries` parameter."),
        ({"queries": None}, 400, "POST body must include `queries` parameter."),
        ({"queries": {}}, 400, "`queries` member must be an array."),
        ({"queries": [5]}, 400, "each of `queries` must be a JSON object"),
        ({"queries": [{}, {"limit": -1}]}, 400, "limit"),
        ({"queries": [{}, {"keys": "a"}]}, 400, "array"),
        ({"queries": [{}] * 1_001}, 413, "LISTING_QUERIES_COUNT"),
        ([], 400, "object"),
    ],
)
async def test_malformed_queries_are_refused_before_anything_is_answered(
    gateway: Ports, body: object, status: int, said: str
) -> None:
    answer = await gateway.ann.post("/notes/_all_docs/queries", json=body)
    assert (answer.status_code, said in answer.json()["reason"]) == (status, True)
    assert not gateway.db.asked
    assert (await gateway.ann.get("/notes/_all_docs/queries")).status_code == 405


async def test_a_listing_that_fails_in_the_middle_never_looks_whole(gateway: Ports) -> None:
    await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": f"d{n:04}"} for n in range(1_203)]})
    gateway.db.breaks = UpstreamUnreachable()
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.ann.get("/notes/_all_docs")
    gateway.db.docs.clear()
    assert (await gateway.ann.get("/notes/_all_docs")).status_code == 503


async def test_administrators_get_couchdbs_own_listing(gateway: Ports) -> None:
    listing = b'{"total_rows":1,"offset":0,"update_seq":"1-x","rows":[\r\n{"id":"_design/x"}\r\n]}\n'
    gateway.db.upstream = upstream_answer(200, listing)
    answer = await gateway.admin.get("/notes/_all_docs?limit=5&startkey=%22a%2Bb%22&update_seq=true")
    assert answer.content == listing
    asked = gateway.db.last("upstream_request")
    assert asked[:3] == ("GET", "/_all_docs", "limit=5&startkey=%22a%2Bb%22&update_seq=true")
    gateway.db.upstream = upstream_answer(200, b'{"results":[]}')
    body = {"queries": [{"update_seq": True, "limit": 1}]}
    await gateway.admin.post("/notes/_all_docs/queries", json=body)
    asked = gateway.db.last("upstream_request")
    assert (asked[1], json.loads(asked[4])) == ("/_all_docs/queries", body)


async def test_too_many_keys_are_413(gateway: Ports) -> None:
    answer = await gateway.ann.post("/notes/_all_docs", json={"keys": ["a"] * 100_001})
    assert (answer.status_code, "KEYS_COUNT" in answer.json()["reason"]) == (413, True)


async def test_many_rows_are_the_same_json_as_few(gateway: Ports) -> None:
    await gateway.ann.post("/notes/_bulk_docs", json={"docs": [{"_id": f"d{n:04}"} for n in range(1_203)]})
    answer = await gateway.ann.get("/notes/_all_docs")
    assert list(answer.json()) == ["total_rows", "offset", "rows"]
    assert [row["id"] for row in answer.json()["rows"]] == [f"d{n:04}" for n in range(1_203)]
    head = await gateway.ann.head("/notes/_all_docs")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("query", ["%", "a=%2", "a=%ff", "a=%ED%A0%80", "&".join(f"a{n}" for n in range(1_001))])
async def test_a_malformed_query_string_is_refused(gateway: Ports, query: str) -> None:
    answer = await gateway.raw(
        f"GET /notes/_all_docs?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"query_parse_error" in answer
