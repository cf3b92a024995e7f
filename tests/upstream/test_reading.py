from __future__ import annotations

import base64
import hashlib

from gateway.couch.upstream import RevisionRef, UpstreamDatabase
from tests.upstream.conftest import replicate, store

PHOTO = bytes(range(256)) * 20
DIGEST = "md5-" + base64.b64encode(hashlib.md5(PHOTO, usedforsecurity=False).digest()).decode()


async def test_revisions_are_read_in_the_order_asked_for(database: UpstreamDatabase) -> None:
    first, second = await store(database, {"_id": "a", "n": 1}, {"_id": "b", "n": 2})
    found = await database.read([RevisionRef("b", second), RevisionRef("a", first), RevisionRef("b", second)])
    assert [doc and (doc["_id"], doc["_rev"], doc["n"]) for doc in found] == [
        ("b", second, 2),
        ("a", first, 1),
        ("b", second, 2),
    ]


async def test_a_revision_has_its_history(database: UpstreamDatabase) -> None:
    await replicate(database, "a", "3-c", "2-b", "1-a")
    (doc,) = await database.read([RevisionRef("a", "3-c")])
    assert doc is not None
    assert doc["_revisions"] == {"start": 3, "ids": ["c", "b", "a"]}


async def test_what_is_not_stored_is_none(database: UpstreamDatabase) -> None:
    (rev,) = await store(database, {"_id": "a"})
    asked = [RevisionRef("a", "1-b"), RevisionRef("nobody", rev), RevisionRef("a", rev)]
    assert [doc is None for doc in await database.read(asked)] == [True, True, False]


async def test_reading_nothing_is_no_error(database: UpstreamDatabase) -> None:
    assert await database.read([]) == []
    assert await database.leaves([]) == []


async def test_a_replaced_revision_can_still_be_read(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "a", "n": 1})
    await store(database, {"_id": "a", "_rev": first, "n": 2})
    (doc,) = await database.read([RevisionRef("a", first)])
    assert doc is not None
    assert doc["n"] == 1


async def test_a_tombstone_is_read_as_deleted(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "a"})
    (second,) = await store(database, {"_id": "a", "_rev": first, "_deleted": True, "by": "me"})
    (doc,) = await database.read([RevisionRef("a", second)])
    assert doc is not None
    assert doc["_deleted"] is True
    assert doc["by"] == "me"


async def test_leaves_lists_every_leaf_the_winner_first_and_nothing_for_an_unknown_id(
    database: UpstreamDatabase,
) -> None:
    await replicate(database, "a", "2-b", "1-a")
    await replicate(database, "a", "2-c", "1-a", deleted=True)
    unknown, leaves = await database.leaves(["nobody", "a"])
    assert unknown == []
    assert [(leaf["_rev"], leaf.get("_deleted", False)) for leaf in leaves] == [("2-b", False), ("2-c", True)]
    assert leaves[0]["_revisions"] == {"start": 2, "ids": ["b", "a"]}


async def test_ids_with_every_kind_of_character_are_found_again(database: UpstreamDatabase) -> None:
    ids = ["a/b", "a b", "a+b", "ä€😀", "a%2Fb", "a?b=c&d#e", '"quoted"', "_design/x", "a:b@c", "\\", "..", "a\nb"]
    revs = await store(database, *({"_id": id, "id": id} for id in ids))
    found = await database.read([RevisionRef(id, rev) for id, rev in zip(ids, revs, strict=True)])
    assert [doc and doc["id"] for doc in found] == ids


async def test_json_values_come_back_as_they_were(database: UpstreamDatabase) -> None:
    body = {"int": -5, "big": 2**53, "float": 0.1, "text": 'a\u0000\u2028"\\', "none": None, "no": False, "": {"": []}}
    (rev,) = await store(database, {"_id": "a", **body})
    (doc,) = await database.read([RevisionRef("a", rev)])
    assert doc is not None
    assert {name: value for name, value in doc.items() if not name.startswith("_")} == body


async def test_attachments_are_stubs_unless_their_bytes_are_asked_for(database: UpstreamDatabase) -> None:
    photo = {"content_type": "image/png", "data": base64.b64encode(PHOTO).decode()}
    (rev,) = await store(database, {"_id": "a", "_attachments": {"photo": photo}})
    (stub,) = await database.read([RevisionRef("a", rev)])
    assert stub is not None
    assert stub["_attachments"] == {
        "photo": {"content_type": "image/png", "revpos": 1, "digest": DIGEST, "length": len(PHOTO), "stub": True}
    }
    (whole,) = await database.read([RevisionRef("a", rev)], attachments=True)
    assert whole is not None
    assert base64.b64decode(whole["_attachments"]["photo"]["data"]) == PHOTO
    assert whole["_attachments"]["photo"]["digest"] == DIGEST


async def test_a_stub_keeps_the_attachment_in_the_next_revision(database: UpstreamDatabase) -> None:
    photo = {"content_type": "image/png", "data": base64.b64encode(PHOTO).decode()}
    (first,) = await store(database, {"_id": "a", "_attachments": {"photo": photo}})
    (second,) = await store(database, {"_id": "a", "_rev": first, "n": 2, "_attachments": {"photo": {"stub": True}}})
    (doc,) = await database.read([RevisionRef("a", second)], attachments=True)
    assert doc is not None
    assert base64.b64decode(doc["_attachments"]["photo"]["data"]) == PHOTO
    assert doc["_attachments"]["photo"]["revpos"] == 1


async def test_an_attachment_that_is_left_out_is_gone(database: UpstreamDatabase) -> None:
    photo = {"content_type": "image/png", "data": base64.b64encode(PHOTO).decode()}
    (first,) = await store(database, {"_id": "a", "_attachments": {"photo": photo}})
    (second,) = await store(database, {"_id": "a", "_rev": first})
    (doc,) = await database.read([RevisionRef("a", second)])
    assert doc is not None
    assert "_attachments" not in doc


async def test_revs_diff_names_what_is_missing_and_what_it_may_descend_from(database: UpstreamDatabase) -> None:
    await replicate(database, "a", "2-b", "1-a")
    diff = await database.revs_diff({"a": ["1-a", "2-b", "3-x"], "b": ["1-q"], "known": []})
    assert diff == {
        "a": {"missing": ["3-x"], "possible_ancestors": ["2-b"]},
        "b": {"missing": ["1-q"], "possible_ancestors": []},
    }


async def test_revs_diff_has_nothing_for_ids_that_miss_nothing(database: UpstreamDatabase) -> None:
    await replicate(database, "a", "2-b", "1-a")
    assert await database.revs_diff({"a": ["2-b", "1-a"]}) == {}
