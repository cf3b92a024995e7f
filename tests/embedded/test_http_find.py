from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest


@pytest.fixture(autouse=True)
async def documents(http: httpx.AsyncClient) -> None:
    docs: list[dict[str, Any]] = [
        {"_id": f"d{n:02}", "n": n, "kind": "even" if n % 2 == 0 else "odd", "at": {"x": n, "y": -n}} for n in range(40)
    ]
    await http.post("_bulk_docs", json={"docs": [*docs, {"_id": "_design/x", "n": 1}, {"_id": "e", "n": "text"}]})


async def find(http: httpx.AsyncClient, **query: object) -> dict[str, Any]:
    response = await http.post("_find", json=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_matches_come_in_order_of_their_ids_25_at_first(http: httpx.AsyncClient) -> None:
    found = await find(http, selector={"n": {"$gte": 0}})
    assert [doc["_id"] for doc in found["docs"]] == [f"d{n:02}" for n in range(25)]
    assert "_rev" in found["docs"][0]
    assert "No matching index" in found["warning"]


async def test_a_bookmark_goes_on_where_the_page_ended(http: httpx.AsyncClient) -> None:
    seen: list[str] = []
    bookmark = "nil"
    while True:
        found = await find(http, selector={"kind": "odd"}, limit=7, bookmark=bookmark)
        if not found["docs"]:
            break
        seen += [doc["_id"] for doc in found["docs"]]
        bookmark = found["bookmark"]
    assert seen == [f"d{n:02}" for n in range(1, 40, 2)]


async def test_fields_skip_and_limit(http: httpx.AsyncClient) -> None:
    found = await find(http, selector={"kind": "odd"}, fields=["_id", "at.x", "nothing"], skip=2, limit=2)
    assert found["docs"] == [{"_id": "d05", "at": {"x": 5}}, {"_id": "d07", "at": {"x": 7}}]


async def test_a_sort_needs_an_index_and_then_sorts(http: httpx.AsyncClient) -> None:
    query = {"selector": {"kind": "even"}, "sort": [{"n": "desc"}], "limit": 3}
    refused = await http.post("_find", json=query)
    assert (refused.status_code, refused.json()["error"]) == (400, "no_usable_index")
    made = (await http.post("_index", json={"index": {"fields": ["n"]}, "ddoc": "by-n", "name": "n"})).json()
    assert made == {"result": "created", "id": "_design/by-n", "name": "n"}
    again = await http.post("_index", json={"index": {"fields": ["n"]}, "ddoc": "by-n", "name": "n"})
    assert again.json()["result"] == "exists"
    found = await find(http, **query)
    assert [doc["n"] for doc in found["docs"]] == [38, 36, 34]
    found = await find(http, **query, bookmark=found["bookmark"])
    assert [doc["n"] for doc in found["docs"]] == [32, 30, 28]
    everything = await find(http, selector={}, sort=["n"], limit=100)
    assert [doc["n"] for doc in everything["docs"]] == [*range(40), "text"]


async def test_ids_sort_both_ways_without_an_index(http: httpx.AsyncClient) -> None:
    found = await find(http, selector={"n": {"$lt": 3}}, sort=[{"_id": "desc"}])
    assert [doc["_id"] for doc in found["docs"]] == ["d02", "d01", "d00"]


async def test_indexes_are_listed_and_removed(http: httpx.AsyncClient) -> None:
    await http.post("_index", json={"index": {"fields": ["n", {"kind": "asc"}]}, "ddoc": "a", "name": "b"})
    listed = (await http.get("_index")).json()
    assert listed["total_rows"] == 2
    assert listed["indexes"][0]["name"] == "_all_docs"
    assert listed["indexes"][1]["def"]["fields"] == [{"n": "asc"}, {"kind": "asc"}]
    explained = (await http.post("_explain", json={"selector": {"n": 1, "kind": "odd"}})).json()
    assert (explained["dbname"], explained["index"]["name"]) == ("db", "b")
    assert (explained["opts"]["limit"], explained["opts"]["fields"]) == (25, "all_fields")
    assert (await http.delete("_index/a/json/b")).json() == {"ok": True}
    assert (await http.delete("_index/_design/a/json/b")).status_code == 404
    await http.post("_index", json={"index": {"fields": ["n"]}, "ddoc": "a", "name": "b"})
    assert (await http.delete("_index/_design/a/json/b")).json() == {"ok": True}
    assert (await http.get("_index")).json()["total_rows"] == 1


async def test_fields_that_the_selector_holds_constant_may_precede_those_of_the_sort(http: httpx.AsyncClient) -> None:
    await http.post("_index", json={"index": {"fields": ["kind", "n"]}})
    for kind, status in (("odd", 200), ({"$eq": "odd"}, 200), ({"$gt": None}, 400)):
        answer = await http.post("_find", json={"selector": {"kind": kind}, "sort": ["n"]})
        assert answer.status_code == status, kind


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "missing_required_key"),
        ({"index": {"fields": ["n"]}, "x": 1}, 400, "invalid_key"),
        ({"index": 7}, 400, "invalid_index"),
        ({"index": {"fields": []}}, 400, "invalid_index"),
        ({"index": {"fields": ["n"]}, "name": 7}, 400, "invalid_string"),
        ({"index": {"fields": ["n"]}, "type": "odd"}, 400, "invalid_index"),
        ({"index": {"fields": ["n"]}, "type": "text"}, 501, "not_implemented"),
        ({"index": {"fields": ["n"], "partial_filter_selector": {}}}, 501, "not_implemented"),
    ],
)
async def test_an_index_that_cannot_be_is_refused(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, error: str
) -> None:
    answer = await http.post("_index", json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_conflicts_and_statistics_come_when_asked_for(http: httpx.AsyncClient) -> None:
    docs = [{"_id": "c", "_rev": f"1-{d}", "kind": "c"} for d in "ab"]
    await http.post("_bulk_docs", json={"docs": docs, "new_edits": False})
    found = await find(http, selector={"kind": "c"}, conflicts=True, execution_stats=True)
    assert found["docs"] == [{"_id": "c", "_rev": "1-b", "kind": "c", "_conflicts": ["1-a"]}]
    assert found["execution_stats"]["results_returned"] == 1


async def test_a_runaway_pattern_is_refused_and_hinders_nobody(http: httpx.AsyncClient) -> None:
    await http.put("slow", json={"text": "a" * 60 + "!"})
    running = asyncio.ensure_future(http.post("_find", json={"selector": {"text": {"$regex": "^(a+)+$"}}}))
    assert (await http.get("d01")).status_code == 200
    response = await asyncio.wait_for(running, 20)
    assert (response.status_code, response.json()["error"]) == (400, "bad_arg")
