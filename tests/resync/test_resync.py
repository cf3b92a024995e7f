"""Routing everything again by another sync function, over HTTP: the preview, what then happens, what clients see."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.site import Person, Place
from tests.resync.conftest import BY_OWNER, BY_ROOM, ended, resync, want
from tests.routing.world import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def filled(rooms: Place) -> tuple[Person, Person, Person]:
    """The administrator, ann with the channel a, and bob with b."""
    admin, ann, bob = await rooms.admin(), await rooms.user("ann", "a"), await rooms.user("bob", "b")
    await admin.put("stays", room="a")
    await admin.put("moves", room="a", owner="b")
    await admin.put("bad", room="a", bad=True)
    await admin.put("membership", room="staff", grants=bob.name, to="a", revoked=True)
    await admin.put("door", room="c", joins=ann.name)
    return admin, ann, bob


async def test_a_preview_tells_exactly_what_a_resync_then_does(rooms: Place) -> None:
    admin, ann, bob = await filled(rooms)
    number = await want(admin, BY_OWNER)
    before = await ann.changes(), await bob.changes(), await admin.get("/_status")
    await resync(admin, preview=True)
    told = await ended(admin)
    assert (told["preview"], told["version"]) == (True, number)
    assert (told["docs_total"], told["docs_processed"], told["docs_changed"]) == (5, 5, 4)
    assert (told["docs_refused"], told["docs_failed"]) == (1, 0)
    assert (told["channels"], told["access"]) == ({"entered": 1, "left": 2}, {"gained": 1, "lost": 1})
    assert (await ann.changes(), await bob.changes(), await admin.get("/_status")) == before, "nothing happened"
    assert (await admin.get("/_resync/channels"))["channels"] == [
        {"channel": "a", "entered": 0, "left": 2},
        {"channel": "b", "entered": 1, "left": 0},
    ]
    assert (await admin.get("/_resync/access"))["access"] == [
        {"user": ann.name, "channel": "c", "change": "gained"},
        {"user": bob.name, "channel": "a", "change": "lost"},
    ]
    moves = {"id": "moves", "rev": (await admin.get("/moves"))["_rev"], "entered": ["b"], "left": ["a"]}
    assert (await admin.get("/_resync/documents", kind="entered", channel="b"))["documents"] == [moves]
    assert await ids(admin, "left") == ["moves", "bad"]
    assert await ids(admin, "left", channel="b") == []
    assert await ids(admin, "changed") == ["moves", "bad", "membership", "door"]
    (refused,) = (await admin.get("/_resync/documents", kind="refused"))["documents"]
    assert (refused["id"], refused["refused"]) == ("bad", "no bad ones")

    assert sorted(await bob.held()) == ["bad", "moves", "stays"]
    await resync(admin)
    told = await ended(admin)
    assert (told["preview"], told["docs_changed"], told["last_error"]) == (False, 4, None)
    status = await admin.get("/_status")
    assert (status["sync_version"], status["sync_wanted"], status["routing_outdated"]) == (number, None, False)
    assert sorted(await ann.held()) == ["door", "stays"]
    assert await bob.held() == ["moves"]
    assert sorted(await ids(admin, "changed")) == ["bad", "door", "membership", "moves"]


async def ids(admin: Person, kind: str, **more: Any) -> list[str]:
    """All documents of a list, in pages of two."""
    found: list[str] = []
    start: int | None = 0
    while start is not None:
        page = await admin.get("/_resync/documents", kind=kind, startkey=start, limit=2, **more)
        found += [row["id"] for row in page["documents"]]
        start = page["next"]
    return found


async def test_clients_learn_the_difference_and_nothing_else(rooms: Place) -> None:
    admin, ann, bob = await filled(rooms)
    await want(admin, BY_OWNER)
    since = await ann.now()
    async with (
        ann.following(since=since, revocations="true") as aware,
        ann.following(since=since) as stock,
        bob.following(since=since) as others,
    ):
        await resync(admin)
        await ended(admin)
        rows = [await aware.row() for _ in range(3)]
        assert {(row["id"], "removed" in row) for row in rows} == {("moves", True), ("bad", True), ("door", False)}
        assert await stock.ids(1) == ["door"]
        assert await others.ids(1) == ["moves"]
    rows = await ann.read(since=since, revocations="true", limit=1)
    assert sorted((row["id"], "removed" in row) for row in rows) == [("bad", True), ("door", False), ("moves", True)]
    rows = await bob.read(since=since, revocations="true", limit=1)
    assert sorted((row["id"], "revoked" in row) for row in rows) == [("bad", True), ("moves", False), ("stays", True)]


async def test_a_document_whose_routing_did_not_change_keeps_its_sequence(rooms: Place) -> None:
    admin, ann, _ = await filled(rooms)
    before = {row["id"]: row["seq"] for row in (await ann.changes())["results"]}
    await want(admin, BY_OWNER)
    await resync(admin)
    await ended(admin)
    after = {row["id"]: row["seq"] for row in (await ann.changes())["results"]}
    assert after["stays"] == before["stays"]
    await want(admin, BY_OWNER + " ")
    now = await ann.now()
    await resync(admin)
    assert (await ended(admin))["docs_changed"] == 0
    assert await ann.now() == now, "no sequence was taken"


async def test_any_source_can_be_previewed_and_then_be_applied(rooms: Place) -> None:
    admin, ann, _ = await filled(rooms)
    await resync(admin, preview=True, sync=BY_OWNER)
    told = await ended(admin)
    assert (told["version"], told["docs_changed"]) == (None, 4)
    assert (await admin.get("/_config/sync", versions="true"))["versions"][-1]["number"] == 1
    await resync(admin, sync=BY_OWNER)
    assert (await ended(admin))["version"] == 2
    assert sorted(await ann.held()) == ["door", "stays"]
    await resync(admin, version=1)
    assert (await ended(admin))["version"] == 1
    assert sorted(await ann.held()) == ["bad", "moves", "stays"]
    assert (await admin.http.get("/_config/sync")).text == BY_ROOM


async def test_a_preview_tells_which_documents_would_expire_and_when(rooms: Place) -> None:
    """They are deleted in CouchDB once the function is in force, and nothing else of them may differ."""
    admin = await rooms.admin()
    await admin.put("lasts", room="a")
    await admin.put("goes", room="a", until="2020-01-31T12:00:00Z")
    await admin.put("gone", room="a", until="2020-01-31T12:00:00Z")
    await admin.delete("gone", (await admin.get("/gone"))["_rev"])
    expiring = BY_ROOM.replace("{", "{ expiry(doc.until || (doc._deleted && 60));", 1)
    await resync(admin, preview=True, sync=expiring)
    told = await ended(admin)
    assert (told["docs_changed"], told["docs_expiring"]) == (0, 1)
    (listed,) = (await admin.get("/_resync/documents", kind="expiring"))["documents"]
    assert (listed["id"], listed["expires"]) == ("goes", "2020-01-31T12:00:00Z")
    assert await admin.status("GET", "/goes") == 200
    await resync(admin, sync=expiring)
    held = await ended(admin, "held")
    assert "1 documents have expired by the sync function and would be deleted" in held["last_error"]
    assert await admin.status("GET", "/goes") == 200, "nothing is deleted before an administrator accepts that"
    await resync(admin, sync=expiring, accept_failures=True)
    await ended(admin, "held")
    await resync(admin, sync=expiring, accept_deletions=True)
    assert (await ended(admin))["docs_expiring"] == 1

    async def is_gone() -> bool:
        return await admin.status("GET", "/goes") == 404

    await until(is_gone)
    assert await admin.status("GET", "/lasts") == 200


async def test_there_must_be_something_to_do(rooms: Place) -> None:
    admin = await rooms.admin()
    assert await admin.get("/_resync") == {"status": "none"}
    for path, status, reason in (
        ("/_resync", 412, "no other version"),
        ("/_resync?action=stop", 412, "no resync is running"),
        ("/_resync?version=7", 404, "no version 7"),
    ):
        answer = await admin.http.post(path)
        assert (answer.status_code, reason in answer.json()["reason"]) == (status, True)
    answer = await admin.http.post("/_resync", json={"sync": "function (", "preview": True})
    assert (answer.status_code, answer.json()["code"]) == (400, "CG5005")


async def test_a_function_that_fails_is_not_brought_in_before_an_administrator_accepts_that(rooms: Place) -> None:
    admin, ann, _ = await filled(rooms)
    await admin.put("broken", room="a", broken=True)
    number = await want(admin, BY_OWNER)
    await resync(admin)
    told = await ended(admin, "held")
    assert (told["docs_failed"], "failed on 1 documents" in told["last_error"]) == (1, True)
    (failed,) = (await admin.get("/_resync/documents", kind="failed"))["documents"]
    assert failed["id"] == "broken"
    assert "TypeError" in failed["failed"]
    assert "line 4" in failed["failed"]
    assert "broken" in await ann.held()
    assert (await admin.get("/_status"))["sync_version"] == number - 1
    await resync(admin)
    await ended(admin, "held")
    answer = await admin.http.post("/_resync?accept_failures=true")
    assert answer.status_code == 200
    await ended(admin)
    assert sorted(await ann.held()) == ["door", "stays"]


async def test_conflicting_and_deleted_revisions_are_routed_again_too(rooms: Place) -> None:
    admin, ann, bob = await rooms.admin(), await rooms.user("ann", "a"), await rooms.user("bob", "b")
    await admin.replicate("both", "1-b", room="a", owner="b")
    await admin.replicate("both", "1-a", room="b", owner="a")
    rev = await admin.put("gone", room="a", owner="b")
    since = await ann.now()
    (deleted,) = await admin.bulk({"_id": "gone", "_rev": rev, "_deleted": True, "room": "a", "owner": "b"})
    assert (await ann.get("/both"))["_rev"] == "1-b"
    await want(admin, BY_OWNER)
    await resync(admin)
    assert (await ended(admin))["docs_changed"] == 2
    assert (await bob.get("/both"))["_rev"] == "1-b"
    assert await ann.status("GET", "/both") == 403
    json_form = {"Accept": "application/json"}
    (row,) = (await ann.http.get("/both", params={"open_revs": '["1-a"]'}, headers=json_form)).json()
    assert row["ok"]["owner"] == "a"
    (row,) = (await ann.changes(since=since))["results"]
    assert (row["id"], row["deleted"], row["changes"]) == ("gone", True, [{"rev": deleted["rev"]}])
    assert (await ann.get("/gone", rev=deleted["rev"]))["_deleted"] is True, "who held it may see that it is deleted"


async def test_a_document_changed_after_it_was_previewed_is_computed_again(rooms: Place) -> None:
    admin, ann, _ = await filled(rooms)
    await want(admin, BY_OWNER)
    await resync(admin, preview=True)
    await ended(admin)
    rev = (await admin.get("/moves"))["_rev"]
    await admin.put("moves", rev, room="a", owner="a")
    await admin.put("new", room="a", owner="x")
    assert "new" in await ann.held(), "the function in force decides"
    await resync(admin)
    told = await ended(admin)
    assert (told["docs_changed"], told["docs_total"]) == (4, 6)
    assert sorted(await ann.held()) == ["door", "moves", "stays"]
