"""`_find` and `filter=_selector` as a user: over exactly what he may read, the same on every upstream."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.mango.selector import selector
from tests.protocol.pouch import ClientError, Driver
from tests.protocol.site import Lines, Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def find(who: Person, **query: Any) -> dict[str, Any]:
    answer = await who.http.post("/_find", json=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def found(who: Person, **query: Any) -> list[str]:
    return [doc["_id"] for doc in (await find(who, **query))["docs"]]


async def selected(who: Person, wanted: dict[str, Any], **params: Any) -> dict[str, Any]:
    """A `_changes` answer with `filter=_selector`."""
    asked = {"filter": "_selector", **params}
    answer = await who.http.post("/_changes", params=asked, json={"selector": wanted})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def some_notes(place: Place, count: int = 30) -> tuple[Person, list[str]]:
    """A user, and the ids of what she may read: every second of the documents."""
    ann, bob = await place.user("ann", place.name("a")), await place.user("bob", place.name("b"))
    mine = [place.name(f"d{number:02}") for number in range(0, count, 2)]
    theirs = [place.name(f"d{number:02}") for number in range(1, count, 2)]
    await ann.bulk(*({"_id": id, "channels": place.name("a"), "n": at, "of": "ann"} for at, id in enumerate(mine)))
    await bob.bulk(*({"_id": id, "channels": place.name("b"), "n": at, "of": "bob"} for at, id in enumerate(theirs)))
    return ann, mine


async def test_a_query_answers_what_the_user_may_read_and_nothing_else(notes: Place) -> None:
    ann, mine = await some_notes(notes)
    answer = await find(ann, selector={"n": {"$gte": 0}}, execution_stats=True)
    assert [doc["_id"] for doc in answer["docs"]] == mine
    assert all(set(doc) == {"_id", "_rev", "channels", "n", "of"} for doc in answer["docs"])
    assert answer["execution_stats"]["total_docs_examined"] == len(mine)
    assert answer["warning"].startswith("No matching index found")
    assert await found(ann, selector={"of": "bob"}) == []
    assert await found(ann, selector={"_id": notes.name("d01")}) == []


async def test_limit_skip_and_bookmark_give_each_row_once(notes: Place) -> None:
    ann, mine = await some_notes(notes)
    for limit in (1, 4, 15, 100):
        seen: list[str] = []
        bookmark: str | None = None
        while docs := (page := await find(ann, selector={}, limit=limit, bookmark=bookmark))["docs"]:
            assert len(docs) == min(limit, len(mine) - len(seen))
            seen += [doc["_id"] for doc in docs]
            bookmark = page["bookmark"]
        assert seen == mine
    assert await found(ann, selector={}, skip=3, limit=2) == mine[3:5]
    first = await find(ann, selector={}, limit=2)
    assert await found(ann, selector={}, skip=1, limit=2, bookmark=first["bookmark"]) == mine[3:5]
    assert (await find(ann, selector={"no": 1}))["bookmark"] == "nil"
    assert (await find(ann, selector={}, limit=0))["docs"] == []


async def test_a_bookmark_goes_on_after_its_document_was_deleted_and_others_came(notes: Place) -> None:
    ann, mine = await some_notes(notes)
    page = await find(ann, selector={}, limit=3)
    await ann.delete(page["docs"][-1]["_id"], page["docs"][-1]["_rev"])
    await ann.put(notes.name("d00x"), channels=notes.name("a"))
    assert await found(ann, selector={}, limit=3, bookmark=page["bookmark"]) == mine[3:6]


async def test_sorts_in_both_directions_and_pages_through_them(notes: Place) -> None:
    ann, mine = await some_notes(notes)
    await ann.put(notes.name("none"), channels=notes.name("a"))  # lacks the field: not in a sort by it
    assert await found(ann, selector={}, sort=[{"_id": "desc"}], limit=3) == [notes.name("none"), *mine[:-3:-1]]
    for sort, expected in ((["n"], mine), ([{"n": "desc"}], mine[::-1]), (["of", "n"], mine)):
        seen: list[str] = []
        bookmark: str | None = None
        while docs := (page := await find(ann, selector={}, sort=sort, limit=4, bookmark=bookmark))["docs"]:
            seen += [doc["_id"] for doc in docs]
            bookmark = page["bookmark"]
        assert seen == expected
    down = await find(ann, selector={}, sort=[{"_id": "desc"}], limit=5)
    rest = await found(ann, selector={}, sort=[{"_id": "desc"}], limit=50, bookmark=down["bookmark"])
    assert rest == mine[-5::-1]


async def test_ids_ranges_and_prefixes_of_ids(notes: Place) -> None:
    ann, mine = await some_notes(notes)
    stats = {"execution_stats": True}
    asked = [mine[4], notes.name("d01"), "unknown", mine[2]]
    answer = await find(ann, selector={"_id": {"$in": asked}}, **stats)
    assert [doc["_id"] for doc in answer["docs"]] == [mine[2], mine[4]]
    assert answer["execution_stats"]["total_docs_examined"] == 2
    answer = await find(ann, selector={"_id": {"$gt": mine[3], "$lte": mine[6]}}, **stats)
    assert [doc["_id"] for doc in answer["docs"]] == mine[4:7]
    assert answer["execution_stats"]["total_docs_examined"] == 4
    assert await found(ann, selector={"_id": {"$beginsWith": "d1"}}) == mine[5:10]
    page = await find(ann, selector={"_id": {"$in": asked}}, limit=1)
    assert await found(ann, selector={"_id": {"$in": asked}}, bookmark=page["bookmark"]) == [mine[4]]
    backwards = {"selector": {"_id": {"$lte": mine[6]}}, "sort": [{"_id": "desc"}], "limit": 2}
    page = await find(ann, **backwards)
    assert [doc["_id"] for doc in page["docs"]] == [mine[6], mine[5]]
    assert await found(ann, **backwards, bookmark=page["bookmark"]) == [mine[4], mine[3]]


async def test_only_the_winner_counts_and_only_readable_conflicts_are_told(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    doc, room, other = notes.name("doc"), notes.name("a"), notes.name("b")
    await admin.replicate(doc, "2-c", "1-a", channels=room, side="c")
    await admin.replicate(doc, "2-b", "1-a", channels=room, side="b")
    await admin.replicate(doc, "2-a", "1-a", channels=other, side="a")
    assert await found(ann, selector={"side": "b"}) == []
    (winner,) = (await find(ann, selector={"side": "c"}, conflicts=True))["docs"]
    assert winner["_conflicts"] == ["2-b"]
    assert await found(ann, selector={"_conflicts": {"$size": 1}}, conflicts=True) == [doc]
    assert (await find(ann, selector={"side": "c"}, fields=["side", "_rev"]))["docs"] == [{"_rev": "2-c", "side": "c"}]
    await admin.replicate(doc, "3-d", "2-a", "1-a", channels=other, side="d")  # the winner is another's now
    assert await found(ann, selector={"side": {"$exists": True}}) == []


async def test_access_that_comes_and_goes_changes_what_is_found(notes: Place) -> None:
    ann, mine = await some_notes(notes)
    await notes.change_user(ann, admin_channels=[])
    assert await found(ann, selector={}) == []
    await notes.change_user(ann, admin_channels=[notes.name("b")])
    assert len(await found(ann, selector={"of": "bob"})) == 15
    assert await found(ann, selector={"_id": mine[0]}) == []


async def test_what_users_may_not_ask_is_refused_clearly(notes: Place) -> None:
    ann, admin = await notes.user("ann"), await notes.admin()
    for method, path in (
        ("GET", "/_index"),
        ("POST", "/_index"),
        ("POST", "/_explain"),
        ("DELETE", "/_index/x/json/y"),
    ):
        answer = await ann.http.request(method, path, json={} if method == "POST" else None)
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
    bad = await ann.http.post("/_find", json={"selector": {"a": {"$in": "ab"}}})
    assert (bad.status_code, bad.json()["error"], bad.json()["code"]) == (400, "bad_arg", "CG1040")
    # CouchDB itself words it just so.
    same = await admin.http.post("/_find", json={"selector": {"a": {"$in": "ab"}}})
    assert (same.status_code, same.json()["error"], same.json()["reason"]) == (400, "bad_arg", bad.json()["reason"])


async def test_a_runaway_pattern_is_refused_and_hinders_nobody(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    await ann.put(notes.name("doc"), channels=notes.name("a"), text="a" * 60 + "!")
    slow = asyncio.ensure_future(ann.http.post("/_find", json={"selector": {"text": {"$regex": "^(a+)+$"}}}))
    assert (await ann.get(f"/{notes.name('doc')}"))["text"]
    answer = await slow
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_arg")


# filter=_selector


async def test_a_selector_narrows_a_feed_to_what_matches(notes: Place) -> None:
    ann, mine = await some_notes(notes)
    page = await selected(ann, {"n": {"$lt": 3}})
    assert (sorted(row["id"] for row in page["results"]), page["pending"]) == (mine[:3], 0)
    assert page["last_seq"] == await ann.now()
    page = await selected(ann, {"of": "bob"})
    assert (page["results"], page["last_seq"]) == ([], await ann.now())
    admin = await notes.admin()
    everybody = {"_id": {"$in": [mine[0], notes.name("d01")]}}
    assert {row["id"] for row in (await selected(admin, everybody))["results"]} == {mine[0], notes.name("d01")}
    asked = {"filter": "_selector", "selector": json.dumps({"n": 4})}
    assert await ann.listed(**asked) == [mine[4]]


async def test_pages_of_a_selected_feed_are_full_until_it_has_caught_up(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    room = notes.name("a")
    ids = [notes.name(f"d{number:04}") for number in range(1_200)]
    await ann.bulk(*({"_id": id, "channels": room, "n": at, "hit": at % 100 == 99} for at, id in enumerate(ids)))
    hits = ids[99::100]
    seen: list[str] = []
    since = "0"
    while rows := (page := await selected(ann, {"hit": True}, limit=5, since=since))["results"]:
        assert len(rows) == min(5, len(hits) - len(seen))
        seen += [row["id"] for row in rows]
        if len(rows) == 5:
            assert page["last_seq"] == rows[-1]["seq"]
            assert page["pending"] >= len(hits) - len(seen)
        since = page["last_seq"]
    assert sorted(seen) == hits
    down = await selected(ann, {"hit": True}, descending="true", limit=3)
    assert [row["id"] for row in down["results"]] == seen[:-4:-1]


async def test_leaves_are_selected_each_by_itself_with_all_docs(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc, room = notes.name("doc"), notes.name("a")
    await ann.replicate(doc, "2-c", "1-a", channels=room, side="c")
    await ann.replicate(doc, "2-b", "1-a", channels=room, side="b")
    assert (await selected(ann, {"side": "b"}))["results"] == []
    (row,) = (await selected(ann, {"side": "b"}, style="all_docs", include_docs="true"))["results"]
    assert (row["changes"], row["doc"]["side"]) == ([{"rev": "2-b"}], "c")
    (row,) = (await selected(ann, {"_conflicts": {"$exists": True}}))["results"]
    assert row["changes"] == [{"rev": "2-c"}]


async def test_a_tombstone_is_selected_by_its_own_body(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    room = notes.name("a")
    kept, bare = notes.names("kept", "bare")
    before = await ann.now()
    revs = {id: await ann.put(id, channels=room, kind="note") for id in (kept, bare)}
    since = await ann.now()
    await ann.put(kept, revs[kept], channels=room, kind="note", _deleted=True)
    await ann.delete(bare, revs[bare])
    assert [row["id"] for row in (await selected(ann, {"kind": "note"}, since=since))["results"]] == [kept]
    gone = await selected(ann, {"_deleted": True}, since=since)
    assert {row["id"]: row["deleted"] for row in gone["results"]} == {kept: True, bare: True}
    assert (await selected(ann, {"_deleted": {"$exists": False}}, since=before))["results"] == []


async def test_fields_cut_down_the_included_documents(notes: Place) -> None:
    ann, mine = await some_notes(notes, 4)
    asked = {"filter": "_selector", "include_docs": "true"}
    body = {"selector": {"n": 1}, "fields": ["n", "_id"]}
    (row,) = (await ann.http.post("/_changes", params=asked, json=body)).json()["results"]
    assert row["doc"] == {"n": 1, "_id": mine[1]}


async def test_a_waiting_feed_tells_only_what_matches(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    room, body = notes.name("a"), {"selector": {"kind": "note"}}
    asked = {"filter": "_selector", "feed": "continuous", "heartbeat": "1000", "since": await ann.now()}
    async with ann.http.stream("POST", "/_changes", params=asked, json=body) as response:
        lines = Lines(response)
        assert await lines.line() == ""  # it waits
        for number in range(5):
            await ann.put(notes.name(f"other{number}"), channels=room, kind="other")
        await ann.put(notes.name("note"), channels=room, kind="note")
        assert (await lines.row())["id"] == notes.name("note")
    poll = {"filter": "_selector", "feed": "longpoll", "since": await ann.now(), "timeout": "20000"}
    async with ann.http.stream("POST", "/_changes", params=poll, json=body) as response:
        await ann.put(notes.name("another"), channels=room, kind="other")
        await ann.put(notes.name("second"), channels=room, kind="note")
        page = json.loads(await response.aread())
    assert [row["id"] for row in page["results"]] == [notes.name("second")]


async def test_heartbeats_go_on_while_nothing_that_comes_matches(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    stop = asyncio.Event()

    async def write() -> None:
        for number in range(10_000):
            if stop.is_set():
                return
            await ann.put(notes.name(f"d{number}"), channels=notes.name("a"), kind="other")

    writing = asyncio.create_task(write())
    asked = {"filter": "_selector", "feed": "continuous", "heartbeat": "1000"}
    async with ann.http.stream("POST", "/_changes", params=asked, json={"selector": {"kind": "note"}}) as response:
        lines = Lines(response)
        assert [await lines.line() for _ in range(2)] == ["", ""]
    stop.set()
    await writing


async def test_a_feed_of_design_documents_is_empty_for_users(notes: Place) -> None:
    ann, _ = await some_notes(notes, 4)
    page = await ann.changes(filter="_design")
    assert (page["results"], page["last_seq"]) == ([], await ann.now())


# Real clients


async def test_pouchdb_finds_as_a_user(notes: Place, driver: Driver) -> None:
    ann, mine = await some_notes(notes)
    remote = await driver.remote(ann.url)
    answer = await remote.call("find", {"selector": {"n": {"$gte": 5}}, "fields": ["_id", "n"], "limit": 3})
    assert answer["docs"] == [{"_id": id, "n": at + 5} for at, id in enumerate(mine[5:8])]
    answer = await remote.call("find", {"selector": {"n": {"$gte": 5}}, "limit": 3, "bookmark": answer["bookmark"]})
    assert [doc["_id"] for doc in answer["docs"]] == mine[8:11]
    answer = await remote.call("find", {"selector": {}, "sort": [{"n": "desc"}], "limit": 2})
    assert [doc["_id"] for doc in answer["docs"]] == [mine[-1], mine[-2]]
    for method, argument in (("createIndex", {"index": {"fields": ["n"]}}), ("explain", {"selector": {}})):
        with pytest.raises(ClientError) as refused:
            await remote.call(method, argument)
        assert (refused.value.status, refused.value.reason) == (403, "only administrators may do this")


async def test_pouchdb_replicates_what_a_selector_matches(notes: Place, driver: Driver) -> None:
    ann, mine = await some_notes(notes)
    remote, phone = await driver.remote(ann.url), await driver.device("phone")
    result = await phone.pulled(remote, selector={"n": {"$mod": [3, 0]}}, batch_size=2)
    assert (result["ok"], result["docs_written"]) == (True, 5)
    assert await phone.ids() == mine[::3]
    tablet = await driver.device("tablet")
    live = await tablet.pull(remote, selector={"n": {"$gt": 100}}, live=True)
    await ann.put(notes.name("no"), channels=notes.name("a"), n=3)
    await ann.put(notes.name("yes"), channels=notes.name("a"), n=101)
    await tablet.holds(notes.name("yes"))
    await live.cancel()


async def test_pouchdb_replicates_given_ids(notes: Place, driver: Driver) -> None:
    ann, mine = await some_notes(notes)
    remote, phone = await driver.remote(ann.url), await driver.device("phone")
    result = await phone.pulled(remote, doc_ids=[mine[1], mine[7], notes.name("d01")])
    assert (result["ok"], result["docs_written"]) == (True, 2)
    assert await phone.ids() == [mine[1], mine[7]]


async def test_an_administrator_asks_the_upstream(notes: Place) -> None:
    _, mine = await some_notes(notes)
    admin = await notes.admin()
    made = await admin.http.post("/_index", json={"index": {"fields": ["of", "n"]}, "name": notes.name("by-n")})
    assert made.json()["result"] == "created"
    listed = await admin.get("/_index")
    assert listed["indexes"][0]["name"] == "_all_docs"
    assert notes.name("by-n") in [index["name"] for index in listed["indexes"]]
    explained = (await admin.http.post("/_explain", json={"selector": {"of": "ann", "n": 1}})).json()
    assert explained["index"]["name"] == notes.name("by-n")
    both = {"_id": {"$in": [mine[0], notes.name("d01")]}}
    assert await found(admin, selector=both) == [mine[0], notes.name("d01")]
    ddoc = made.json()["id"].removeprefix("_design/")
    assert (await admin.http.delete(f"/_index/{ddoc}/json/{notes.name('by-n')}")).json() == {"ok": True}


# Against a plain matcher

_SELECTORS: list[dict[str, Any]] = [
    {},
    {"n": {"$gt": 3}},
    {"s": {"$lt": "b"}},
    {"s": {"$gte": "B", "$ne": "b"}},
    {"$or": [{"n": {"$lt": 2}}, {"s": {"$regex": "^[aä]"}}]},
    {"$not": {"l": {"$elemMatch": {"$eq": 2}}}},
    {"l": {"$all": [1, 2]}},
    {"o": {"k": {"$exists": False}}},
    {"o.k": {"$in": [1, None, "x"]}},
    {"$nor": [{"n": {"$mod": [2, 0]}}, {"s": "a"}]},
    {"o": {"$keyMapMatch": {"$eq": "k"}}},
    {"_id": {"$gte": "m"}, "n": {"$type": "number"}},
]


async def test_a_query_is_the_readable_documents_put_through_a_plain_matcher(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    values: list[Any] = [0, 3, 4.5, "3", None]
    texts = ["a", "A", "ä", "b", "B", ""]
    await admin.bulk(
        *(
            {
                "_id": f"{'amz'[at % 3]}{at:03}-{notes.tag}",
                "channels": notes.name("ab"[at % 2]),
                "n": values[at % 5],
                "s": texts[at % 6],
                "l": [at % 4, 1, 2][: at % 4],
                "o": {"k": values[at % 5]} if at % 3 else {"j": at},
            }
            for at in range(120)
        )
    )
    readable = [row["doc"] for row in (await ann.get("/_all_docs", include_docs="true"))["rows"]]
    assert len(readable) == 60
    for wanted in _SELECTORS:
        expected = [doc for doc in readable if selector(wanted)(doc)]
        assert (await find(ann, selector=wanted, limit=1_000))["docs"] == expected, wanted
        rows = (await selected(ann, wanted))["results"]
        assert {row["id"] for row in rows} == {doc["_id"] for doc in expected}, wanted
