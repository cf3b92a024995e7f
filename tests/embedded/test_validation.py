"""`validate_doc_update` of stored design documents on the embedded server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.embedded import EmbeddedServer
from gateway.viewfn.engine import ViewLimits

NEEDS_N = """function (newDoc, oldDoc, userCtx, secObj) {
    if (!newDoc._deleted && typeof newDoc.n !== 'number') throw {forbidden: newDoc._id + ' needs n'};
    if (newDoc.secret) throw({unauthorized: 'not you'});
}"""
TELL = """function (newDoc, oldDoc, userCtx, secObj) {
    throw {forbidden: JSON.stringify([newDoc, oldDoc, userCtx, secObj])};
}"""


async def rule(http: httpx.AsyncClient, function: str, name: str = "x", **members: Any) -> str:
    response = await http.put(f"_design/{name}", json={"validate_doc_update": function, **members})
    assert response.status_code == 201, response.text
    return str(response.json()["rev"])


async def told(http: httpx.AsyncClient, doc: dict[str, Any], *, new_edits: bool = True) -> list[Any]:
    """What a function that tells is given about a write: newDoc, oldDoc, userCtx and secObj."""
    response = await http.post("_bulk_docs", json={"docs": [doc], "new_edits": new_edits})
    (result,) = response.json()
    assert result["error"] == "forbidden", result
    given: list[Any] = json.loads(result["reason"])
    return given


async def test_a_refused_document_is_not_stored(http: httpx.AsyncClient) -> None:
    await rule(http, NEEDS_N)
    refused = await http.put("a", json={})
    assert (refused.status_code, refused.json()) == (403, {"error": "forbidden", "reason": "a needs n"})
    refused = await http.put("a", json={"n": 1, "secret": True})
    assert (refused.status_code, refused.json()) == (401, {"error": "unauthorized", "reason": "not you"})
    assert (await http.get("a")).status_code == 404
    assert (await http.put("a", json={"n": 1})).status_code == 201
    assert (await http.post("", json={"_id": "b"})).status_code == 403
    assert (await http.request("COPY", "a", headers={"destination": "c"})).status_code == 201


async def test_each_document_of_a_bulk_has_its_own_verdict(http: httpx.AsyncClient) -> None:
    await rule(http, NEEDS_N)
    docs = [{"_id": "a"}, {"_id": "b", "n": 1}, {"_id": "c", "n": 1, "secret": 1}, {"_id": "d", "n": 2, "_rev": "1-a"}]
    a, b, c, d = (await http.post("_bulk_docs", json={"docs": docs})).json()
    assert a == {"id": "a", "error": "forbidden", "reason": "a needs n"}
    assert (b["id"], b["ok"]) == ("b", True)
    assert c == {"id": "c", "error": "unauthorized", "reason": "not you"}
    assert d["error"] == "conflict"
    assert (await http.get("_all_docs")).json()["total_rows"] == 2


async def test_replicated_documents_are_judged_too(http: httpx.AsyncClient) -> None:
    await rule(http, NEEDS_N)
    docs = [{"_id": "a", "_rev": "1-a"}, {"_id": "b", "_rev": "1-b", "n": 1}, {"_id": "a", "_rev": "1-c", "n": 1}]
    for _ in range(2):  # the second time what was stored is known
        rows = (await http.post("_bulk_docs", json={"docs": docs, "new_edits": False})).json()
        assert rows == [{"id": "a", "rev": "1-a", "error": "forbidden", "reason": "a needs n"}]
    assert (await http.get("a")).json()["_rev"] == "1-c"
    refused = await http.put("d", params={"new_edits": "false"}, json={"_rev": "1-a"})
    assert refused.status_code == 403


async def test_what_a_function_is_given(http: httpx.AsyncClient) -> None:
    one = (await http.put("a", json={"n": 1})).json()["rev"]
    two = (await http.put("a", json={"n": 2, "_rev": one})).json()["rev"]
    await http.put("_security", json={"admins": {"names": ["ann"]}})
    await rule(http, TELL)
    user = {"db": "db", "name": None, "roles": ["_admin"]}
    ids = [rev.partition("-")[2] for rev in (two, one)]
    new, old, *rest = await told(http, {"_id": "a", "_rev": two, "n": 3})
    assert new == {"_id": "a", "_rev": two, "n": 3, "_revisions": {"start": 2, "ids": ids[:1]}}
    assert old == {"_id": "a", "_rev": two, "n": 2, "_revisions": {"start": 2, "ids": ids}}
    assert rest == [user, {"admins": {"names": ["ann"]}}]
    new, old, *_ = await told(http, {"_id": "b", "n": 3})
    assert (new, old) == ({"_id": "b", "n": 3}, None)
    new, old, *_ = await told(http, {"_id": "a", "_rev": two, "_deleted": True})
    assert (new["_deleted"], old["n"]) == (True, 2)


async def test_the_old_document_of_a_replicated_one_is_its_newest_stored_ancestor(http: httpx.AsyncClient) -> None:
    docs = [{"_id": "a", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": 2}, {"_id": "a", "_rev": "1-z", "n": 9}]
    await http.post("_bulk_docs", json={"docs": docs, "new_edits": False})
    await rule(http, TELL)
    revisions = {"start": 4, "ids": ["d", "c", "b"]}
    new, old, *_ = await told(http, {"_id": "a", "_revisions": revisions, "n": 4}, new_edits=False)
    assert (new["_rev"], new["_revisions"]) == ("4-d", revisions)
    assert (old["_rev"], old["n"]) == ("2-b", 2)
    new, old, *_ = await told(http, {"_id": "a", "_revisions": {"start": 2, "ids": ["y", "x"]}}, new_edits=False)
    assert old is None


async def test_a_document_over_a_deleted_one_has_no_old_document(http: httpx.AsyncClient) -> None:
    rev = (await http.put("a", json={})).json()["rev"]
    await http.delete("a", params={"rev": rev})
    await rule(http, TELL)
    new, old, *_ = await told(http, {"_id": "a", "n": 1})
    assert (new, old) == ({"_id": "a", "n": 1}, None)


async def test_attachments_are_seen_as_stubs(http: httpx.AsyncClient) -> None:
    rev = (await http.put("a/old", content=b"12", headers={"content-type": "text/x"})).json()["rev"]
    await rule(http, TELL)
    attachments = {"old": {"stub": True}, "new": {"content_type": "image/png", "data": "MTIz"}}
    new, old, *_ = await told(http, {"_id": "a", "_rev": rev, "_attachments": attachments})
    assert old["_attachments"]["old"]["length"] == 2
    assert new["_attachments"]["old"] == old["_attachments"]["old"]
    assert {name: new["_attachments"]["new"][name] for name in ("content_type", "revpos", "length", "stub")} == {
        "content_type": "image/png",
        "revpos": 2,
        "length": 3,
        "stub": True,
    }
    missing = {"_id": "b", "_attachments": {"none": {"stub": True}}}
    assert (await http.put("b", json=missing)).json()["error"] == "missing_stub"
    assert (await http.put("a/new", params={"rev": rev}, content=b"12")).status_code == 403
    assert (await http.delete("a/old", params={"rev": rev})).status_code == 403


async def test_local_and_design_documents_are_not_judged(http: httpx.AsyncClient) -> None:
    rev = await rule(http, TELL)
    assert (await http.put("_local/a", json={})).status_code == 201
    assert (await http.put("_design/y", json={})).status_code == 201
    assert (await http.put("a", json={})).status_code == 403
    assert (await http.delete("_design/x", params={"rev": rev})).status_code == 200
    assert (await http.put("a", json={})).status_code == 201


async def test_all_functions_must_agree_and_changes_of_them_count_at_once(http: httpx.AsyncClient) -> None:
    await http.put("a", json={})
    first = await rule(http, "function (doc) { if (doc.a) throw {forbidden: 'a'}; }", "one")
    await rule(http, "function (doc) { if (doc.b) throw {forbidden: 'b'}; }", "two")
    answers = [(await http.put(f"d{n}", json=doc)).json() for n, doc in enumerate([{"a": 1}, {"b": 1}, {"c": 1}])]
    assert [answer.get("reason") for answer in answers] == ["a", "b", None]
    await rule(http, "function (doc) { if (doc.c) throw {forbidden: 'c'}; }", "one", _rev=first)
    assert [(await http.put(f"e{n}", json={n: 1})).status_code for n in "abc"] == [201, 403, 403]
    revs = {"_design/two": [(await http.get("_design/two")).json()["_rev"]]}
    await http.post("_purge", json=revs)
    assert (await http.put("f", json={"b": 1})).status_code == 201


async def test_the_functions_are_known_again_after_a_restart(tmp_path: Path) -> None:
    for start in range(2):
        server = EmbeddedServer(tmp_path)
        try:
            db = await server.open("db", create=True)
            if start == 0:
                await db.write([{"_id": "_design/x", "validate_doc_update": NEEDS_N}], new_edits=True)
            else:
                (result,) = await db.write([{"_id": "a"}], new_edits=True)
                assert (result.rev, result.error) == (None, "forbidden")
        finally:
            await server.close()


@pytest.mark.parametrize(
    ("function", "error", "reason"),
    [
        ("function (doc) { doc.no.thing; }", "TypeError", "TypeError: cannot read property 'thing' of undefined"),
        ("function (doc) { throw 'plain'; }", "unknown_error", "plain"),
        ("function (doc) { throw {other: 'said'}; }", "unknown_error", "said"),
        ("function (doc) { throw {forbidden: {deep: [1]}}; }", "forbidden", '{"deep": [1]}'),
        ("function (doc) { throw [1, 2]; }", "unknown_error", "[1, 2]"),
        ("function (doc) { throw {forbidden: 'half \\ud800'}; }", "forbidden", "half ?"),
        (
            "function (doc) { const a = []; for (;;) a.push(new Array(100000).fill(0)); }",
            "InternalError",
            "out of memory",
        ),
        (
            "function (doc) { return require('lib/no'); }",
            "Error",
            "Error: require(): there is no lib in the design document",
        ),
        ("17", "compilation_error", "Error: Expression does not eval to a function. (17)"),
    ],
)
async def test_a_function_that_fails_refuses_the_document(
    http: httpx.AsyncClient, function: str, error: str, reason: str
) -> None:
    await rule(http, function)
    rows = (await http.post("_bulk_docs", json={"docs": [{"_id": "a"}, {"_id": "b"}]})).json()
    assert rows == [{"id": id, "error": error, "reason": reason} for id in "ab"]
    alone = await http.put("a", json={})
    assert alone.status_code == (403 if error == "forbidden" else 500)
    assert alone.json() == {"error": error, "reason": reason}
    assert (await http.get("_all_docs")).json()["total_rows"] == 1


async def test_a_function_in_another_language_refuses_all(http: httpx.AsyncClient) -> None:
    await rule(http, "x", language="erlang")
    assert (await http.put("a", json={})).json() == {"error": "unknown_query_language", "reason": "erlang"}


async def test_functions_that_run_away_do_not_hold_up_the_others(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, view_limits=ViewLimits(seconds=0.05))
    try:
        db = await server.create("db")
        design = {"_id": "_design/x", "validate_doc_update": "function (doc) { while (doc.loop); }"}
        await db.write([design], new_edits=True)
        docs = [{"_id": f"{n:04}", "loop": n == 1} for n in range(700)]
        results = await db.write(docs, new_edits=True)
        assert [result.id for result in results if result.rev is None] == ["0001"]
        results = await db.write([{"_id": f"l{n:04}", "loop": True} for n in range(700)], new_edits=True)
        assert {(result.error, result.reason) for result in results} == {("os_process_error", "OS process timed out.")}
    finally:
        await server.close()


async def test_a_bulk_larger_than_a_batch_keeps_its_order(http: httpx.AsyncClient) -> None:
    await rule(http, "function (doc) { if (doc.n % 2) throw {forbidden: doc._id}; }")
    docs = [{"_id": f"d{n}", "n": n, "text": "x" * 10_000} for n in range(1200)]
    rows = (await http.post("_bulk_docs", json={"docs": docs})).json()
    assert [row["id"] for row in rows] == [doc["_id"] for doc in docs]
    assert [row["reason"] for row in rows if "error" in row] == [f"d{n}" for n in range(1, 1200, 2)]
