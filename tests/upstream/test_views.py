"""Map/reduce views, which pass through to the upstream as they are."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.couch.upstream import UpstreamDatabase
from tests.upstream.conftest import replicate, store
from tests.upstream.test_databases import content

JSON = {"content-type": "application/json"}
KEYS: list[Any] = [None, False, True, -2, 0, 3.5, 10, "", "a", "A", "b", "Z", [], ["a"], ["a", 1], ["b"], {}, {"a": 1}]


async def request(
    database: UpstreamDatabase, method: str, path: str, *, body: Any = None, **options: Any
) -> tuple[int, Any]:
    """(status, JSON) of a request below the database; options are JSON but for those that are plain words."""
    words = ("startkey_docid", "endkey_docid", "update", "stale")
    query = urlencode({name: value if name in words else json.dumps(value) for name, value in options.items()})
    response = await database.request(
        method, path, query=query, headers=JSON, body=None if body is None else json.dumps(body).encode()
    )
    return response.status, json.loads(await content(response))


async def ask(database: UpstreamDatabase, view: str, **options: Any) -> dict[str, Any]:
    status, answer = await request(database, "GET", f"/_design/x/_view/{view}", **options)
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found


async def rows(database: UpstreamDatabase, view: str, **options: Any) -> list[tuple[Any, Any, Any]]:
    return [(row.get("id"), row["key"], row.get("value")) for row in (await ask(database, view, **options))["rows"]]


def function(body: str) -> str:
    return f"function (doc) {{ {body} }}"


@pytest.fixture
async def views(database: UpstreamDatabase) -> UpstreamDatabase:
    """Documents d00 to d11 with `n`, a group `g` of three and a pair `p`; and the views on them."""
    docs = [{"_id": f"d{n:02}", "n": n, "g": "abc"[n % 3], "p": [n % 2, n % 3, n]} for n in range(12)]
    await store(database, *docs)
    sum_all = "function (keys, values, rereduce) { return sum(values); }"
    design = {
        "_id": "_design/x",
        "views": {
            "n": {"map": function("if (doc.n !== undefined) emit(doc.n, doc.g);")},
            "g": {"map": function("if (doc.g) emit(doc.g, doc.n);"), "reduce": "_sum"},
            "p": {"map": function("if (doc.p) emit(doc.p, doc.n);"), "reduce": sum_all},
            "count": {"map": function("if (doc.g) emit(doc.g, null);"), "reduce": "_count"},
            "stats": {"map": function("if (doc.g) emit(doc.g, doc.n);"), "reduce": "_stats"},
            "key": {"map": function("if ('key' in doc) emit(doc.key, null);")},
            "link": {"map": function("if (doc.n < 2) emit(doc.n, {_id: 'd0' + (doc.n + 5)});")},
            "throws": {"map": function("emit('before', 1); doc.tags.forEach(function (tag) { emit(tag, null); });")},
            "two": {"map": function("if (doc.n === 1) { emit('y', 1); emit('x', 2); }")},
        },
    }
    await store(database, design)
    return database


async def test_rows_have_id_key_and_value_in_the_order_of_keys(views: UpstreamDatabase) -> None:
    answer = await ask(views, "n", limit=2)
    assert list(answer) == ["total_rows", "offset", "rows"]
    assert (answer["total_rows"], answer["offset"]) == (12, 0)
    assert answer["rows"] == [{"id": "d00", "key": 0, "value": "a"}, {"id": "d01", "key": 1, "value": "b"}]
    assert await rows(views, "two") == [("d01", "x", 2), ("d01", "y", 1)]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"key": 3}, [3]),
        ({"startkey": 9}, [9, 10, 11]),
        ({"endkey": 1}, [0, 1]),
        ({"startkey": 3, "endkey": 5}, [3, 4, 5]),
        ({"start_key": 3, "end_key": 5, "inclusive_end": False}, [3, 4]),
        ({"startkey": 5, "endkey": 3, "descending": True}, [5, 4, 3]),
        ({"startkey": 5, "endkey": 3, "descending": True, "inclusive_end": False}, [5, 4]),
        ({"descending": True, "limit": 3, "skip": 1}, [10, 9, 8]),
        ({"skip": 10}, [10, 11]),
        ({"skip": 20}, []),
        ({"limit": 0}, []),
        ({"startkey": "a"}, []),
        ({"keys": [5, 99, 2]}, [5, 2]),
        ({"keys": []}, []),
        ({"startkey": 2.5, "endkey": 3.5}, [3]),
    ],
)
async def test_ranges_keys_and_pages(views: UpstreamDatabase, options: dict[str, Any], ids: list[int]) -> None:
    assert [id for id, _, _ in await rows(views, "n", **options)] == [f"d{n:02}" for n in ids]


async def test_documents_divide_the_rows_of_one_key(views: UpstreamDatabase) -> None:
    options = {"reduce": False, "startkey": "a", "endkey": "b"}
    found = await rows(views, "g", **options, startkey_docid="d06", endkey_docid="d04")
    assert [id for id, _, _ in found] == ["d06", "d09", "d01", "d04"]


async def test_offset_counts_the_rows_before_the_first(views: UpstreamDatabase) -> None:
    for options, offset in (({"startkey": 4}, 4), ({"startkey": 4, "skip": 2}, 6), ({"key": 7}, 7)):
        assert (await ask(views, "n", **options))["offset"] == offset
    assert (await ask(views, "n", startkey=4, descending=True))["offset"] == 7


async def test_keys_of_every_kind_come_in_one_order(views: UpstreamDatabase) -> None:
    await store(views, *({"_id": f"k{number:02}", "key": key} for number, key in enumerate(KEYS)))
    assert [key for _, key, _ in await rows(views, "key")] == KEYS
    assert [key for _, key, _ in await rows(views, "key", descending=True)] == KEYS[::-1]
    assert [key for _, key, _ in await rows(views, "key", startkey="", endkey="\ufff0")] == ["", "a", "A", "b", "Z"]
    assert [key for _, key, _ in await rows(views, "key", startkey=["a"], endkey=["a", {}])] == [["a"], ["a", 1]]


async def test_a_reduce_function_makes_one_row_or_one_for_each_group(views: UpstreamDatabase) -> None:
    assert await ask(views, "g") == {"rows": [{"key": None, "value": 66}]}
    assert await rows(views, "g", group=True) == [(None, "a", 18), (None, "b", 22), (None, "c", 26)]
    assert await rows(views, "g", group=True, descending=True, limit=2) == [(None, "c", 26), (None, "b", 22)]
    assert await rows(views, "g", group=True, skip=2) == [(None, "c", 26)]
    assert await rows(views, "g", startkey="b") == [(None, None, 48)]
    assert await rows(views, "g", key="nothing") == []
    assert await rows(views, "g", keys=["c", "a"], group=True) == [(None, "c", 26), (None, "a", 18)]
    assert len(await rows(views, "g", reduce=False)) == 12


async def test_group_levels_cut_array_keys(views: UpstreamDatabase) -> None:
    assert await rows(views, "p") == [(None, None, 66)]
    assert await rows(views, "p", group_level=1) == [(None, [0], 30), (None, [1], 36)]
    level_2 = await rows(views, "p", group_level=2)
    assert [key for _, key, _ in level_2] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert [value for _, _, value in level_2] == [6, 14, 10, 12, 8, 16]
    assert await rows(views, "p", group_level=9) == await rows(views, "p", group=True)
    assert await rows(views, "p", group_level=1, startkey=[1]) == [(None, [1], 36)]


async def test_count_and_statistics_are_built_in(views: UpstreamDatabase) -> None:
    assert await rows(views, "count", group=True) == [(None, "a", 4), (None, "b", 4), (None, "c", 4)]
    ((_, _, stats),) = await rows(views, "stats", key="b")
    assert stats == {"sum": 22, "count": 4, "min": 1, "max": 10, "sumsqr": 166}


async def test_the_rows_follow_the_documents(views: UpstreamDatabase) -> None:
    found = {doc["_id"]: doc["_rev"] for (doc,) in await views.leaves(["d00", "d01"])}
    assert len(await rows(views, "n")) == 12
    await store(views, {"_id": "d00", "_rev": found["d00"], "_deleted": True}, {"_id": "new", "n": 0.5})
    await store(views, {"_id": "d01", "_rev": found["d01"], "n": 100, "g": "z"})
    assert [key for _, key, _ in await rows(views, "n")] == [0.5, *range(2, 12), 100]
    assert (await ask(views, "n"))["total_rows"] == 12


async def test_the_winning_revision_is_the_one_that_counts(views: UpstreamDatabase) -> None:
    await replicate(views, "c", "1-b", n=200)
    await replicate(views, "c", "1-a", n=300)
    assert await rows(views, "n", startkey=100) == [("c", 200, None)]
    found = await ask(views, "n", startkey=100, include_docs=True, conflicts=True)
    assert found["rows"][0]["doc"] == {"_id": "c", "_rev": "1-b", "n": 200, "_conflicts": ["1-a"]}


async def test_documents_come_along_also_linked_ones(views: UpstreamDatabase) -> None:
    found = await ask(views, "n", key=3, include_docs=True)
    assert (found["rows"][0]["doc"]["_id"], found["rows"][0]["doc"]["n"]) == ("d03", 3)
    linked = await ask(views, "link", include_docs=True)
    assert [(row["id"], row["doc"]["_id"]) for row in linked["rows"]] == [("d00", "d05"), ("d01", "d06")]


async def test_a_document_that_the_map_function_throws_on_has_no_rows(views: UpstreamDatabase) -> None:
    await store(views, {"_id": "t", "tags": ["x"]})
    assert await rows(views, "throws") == [("t", "before", 1), ("t", "x", None)]


async def test_options_come_in_a_body_and_several_queries_in_one(views: UpstreamDatabase) -> None:
    status, answer = await request(views, "POST", "/_design/x/_view/n", body={"keys": [3, 1]})
    assert (status, [row["key"] for row in answer["rows"]]) == (200, [3, 1])
    queries = [{"startkey": 10}, {"key": 2, "include_docs": True}, {"limit": 0}]
    status, answer = await request(views, "POST", "/_design/x/_view/n/queries", body={"queries": queries})
    assert status == 200
    assert [[row["key"] for row in one["rows"]] for one in answer["results"]] == [[10, 11], [2], []]
    assert answer["results"][1]["rows"][0]["doc"]["_id"] == "d02"


@pytest.mark.parametrize(
    ("view", "options", "error"),
    [
        ("n", {"reduce": True}, "query_parse_error"),
        ("n", {"group": True}, "query_parse_error"),
        ("g", {"keys": ["a", "b"]}, "query_parse_error"),
        ("g", {"include_docs": True}, "query_parse_error"),
        ("n", {"startkey": 5, "endkey": 3}, "query_parse_error"),
        ("n", {"limit": "x"}, "query_parse_error"),
        ("n", {"descending": "maybe"}, "query_parse_error"),
        ("n", {"update": "maybe"}, "query_parse_error"),
        ("n", {"keys": [1, 2], "startkey": 1}, "query_parse_error"),
    ],
)
async def test_wrong_options_are_refused(
    views: UpstreamDatabase, view: str, options: dict[str, Any], error: str
) -> None:
    status, answer = await request(views, "GET", f"/_design/x/_view/{view}", **options)
    assert (status, answer["error"]) == (400, error)


async def test_what_is_not_there_is_404(views: UpstreamDatabase) -> None:
    status, answer = await request(views, "GET", "/_design/x/_view/nothing")
    assert (status, answer) == (404, {"error": "not_found", "reason": "missing_named_view"})
    status, answer = await request(views, "GET", "/_design/nothing/_view/n")
    assert (status, answer) == (404, {"error": "not_found", "reason": "missing"})


async def test_a_design_document_whose_function_does_not_compile_is_refused(database: UpstreamDatabase) -> None:
    body = {"views": {"v": {"map": "function (doc) }{"}}}
    status, answer = await request(database, "PUT", "/_design/bad", body=body)
    assert (status, answer["error"]) == (400, "compilation_error")
    assert "map function in the 'v' view" in answer["reason"]
    body = {"views": {"v": {"map": "function () {}", "reduce": "_nothing"}}}
    status, answer = await request(database, "PUT", "/_design/bad", body=body)
    assert (status, answer["error"]) == (400, "invalid_design_doc")


async def test_the_index_tells_about_itself(views: UpstreamDatabase) -> None:
    await ask(views, "n")
    status, info = await request(views, "GET", "/_design/x/_info")
    assert (status, info["name"], info["view_index"]["language"]) == (200, "x", "javascript")
    assert info["view_index"]["updates_pending"]["total"] == 0
    assert len(info["view_index"]["signature"]) == 32
    status, answer = await request(views, "POST", "/_view_cleanup", body={})
    assert (status, answer) == (202, {"ok": True})


async def test_an_old_index_answers_when_no_update_is_wanted(views: UpstreamDatabase) -> None:
    assert len(await rows(views, "n")) == 12
    await store(views, {"_id": "new", "n": 100})
    assert len(await rows(views, "n", update="false")) == 12
    assert len(await rows(views, "n")) == 13
