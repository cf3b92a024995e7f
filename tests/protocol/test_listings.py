"""`_all_docs`, `_design_docs` and `_local_docs`: ranges, keys, several queries, lists of any size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.protocol.site import Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def ids(person: Person, path: str = "/_all_docs", **asked: Any) -> list[str]:
    as_they_are = ("startkey_docid", "update")
    params = {name: value if name in as_they_are else json.dumps(value) for name, value in asked.items()}
    return [row["id"] for row in (await person.get(path, **params))["rows"]]


async def test_a_bound_that_is_no_string_bounds_nothing_but_the_id_beside_it_does(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    docs = notes.names("b", "c", "d")
    await ann.bulk(*({"_id": doc, "channels": notes.name("a")} for doc in docs))
    bounds: list[Any] = [None, 1, {}, [], True]
    for bound in bounds:
        assert await ids(ann, startkey=bound) == docs
        assert await ids(ann, endkey=bound, descending=True) == docs[::-1]
        assert await ids(ann, key=bound) == docs
        assert await ids(ann, startkey=bound, startkey_docid=docs[1]) == docs[1:]
    assert await ids(ann, startkey=docs[2], endkey=docs[0]) == []
    assert await ids(ann, key=docs[1], inclusive_end=False) == []
    assert await ids(ann, startkey=docs[0], startkey_docid=docs[2], sorted=True, update="lazy") == docs


async def test_several_queries_are_each_answered_as_alone(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    mine, theirs = notes.names("m1", "m2", "m3"), notes.name("m2theirs")
    await ann.bulk(*({"_id": doc, "channels": notes.name("a"), "n": 1} for doc in mine))
    await bob.put(theirs, channels=notes.name("b"))
    queries: list[dict[str, Any]] = [
        {"keys": [mine[1], theirs, "nobody", 7]},
        {"startkey": mine[1], "limit": 1},
        {"startkey": mine[2], "descending": True, "skip": 1, "include_docs": True},
        {"limit": 0, "update_seq": True},
    ]
    answer = await ann.http.post("/_all_docs/queries", json={"queries": queries})
    assert answer.status_code == 200
    for query, result in zip(queries, answer.json()["results"], strict=True):
        alone = await ann.http.post("/_all_docs", json=query)
        assert result == alone.json()
    keys = answer.json()["results"][0]
    assert [row.get("error") for row in keys["rows"]] == [None, "not_found", "not_found", "not_found"]
    assert (keys["total_rows"], keys["offset"]) == (3, None)
    assert answer.json()["results"][3]["update_seq"] == await ann.now()


async def test_a_list_of_many_documents_is_complete_in_both_directions(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    mine = [notes.name(f"d{number:05}") for number in range(0, 6_000, 2)]
    await ann.bulk(*({"_id": doc, "channels": notes.name("a"), "text": "x" * 200} for doc in mine))
    await bob.bulk(*({"_id": f"{doc}b", "channels": notes.name("b")} for doc in mine[::10]))
    several: list[dict[str, Any]] = [{}, {"include_docs": True}]
    for asked in several:
        assert await ids(ann, **asked) == mine
        assert await ids(ann, descending=True, skip=3, **asked) == mine[::-1][3:]
    assert await ids(ann, startkey=mine[100], limit=2_000) == mine[100:2_100]
    by_keys = await ann.http.post("/_all_docs", params={"include_docs": "true"}, json={"keys": mine[::-1]})
    assert [row["doc"]["_id"] for row in by_keys.json()["rows"]] == mine[::-1]


async def test_users_see_no_design_documents_and_administrators_all(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    design, doc = f"_design/{notes.name('x')}", notes.name("doc")
    await admin.put(design, views={})
    rev = await ann.put(doc, channels=notes.name("a"))
    assert await ann.get("/_design_docs") == {"total_rows": 0, "offset": 0, "rows": []}
    by_keys = await ann.http.post("/_design_docs", json={"keys": [design]})
    assert by_keys.json()["rows"] == [{"key": design, "error": "not_found"}]
    assert design not in await ids(ann)
    assert {design} <= set(await ids(admin, "/_design_docs"))
    assert await ids(admin, startkey=design, endkey=design) == [design]
    listed = await admin.get("/_all_docs", update_seq="true", limit=1)
    assert listed["update_seq"] == await admin.now()
    assert list(listed) == ["total_rows", "offset", "update_seq", "rows"]
    several = await admin.http.post("/_all_docs/queries", json={"queries": [{"key": design}, {"key": doc}]})
    assert [one["rows"][0]["id"] for one in several.json()["results"]] == [design, doc]
    read = await admin.http.post("/_bulk_get", json={"docs": [{"id": design}, {"id": doc, "rev": rev}]})
    assert [one["docs"][0]["ok"]["_id"] for one in read.json()["results"]] == [design, doc]


async def test_local_documents_are_listed_with_all_options_to_their_owner_alone(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("a"))
    own = [f"_local/{name}" for name in ("a", "b", "c", "é")]
    for doc in own:
        await ann.put(doc, n=doc)
    await bob.put("_local/d", n=1)
    path = "/_local_docs"
    assert await ids(ann, path) == own
    assert await ids(ann, path, startkey="_local/b", endkey="_local/é", inclusive_end=False) == own[1:3]
    assert await ids(ann, path, startkey="_local/c", descending=True, skip=1, limit=1) == own[1:2]
    assert await ids(ann, path, key="_local/d") == []
    found = await ann.get(path, include_docs="true", limit="1", update_seq="true")
    row = {"id": own[0], "key": own[0], "value": {"rev": "0-1"}}
    held = {"_id": own[0], "_rev": "0-1", "n": own[0]}
    assert found == {"total_rows": None, "offset": None, "update_seq": None, "rows": [{**row, "doc": held}]}
    keys = {"keys": ["_local/d", own[0], 1], "include_docs": True}
    posted = (await ann.http.post(path, json=keys)).json()["rows"]
    missing = [{"key": "_local/d", "error": "not_found"}, {"key": 1, "error": "not_found"}]
    assert posted == [missing[0], {**row, "doc": held}, missing[1]]
    several = await ann.http.post(f"{path}/queries", json={"queries": [{"limit": 1}, {"keys": ["_local/d"]}]})
    assert [one["rows"] for one in several.json()["results"]] == [[row], missing[:1]]


async def test_the_design_document_of_the_channel_filter_is_read_as_any_other(notes: Place) -> None:
    ann = await notes.user("ann")
    path = "/_design/sync_gateway"
    answer = await ann.http.get(path)
    rev = answer.json()["_rev"]
    assert answer.headers["etag"] == f'"{rev}"'
    assert await ann.status("HEAD", path) == 200
    assert await ann.status("GET", path, params={"rev": rev}) == 200
    assert await ann.status("GET", path, params={"rev": "2-x"}) == 404
    assert await ann.status("GET", path, headers={"If-None-Match": f'"{rev}"'}) == 304
