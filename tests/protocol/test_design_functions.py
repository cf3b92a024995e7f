"""Functions of design documents on the upstream, as users and administrators of the gateway meet them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.protocol.pouch import Driver
from tests.protocol.site import Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def validating(notes: Place, rule: str) -> AsyncIterator[Person]:
    """An administrator; until the end of the block a rule about the documents of this test holds."""
    admin = await notes.admin()
    id = f"_design/{notes.name('rule')}"
    function = f"function (newDoc, oldDoc) {{ if (newDoc.place === '{notes.name('')}') {{ {rule} }} }}"
    rev = (await admin.http.put(f"/{id}", json={"validate_doc_update": function})).json()["rev"]
    try:
        yield admin
    finally:
        await admin.delete(id, rev)


async def test_a_write_that_the_upstreams_validation_refuses_is_forbidden_with_its_reason(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    mine = {"place": notes.name(""), "channels": notes.name("a")}
    rule = """
        if (newDoc.bad) throw {forbidden: newDoc.bad};
        if (newDoc.alien) throw {unauthorized: newDoc.alien};
        if (newDoc.odd) newDoc.no.thing();
    """
    async with validating(notes, rule) as admin:
        for person in (ann, admin):
            id = notes.name(f"by-{person.name}")
            refused = await person.http.put(f"/{id}", json={**mine, "bad": "no good"})
            assert (refused.status_code, refused.json()["error"]) == (403, "forbidden")
            assert refused.json()["reason"] == "no good"
            refused = await person.http.put(f"/{id}", json={**mine, "alien": "who?"})
            assert (refused.status_code, refused.json()["reason"]) == (401, "who?")
            results = await person.bulk(
                {"_id": id + "1", **mine, "bad": "b"},
                {"_id": id + "2", **mine},
                {"_id": id + "3", **mine, "odd": True},
                {"_id": id + "4", **mine},
            )
            assert [result.get("error", "stored") for result in results] == [
                "forbidden",
                "stored",
                "bad_gateway",
                "stored",
            ]
            assert "TypeError" in results[2]["reason"]
            (row,) = await person.bulk({"_id": id, "_rev": "1-a", **mine, "bad": "c"}, new_edits=False)
            assert (row["id"], row["error"], row["reason"]) == (id, "forbidden", "c")
            assert await person.status("GET", f"/{id}") == 404
        stored = [notes.name(f"by-{who.name}") + n for who in (ann, admin) for n in "24"]
        assert sorted(await ann.held()) == sorted(stored)


async def test_pouchdb_is_denied_what_the_upstreams_validation_refuses(notes: Place, driver: Driver) -> None:
    ann = await notes.user("ann", notes.name("a"))
    mine = {"place": notes.name(""), "channels": notes.name("a")}
    device = await driver.device("ann")
    async with validating(notes, "if (newDoc.bad) throw {forbidden: 'no good'};"):
        await device.put(notes.name("good"), **mine)
        await device.put(notes.name("bad"), **mine, bad=True)
        push = await device.push(await driver.remote(ann.url))
        denied = await push.event("denied")
        await push.event("complete")
    assert (denied["id"], denied["name"], denied["reason"]) == (notes.name("bad"), "forbidden", "no good")
    assert list(await ann.held()) == [notes.name("good")]


async def test_administrators_have_filter_functions_and_users_have_none(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    for n in range(4):
        await ann.put(notes.name(f"d{n}"), channels=notes.name("a"), place=notes.name(""), n=n)
    mine = f"doc.place === '{notes.name('')}'"
    id, name = f"_design/{notes.name('app')}", notes.name("app")
    design = {
        "filters": {"some": f"function (doc, req) {{ return {mine} && String(doc.n % 2) === req.query.rest; }}"},
        "views": {"some": {"map": f"function (doc) {{ if ({mine} && doc.n > 1) emit(null, null); }}"}},
    }
    rev = (await admin.http.put(f"/{id}", json=design)).json()["rev"]
    asked = {"filter": f"{name}/some", "rest": "1"}
    rows = (await admin.get("/_changes", **asked))["results"]
    assert [row["id"] for row in rows] == notes.names("d1", "d3")
    rows = (await admin.get("/_changes", filter="_view", view=f"{name}/some"))["results"]
    assert [row["id"] for row in rows] == notes.names("d2", "d3")
    async with admin.following(**asked, include_docs="true") as lines:
        row = await lines.row()
        assert (row["id"], row["doc"]["n"]) == (notes.name("d1"), 1)
    missing = await admin.http.get("/_changes", params={"filter": f"{name}/none"})
    assert (missing.status_code, missing.json()["reason"]) == (404, "missing json key: none")
    for params in (asked, {"filter": "_view", "view": f"{name}/some"}):
        assert await ann.status("GET", "/_changes", params=params) in (400, 501)
    await admin.delete(id, rev)


async def test_administrators_run_update_functions_and_what_they_store_is_routed(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    id, made = f"_design/{notes.name('app')}", notes.name("made")
    function = f"function (doc, req) {{ return [{{_id: req.id, channels: ['{notes.name('a')}']}}, 'made']; }}"
    rev = (await admin.http.put(f"/{id}", json={"updates": {"make": function}})).json()["rev"]
    assert await ann.status("POST", f"/{id}/_update/make/{made}") == 403
    answer = await admin.http.post(f"/{id}/_update/make/{made}")
    assert (answer.status_code, answer.text) == (201, "made")
    async with ann.following() as lines:
        row = await lines.row()
    assert (row["id"], row["changes"]) == (made, [{"rev": answer.headers["x-couch-update-newrev"]}])
    await admin.delete(id, rev)
