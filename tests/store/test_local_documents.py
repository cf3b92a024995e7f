from __future__ import annotations

import asyncio

import pytest

from gateway import limits
from gateway.errors import Conflict, NotFound, TooManyRequests
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
    await one.local_delete("user:ann", "c", "0-1")
    assert await one.local_get("user:bob", "c") is not None


@pytest.mark.parametrize("rev", [None, "0-0", "0-2", "1-1", "x"])
async def test_another_revision_than_the_stored_one_is_a_conflict(db: DatabaseStore, rev: str | None) -> None:
    await db.local_put("o", "c", None, {"a": 1})
    with pytest.raises(Conflict):
        await db.local_put("o", "c", rev, {"a": 2})
    with pytest.raises(Conflict):
        await db.local_delete("o", "c", rev)
    assert await db.local_get("o", "c") == ("0-1", {"a": 1})


async def test_a_revision_of_what_is_not_there_is_a_conflict_but_for_the_zeroth(db: DatabaseStore) -> None:
    with pytest.raises(Conflict):
        await db.local_put("o", "c", "0-1", {})
    assert await db.local_put("o", "c", "0-0", {}) == "0-1"


async def test_of_writers_over_the_same_revision_one_wins(db: DatabaseStore) -> None:
    await db.local_put("o", "c", None, {})
    outcomes = await asyncio.gather(
        *(db.local_put("o", "c", "0-1", {"n": n}) for n in range(5)), return_exceptions=True
    )
    assert sorted(str(one) if isinstance(one, str) else type(one).__name__ for one in outcomes) == [
        "0-2",
        *["Conflict"] * 4,
    ]


async def test_a_deleted_local_document_is_gone_and_begins_anew(db: DatabaseStore) -> None:
    with pytest.raises(NotFound):
        await db.local_delete("o", "c", None)
    await db.local_put("o", "c", None, {})
    await db.local_put("o", "c", "0-1", {})
    await db.local_delete("o", "c", "0-2")
    assert await db.local_get("o", "c") is None
    with pytest.raises(NotFound):
        await db.local_delete("o", "c", "0-2")
    assert await db.local_put("o", "c", None, {}) == "0-1"


async def test_an_owner_may_store_so_many(db: DatabaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOCAL_DOCUMENTS_COUNT", 3)
    for doc in ("a", "b", "c"):
        await db.local_put("o", doc, None, {})
    with pytest.raises(TooManyRequests, match="3 local documents"):
        await db.local_put("o", "d", None, {})
    await db.local_put("o", "a", "0-1", {"still": "changed"})
    await db.local_put("other", "d", None, {})
    await db.local_delete("o", "a", "0-2")
    await db.local_put("o", "d", None, {})


async def test_local_documents_are_listed_by_id(db: DatabaseStore) -> None:
    for doc in ("b", "é", "a", "Z", "a\0b"):
        await db.local_put("o", doc, None, {"is": doc})
    await db.local_put("other", "c", None, {})
    assert await db.local_revs("o") == [(doc, "0-1") for doc in ("Z", "a", "a\0b", "b", "é")]
