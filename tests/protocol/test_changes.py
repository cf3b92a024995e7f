"""`_changes` that end at once: rows, limits, positions, backfill, filters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.site import Person, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def written(person: Person, place: Place, count: int, channel: str = "a") -> list[str]:
    """New documents in a channel; their ids in order.

    One after the other: of one bulk CouchDB tells the rows in any order, since each shard has its own.
    """
    ids = [place.name(f"{channel}{number}") for number in range(count)]
    for id in ids:
        await person.put(id, channels=place.name(channel))
    return ids


def order(position: str) -> tuple[int, int]:
    """Positions as the design compares them: plain `S` after every `S:…`."""
    major, _, minor = position.partition("-")[0].partition(":")
    return int(major), int(minor) if minor else 2**62


async def test_a_row_has_a_position_an_id_and_the_winning_revision(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"))
    answer = await ann.http.get("/_changes")
    assert answer.headers["Content-Type"] == "application/json"
    (row,) = answer.json()["results"]
    assert row == {"seq": row["seq"], "id": doc, "changes": [{"rev": rev}]}
    assert isinstance(row["seq"], str)
    assert (answer.json()["last_seq"], answer.json()["pending"]) == (await ann.now(), 0)


async def test_get_and_post_say_the_same(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    await written(ann, notes, 3)
    asked: dict[str, Any] = {"since": "0", "limit": 2, "style": "all_docs"}
    posted = await ann.http.post("/_changes", json=asked)
    assert posted.status_code == 200
    assert posted.json() == await ann.changes(**asked)
    assert (await ann.http.post("/_changes", params=asked, json={})).json() == posted.json()


async def test_a_limit_is_exact_and_pending_tells_what_follows(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    ids = await written(ann, notes, 5)
    first = await ann.changes(limit=2)
    assert [row["id"] for row in first["results"]] == ids[:2]
    assert (first["last_seq"], first["pending"]) == (first["results"][1]["seq"], 3)
    rest = await ann.changes(limit=3, since=first["last_seq"])
    assert [row["id"] for row in rest["results"]] == ids[2:]
    assert rest["pending"] == 0
    none = await ann.changes(limit=0)
    assert (none["results"], none["last_seq"].partition("-")[0], none["pending"]) == ([], "0", 5)


async def test_the_position_moves_over_what_is_hidden(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    before = await ann.now()
    await written(bob, notes, 3, "b")
    page = await ann.changes(since=before)
    assert (page["results"], page["pending"]) == ([], 0)
    assert order(page["last_seq"]) >= (order(before)[0] + 3, order(before)[1])


async def test_a_changed_document_is_listed_once_at_its_last_change(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    ids = await written(ann, notes, 3)
    middle = (await ann.changes(limit=2))["last_seq"]
    rev = await ann.put(ids[0], rev=(await ann.get(f"/{ids[0]}"))["_rev"], channels=notes.name("a"), n=2)
    assert await ann.listed() == [ids[1], ids[2], ids[0]]
    assert (await ann.changes(since=middle))["results"][-1]["changes"] == [{"rev": rev}]
    assert await ann.listed(since=middle) == [ids[2], ids[0]]


async def test_a_document_that_left_the_channel_is_not_listed(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    ids = await written(ann, notes, 2)
    at = await ann.now()
    await ann.put(ids[0], rev=(await ann.get(f"/{ids[0]}"))["_rev"], channels=notes.name("b"))
    assert await ann.listed() == [ids[1]]
    assert await ann.listed(since=at) == []
    assert await bob.listed(since=at) == [ids[0]]


async def test_a_deletion_is_told_to_who_could_read_the_document(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"))
    at = await ann.now()
    tombstone = await ann.delete(doc, rev)
    (row,) = (await ann.changes(since=at))["results"]
    assert row == {"seq": row["seq"], "id": doc, "changes": [{"rev": tombstone}], "deleted": True}
    assert await bob.listed(since=at) == []
    assert await ann.listed(since=at, active_only="true") == []
    assert await ann.listed() == [], "a client that starts now has nothing to delete"


async def test_a_document_is_included_on_demand(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    doc = notes.name("doc")
    rev = await ann.put(doc, channels=notes.name("a"), text="hi")
    at = await ann.now()
    (row,) = (await ann.changes(include_docs="true"))["results"]
    assert row["doc"] == {"_id": doc, "_rev": rev, "channels": notes.name("a"), "text": "hi"}
    tombstone = await ann.delete(doc, rev)
    (row,) = (await ann.changes(include_docs="true", since=at))["results"]
    assert row["doc"] == {"_id": doc, "_rev": tombstone, "_deleted": True}


async def test_style_all_docs_lists_the_readable_leaves(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"), notes.name("b"))
    bob = await notes.user("bob", notes.name("b"))
    doc = notes.name("doc")
    await ann.replicate(doc, "1-a", channels=notes.name("a"))
    await ann.replicate(doc, "1-b", channels=notes.name("b"))
    (row,) = (await ann.changes(style="all_docs"))["results"]
    assert row["changes"] == [{"rev": "1-b"}, {"rev": "1-a"}]
    (row,) = (await ann.changes())["results"]
    assert row["changes"] == [{"rev": "1-b"}]
    (row,) = (await bob.changes(style="all_docs"))["results"]
    assert row["changes"] == [{"rev": "1-b"}]


async def test_descending_lists_the_newest_first(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    ids = await written(ann, notes, 4)
    page = await ann.changes(descending="true", limit=3)
    assert [row["id"] for row in page["results"]] == ids[:0:-1]


async def test_since_now_is_the_end(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    await written(ann, notes, 2)
    page = await ann.changes(since="now")
    assert page["results"] == []
    await ann.put(notes.name("new"), channels=notes.name("a"))
    assert await ann.listed(since=page["last_seq"]) == [notes.name("new")]


async def test_a_position_of_another_database_starts_from_the_beginning(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"))
    ids = await written(ann, notes, 2)
    at, _, epoch = (await ann.now()).partition("-")
    assert await ann.listed(since=f"{at}-ffffffff") == ids
    assert await ann.listed(since=f"99999999-{epoch}") == ids
    assert await ann.listed(since=f"{at}-{epoch}") == []
    assert await ann.listed(since=at) == [], "a bare number is taken as it is"
    assert await ann.listed(since=f"{at}::99") == [], "Sync Gateway's form, as its first part"


@pytest.mark.parametrize("since", ["x", "1:", "-1", "1:2:3:4", "{}"])
async def test_what_is_no_position_is_400(notes: Place, since: str) -> None:
    ann = await notes.user("ann")
    answer = await ann.http.get("/_changes", params={"since": since})
    assert answer.status_code == 400
    assert answer.json()["reason"] == "Malformed sequence supplied in 'since' parameter."


async def test_a_grant_backfills_older_documents_at_its_place(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    mine = await written(ann, notes, 2)
    theirs = await written(bob, notes, 3, "b")
    at = await ann.now()
    admin = await notes.admin()
    await admin.put(notes.name("grant"), grants={ann.name: notes.name("b")})
    trigger = order(await ann.now())[0]
    after = notes.name("after")
    await ann.put(after, channels=notes.name("a"))
    rows = (await ann.changes(since=at))["results"]
    assert [row["id"] for row in rows] == [*theirs, after]
    assert [order(row["seq"])[0] for row in rows] == [trigger] * 3 + [trigger + 1]
    assert all(row["seq"].startswith(f"{trigger}:") for row in rows[:3])
    for row, rest in zip(rows, ([*theirs[1:], after], [theirs[2], after], [after], []), strict=True):
        assert await ann.listed(since=row["seq"]) == rest, "a backfill goes on where the client stopped"
    assert await ann.listed() == [*mine, *theirs, after]


async def test_following_in_pages_of_one_gives_each_document_once_in_strict_order(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    mine = await written(ann, notes, 3)
    theirs = await written(bob, notes, 4, "b")
    await notes.change_user(ann, admin_channels=notes.names("a", "b"))
    await written(ann, notes, 2, "c")
    rows = await ann.read(limit=1)
    assert [row["id"] for row in rows] == [*mine, *theirs]
    places = [order(row["seq"]) for row in rows]
    assert places == sorted(set(places))


async def test_taking_a_channel_away_ends_its_rows(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"), notes.name("b"))
    await written(ann, notes, 2)
    kept = await written(ann, notes, 1, "b")
    await notes.change_user(ann, admin_channels=[notes.name("b")])
    assert await ann.listed() == kept
    assert await ann.held() == kept


async def test_a_channel_filter_narrows_to_the_users_channels(notes: Place) -> None:
    ann = await notes.user("ann", notes.name("a"), notes.name("b"))
    bob = await notes.user("bob", notes.name("c"))
    a, b = await written(ann, notes, 2, "a"), await written(ann, notes, 2, "b")
    await written(bob, notes, 2, "c")
    by_channel = {"filter": "sync_gateway/bychannel"}
    assert await ann.listed(**by_channel, channels=notes.name("a")) == a
    assert await ann.listed(**by_channel, channels=",".join(notes.names("b", "c"))) == b
    assert await ann.listed(**by_channel, channels=notes.name("c")) == []
    posted = await ann.http.post("/_changes", json={**by_channel, "channels": notes.names("a", "b")})
    assert [row["id"] for row in posted.json()["results"]] == [*a, *b]
    star = await notes.user("star", "*")
    assert await star.listed(**by_channel, channels=notes.name("c")) == await bob.listed()


async def test_a_filter_by_ids_lists_only_readable_ones(notes: Place) -> None:
    ann, bob = await notes.user("ann", notes.name("a")), await notes.user("bob", notes.name("b"))
    mine, theirs = await written(ann, notes, 3), await written(bob, notes, 1, "b")
    wanted = [mine[2], theirs[0], mine[0], "nothing"]
    answer = await ann.http.post("/_changes", params={"filter": "_doc_ids"}, json={"doc_ids": wanted})
    assert [row["id"] for row in answer.json()["results"]] == [mine[0], mine[2]]


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"filter": "sync_gateway/bychannel"}, 400),
        ({"filter": "_doc_ids"}, 400),
        ({"filter": "app/mine"}, 501),
        ({"feed": "carrier-pigeon"}, 400),
        ({"limit": "few"}, 400),
        ({"style": "neat"}, 400),
        ({"filter": "_selector"}, 400),
    ],
)
async def test_an_unknown_wish_is_refused(notes: Place, asked: dict[str, str], status: int) -> None:
    ann = await notes.user("ann")
    answer = await ann.http.get("/_changes", params=asked)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "reason", "code"}


async def test_public_documents_are_in_every_feed(square: Place) -> None:
    ann, bob = await square.user("ann", square.name("a")), await square.user("bob")
    shown = square.name("shown")
    await ann.put(shown, channels="!")
    await ann.put(square.name("hidden"), channels=square.name("a"))
    assert square.mine(await bob.listed()) == [shown]
    assert square.mine(await bob.held()) == [shown]
    assert (await bob.get(f"/{shown}"))["_id"] == shown


async def test_a_holder_of_all_channels_reads_also_what_is_in_none(notes: Place) -> None:
    ann, star = await notes.user("ann"), await notes.user("star", "*")
    doc = notes.name("doc")
    at = await star.now()
    await ann.put(doc)
    assert await star.listed(since=at) == [doc]
    assert await ann.status("GET", f"/{doc}") == 403


async def test_the_administrator_sees_everything_once(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    at = await admin.now()
    mine = await written(ann, notes, 2)
    await admin.put(notes.name("nowhere"))
    assert await admin.listed(since=at) == [*mine, notes.name("nowhere")]


async def test_the_administrators_feed_is_couchdbs_with_design_documents_and_tombstones(notes: Place) -> None:
    admin = await notes.admin()
    at = await admin.now()
    gone, design = notes.name("gone"), f"_design/{notes.name('design')}"
    deleted = await admin.delete(gone, await admin.put(gone))
    await admin.put(design, views={})
    rows = {row["id"]: row for row in (await admin.changes(since=at))["results"]}
    assert list(rows) == [gone, design]
    assert (rows[gone]["deleted"], rows[gone]["changes"]) == (True, [{"rev": deleted}])
    assert await admin.listed(since=at, filter="_design") == [design]
    async with admin.following(since=at) as feed:
        assert await feed.ids(2) == [gone, design]
        later = notes.name("later")
        await admin.put(later)
        assert await feed.ids(1) == [later]
    about, last = await admin.get(""), (await admin.changes(since="now"))["last_seq"]
    assert str(about["update_seq"]).partition("-")[0] == str(last).partition("-")[0]
    assert await admin.listed(since=about["update_seq"]) == []


async def test_an_administrator_may_ask_for_the_feed_that_users_have(notes: Place) -> None:
    ann, admin = await notes.user("ann", notes.name("a")), await notes.admin()
    await admin.put(f"_design/{notes.name('design')}", views={})
    mine = await written(ann, notes, 2)
    await admin.put(notes.name("nowhere"))
    asked = {"filter": "sync_gateway/bychannel", "channels": notes.name("a")}
    assert await admin.listed(**asked) == mine
