"""Update functions of design documents on the embedded server."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

COUNT = """function (doc, req) {
    if (!doc) return [{_id: req.id || req.uuid, n: 1}, 'made'];
    doc.n += 1;
    return [doc, {json: {n: doc.n}, headers: {'X-Mine': 'yes'}}];
}"""


async def define(http: httpx.AsyncClient, **updates: str) -> None:
    response = await http.put("_design/x", json={"updates": updates})
    assert response.status_code == 201, response.text


async def test_a_function_makes_and_changes_documents(http: httpx.AsyncClient) -> None:
    await define(http, count=COUNT)
    made = await http.put("_design/x/_update/count/a/b")
    assert (made.status_code, made.text, made.headers["content-type"]) == (201, "made", "text/html; charset=utf-8")
    assert made.headers["x-couch-id"] == "a%2Fb"
    changed = await http.post("_design/x/_update/count/a%2Fb")
    assert (changed.status_code, changed.json(), changed.headers["x-mine"]) == (201, {"n": 2}, "yes")
    doc = (await http.get("a%2Fb")).json()
    assert (doc["n"], doc["_rev"]) == (2, changed.headers["x-couch-update-newrev"])
    named = await http.post("_design/x/_update/count")
    assert (await http.get(named.headers["x-couch-id"])).json()["n"] == 1
    await http.delete("a%2Fb", params={"rev": doc["_rev"]})
    assert (await http.put("_design/x/_update/count/a%2Fb")).text == "made"


async def test_a_function_may_answer_without_a_document(http: httpx.AsyncClient) -> None:
    await define(
        http,
        tell="function (doc, req) { return [null, JSON.stringify(req)]; }",
        code="function (doc, req) { return [null, {code: 418, headers: {'content-type': 'text/x'}, body: 'tea'}]; }",
        bytes="function (doc, req) { return [null, {base64: 'AAE='}]; }",
    )
    form = {"content-type": "application/x-www-form-urlencoded"}
    told = await http.post("_design/x/_update/tell/a", params={"q": "1"}, content=b"n=2&m=x+y", headers=form)
    req = json.loads(told.text)
    assert (told.status_code, req["id"], req["query"], req["body"]) == (200, "a", {"q": "1"}, "n=2&m=x+y")
    assert (req["form"], req["method"]) == ({"n": "2", "m": "x y"}, "POST")
    assert req["path"] == ["db", "_design", "x", "_update", "tell", "a"]
    tea = await http.put("_design/x/_update/code")
    assert (tea.status_code, tea.text, tea.headers["content-type"]) == (418, "tea", "text/x")
    data = await http.put("_design/x/_update/bytes")
    assert (data.content, data.headers["content-type"]) == (b"\0\1", "application/binary")


async def test_what_a_function_makes_is_validated_as_any_write(http: httpx.AsyncClient) -> None:
    rule = "function (doc) { if (doc.bad) throw {forbidden: 'no good'}; }"
    updates = {
        "bad": "function () { return [{_id: 'a', bad: true}, 'x']; }",
        "again": "function () { return [{_id: '_design/x'}, 'x']; }",
        "noname": "function () { return [{}, 'x']; }",
        "odd": "function () { return [{_id: 'a', _odd: 1}, 'x']; }",
        "half": "function () { return [{_id: 'a', text: '\\ud800'}, 'x']; }",
    }
    await http.put("_design/x", json={"updates": updates, "validate_doc_update": rule})

    async def answer(name: str) -> tuple[int, Any]:
        response = await http.post(f"_design/x/_update/{name}")
        return response.status_code, response.json()["error"]

    assert await answer("bad") == (403, "forbidden")
    assert await answer("again") == (409, "conflict")
    assert await answer("noname") == (400, "illegal_docid")
    assert await answer("odd") == (400, "doc_validation")
    assert await answer("half") == (400, "bad_request")
    assert (await http.get("_all_docs")).json()["total_rows"] == 1


@pytest.mark.parametrize(
    ("function", "status", "error"),
    [
        ("function () { throw ['error', 'not_found', 'why']; }", 404, "not_found"),
        ("function () { throw {error: 'forbidden', reason: 'why'}; }", 403, "forbidden"),
        ("function () { nothing.at.all; }", 500, "render_error"),
        ("function () { return 7; }", 500, "render_error"),
        ("function () { return [null, 7]; }", 500, "render_error"),
        ("function () { return [null, {code: 'x'}]; }", 500, "external_response_error"),
        ("function () { return [null, {base64: '?'}]; }", 500, "external_response_error"),
        ("function () { return [null, {other: 1}]; }", 500, "external_response_error"),
        ("function () { return [null, {headers: {'X-A': 'b\\r\\nSet-Cookie: c'}}]; }", 500, "external_response_error"),
        ("(", 500, "compilation_error"),
    ],
)
async def test_a_function_that_fails_answers_an_error(
    http: httpx.AsyncClient, function: str, status: int, error: str
) -> None:
    await define(http, f=function)
    response = await http.post("_design/x/_update/f")
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert (await http.get("_design/x")).status_code == 200


async def test_what_is_no_update_function_is_named(http: httpx.AsyncClient) -> None:
    await define(http, f="function () {}")
    assert (await http.get("_design/x/_update/f")).status_code == 405
    missing = await http.post("_design/x/_update/none")
    assert (missing.status_code, missing.json()["reason"]) == (404, "missing json key: none")
    assert (await http.post("_design/none/_update/f")).status_code == 404
