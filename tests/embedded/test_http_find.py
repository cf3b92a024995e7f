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
    found = await find(http, selector={"n": {"$lt": 3}, "_id": {"$gt": None}}, sort=[{"_id": "desc"}])
    assert [doc["_id"] for doc in found["docs"]] == ["d02", "d01", "d00"]
    refused = await http.post("_find", json={"selector": {"n": {"$lt": 3}}, "sort": ["_id"]})  # as CouchDB does
    assert (refused.status_code, refused.json()["error"]) == (400, "no_usable_index")


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


async def index(http: httpx.AsyncClient, *fields: Any, ddoc: str = "i", **more: Any) -> dict[str, Any]:
    """Make an index."""
    partial = {"partial_filter_selector": more.pop("partial")} if "partial" in more else {}
    body = {"index": {"fields": fields, **partial}, "ddoc": ddoc, **more}
    answer = await http.post("_index", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_index_is_a_view_in_a_design_document(http: httpx.AsyncClient) -> None:
    assert (await index(http, "n", ddoc="d", name="one"))["result"] == "created"
    assert (await index(http, {"kind": "desc"}, ddoc="_design/d", name="two"))["id"] == "_design/d"
    design = (await http.get("_design/d")).json()
    assert (design["language"], list(design["views"])) == ("query", ["one", "two"])
    assert design["views"]["one"] == {
        "map": {"fields": {"n": "asc"}, "partial_filter_selector": {}},
        "reduce": "_count",
        "options": {"def": {"fields": ["n"]}},
    }
    assert (await index(http, "n", ddoc="d", name="one"))["result"] == "exists"
    assert (await http.get("_design/d")).json()["_rev"] == design["_rev"]
    assert (await http.delete("_index/d/json/one")).json() == {"ok": True}
    assert list((await http.get("_design/d")).json()["views"]) == ["two"]
    assert (await http.delete("_index/d/json/two")).json() == {"ok": True}
    assert (await http.get("_design/d")).json()["reason"] == "deleted"
    assert (await index(http, "n", ddoc="d"))["result"] == "created"


async def test_indexes_without_names_are_named_by_what_they_are(http: httpx.AsyncClient) -> None:
    first = (await http.post("_index", json={"index": {"fields": ["n"]}})).json()
    assert first["id"] == f"_design/{first['name']}"
    assert (await http.post("_index", json={"index": {"fields": ["n"]}})).json() == {**first, "result": "exists"}
    other = (await http.post("_index", json={"index": {"fields": ["n"]}, "name": "other"})).json()
    assert (other["name"], other["result"]) == ("other", "created")
    assert other["id"] != first["id"]


async def test_a_design_document_that_is_written_makes_an_index_too(http: httpx.AsyncClient) -> None:
    views = {
        "i": {"map": {"fields": {"n": "asc"}}, "reduce": "_count", "options": {"def": {"fields": ["n"]}}},
        "odd": {"map": {"fields": {}}, "options": {}},
        "bare": {"map": {"fields": {"n": "asc"}}},
    }
    assert (await http.put("_design/q", json={"language": "query", "views": views})).status_code == 201
    assert [one["name"] for one in (await http.get("_index")).json()["indexes"]] == ["_all_docs", "i"]
    assert "warning" not in await find(http, selector={"n": {"$gte": 38}})


async def test_an_index_gives_the_order_without_a_sort(http: httpx.AsyncClient) -> None:
    await index(http, "at.y")
    seen: list[int] = []
    bookmark = "nil"
    while (page := await find(http, selector={"at.y": {"$lt": -30}}, limit=4, bookmark=bookmark))["docs"]:
        seen += [doc["at"]["y"] for doc in page["docs"]]
        bookmark = page["bookmark"]
    assert seen == list(range(-39, -30))


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ({"n": 1}, "n"),
        ({"n": 1, "kind": "odd"}, "kind-n"),
        ({"$and": [{"n": {"$gt": 1}}, {"kind": "odd"}]}, "kind-n"),
        ({"n": {"$in": [1]}}, "n"),
        ({"$or": [{"n": 1}, {"n": 2}]}, "n"),
        ({"$or": [{"n": 1}, {"kind": "odd"}]}, "_all_docs"),
        ({"kind": "odd"}, "_all_docs"),
        ({"n": {"$exists": False}}, "_all_docs"),
        ({"$nor": [{"n": {"$gt": 3}}]}, "n"),
    ],
)
async def test_the_index_is_the_one_that_couchdb_takes(
    http: httpx.AsyncClient, selector: dict[str, Any], name: str
) -> None:
    await index(http, "n", ddoc="b", name="n")
    await index(http, "kind", "n", ddoc="a", name="kind-n")
    explained = (await http.post("_explain", json={"selector": selector})).json()
    assert explained["index"]["name"] == name


async def test_a_sort_goes_after_columns_that_have_one_value(http: httpx.AsyncClient) -> None:
    await index(http, "kind", "n")
    found = await find(http, selector={"kind": "odd"}, sort=[{"n": "desc"}], limit=2)
    assert [doc["n"] for doc in found["docs"]] == [39, 37]
    refused = await http.post("_find", json={"selector": {"kind": {"$gt": "a"}}, "sort": ["n"]})
    assert refused.json()["error"] == "no_usable_index"


async def test_a_named_index_is_taken_when_it_serves_the_query(http: httpx.AsyncClient) -> None:
    await index(http, "n", ddoc="a", name="x")
    await index(http, "n", ddoc="b", name="y")
    for named in ("b", "_design/b", ["b", "y"]):
        body = {"selector": {"n": 1}, "use_index": named}
        assert (await http.post("_explain", json=body)).json()["index"]["ddoc"] == "_design/b"
        assert "warning" not in await find(http, **body)
    found = await find(http, selector={"n": 1}, use_index="none")
    assert found["warning"].startswith("_design/none was not used")


async def test_a_partial_index_serves_only_those_who_name_it(http: httpx.AsyncClient) -> None:
    await index(http, "n", ddoc="p", partial={"kind": "even"})
    assert "No matching index" in (await find(http, selector={"n": {"$lt": 4}}))["warning"]
    found = await find(http, selector={"n": {"$lt": 4}}, use_index="p")
    assert [doc["n"] for doc in found["docs"]] == [0, 2]
    listed = (await http.get("_index")).json()["indexes"][1]
    assert listed["def"] == {"fields": [{"n": "asc"}], "partial_filter_selector": {"kind": "even"}}


async def test_indexes_are_listed_in_pages_and_removed_by_their_design_documents(http: httpx.AsyncClient) -> None:
    for ddoc in ("a", "b", "c"):
        await index(http, "n", ddoc=ddoc, name="n")
    await index(http, "kind", ddoc="c", name="kind")
    page = (await http.get("_index", params={"skip": 2, "limit": 2})).json()
    assert (page["total_rows"], [one["ddoc"] for one in page["indexes"]]) == (5, ["_design/b", "_design/c"])
    assert (await http.get("_index", params={"limit": 0})).status_code == 400
    removed = (await http.post("_index/_bulk_delete", json={"docids": ["a", "_design/b", "c", "none"]})).json()
    assert removed == {
        "success": [{"id": "_design/b", "ok": True}, {"id": "_design/a", "ok": True}],
        "fail": [{"id": "_design/none", "error": "not_found"}, {"id": "_design/c", "error": "not_found"}],
    }
    assert (await http.get("_index")).json()["total_rows"] == 3
    assert (await http.post("_index/_bulk_delete", json={"docids": "a"})).status_code == 400


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
        ({"index": {"fields": ["n"], "partial_filter_selector": 7}}, 400, "invalid_selector_json"),
        ({"index": {"fields": ["n"], "odd": 1}}, 400, "invalid_key"),
        ({"index": {"fields": [{"a": "asc"}, {"b": "desc"}]}}, 400, "unsupported_mixed_sort"),
        ({"index": {"fields": ["n"]}, "ddoc": "x"}, 400, "invalid_ddoc_lang"),
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
