"""`_all_docs` and its options."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.http.all_docs import parse
from gateway.http.params import Options, parse_query
from gateway.queries import AllDocsQuery
from tests.http.conftest import Ports


@pytest.mark.parametrize(
    ("query", "parsed"),
    [
        ("", AllDocsQuery()),
        ("unknown=1&_=2", AllDocsQuery()),
        ("startkey=%22a%22&endkey=%22b%22", AllDocsQuery(start="a", end="b")),
        ("start_key=%22a%22&end_key=%22b%22", AllDocsQuery(start="a", end="b")),
        ("startkey=null", AllDocsQuery()),
        ("key=%22a%22&inclusive_end=false", AllDocsQuery(start="a", end="a")),
        ("inclusive_end=false", AllDocsQuery(inclusive_end=False)),
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
        ("include_docs", "TRUE"),
        ("inclusive_end", ""),
        ("startkey", "a"),
        ("startkey", "5"),
        ("endkey", "[]"),
        ("key", "{}"),
        ("keys", "x"),
        ("keys", "{}"),
        ("reduce", "true"),
        ("group", "true"),
        ("group_level", "1"),
    ],
)
async def test_a_wrong_option_is_named_with_its_value(gateway: Ports, name: str, value: str) -> None:
    answer = await gateway.ann.get("/notes/_all_docs", params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"] in ("query_parse_error", "bad_request")
    assert name in answer.json()["reason"]
    assert not gateway.db.asked


def test_keys_exclude_a_range() -> None:
    for name in ("key", "startkey", "endkey"):
        with pytest.raises(GatewayError, match="incompatible"):
            parse(Options({"keys": "[]", name: '"a"'}))


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
        {"startkey": 5},
        [],
        {"queries": []},
    ],
)
async def test_a_malformed_body_is_refused(gateway: Ports, body: object) -> None:
    answer = await gateway.ann.post("/notes/_all_docs", json=body)
    assert answer.status_code == 400


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
