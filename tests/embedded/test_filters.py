"""Filter functions of design documents, and views as filters, on `_changes` of the embedded server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.embedded import EmbeddedServer
from gateway.viewfn.engine import ViewLimits
from tests.embedded.test_http_changes import following, ids, row, write

EVEN = "function (doc, req) { return doc.n % 2 === 0; }"


async def design(http: httpx.AsyncClient, name: str = "x", **members: Any) -> str:
    response = await http.put(f"_design/{name}", json=members)
    assert response.status_code == 201, response.text
    return str(response.json()["rev"])


async def test_a_filter_function_chooses_the_rows(http: httpx.AsyncClient) -> None:
    await design(http, filters={"even": EVEN})
    await write(http, *({"_id": f"d{n}", "n": n} for n in range(6)))
    assert await ids(http, filter="x/even") == ["d0", "d2", "d4"]
    assert await ids(http, filter="x/even", descending="true") == ["d4", "d2", "d0"]
    page = (await http.get("_changes", params={"filter": "x/even", "limit": "2", "include_docs": "true"})).json()
    assert [one["doc"]["n"] for one in page["results"]] == [0, 2]
    assert await ids(http, filter="x/even", since=page["last_seq"]) == ["d4"]
    assert await ids(http, filter="x/even", limit="0") == []
    assert (await http.post("_changes", params={"filter": "x/even"}, json={})).json()["results"][2]["id"] == "d4"


async def test_more_documents_than_one_batch_are_asked_about(http: httpx.AsyncClient) -> None:
    await design(http, filters={"some": "function (doc) { return doc.n % 100 === 0; }"})
    await write(http, *({"_id": f"d{n:03}", "n": n} for n in range(350)))
    assert await ids(http, filter="x/some") == ["d000", "d100", "d200", "d300"]
    assert await ids(http, filter="x/some", limit="3") == ["d000", "d100", "d200"]


async def test_a_filter_sees_deletions_design_documents_and_the_newest_revisions(http: httpx.AsyncClient) -> None:
    see = "function (doc) { log(doc._id); return doc._deleted || /^_design/.test(doc._id); }"
    await design(http, filters={"see": see})
    (rev,) = await write(http, {"_id": "a"})
    await write(http, {"_id": "a", "_rev": rev, "_deleted": True}, {"_id": "b"})
    assert await ids(http, filter="x/see") == ["_design/x", "a"]
    long = (
        "function (doc) { return doc._revisions && doc._revisions.ids.length === 20 && doc._revisions.start === 30; }"
    )
    await design(http, "y", filters={"long": long})
    history = {"start": 30, "ids": [f"{n:032x}" for n in range(30)]}
    await http.post("_bulk_docs", json={"new_edits": False, "docs": [{"_id": "c", "_revisions": history}]})
    assert await ids(http, filter="y/long") == ["c"]


async def test_a_filter_is_given_the_request(http: httpx.AsyncClient) -> None:
    tell = "function (doc, req) { if (doc._id === 'd') throw {error: 'told', reason: JSON.stringify(req)}; }"
    await design(http, filters={"tell": tell})
    await write(http, {"_id": "d"})
    told = await http.get("_changes", params={"filter": "x/tell", "q": "1", "key": "[2]"}, headers={"x-mine": "yes"})
    assert (told.status_code, told.json()["error"]) == (500, "told")
    req = json.loads(told.json()["reason"])
    assert req["query"] == {"filter": "x/tell", "q": "1", "key": [2]}
    assert (req["method"], req["path"], req["body"]) == ("GET", ["db", "_changes"], "undefined")
    assert req["userCtx"] == {"db": "db", "name": None, "roles": ["_admin"]}
    assert (req["headers"]["X-Mine"], req["info"]["doc_count"]) == ("yes", 2)
    assert req["secObj"] == {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
    told = await http.post("_changes", params={"filter": "x/tell"}, json={"a": 1})
    assert json.loads(told.json()["reason"])["body"] == {"a": 1}


async def test_a_filter_reaches_its_design_document_and_its_modules(http: httpx.AsyncClient) -> None:
    await design(
        http,
        kept=["b"],
        lib={"is": "exports.is = function (doc) { return doc._id === 'a'; };"},
        filters={
            "module": "function (doc) { return require('lib/is').is(doc); }",
            "this": "function (doc) { return this.kept.indexOf(doc._id) >= 0; };",
        },
    )
    await write(http, {"_id": "a"}, {"_id": "b"})
    assert await ids(http, filter="x/module") == ["a"]
    assert await ids(http, filter="x/this") == ["b"]


async def test_a_row_passes_a_view_when_its_map_emits(http: httpx.AsyncClient) -> None:
    await design(http, views={"n": {"map": "function (doc) { if (doc.n) emit(null, null); }"}})
    await write(http, {"_id": "a", "n": 1}, {"_id": "b"}, {"_id": "c", "n": 2})
    assert await ids(http, filter="_view", view="x/n") == ["a", "c"]
    assert await ids(http, filter="_view", view="x/n", limit="1") == ["a"]


async def test_with_all_leaves_each_is_asked_about(http: httpx.AsyncClient) -> None:
    await design(http, filters={"even": EVEN, "conflict": "function (doc) { return doc._conflicts; }"})
    leaves = [{"_id": "a", "_rev": f"1-{n}", "n": n} for n in (2, 3, 4)]
    await http.post("_bulk_docs", json={"docs": leaves, "new_edits": False})
    (found,) = (await http.get("_changes", params={"filter": "x/even", "style": "all_docs"})).json()["results"]
    assert found["changes"] == [{"rev": "1-4"}, {"rev": "1-2"}]
    (found,) = (await http.get("_changes", params={"filter": "x/even"})).json()["results"]
    assert found["changes"] == [{"rev": "1-4"}]
    assert await ids(http, filter="x/conflict") == ["a"]


async def test_a_continuous_feed_goes_on_through_the_filter(http: httpx.AsyncClient) -> None:
    await design(http, filters={"even": EVEN})
    await write(http, {"_id": "a", "n": 1}, {"_id": "b", "n": 2})
    async with following(http, filter="x/even", limit="2", include_docs="true") as lines:
        assert (await row(lines))["id"] == "b"
        await write(http, {"_id": "c", "n": 3}, {"_id": "d", "n": 4}, {"_id": "e", "n": 6})
        found = await row(lines)
        assert (found["id"], found["doc"]["n"]) == ("d", 4)
        assert "last_seq" in await row(lines)


async def test_a_feed_that_has_nothing_yet_begins_and_beats(http: httpx.AsyncClient) -> None:
    await design(http, filters={"even": EVEN})
    async with following(http, filter="x/even", heartbeat="20") as lines:
        async with asyncio.timeout(20):
            assert [await anext(lines) for _ in range(3)] == ["", "", ""]


async def test_heartbeats_go_on_while_a_filter_is_slow(http: httpx.AsyncClient) -> None:
    slow = "function () { const end = Date.now() + 600; while (Date.now() < end); return true; }"
    await design(http, filters={"slow": slow})
    async with following(http, filter="x/slow", heartbeat="50", limit="1") as lines:
        async with asyncio.timeout(20):
            seen = [await anext(lines) for _ in range(4)]
        assert seen[:3] == ["", "", ""]
        assert (await row(lines))["id"] == "_design/x"


async def test_a_longpoll_waits_for_a_row_that_passes(http: httpx.AsyncClient) -> None:
    await design(http, filters={"even": EVEN})

    async def ask() -> list[str]:
        return await ids(http, feed="longpoll", filter="x/even", timeout="20000")

    waiting = asyncio.create_task(ask())
    await write(http, {"_id": "a", "n": 1})
    await write(http, {"_id": "b", "n": 2})
    assert await waiting == ["b"]
    assert await ids(http, feed="longpoll", filter="x/even", since="now", timeout="1") == []


async def test_server_sent_events_are_filtered(http: httpx.AsyncClient) -> None:
    await design(http, filters={"even": EVEN})
    await write(http, {"_id": "a", "n": 1}, {"_id": "b", "n": 2})
    params = {"feed": "eventsource", "filter": "x/even", "limit": "1"}
    text = (await http.get("_changes", params=params)).text
    assert [json.loads(line[6:])["id"] for line in text.splitlines() if line.startswith("data: ")] == ["b"]


@pytest.mark.parametrize(
    ("params", "status", "error", "reason"),
    [
        ({"filter": "none/f"}, 404, "not_found", "missing"),
        ({"filter": "gone/f"}, 404, "not_found", "deleted"),
        ({"filter": "bare/f"}, 404, "not_found", "missing json key: filters"),
        ({"filter": "x/none"}, 404, "not_found", "missing json key: none"),
        ({"filter": "_view", "view": "x/none"}, 404, "not_found", "missing json key: views"),
        ({"filter": "f"}, 400, "bad_request", "`filter` must be of the form `designname/filtername`"),
        ({"filter": "_view"}, 400, "bad_request", "`view` filter parameter is not provided."),
        ({"filter": "_view", "view": "x"}, 400, "bad_request", "`view` must be of the form `designname/viewname`"),
        ({"filter": "_other"}, 400, "bad_request", "unknown builtin filter name"),
        (
            {"filter": "erlang/f"},
            501,
            "not_implemented",
            "the embedded server runs no functions in the language erlang",
        ),
    ],
)
async def test_what_is_no_filter_is_named(
    http: httpx.AsyncClient, params: dict[str, str], status: int, error: str, reason: str
) -> None:
    await design(http, filters={"f": EVEN})
    await design(http, "bare")
    await design(http, "erlang", language="erlang", filters={"f": "x"})
    rev = await design(http, "gone", filters={"f": EVEN})
    await http.delete("_design/gone", params={"rev": rev})
    for feed in ("normal", "continuous"):
        response = await http.get("_changes", params={**params, "feed": feed})
        assert (response.status_code, response.json()) == (status, {"error": error, "reason": reason})


@pytest.mark.parametrize(
    ("function", "error", "reason"),
    [
        (
            "function (doc) { return doc.no.thing; }",
            "TypeError",
            "TypeError: cannot read property 'thing' of undefined",
        ),
        ("function (doc) { throw {forbidden: 'x'}; }", "unnamed_error", '{"forbidden":"x"}'),
        ("function (doc) { throw ['error', 'mine', 'why']; }", "mine", "why"),
        ("function (doc) { throw ['error', 'mine', '\\ud800']; }", "mine", "?"),
        (
            "function (doc) { const a = []; for (;;) a.push(new Array(100000).fill(0)); }",
            "InternalError",
            "out of memory",
        ),
        ("(", "compilation_error", None),
        ("17", "compilation_error", "Error: Expression does not eval to a function. (17)"),
    ],
)
async def test_a_filter_that_fails_answers_its_error(
    http: httpx.AsyncClient, function: str, error: str, reason: str | None
) -> None:
    await design(http, filters={"f": function})
    for feed in ("normal", "longpoll", "continuous", "eventsource"):
        response = await http.get("_changes", params={"filter": "x/f", "feed": feed})
        assert (response.status_code, response.json()["error"]) == (500, error)
        assert reason in (None, response.json()["reason"])
    assert await ids(http) == ["_design/x"]


async def test_a_filter_that_fails_later_ends_the_feed_with_its_error(http: httpx.AsyncClient) -> None:
    await design(
        http, filters={"f": "function (doc) { if (doc._id === 'bad') throw ['error', 'mine', 'why']; return true; }"}
    )
    async with following(http, filter="x/f") as lines:
        assert (await row(lines))["id"] == "_design/x"
        await write(http, {"_id": "bad"})
        assert await row(lines) == {"error": "mine", "reason": "why"}
        assert [line async for line in lines] == []


async def test_a_filter_that_runs_away_is_stopped_and_the_next_feed_is_served(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, view_limits=ViewLimits(seconds=0.1))
    try:
        db = await server.create("db")
        ran_away = "function (doc) { while (doc._id === 'a'); return true; }"
        await db.write([{"_id": "_design/x", "filters": {"f": ran_away}}, {"_id": "a"}, {"_id": "b"}], new_edits=True)
        for since, status in (("0", 500), ("2", 200)):
            response = await db.request("GET", "/_changes", query=f"filter=x/f&since={since}&limit=2")
            found = json.loads(b"".join([piece async for piece in response.content]))
            assert response.status == status
            if status == 500:
                assert found == {"error": "os_process_error", "reason": "OS process timed out."}
            else:
                assert [one["id"] for one in found["results"]] == ["b"]
    finally:
        await server.close()
