"""Views through the gateway: for administrators as of a CouchDB, for nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.protocol.pouch import ClientError, Driver, LocalDatabase
from tests.protocol.site import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


def design(notes: Place) -> dict[str, Any]:
    """Views that see the documents of this test only."""
    mine = f"if (doc.place !== '{notes.name('')}') return;"
    return {
        "_id": f"_design/{notes.name('app')}",
        "views": {
            "kinds": {"map": f"function (doc) {{ {mine} emit([doc.kind, doc.n], doc.n); }}", "reduce": "_sum"},
            "most": {
                "map": f"function (doc) {{ {mine} emit(doc.kind, doc.n); }}",
                "reduce": "function (keys, values) { return Math.max.apply(null, values); }",
            },
            "links": {"map": f"function (doc) {{ {mine} if (doc.link) emit(doc.n, {{_id: doc.link}}); }}"},
        },
    }


async def filled(notes: Place, driver: Driver) -> LocalDatabase:
    """PouchDB on the database as an administrator, with six documents and the design document."""
    remote = await driver.remote((await notes.admin()).url)
    docs = [
        {"_id": notes.name(f"d{n}"), "place": notes.name(""), "kind": "even" if n % 2 == 0 else "odd", "n": n}
        for n in range(6)
    ]
    docs[5]["link"] = docs[0]["_id"]
    await remote.call("bulkDocs", [*docs, design(notes)])
    return remote


async def test_pouchdb_queries_views_as_an_administrator(notes: Place, driver: Driver) -> None:
    remote = await filled(notes, driver)

    async def query(view: str, **options: Any) -> list[dict[str, Any]]:
        found = await remote.call("query", f"{notes.name('app')}/{view}", options)
        return list(found["rows"])

    assert await query("kinds") == [{"key": None, "value": 15}]
    assert await query("kinds", group_level=1) == [{"key": ["even"], "value": 6}, {"key": ["odd"], "value": 9}]
    mapped = await query("kinds", reduce=False, startkey=["even", 2], endkey=["odd", 1])
    assert [row["id"] for row in mapped] == notes.names("d2", "d4", "d1")
    assert [row["value"] for row in await query("kinds", reduce=False, keys=[["odd", 5], ["even", 0]])] == [5, 0]
    assert await query("kinds", group=True, descending=True, limit=1) == [{"key": ["odd", 5], "value": 5}]
    assert [row["value"] for row in await query("most", group=True)] == [4, 5]
    (linked,) = await query("links", include_docs=True)
    assert (linked["id"], linked["doc"]["_id"]) == (notes.name("d5"), notes.name("d0"))
    many = [["even", n] for n in range(500)]  # too long for a URL: PouchDB sends them in a body
    assert len(await query("kinds", reduce=False, keys=many)) == 3


async def test_pouchdb_hears_what_is_wrong_with_a_query(notes: Place, driver: Driver) -> None:
    remote = await filled(notes, driver)
    name = notes.name("app")
    for view, options, status, error in (
        (f"{name}/nothing", {}, 404, "not_found"),
        (f"{notes.name('no')}/kinds", {}, 404, "not_found"),
        (f"{name}/kinds", {"keys": [1, 2]}, 400, "query_parse_error"),
        (f"{name}/kinds", {"include_docs": True}, 400, "query_parse_error"),
        (f"{name}/links", {"startkey": 2, "endkey": 1}, 400, "query_parse_error"),
    ):
        with pytest.raises(ClientError) as raised:
            await remote.call("query", view, options)
        assert (raised.value.status, raised.value.name) == (status, error)


async def test_a_view_follows_what_users_write(notes: Place, driver: Driver) -> None:
    remote = await filled(notes, driver)
    ann = await notes.user("ann", notes.name("a"))
    rev = await ann.put(notes.name("hers"), channels=notes.name("a"), place=notes.name(""), kind="odd", n=100)
    view = f"{notes.name('app')}/most"
    assert (await remote.call("query", view, {"key": "odd"}))["rows"] == [{"key": None, "value": 100}]
    response = await ann.http.delete(f"/{notes.name('hers')}", params={"rev": rev})
    assert response.status_code == 200
    assert (await remote.call("query", view, {"key": "odd"}))["rows"] == [{"key": None, "value": 5}]


async def test_users_are_refused_views_and_all_that_is_below_a_design_document(notes: Place, driver: Driver) -> None:
    await filled(notes, driver)
    ann = await notes.user("ann", notes.name("a"))
    path = f"/_design/{notes.name('app')}"
    answers = await asyncio.gather(
        *(
            ann.http.get(path + rest)
            for rest in ("/_view/kinds", "/_view/kinds?update=false", "/_info", "/_view/nothing")
        ),
        ann.http.post(f"{path}/_view/kinds", json={"keys": []}),
        ann.http.post(f"{path}/_view/kinds/queries", json={"queries": [{}]}),
        ann.http.put(f"{path}x", json={"views": {}}),
        ann.http.post("/_view_cleanup", json={}),
    )
    assert {answer.status_code for answer in answers} == {403}
    assert not any(name in answer.text for answer in answers for name in notes.names("d0", "d5"))
    with pytest.raises(ClientError) as raised:
        await (await driver.remote(ann.url)).call("query", f"{notes.name('app')}/kinds")
    assert raised.value.status == 403


async def test_a_function_that_does_not_compile_is_refused_through_the_gateway(notes: Place) -> None:
    admin = await notes.admin()
    answer = await admin.http.put(f"/_design/{notes.name('bad')}", json={"views": {"v": {"map": "function ( {"}}})
    assert (answer.status_code, answer.json()["error"]) == (400, "compilation_error")
    body = {"docs": [{"_id": f"_design/{notes.name('bad')}", "views": {"v": {"map": "function ( {"}}}]}
    (row,) = (await admin.http.post("/_bulk_docs", json=body)).json()
    assert (row["error"], row["code"]) == ("compilation_error", "CG1031")
    assert row["reason"].startswith("Compilation of the map function in the 'v' view failed")
