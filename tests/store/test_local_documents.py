from __future__ import annotations

import pytest

from gateway import limits
from gateway.errors import BadRequest, NotFound, TooManyRequests
from gateway.store.protocol import DatabaseStore, MetadataStore


async def test_a_local_document_is_stored_and_read_back(db: DatabaseStore) -> None:
    body = {"seq": "5-x", "é\0": [None, 1.5, {"deep": True}]}
    assert await db.local_put("user:ann", "checkpoint", None, body) == "0-1"
    assert await db.local_get("user:ann", "checkpoint") == ("0-1", body)
    assert await db.local_put("user:ann", "checkpoint", "0-1", {"seq": "6-x"}) == "0-2"
    assert await db.local_get("user:ann", "checkpoint") == ("0-2", {"seq": "6-x"})


async def test_local_documents_take_no_sequence(db: DatabaseStore) -> None:
    await db.local_put("user:ann", "checkpoint", None, {})
    assert (await db.state()).last_seq == 0


async def test_each_owner_has_a_namespace_and_each_database_its_own(store: MetadataStore) -> None:
    one, two = await store.database("one"), await store.database("two")
    await one.local_put("user:ann", "c", None, {"of": "ann"})
    await one.local_put("user:bob", "c", None, {"of": "bob"})
    assert await one.local_get("user:ann", "c") == ("0-1", {"of": "ann"})
    assert await one.local_get("user:bob", "c") == ("0-1", {"of": "bob"})
    assert await one.local_get("admin:ann", "c") is None
    assert await two.local_get("user:ann", "c") is None
    await one.local_delete("user:ann", "c")
    assert await one.local_get("user:bob", "c") is not None


@pytest.mark.parametrize(("rev", "following"), [(None, "0-1"), ("0-0", "0-1"), ("0-1", "0-2"), ("0-41", "0-42")])
@pytest.mark.parametrize("is_there", [True, False])
async def test_the_next_revision_counts_from_the_one_that_is_named_whatever_is_there(
    db: DatabaseStore, rev: str | None, following: str, is_there: bool
) -> None:
    if is_there:
        await db.local_put("o", "c", None, {"a": 1})
    assert await db.local_put("o", "c", rev, {"a": 2}) == following
    assert await db.local_get("o", "c") == (following, {"a": 2})


@pytest.mark.parametrize("rev", ["", "x", "0-", "0-x", "1-1", "0--1", "0-" + "9" * 20])
async def test_another_form_of_revision_is_refused(db: DatabaseStore, rev: str) -> None:
    await db.local_put("o", "c", None, {"a": 1})
    with pytest.raises(BadRequest, match="Invalid rev format"):
        await db.local_put("o", "c", rev, {"a": 2})
    assert await db.local_get("o", "c") == ("0-1", {"a": 1})


async def test_a_deleted_local_document_is_gone_and_begins_anew(db: DatabaseStore) -> None:
    with pytest.raises(NotFound):
        await db.local_delete("o", "c")
    await db.local_put("o", "c", None, {})
    await db.local_put("o", "c", "0-1", {})
    await db.local_delete("o", "c")
    assert await db.local_get("o", "c") is None
    with pytest.raises(NotFound):
        await db.local_delete("o", "c")
    assert await db.local_put("o", "c", None, {}) == "0-1"


async def test_an_owner_may_store_so_many(db: DatabaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCAL_DOCUMENTS_COUNT", 3)
    for doc in ("a", "b", "c"):
        await db.local_put("o", doc, None, {})
    with pytest.raises(TooManyRequests, match="3 local documents"):
        await db.local_put("o", "d", None, {})
    await db.local_put("o", "a", "0-1", {"still": "changed"})
    await db.local_put("other", "d", None, {})
    await db.local_delete("o", "a")
    await db.local_put("o", "d", None, {})


async def test_local_documents_are_listed_by_id(db: DatabaseStore) -> None:
    for doc in ("b", "é", "a", "Z", "a\0b"):
        await db.local_put("o", doc, None, {"is": doc})
    await db.local_put("other", "c", None, {})
    assert await db.local_revs("o") == [(doc, "0-1") for doc in ("Z", "a", "a\0b", "b", "é")]
