from __future__ import annotations

import json

import httpx
import pytest

IDS = ["B", "_design/x", "a", "a/b", "aa", "b", "ä", "€", "😀"]


@pytest.fixture(autouse=True)
async def documents(http: httpx.AsyncClient) -> None:
    rows = (await http.post("_bulk_docs", json={"docs": [{"_id": id, "n": len(id)} for id in [*IDS, "gone"]]})).json()
    await http.delete("gone", params={"rev": rows[-1]["rev"]})


async def ids(http: httpx.AsyncClient, **params: object) -> list[str]:
    encoded = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    response = await http.get("_all_docs", params=encoded)
    assert response.status_code == 200, response.text
    return [row["id"] for row in response.json()["rows"]]


async def test_live_documents_are_listed_in_the_order_of_their_bytes(http: httpx.AsyncClient) -> None:
    assert await ids(http) == sorted(IDS, key=str.encode)
    body = (await http.get("_all_docs")).json()
    assert (body["total_rows"], body["offset"]) == (len(IDS), 0)
    assert set(body["rows"][0]) == {"id", "key", "value"}


async def test_ranges_in_both_spellings_and_directions(http: httpx.AsyncClient) -> None:
    assert await ids(http, startkey='"a"', endkey='"b"') == ["a", "a/b", "aa", "b"]
    assert await ids(http, start_key='"a"', end_key='"b"', inclusive_end=False) == ["a", "a/b", "aa"]
    assert await ids(http, startkey='"b"', endkey='"a"', descending=True) == ["b", "aa", "a/b", "a"]
    assert await ids(http, startkey='"b"', endkey='"a"', descending=True, inclusive_end=False) == ["b", "aa", "a/b"]
    assert await ids(http, key='"aa"') == ["aa"]
    assert await ids(http, startkey="null", endkey="{}") == sorted(IDS, key=str.encode)
    assert await ids(http, startkey="[]", endkey="7") == sorted(IDS, key=str.encode)
    assert await ids(http, key="7") == sorted(IDS, key=str.encode)
    assert await ids(http, startkey="7", startkey_docid="b", end_key_doc_id="ä") == ["b", "ä"]
    assert await ids(http, key='"aa"', inclusive_end=False) == []


async def test_a_range_that_can_match_nothing_is_empty(http: httpx.AsyncClient) -> None:
    assert await ids(http, startkey='"b"', endkey='"a"') == []


async def test_skip_limit_and_offset(http: httpx.AsyncClient) -> None:
    body = (await http.get("_all_docs", params={"startkey": '"a"', "skip": 1, "limit": 2})).json()
    assert [row["id"] for row in body["rows"]] == ["a/b", "aa"]
    assert body["offset"] == 3
    assert await ids(http, limit=0) == []


async def test_keys_are_answered_one_by_one(http: httpx.AsyncClient) -> None:
    body = (await http.post("_all_docs", json={"keys": ["b", "nobody", "gone", "b", 7], "include_docs": True})).json()
    b, nobody, gone, again, number = body["rows"]
    assert (b["doc"]["n"], again) == (1, b)
    assert nobody == {"key": "nobody", "error": "not_found"}
    assert (gone["value"]["deleted"], gone["doc"]) == (True, None)
    assert number == {"key": 7, "error": "not_found"}
    assert await ids(http, keys=["b", "a"], descending=True) == ["a", "b"]
    assert await ids(http, keys=["b", "a", "aa"], skip=1, limit=1) == ["a"]


async def test_documents_and_update_seq_come_along(http: httpx.AsyncClient) -> None:
    params = {"include_docs": "true", "update_seq": "true", "key": '"aa"'}
    body = (await http.get("_all_docs", params=params)).json()
    assert body["rows"][0]["doc"]["n"] == 2
    assert body["update_seq"].partition("-")[0] == str(len(IDS) + 2)


async def test_several_queries_in_one_request(http: httpx.AsyncClient) -> None:
    queries = [{"keys": ["a"]}, {"startkey": "b", "limit": 1}, {"limit": 0}]
    results = (await http.post("_all_docs/queries", json={"queries": queries})).json()["results"]
    assert [[row["id"] for row in result["rows"]] for result in results] == [["a"], ["b"], []]


async def test_design_documents_are_listed_alone(http: httpx.AsyncClient) -> None:
    body = (await http.get("_design_docs")).json()
    assert ([row["id"] for row in body["rows"]], body["total_rows"]) == (["_design/x"], 1)


async def test_long_listings_come_complete(http: httpx.AsyncClient) -> None:
    await http.post("_bulk_docs", json={"docs": [{"_id": f"z{n:05}"} for n in range(2_500)]})
    assert await ids(http, startkey='"z"', endkey='"zz"') == [f"z{n:05}" for n in range(2_500)]
    assert await ids(http, startkey='"zz"', endkey='"z"', descending=True, limit=1_200, skip=10) == [
        f"z{n:05}" for n in range(2_489, 1_289, -1)
    ]


@pytest.mark.parametrize(
    "params",
    [
        {"limit": "x"},
        {"skip": "-1"},
        {"descending": "1"},
        {"key": "not json"},
        {"keys": "7"},
        {"reduce": "true"},
        {"keys": '["a"]', "startkey": '"a"'},
    ],
)
async def test_wrong_parameters_are_refused(http: httpx.AsyncClient, params: dict[str, str]) -> None:
    assert (await http.get("_all_docs", params=params)).status_code == 400
