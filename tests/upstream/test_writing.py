from __future__ import annotations

import asyncio

import pytest

from gateway.couch.upstream import RevisionRef, UpstreamDatabase
from gateway.errors import BadRequest, InvalidDocument, InvalidDocumentId, MissingStub
from gateway.model.revisions import next_rev
from tests.upstream.conftest import replicate, store


async def winner(database: UpstreamDatabase, id: str) -> str:
    ((first, *_),) = await database.leaves([id])
    return str(first["_rev"])


async def test_a_new_document_gets_the_revision_that_couchdb_computes(database: UpstreamDatabase) -> None:
    body = {"name": "ü", "price": 1.5, "tags": ["a", 1, None, True], "size": {"w": 3, "list": [1, 2, 300]}}
    (rev,) = await store(database, {"_id": "apple", **body})
    assert rev == next_rev(None, body, deleted=False)


async def test_an_empty_document_has_the_revision_that_it_has_everywhere(database: UpstreamDatabase) -> None:
    assert await store(database, {"_id": "empty"}) == ["1-967a00dff5e02add41819138abb3284d"]


async def test_a_write_over_the_current_revision_makes_the_next_one(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "apple", "n": 1})
    (second,) = await store(database, {"_id": "apple", "_rev": first, "n": 2})
    assert second == next_rev(first, {"n": 2}, deleted=False)
    ((leaf,),) = await database.leaves(["apple"])
    assert leaf["n"] == 2
    assert leaf["_revisions"] == {"start": 2, "ids": [second[2:], first[2:]]}


@pytest.mark.parametrize("rev", [None, "1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "7-bb"])
async def test_a_write_without_the_current_revision_is_a_conflict(database: UpstreamDatabase, rev: str | None) -> None:
    (first,) = await store(database, {"_id": "apple", "n": 1})
    doc = {"_id": "apple", "n": 2} | ({} if rev is None else {"_rev": rev})
    (result,) = await database.write([doc], new_edits=True)
    assert (result.id, result.rev, result.error) == ("apple", None, "conflict")
    assert await winner(database, "apple") == first


async def test_a_write_over_a_replaced_revision_is_a_conflict(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "apple", "n": 1})
    (second,) = await store(database, {"_id": "apple", "_rev": first, "n": 2})
    (result,) = await database.write([{"_id": "apple", "_rev": first, "n": 3}], new_edits=True)
    assert result.error == "conflict"
    assert await winner(database, "apple") == second


async def test_a_revision_of_an_unknown_document_is_a_conflict(database: UpstreamDatabase) -> None:
    (result,) = await database.write([{"_id": "new", "_rev": "1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}], new_edits=True)
    assert result.error == "conflict"
    assert await database.leaves(["new"]) == [[]]


async def test_results_are_in_the_order_of_the_documents(database: UpstreamDatabase) -> None:
    await store(database, {"_id": "b"})
    results = await database.write([{"_id": "c"}, {"_id": "b"}, {"_id": "a"}], new_edits=True)
    assert [(result.id, result.error) for result in results] == [("c", ""), ("b", "conflict"), ("a", "")]


async def test_the_same_id_twice_in_one_write_is_a_conflict_the_second_time(database: UpstreamDatabase) -> None:
    results = await database.write([{"_id": "twice", "n": 1}, {"_id": "twice", "n": 2}], new_edits=True)
    assert [result.error for result in results] == ["", "conflict"]
    ((leaf,),) = await database.leaves(["twice"])
    assert leaf["n"] == 1


async def test_a_deleted_document_keeps_a_leaf_with_its_last_body(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "apple"})
    (second,) = await store(database, {"_id": "apple", "_rev": first, "_deleted": True, "why": "rotten"})
    ((leaf,),) = await database.leaves(["apple"])
    assert (leaf["_rev"], leaf["_deleted"], leaf["why"]) == (second, True, "rotten")


async def test_a_document_created_again_descends_from_its_tombstone(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "apple"})
    (second,) = await store(database, {"_id": "apple", "_rev": first, "_deleted": True})
    (third,) = await store(database, {"_id": "apple", "again": True})
    assert third == next_rev(second, {"again": True}, deleted=False)
    ((leaf,),) = await database.leaves(["apple"])
    assert leaf["_revisions"]["ids"] == [third[2:], second[2:], first[2:]]
    assert "_deleted" not in leaf


async def test_replicated_branches_are_kept_and_the_longer_one_wins(database: UpstreamDatabase) -> None:
    await replicate(database, "apple", "1-a", side="start")
    await replicate(database, "apple", "2-c", "1-a", side="left")
    await replicate(database, "apple", "3-b", "2-b", "1-a", side="right")
    (leaves,) = await database.leaves(["apple"])
    assert [(leaf["_rev"], leaf["side"]) for leaf in leaves] == [("3-b", "right"), ("2-c", "left")]


async def test_between_equally_long_branches_the_higher_digest_wins(database: UpstreamDatabase) -> None:
    await replicate(database, "apple", "2-b", "1-a")
    await replicate(database, "apple", "2-c", "1-a")
    assert await winner(database, "apple") == "2-c"


async def test_a_live_branch_wins_over_a_longer_deleted_one(database: UpstreamDatabase) -> None:
    await replicate(database, "apple", "1-a")
    await replicate(database, "apple", "4-d", "3-d", "2-d", "1-a", deleted=True)
    await replicate(database, "apple", "2-b", "1-a")
    assert await winner(database, "apple") == "2-b"


async def test_the_first_body_of_a_replicated_revision_stays(database: UpstreamDatabase) -> None:
    await replicate(database, "apple", "1-a", body="first")
    await replicate(database, "apple", "1-a", body="second")
    ((leaf,),) = await database.leaves(["apple"])
    assert leaf["body"] == "first"


async def test_an_interior_revision_without_a_body_takes_the_one_that_is_sent(database: UpstreamDatabase) -> None:
    await replicate(database, "apple", "3-c", "2-b", "1-a")
    assert await database.read([RevisionRef("apple", "2-b")]) == [None]
    await replicate(database, "apple", "2-b", "1-a", late=True)
    (doc,) = await database.read([RevisionRef("apple", "2-b")])
    assert doc is not None
    assert doc["late"] is True
    assert [leaf["_rev"] for leaf in (await database.leaves(["apple"]))[0]] == ["3-c"]


async def test_unrelated_histories_of_one_document_are_both_kept(database: UpstreamDatabase) -> None:
    await replicate(database, "apple", "1-a")
    await replicate(database, "apple", "1-b")
    assert [leaf["_rev"] for leaf in (await database.leaves(["apple"]))[0]] == ["1-b", "1-a"]


async def test_a_losing_leaf_can_be_written_over_and_then_wins(database: UpstreamDatabase) -> None:
    await replicate(database, "apple", "2-b", "1-a")
    await replicate(database, "apple", "2-c", "1-a")
    (rev,) = await store(database, {"_id": "apple", "_rev": "2-b", "n": 3})
    assert await winner(database, "apple") == rev


async def test_parent_and_child_in_one_replicated_write_are_both_stored(database: UpstreamDatabase) -> None:
    docs = [
        {"_id": "apple", "_rev": "1-a", "_revisions": {"start": 1, "ids": ["a"]}, "n": 1},
        {"_id": "apple", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": 2},
    ]
    results = await database.write(docs, new_edits=False)
    assert [result.rev for result in results] == ["1-a", "2-b"]
    found = await database.read([RevisionRef("apple", "1-a"), RevisionRef("apple", "2-b")])
    assert [doc and doc["n"] for doc in found] == [1, 2]


@pytest.mark.parametrize(
    ("doc", "error"),
    [
        ({"_id": "ok", "_unknown": 1}, InvalidDocument),
        ({"_id": "_underscore"}, InvalidDocumentId),
        ({"_id": ""}, InvalidDocumentId),
        ({"_id": 7}, InvalidDocumentId),
        ({"_id": "ok", "_rev": "nonsense"}, BadRequest),
    ],
)
async def test_a_malformed_document_refuses_the_whole_write(
    database: UpstreamDatabase, doc: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await database.write([{"_id": "good"}, doc], new_edits=True)
    assert await database.leaves(["good", "ok"]) == [[], []]


async def test_a_stub_for_an_attachment_that_is_not_there_stores_nothing(database: UpstreamDatabase) -> None:
    doc = {"_id": "apple", "_attachments": {"photo": {"stub": True, "content_type": "image/png", "revpos": 1}}}
    try:
        (result,) = await database.write([doc], new_edits=True)
    except MissingStub:
        pass  # CouchDB refuses the whole request
    else:
        assert result.error == "missing_stub"
    assert await database.leaves(["apple"]) == [[]]


async def test_concurrent_writes_are_all_stored_once(database: UpstreamDatabase) -> None:
    async def write(number: int) -> str:
        return (await store(database, {"_id": f"doc{number}", "n": number}))[0]

    revs = await asyncio.gather(*(write(number) for number in range(40)))
    found = await database.read([RevisionRef(f"doc{number}", rev) for number, rev in enumerate(revs)])
    assert [doc and doc["n"] for doc in found] == list(range(40))
    assert (await database.info()).doc_count == 40


async def test_of_concurrent_writes_over_one_revision_exactly_one_wins(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "apple"})
    writes = (database.write([{"_id": "apple", "_rev": first, "n": n}], new_edits=True) for n in range(10))
    results = [result for (result,) in await asyncio.gather(*writes)]
    assert sorted(result.error for result in results) == [""] + ["conflict"] * 9
