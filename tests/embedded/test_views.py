from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import limits
from gateway.embedded import EmbeddedServer
from gateway.embedded.http.app import serve
from gateway.embedded.views import index
from gateway.viewfn.engine import ViewLimits

# Tells whether a document was mapped again: the value of a row is another then.
ONCE = "function (doc) { emit(doc.k, Math.random()); }"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    opened = EmbeddedServer(tmp_path / "data", view_limits=ViewLimits(seconds=0.5))
    yield opened
    await opened.close()


async def put(http: httpx.AsyncClient, *docs: dict[str, Any]) -> list[str]:
    """Store documents; their revisions."""
    rows = (await http.post("_bulk_docs", json={"docs": docs})).json()
    assert all(row.get("ok") for row in rows), rows
    return [row["rev"] for row in rows]


async def define(http: httpx.AsyncClient, name: str = "x", rev: str | None = None, /, **views: Any) -> str:
    """Store a design document; a view given as a text has a map function only. Its revision."""
    options = views.pop("options", None)
    body = {"views": {view: {"map": one} if isinstance(one, str) else one for view, one in views.items()}}
    body |= ({} if rev is None else {"_rev": rev}) | ({} if options is None else {"options": options})
    response = await http.put(f"_design/{name}", json=body)
    assert response.status_code == 201, response.text
    return str(response.json()["rev"])


async def ask(http: httpx.AsyncClient, view: str = "x/v", /, **options: Any) -> dict[str, Any]:
    design, _, name = view.partition("/")
    strings = ("startkey_docid", "endkey_docid", "update", "stale")
    params = {key: value if key in strings else json.dumps(value) for key, value in options.items()}
    response = await http.get(f"_design/{design}/_view/{name}", params=params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def values(http: httpx.AsyncClient, view: str = "x/v", /, **options: Any) -> dict[str, Any]:
    return {row["id"]: row["value"] for row in (await ask(http, view, **options))["rows"]}


async def rows_of_all_indexes(server: EmbeddedServer) -> int:
    database = await server.open("db", create=False)
    return int(
        await database.reading(lambda connection: connection.execute("SELECT count(*) FROM view_row").fetchone()[0])
    )


# What an index does when documents change


async def test_only_changed_documents_are_mapped_again(http: httpx.AsyncClient) -> None:
    revs = await put(http, *({"_id": f"d{n}", "k": n} for n in range(5)))
    await define(http, v=ONCE)
    before = await values(http)
    assert await values(http) == before
    await put(http, {"_id": "d2", "_rev": revs[2], "k": 7}, {"_id": "new", "k": 1})
    after = await ask(http)
    assert [row["id"] for row in after["rows"]] == ["d0", "d1", "new", "d3", "d4", "d2"]
    assert after["total_rows"] == 6
    now = {row["id"]: row["value"] for row in after["rows"]}
    assert {id for id in before if now[id] == before[id]} == {"d0", "d1", "d3", "d4"}


async def test_rows_go_with_deletion_and_with_purge(http: httpx.AsyncClient, server: EmbeddedServer) -> None:
    revs = await put(http, *({"_id": f"d{n}", "k": n} for n in range(4)))
    await define(http, v=ONCE)
    assert len(await values(http)) == 4
    await http.delete("d0", params={"rev": revs[0]})
    assert set(await values(http)) == {"d1", "d2", "d3"}
    await http.post("_purge", json={"d1": [revs[1]]})
    assert set(await values(http, update="false")) == {"d2", "d3"}
    assert set(await values(http)) == {"d2", "d3"}
    assert await rows_of_all_indexes(server) == 2
    assert (await http.get("_design/x/_info")).json()["view_index"]["updates_pending"]["total"] == 0


async def test_the_winning_revision_counts_and_maps_see_conflicts_and_attachments(http: httpx.AsyncClient) -> None:
    await define(
        http, v="function (doc) { emit(doc.n, [doc._conflicts, doc._rev, Object.keys(doc._attachments || {})]); }"
    )
    docs = [{"_id": "c", "_rev": f"1-{rev}", "n": n} for n, rev in enumerate("ab")]
    await http.post("_bulk_docs", json={"docs": docs, "new_edits": False})
    file = {"content_type": "text/plain", "data": "aGk="}
    (rev,) = await put(http, {"_id": "f", "n": 5, "_attachments": {"file": file}})
    rows = (await ask(http))["rows"]
    assert [(row["key"], row["value"]) for row in rows] == [(1, [["1-a"], "1-b", []]), (5, [None, rev, ["file"]])]
    found = await ask(http, include_docs=True, conflicts=True, limit=1)
    assert found["rows"][0]["doc"]["_conflicts"] == ["1-a"]


async def test_an_index_survives_a_restart(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    for _ in range(2):
        server = EmbeddedServer(tmp_path / "data")
        listener = await serve(server)
        async with httpx.AsyncClient(base_url=listener.url + "/db/", timeout=20) as http:
            if not seen:
                await http.put("")
                await put(http, {"_id": "a", "k": 1}, {"_id": "b", "k": 2})
                await define(http, v=ONCE)
            seen.append(await values(http))
        await server.close()
        await listener.close()
    assert seen[0] == seen[1]


async def test_a_design_document_that_changes_elsewhere_keeps_its_index(http: httpx.AsyncClient) -> None:
    await put(http, {"_id": "a", "k": 1})
    rev = await define(http, v=ONCE)
    before = await values(http)
    await define(http, "x", rev, v={"map": ONCE, "reduce": "_count"})
    assert await values(http, reduce=False) == before
    await define(http, "y", renamed=ONCE)
    assert await values(http, "y/renamed") == before


async def test_a_changed_map_function_has_another_index_and_the_old_one_goes(
    http: httpx.AsyncClient, server: EmbeddedServer
) -> None:
    await put(http, *({"_id": f"d{n}", "k": n} for n in range(10)))
    rev = await define(http, v=ONCE)
    await ask(http)
    rev = await define(http, "x", rev, v="function (doc) { if (doc.k > 7) emit(doc.k, null); }")
    assert set(await values(http)) == {"d8", "d9"}
    while await rows_of_all_indexes(server) != 2:  # they go in the background
        pass
    await http.delete("_design/x", params={"rev": rev})
    assert (await http.post("_view_cleanup", json={})).status_code == 202
    while await rows_of_all_indexes(server):
        pass


async def test_a_stale_answer_is_what_was_built_before(http: httpx.AsyncClient) -> None:
    await put(http, {"_id": "a", "k": 1})
    await define(http, v={"map": ONCE, "reduce": "_count"})
    assert await ask(http, update="false") == {"rows": []}
    assert await ask(http, stale="ok", reduce=False) == {"total_rows": 0, "offset": 0, "rows": []}
    assert set(await values(http, reduce=False)) == {"a"}
    await put(http, {"_id": "b", "k": 2})
    assert set(await values(http, reduce=False, update="false")) == {"a"}
    assert set(await values(http, reduce=False, update="lazy")) == {"a"}
    while set(await values(http, reduce=False, update="false")) != {"a", "b"}:  # lazy builds behind the answer
        pass


async def test_many_queries_at_once_share_one_build(http: httpx.AsyncClient) -> None:
    await put(http, *({"_id": f"d{n:03}", "k": n} for n in range(700)))
    await define(http, v=ONCE)
    answers = await asyncio.gather(*(ask(http) for _ in range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]["rows"]) == 700


async def test_long_answers_come_complete_in_both_directions(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EMBEDDED_PAGE_ROWS_COUNT", 7)
    await put(http, *({"_id": f"d{n:02}", "k": n % 4} for n in range(40)))
    await define(http, v="function (doc) { emit(doc.k, 1); emit(doc.k, 2); }")
    rows = (await ask(http))["rows"]
    assert [(row["key"], row["id"], row["value"]) for row in rows] == [
        (n % 4, f"d{n:02}", value) for n in sorted(range(40), key=lambda n: (n % 4, n)) for value in (1, 2)
    ]
    assert (await ask(http, descending=True))["rows"] == rows[::-1]
    assert (await ask(http, skip=15, limit=30))["rows"] == rows[15:45]
    keys = [3, 9, 0, 3]
    of_keys = [row for key in keys for row in rows if row["key"] == key]
    assert (await ask(http, keys=keys))["rows"] == of_keys
    assert (await ask(http, keys=keys, skip=25, limit=20))["rows"] == of_keys[25:45]


async def test_documents_are_linked_by_the_value(http: httpx.AsyncClient) -> None:
    revs = await put(http, {"_id": "a", "to": "b"}, {"_id": "b", "n": 1}, {"_id": "c", "to": "nobody"}, {"_id": "d"})
    await put(
        http, {"_id": "b", "_rev": revs[1], "n": 2}, {"_id": "e", "to": "b", "rev": revs[1]}, {"_id": "f", "to": None}
    )
    await define(http, v="function (doc) { emit(doc._id, 'to' in doc ? {_id: doc.to, _rev: doc.rev} : null); }")
    docs = {row["id"]: row["doc"] for row in (await ask(http, include_docs=True))["rows"]}
    assert (docs["a"]["n"], docs["e"]["n"], docs["d"]["_id"]) == (2, 1, "d")
    assert (docs["c"], docs["f"]) == (None, None)


async def test_many_rows_of_few_documents_are_stored_in_parts(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EMBEDDED_COMMIT_ROWS_COUNT", 10)
    await put(http, *({"_id": f"d{n}", "n": n} for n in range(9)))
    await define(http, v="function (doc) { for (var i = 0; i < doc.n; i++) emit([doc.n, i], null); }")
    rows = (await ask(http))["rows"]
    assert [row["key"] for row in rows] == [[n, i] for n in range(9) for i in range(n)]
    assert (await http.get("_design/x/_info")).json()["view_index"]["updates_pending"]["total"] == 0


# Functions that fail


async def test_a_map_function_that_throws_skips_the_document(http: httpx.AsyncClient) -> None:
    await put(http, {"_id": "a"}, {"_id": "b", "tags": ["x"]}, {"_id": "c", "tags": 5})
    await define(http, v="function (doc) { emit('before', 1); doc.tags.forEach(function (tag) { emit(tag, null); }); }")
    rows = (await ask(http))["rows"]
    assert [(row["id"], row["key"]) for row in rows] == [("b", "before"), ("b", "x")]


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        ("for (;;);", "os_process_error", "OS process timed out."),
        ("new Array(4e9).join('x')", "os_process_error", "OS process timed out."),
        ("var all = []; for (;;) all.push(new Array(1000).fill(1));", "InternalError", "out of memory"),
        ("(function again() { again(); again(); })();", "RangeError", "Maximum call stack size exceeded"),
        ("throw ['fatal', 'my_error', 'because'];", "my_error", "because"),
        ("throw 'fatal_error';", "map_runtime_error", "function raised 'fatal_error'"),
    ],
)
async def test_a_runaway_answers_an_error_and_the_next_query_works(
    http: httpx.AsyncClient, source: str, error: str, reason: str
) -> None:
    (good, bad) = await put(http, {"_id": "good"}, {"_id": "bad", "bad": True})
    await define(http, v=f"function (doc) {{ if (doc.bad) {{ {source} }} emit(doc._id, null); }}")
    await define(http, "other", v="function (doc) { emit(doc._id, null); }")
    running = asyncio.ensure_future(http.get("_design/x/_view/v"))
    assert (await http.get("good")).json()["_rev"] == good
    response = await running
    assert (response.status_code, response.json()) == (500, {"error": error, "reason": reason})
    assert set(await values(http, "other/v")) == {"good", "bad"}
    await http.delete("bad", params={"rev": bad})
    assert set(await values(http)) == {"good"}


async def test_a_function_that_runs_away_on_every_document_is_stopped_at_the_first(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await put(http, *({"_id": f"d{n:02}", "n": n} for n in range(60)))
    for at, loop in enumerate(("for (;;);", "for (;;) new Array(1e6).fill(1);")):
        await define(http, f"x{at}", v=f"function (doc) {{ if (doc.n > 40) {loop} emit(doc.n, null); }}")
        async with asyncio.timeout(10):
            response = await http.get(f"_design/x{at}/_view/v")
        assert (response.status_code, response.json()["error"]) == (500, "os_process_error")
        assert len([1 for record in caplog.records if f"_design/x{at}: document d41" in record.getMessage()]) == 1
        assert len(await values(http, f"x{at}/v", update="false")) == 41  # what was built is kept


async def test_a_reduce_function_that_runs_away_or_grows_is_an_error(http: httpx.AsyncClient) -> None:
    await put(http, *({"_id": f"d{n}", "text": "x" * 2_000} for n in range(5)))
    map = "function (doc) { emit(doc._id, doc.text); }"
    await define(
        http,
        away={"map": map, "reduce": "function () { for (;;); }"},
        grows={"map": map, "reduce": "function (keys, values, again) { return values.join(); }"},
        throws={"map": map, "reduce": "function () { throw new Error('no'); }"},
    )
    response = await http.get("_design/x/_view/away")
    assert (response.status_code, response.json()["error"]) == (500, "os_process_error")
    (row,) = (await ask(http, "x/grows"))["rows"]
    assert (row["key"], row["error"]) == (None, "reduce_overflow_error")
    assert row["reason"].startswith("Reduce output must shrink more rapidly: Current output: '\"xxx")
    assert (await ask(http, "x/throws"))["rows"] == [{"key": None, "value": None}]


async def test_a_reduction_is_bounded_in_time(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(http, {"_id": "a", "k": 1})
    await define(http, v={"map": ONCE, "reduce": "_sum"})
    await ask(http)
    monkeypatch.setattr(limits, "EMBEDDED_VIEW_REDUCE_SECONDS", -1.0)
    response = await http.get("_design/x/_view/v")
    assert (response.status_code, response.json()["error"]) == (500, "timeout")


async def test_what_cannot_be_json_becomes_null(http: httpx.AsyncClient) -> None:
    await put(http, {"_id": "a"})
    await define(
        http,
        v="function (doc) { emit(undefined, NaN); emit('\\ud800', function () {}); emit([undefined], new Date(0)); }",
    )
    rows = (await ask(http))["rows"]
    assert [(row["key"], row["value"]) for row in rows] == [
        (None, None),
        ("?", None),
        ([None], "1970-01-01T00:00:00.000Z"),
    ]


# Reductions


async def test_a_reduce_function_gets_keys_values_and_its_own_results(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EMBEDDED_VIEW_CALL_ROWS_COUNT", 3)
    monkeypatch.setattr(limits, "EMBEDDED_PAGE_ROWS_COUNT", 8)
    await put(http, *({"_id": f"d{n:02}", "k": ["é" if n % 2 else "ü", n], "n": n} for n in range(20)))
    reduce = (
        "function (keys, values, rereduce) {"
        " if (rereduce) { if (keys !== null) throw new Error('keys'); return sum(values); }"
        " if (keys.length !== values.length || keys.length > 3) throw new Error('length');"
        " keys.forEach(function (key, at) {"
        "   if (key[1] !== 'd' + String(values[at]).padStart(2, '0')) throw new Error(key);"
        " });"
        " return sum(values); }"
    )
    await define(http, v={"map": "function (doc) { emit(doc.k, doc.n); }", "reduce": reduce})
    assert (await ask(http))["rows"] == [{"key": None, "value": 190}]
    assert (await ask(http, group_level=1))["rows"] == [{"key": ["é"], "value": 100}, {"key": ["ü"], "value": 90}]
    grouped = (await ask(http, group=True, descending=True, skip=1, limit=2))["rows"]
    assert grouped == [{"key": ["ü", 16], "value": 16}, {"key": ["ü", 14], "value": 14}]
    assert (await ask(http, keys=[["é", 1], ["no"], ["ü", 4]], group=True))["rows"] == [
        {"key": ["é", 1], "value": 1},
        {"key": ["ü", 4], "value": 4},
    ]
    assert (await ask(http, startkey=["ü"], endkey=["ü", 6]))["rows"] == [{"key": None, "value": 12}]
    assert (await ask(http, key="nothing"))["rows"] == []
    assert (await ask(http, limit=0))["rows"] == []


@pytest.mark.parametrize(
    ("reduce", "value"),
    [
        ("_count", 7),
        ("_sum", 25),
        ("_stats", {"sum": 25, "count": 7, "min": 1, "max": 9, "sumsqr": 133}),
        ("_approx_count_distinct", 3),
        ("_first", 1),
        ("_last", 3),
        ("_top_2", [9, 5]),
        ("_bottom_3", [1, 2, 3]),
    ],
)
async def test_the_functions_that_couchdb_has_built_in(http: httpx.AsyncClient, reduce: str, value: Any) -> None:
    numbers = [1, 2, 9, 2, 5, 3, 3]
    await put(http, *({"_id": f"d{n}", "n": one, "k": n // 3} for n, one in enumerate(numbers)))
    await define(http, v={"map": "function (doc) { emit(doc.k, doc.n); }", "reduce": reduce})
    for descending in (False, True):
        assert (await ask(http, descending=descending))["rows"] == [{"key": None, "value": value}]
    assert len((await ask(http, group=True))["rows"]) == 3


async def test_sums_of_arrays_and_objects_and_statistics_of_arrays(http: httpx.AsyncClient) -> None:
    await put(http, *({"_id": f"d{n}", "n": n} for n in (1, 2)))
    await define(
        http,
        arrays={
            "map": "function (doc) { emit(1, [doc.n, 1]); emit(2, doc.n > 1 ? doc.n : [1, 2]); }",
            "reduce": "_sum",
        },
        objects={"map": "function (doc) { emit(1, {b: doc.n, a: {c: [1]}}); }", "reduce": "_sum"},
        mixed={"map": "function (doc) { emit(1, doc.n > 1 ? 'text' : 1); }", "reduce": "_sum"},
        stats={"map": "function (doc) { emit(1, [doc.n, 2]); }", "reduce": "_stats"},
        wrong={"map": "function (doc) { emit(1, doc.n > 1 ? 'text' : 1); }", "reduce": "_stats"},
    )
    assert [row["value"] for row in (await ask(http, "x/arrays", group=True))["rows"]] == [[3, 2], [3, 2]]
    assert (await ask(http, "x/objects"))["rows"][0]["value"] == {"a": {"c": [2]}, "b": 3}
    error = (await ask(http, "x/mixed"))["rows"][0]["value"]
    assert (error["error"], error["caused_by"]) == ("builtin_reduce_error", "text")
    assert [one["sum"] for one in (await ask(http, "x/stats"))["rows"][0]["value"]] == [3, 4]
    response = await http.get("_design/x/_view/wrong")
    assert (response.status_code, response.json()["error"]) == (500, "invalid_value")
    assert response.json()["reason"].endswith("not '<<\"text\">>'")


# Design documents

COMPILATION = "Compilation of the {} function in the 'v' view failed: "


@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        ({"views": {"v": {"map": "function (doc) }{"}}}, "compilation_error", COMPILATION.format("map")),
        ({"views": {"v": {"map": "7"}}}, "compilation_error", COMPILATION.format("map") + "Error: Expression"),
        ({"views": {"v": {"map": "() => 1", "reduce": "x("}}}, "compilation_error", COMPILATION.format("reduce")),
        ({"views": {"v": {"map": "x", "reduce": "_no"}}}, "invalid_design_doc", "`_no` is not a supported reduce func"),
        ({"views": {"v": {}}}, "invalid_design_doc", "View `v` must contain map function"),
        ({"views": {"v": "text"}}, "invalid_design_doc", "`views.v` field must have object type"),
        ({"views": {"v": {"map": {}}}}, "invalid_design_doc", "`views.v.map` field must have string type"),
        ({"views": {"v": {"map": "", "reduce": 1}}}, "invalid_design_doc", "`views.v.reduce` field must have string"),
        ({"views": 1}, "invalid_design_doc", "`views` field must have object type"),
        ({"options": []}, "invalid_design_doc", "`options` field must have object type"),
        ({"filters": {"f": 1}}, "invalid_design_doc", "`filters.f` field must have object or string type"),
        ({"language": 1}, "invalid_design_doc", "`language` field must have string type"),
    ],
)  # fmt: skip
async def test_a_design_document_with_a_wrong_view_is_not_stored(
    http: httpx.AsyncClient, body: dict[str, Any], error: str, reason: str
) -> None:
    response = await http.put("_design/x", json=body)
    assert (response.status_code, response.json()["error"]) == (400, error)
    assert response.json()["reason"].startswith(reason)
    docs = [{"_id": "a"}, {"_id": "_design/x", **body}, {"_id": "b"}]
    rows = (await http.post("_bulk_docs", json={"docs": docs})).json()
    assert [row.get("error") for row in rows] == [None, error, None]
    assert (await http.get("_design/x")).status_code == 404


async def test_other_languages_are_stored_and_not_run(http: httpx.AsyncClient) -> None:
    body = {"language": "erlang", "views": {"v": {"map": "fun({Doc}) -> ok end."}}}
    assert (await http.put("_design/x", json=body)).status_code == 201
    response = await http.get("_design/x/_view/v")
    assert (response.status_code, response.json()["error"]) == (501, "not_implemented")
    assert "erlang" in response.json()["reason"]


async def test_modules_below_views_lib_can_be_required(http: httpx.AsyncClient) -> None:
    await put(http, {"_id": "a", "n": 2})
    lib = {
        "math": {
            "twice": "exports.twice = function (n) { return require('./plus').plus(n, n); };",
            "plus": "exports.plus = function (a, b) { return a + b; };",
        }
    }
    await define(
        http, lib=lib,
        v="function (doc) { emit(null, require('views/lib/math/twice').twice(doc.n)); }",
        none="function (doc) { emit(null, require('views/lib/nothing')); }",
    )  # fmt: skip
    assert await values(http) == {"a": 4}
    assert await values(http, "x/none") == {}


async def test_options_of_the_design_document_and_of_the_view(http: httpx.AsyncClient) -> None:
    await put(http, {"_id": "a"}, {"_id": "B"}, {"_id": "b"})
    map = "function (doc) { emit(doc._id, doc._local_seq); }"
    await define(http, "plain", v=map, raw={"map": map, "options": {"collation": "raw"}})
    await define(http, "x", v=map, options={"include_design": True, "local_seq": True})
    assert list(await values(http, "plain/v")) == ["a", "b", "B"]
    assert list(await values(http, "plain/raw")) == ["B", "a", "b"]
    assert await values(http) == {"_design/plain": 4, "_design/x": 5, "a": 1, "b": 3, "B": 2}


async def test_what_the_embedded_server_lacks_is_named(http: httpx.AsyncClient) -> None:
    await define(http, v=ONCE)
    for path in ("_show/s", "_list/l/v", "_rewrite/r", "_search/s", "_nouveau/n"):
        response = await http.get(f"_design/x/{path}")
        assert (response.status_code, response.json()["error"]) == (501, "not_implemented")
        assert path.partition("/")[0] in response.json()["reason"]


async def test_the_index_tells_about_itself(http: httpx.AsyncClient) -> None:
    await define(http, v=ONCE)
    await put(http, {"_id": "a", "k": 1})
    info = (await http.get("_design/x/_info")).json()
    assert (info["name"], info["view_index"]["update_seq"], info["view_index"]["updates_pending"]["total"]) == (
        "x",
        0,
        2,
    )
    await ask(http)
    told = (await http.get("_design/x/_info")).json()["view_index"]
    assert (told["update_seq"], told["language"], told["updater_running"]) == (2, "javascript", False)
    assert told["sizes"]["active"] > 0
    assert len(told["signature"]) == 32
    assert (await http.post("_compact/x", json={})).status_code == 202
    assert (await http.post("_compact/nothing", json={})).status_code == 404


async def test_an_index_that_goes_while_it_is_read_ends_the_answer_visibly(
    http: httpx.AsyncClient, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EMBEDDED_PAGE_ROWS_COUNT", 1)
    await put(http, *({"_id": f"d{n}", "k": n} for n in range(50)))
    await define(http, v=ONCE)
    await ask(http)
    response = await server.request("GET", "/db/_design/x/_view/v")
    content = response.content.__aiter__()
    await anext(content)
    database = await server.open("db", create=False)
    await database.writing(lambda transaction: index.retire(transaction, ()))
    with pytest.raises(Exception, match="changed while its view was read"):
        [piece async for piece in content]
