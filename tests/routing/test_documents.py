"""Documents under access: exactly the revisions that the caller may read, in every form of the question."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway import limits
from gateway.callers import Caller
from gateway.errors import Forbidden, InvalidDocument, InvalidLogin, MissingStub, NotFound, TooLarge
from gateway.model.names import GUEST
from gateway.queries import AllDocsQuery, BulkGetItem, DocumentQuery
from tests.routing.world import ADMIN, World, listed


async def open_revs(world: World, caller: Caller, doc: str, revs: Any, *, latest: bool = False) -> list[str]:
    answers = await world.database.open_revs(caller, doc, DocumentQuery(open_revs=revs, latest=latest))
    return [answer["ok"]["_rev"] if "ok" in answer else f"missing {answer['missing']}" for answer in answers]


async def bulk_get(
    world: World, caller: Caller, *refs: tuple[str, str | None], latest: bool = False
) -> list[list[str]]:
    results = await world.database.bulk_get(
        caller, [BulkGetItem(doc, rev) for doc, rev in refs], revs=False, attachments=False, latest=latest
    )
    return [
        [one["ok"]["_rev"] if "ok" in one else f"{one['error']['error']} {one['error']['rev']}" for one in result.docs]
        for result in results
    ]


async def all_docs(world: World, caller: Caller, **query: Any) -> tuple[list[str], int, int | None]:
    answer = await listed(await world.database.all_docs(caller, AllDocsQuery(**query)))
    return [row["key"] for row in answer["rows"]], answer["total_rows"], answer["offset"]


@pytest.fixture
async def branched(world: World) -> World:
    """2-w (hidden) wins over 2-m and the tombstone 2-d, which ann may read; 1-a is interior."""
    for rev, body in (("2-w", {"channels": ["w"]}), ("2-m", {"channels": ["a"]}), ("2-d", {"channels": ["a"]})):
        deleted = {"_deleted": True} if rev == "2-d" else {}
        await world.direct_graft("d", rev, "1-a", **body, **deleted)
    await world.routed()
    return world


async def test_a_guest_stores_checkpoints_and_nothing_large(world: World) -> None:
    ann, guest = await world.user("ann"), await world.user(GUEST)
    large = {"_id": "_local/x", "text": "x" * limits.LOCAL_DOCUMENT_OF_GUEST_BYTES}
    assert await world.database.local_put(ann, dict(large)) == "0-1"
    with pytest.raises(TooLarge, match="LOCAL_DOCUMENT_OF_GUEST_BYTES"):
        await world.database.local_put(guest, dict(large))
    assert await world.database.local_put(guest, {"_id": "_local/x", "at": "12-3f2a"}) == "0-1"


async def test_a_long_batch_is_checked_like_a_short_one(world: World) -> None:
    ann = await world.user("ann", ["a"])
    count = 200
    docs: list[dict[str, object]] = [{"_id": f"d{number}", "channels": ["a"]} for number in range(count)]
    with pytest.raises(InvalidDocument):
        await world.database.bulk_docs(ann, [*docs, {"_id": "x", "_unknown": 1}], new_edits=True)
    assert await world.ids(ann) == []
    outcomes = await world.database.bulk_docs(ann, docs, new_edits=True)
    assert [outcome.id for outcome in outcomes] == [doc["_id"] for doc in docs]
    assert all(outcome.rev for outcome in outcomes)


async def test_open_revs_gives_readable_leaves_only(branched: World) -> None:
    ann, wes = await branched.user("ann", ["a"]), await branched.user("wes", ["w"])
    assert await open_revs(branched, ann, "d", "all") == ["2-m", "2-d"]
    assert await open_revs(branched, wes, "d", "all") == ["2-w"]
    asked = ["2-w", "2-m", "1-a", "9-unknown"]
    assert await open_revs(branched, ann, "d", asked) == ["missing 2-w", "2-m", "missing 1-a", "missing 9-unknown"]
    for doc in ("d", "unknown"):
        with pytest.raises(NotFound):
            await open_revs(branched, await branched.user("nobody"), doc, "all")


async def test_latest_goes_to_the_readable_descendants_and_else_stays(branched: World) -> None:
    ann = await branched.user("ann", ["a"])
    assert await open_revs(branched, ann, "d", ["1-a"], latest=True) == ["2-m", "2-d"]
    assert await open_revs(branched, ann, "d", ["2-d", "2-w"], latest=True) == ["2-d", "missing 2-w"]
    assert await bulk_get(branched, ann, ("d", "1-a"), latest=True) == [["2-m", "2-d"]]


async def test_bulk_get_answers_each_item_for_itself(branched: World) -> None:
    ann = await branched.user("ann", ["a"])
    found = await bulk_get(branched, ann, ("d", "2-m"), ("d", "2-w"), ("d", None), ("unknown", None), ("d", "2-m"))
    assert found == [["2-m"], ["not_found 2-w"], ["2-m", "2-d"], ["not_found undefined"], ["2-m"]]


async def test_a_winner_that_may_not_be_read_is_refused_without_its_revision(branched: World) -> None:
    ann = await branched.user("ann", ["a"])
    with pytest.raises(Forbidden):
        await branched.get(ann, "d")
    with pytest.raises(Forbidden):
        await branched.get(ann, "d", "2-w")
    assert (await branched.get(ann, "d", "2-m"))["_rev"] == "2-m"


async def test_a_documents_conflicts_and_history_name_only_what_may_be_read(branched: World) -> None:
    both, wes = await branched.user("both", ["a", "w"]), await branched.user("wes", ["w"])
    query = DocumentQuery(conflicts=True, deleted_conflicts=True, revs_info=True, revs=True)
    doc = await branched.database.document(both, "d", query)
    assert (doc["_conflicts"], doc["_deleted_conflicts"]) == (["2-m"], ["2-d"])
    assert doc["_revs_info"] == [{"rev": "2-w", "status": "available"}, {"rev": "1-a", "status": "missing"}]
    doc = await branched.database.document(wes, "d", query)
    assert "_conflicts" not in doc
    assert "_deleted_conflicts" not in doc


async def test_revs_diff_tells_nothing_of_hidden_revisions(branched: World) -> None:
    ann, nobody = await branched.user("ann", ["a"]), await branched.user("nobody")
    asked = {"d": ["2-m", "2-w", "1-a", "3-x"], "unknown": ["1-a"]}
    assert await branched.database.revs_diff(ann, asked) == {
        "d": {"missing": ["2-w", "3-x"], "possible_ancestors": ["2-m", "2-d"]},
        "unknown": {"missing": ["1-a"]},
    }
    assert await branched.database.revs_diff(ann, {"d": ["3-x", "2-m", "3-x", "2-m"]}) == {
        "d": {"missing": ["3-x", "3-x"], "possible_ancestors": ["2-m", "2-d"]}
    }
    assert await branched.database.revs_diff(ADMIN, {"d": ["1-x", "1-a", "1-x"], "unknown": ["1-a"]}) == {
        "d": {"missing": ["1-x", "1-x"]},  # no empty list of ancestors
        "unknown": {"missing": ["1-a"]},
    }
    assert await branched.database.revs_diff(nobody, asked) == {
        "d": {"missing": ["2-m", "2-w", "1-a", "3-x"]},
        "unknown": {"missing": ["1-a"]},
    }


async def test_a19_a_listed_revision_stays_fetchable_for_a_grace_time_after_it_was_superseded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["b"])
    first = await world.write(ADMIN, "d", channels=["a"])
    second = await world.write(ADMIN, "d", first, channels=["b"], v=2)
    assert (await world.get(ann, "d", first))["_rev"] == first
    assert await open_revs(world, ann, "d", [first], latest=True) == [first], "never the hidden descendant"
    assert await bulk_get(world, ann, ("d", first), ("d", second)) == [[first], [f"not_found {second}"]]
    assert await world.database.revs_diff(ann, {"d": [first]}) == {}
    assert await open_revs(world, bob, "d", [first]) == [f"missing {first}"], "he could never read it"
    monkeypatch.setattr(limits, "SUPERSEDED_GRACE_SECONDS", -1.0)
    assert await open_revs(world, ann, "d", [first]) == [f"missing {first}"]
    with pytest.raises(NotFound):
        await world.get(ann, "d", first)


async def test_a19_a_tombstone_that_was_listed_can_be_fetched_after_an_undeletion_into_no_channel(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ADMIN, "d", channels=["a"])
    gone = await world.write(ADMIN, "d", rev, _deleted=True)
    await world.write(ADMIN, "d", v=2)
    assert await open_revs(world, ann, "d", [gone]) == [gone]


async def test_a19_who_lost_the_channel_gets_no_superseded_revision(world: World) -> None:
    ann = await world.user("ann", ["a"])
    first = await world.write(ADMIN, "d", channels=["a"])
    await world.write(ADMIN, "d", first, channels=["b"])
    await world.user("ann", [])
    assert await open_revs(world, ann, "d", [first]) == [f"missing {first}"]


@pytest.mark.parametrize("partly", [True, False])
async def test_a19_what_was_purged_is_never_shown_again(world: World, partly: bool) -> None:
    ann = await world.user("ann", ["a"])
    await world.direct_graft("d", "2-x", "1-a", channels=["a"])
    if partly:
        await world.direct_graft("d", "2-y", "1-a", channels=["a"])
    await world.routed()
    await world.get(ann, "d", "2-x")
    await world.database.purge({"d": ["2-x"]})
    assert await open_revs(world, ann, "d", ["2-x"]) == ["missing 2-x"]
    assert await world.database.revs_diff(ann, {"d": ["2-x"]}) != {}, "a client that has it may bring it back"
    with pytest.raises(NotFound):
        await world.get(ann, "d", "2-x")


async def test_a_purged_document_can_be_pushed_again(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.graft(ann, "d", "2-x", "1-a", channels=["a"])
    await world.database.purge({"d": ["2-x"]})
    await world.graft(ann, "d", "2-x", "1-a", channels=["a"])
    assert await world.listed(ann) == {"d": "2-x"}


@pytest.fixture
async def shelf(world: World) -> World:
    """Documents a to h; every second one is in ann's channel, a dead one among them."""
    await world.user("ann", ["a"])
    docs = [{"_id": name, "channels": ["a" if at % 2 == 0 else "b"]} for at, name in enumerate("abcdefgh")]
    outcomes = await world.database.bulk_docs(ADMIN, [*docs, {"_id": "dead", "channels": ["a"]}], new_edits=True)
    await world.write(ADMIN, "dead", outcomes[-1].rev, _deleted=True)
    return world


@pytest.mark.parametrize(
    ("query", "rows", "offset"),
    [
        ({}, ["a", "c", "e", "g"], 0),
        ({"limit": 2}, ["a", "c"], 0),
        ({"skip": 1, "limit": 2}, ["c", "e"], 1),
        ({"skip": 9}, [], 4),
        ({"start": "b"}, ["c", "e", "g"], 1),
        ({"start": "c", "end": "e"}, ["c", "e"], 1),
        ({"start": "c", "end": "e", "inclusive_end": False}, ["c"], 1),
        ({"descending": True}, ["g", "e", "c", "a"], 0),
        ({"descending": True, "start": "f", "end": "c"}, ["e", "c"], 1),
        ({"descending": True, "skip": 1, "limit": 1}, ["e"], 1),
        ({"limit": 0}, [], 0),
    ],
)
async def test_all_docs_counts_skips_and_limits_only_what_may_be_read(
    shelf: World, query: dict[str, Any], rows: list[str], offset: int
) -> None:
    assert await all_docs(shelf, Caller("ann"), **query) == (rows, 4, offset)


async def test_all_docs_by_keys_tells_unknown_and_hidden_ones_apart_for_nobody(shelf: World) -> None:
    ann = Caller("ann")
    keys: Sequence[Any] = ["c", "b", "unknown", "dead", 7, "c"]
    answer = await listed(await shelf.database.all_docs(ann, AllDocsQuery(keys=keys, include_docs=True)))
    rows = answer["rows"]
    assert [row.get("error") for row in rows] == [None, "not_found", "not_found", None, "not_found", None]
    assert {**rows[1], "key": ""} == {**rows[2], "key": ""}
    assert rows[0]["doc"]["_id"] == "c"
    assert rows[3]["value"]["deleted"] is True
    assert rows[3]["doc"] is None
    assert (answer["total_rows"], answer["offset"]) == (4, None)
    assert (await all_docs(shelf, ann, keys=["c", "b", "e", "g"], skip=1, limit=2, descending=True))[0] == ["e", "b"]


async def test_all_docs_by_keys_hides_tombstones_that_may_not_be_read(shelf: World) -> None:
    bob = await shelf.user("bob", ["b"])
    answer = await listed(await shelf.database.all_docs(bob, AllDocsQuery(keys=["dead", "b"])))
    assert [row.get("error") for row in answer["rows"]] == ["not_found", None]


async def test_all_docs_includes_documents_with_their_readable_conflicts(branched: World) -> None:
    both, wes = await branched.user("both", ["a", "w"]), await branched.user("wes", ["w"])
    query = AllDocsQuery(include_docs=True, conflicts=True, update_seq=True)
    answer = await listed(await branched.database.all_docs(both, query))
    assert answer["rows"][0]["doc"]["_conflicts"] == ["2-m"]
    assert answer["update_seq"] == (await branched.database.info(both))["update_seq"]
    assert "_conflicts" not in (await listed(await branched.database.all_docs(wes, query)))["rows"][0]["doc"]


@pytest.mark.parametrize("descending", [False, True])
async def test_a_listing_is_read_in_pages_and_lists_none_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, descending: bool
) -> None:
    monkeypatch.setattr(limits, "LISTING_ROWS_COUNT", 3)
    monkeypatch.setattr(limits, "PORTION_FIRST_COUNT", 2)
    ann = await world.user("ann", ["a"])
    ids = [f"d{number}" for number in range(8)]
    for doc_id in ids:
        await world.write(ann, doc_id, channels=["a"])
    ids = ids[::-1] if descending else ids
    query = AllDocsQuery(descending=descending, skip=1, limit=6, include_docs=True)
    listing = await world.database.all_docs(ann, query)
    assert (listing.head["total_rows"], listing.head["offset"]) == (8, 1)
    pages = [[json.loads(row)["doc"]["_id"] for row in page] async for page in listing.pages]
    assert [doc_id for page in pages for doc_id in page] == ids[1:7]
    assert max(map(len, pages)) <= 3
    listing = await world.database.all_docs(ann, AllDocsQuery(descending=descending))
    first = [json.loads(row)["id"] for row in await anext(listing.pages)]
    # What changes meanwhile is listed as it is when its page is read, or not at all.
    revs = await world.listed(ann)
    await world.write(ann, ids[0], revs[ids[0]], channels=["a"], again=True)
    await world.write(ann, ids[5], revs[ids[5]], _deleted=True)
    rest = [json.loads(row)["id"] async for page in listing.pages for row in page]
    assert [*first, *rest] == [doc_id for doc_id in ids if doc_id != ids[5]]


async def test_a_listing_ends_when_its_reader_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LISTING_ROWS_COUNT", 2)
    ann = await world.user("ann", ["a"])
    for number in range(4):
        await world.write(ann, f"d{number}", channels=["a"])
    listing = await world.database.all_docs(ann, AllDocsQuery())
    await world.database.delete_principal("user", "ann")
    with pytest.raises(InvalidLogin):
        [page async for page in listing.pages]


async def test_a_user_who_is_gone_is_told_so_in_the_middle_of_others_reads(world: World) -> None:
    ann, bob = await world.user("ann", ["a"]), await world.user("bob", ["a"])
    await world.write(ADMIN, "d", channels=["a"])
    await world.store.delete_principal("user", "bob")
    reads = [world.get(caller, "d") for caller in (ann, bob, ann, bob)]
    results = await asyncio.gather(*reads, return_exceptions=True)
    assert [isinstance(result, InvalidLogin) for result in results] == [False, True, False, True]


async def test_info_counts_only_what_may_be_read(shelf: World) -> None:
    info = await shelf.database.info(Caller("ann"))
    assert (info["doc_count"], info["doc_del_count"]) == (4, 0)


# Attachments

FILE = {"f": {"data": "c2VjcmV0"}}
STUB = {"f": {"stub": True}}


async def test_a_stub_takes_the_attachment_of_a_revision_that_its_writer_may_read(world: World) -> None:
    ann = await world.user("ann", ["a"])
    rev = await world.write(ADMIN, "d", channels=["a"], _attachments=FILE)
    new = await world.write(ann, "d", rev, channels=["a"], v=2, _attachments=STUB)
    assert (await world.database.document(ann, "d", DocumentQuery(rev=new, attachments=True)))["_attachments"]["f"][
        "data"
    ] == "c2VjcmV0"


async def test_a_stub_does_not_take_the_attachment_of_a_hidden_revision(world: World) -> None:
    """Else a blind update into a channel of one's own would show the file."""
    mallory = await world.user("mallory", ["m"])
    rev = await world.write(ADMIN, "d", channels=["a"], _attachments=FILE)
    with pytest.raises(MissingStub):
        await world.write(mallory, "d", rev, channels=["m"], _attachments=STUB)
    with pytest.raises(MissingStub):
        await world.graft(mallory, "d", "2-x", rev, channels=["m"], _attachments=STUB)
    with pytest.raises(MissingStub):
        await world.graft(mallory, "d", "1-x", channels=["m"], _attachments=STUB)
    assert (await world.leaves("d")).keys() == {rev}


async def test_a_stub_does_not_take_the_attachment_of_a_hidden_interior_revision_through_an_invented_history(
    world: World,
) -> None:
    mallory = await world.user("mallory", ["m"])
    await world.direct_graft("d", "2-s", "1-s", channels=["a"], _attachments=FILE)
    await world.direct_graft("d", "3-s", "2-s", "1-s", channels=["a"])
    await world.direct_graft("d", "1-m", channels=["m"])
    await world.routed()
    with pytest.raises(MissingStub):
        await world.graft(mallory, "d", "3-x", "2-s", "1-m", channels=["m"], _attachments=STUB)


async def test_a_stub_may_skip_revisions_that_were_never_pushed(world: World) -> None:
    ann = await world.user("ann", ["a"])
    await world.direct_graft("d", "1-a", channels=["a"], _attachments=FILE)
    await world.routed()
    assert (await world.graft(ann, "d", "3-c", "2-b", "1-a", channels=["a"], _attachments=STUB)).rev == "3-c"


async def test_a_document_that_cannot_be_read_stops_neither_a_bulk_nor_a_feed(world: World) -> None:
    everyone = await world.user("everyone", ["*"])
    revs = {name: await world.direct(name, v=name) for name in "abc"}
    await world.routed()
    world.cache.drop_database("notes")
    world.upstream.unreadable.add(revs["b"])
    found = await bulk_get(world, everyone, *revs.items())
    assert found == [[revs["a"]], [f"not_found {revs['b']}"], [revs["c"]]]
    rows = await world.changes(everyone, include_docs=True)
    assert [(row["id"], row["doc"] is None) for row in rows] == [("a", False), ("b", True), ("c", False)]
    docs = [{"_id": name, "_rev": rev, "v": 2} for name, rev in revs.items()]
    outcomes = await world.database.bulk_docs(ADMIN, docs, new_edits=True)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
