from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.couch.batching import Batcher
from gateway.couch.revision_cache import RevisionCache, RevisionReader, StoredRevision
from gateway.couch.upstream import RevisionRef
from gateway.errors import UnreadableDocument
from tests.couch.gated import GatedDatabase


def doc(doc_id: str, rev: str = "1-a", **members: Any) -> dict[str, Any]:
    return {"_id": doc_id, "_rev": rev, **members, "_revisions": {"start": 1, "ids": ["a"]}}


def _document(cache: RevisionCache, database: str, doc_id: str, rev: str) -> dict[str, Any] | None:
    found = cache.get(database, doc_id, rev)
    return None if found is None else found.document()


def _bytes(cache: RevisionCache, database: str, doc_id: str, rev: str, *, revisions: bool = False) -> bytes | None:
    found = cache.get(database, doc_id, rev)
    return None if found is None else found.json(revisions=revisions)


def test_a_stored_document_comes_back_equal_and_cannot_be_changed_by_its_readers() -> None:
    cache = RevisionCache()
    original = doc("a", list=[1], text="é")
    cache.put("db", original)
    original["list"].append(2)
    first = _document(cache, "db", "a", "1-a")
    assert first == doc("a", list=[1], text="é")
    first["list"].append(3)
    assert _document(cache, "db", "a", "1-a") == doc("a", list=[1], text="é")


def test_the_json_text_has_the_history_only_on_demand() -> None:
    cache = RevisionCache()
    cache.put("db", doc("a", n=1))
    assert _bytes(cache, "db", "a", "1-a") == b'{"_id":"a","_rev":"1-a","n":1}'
    with_history = _bytes(cache, "db", "a", "1-a", revisions=True)
    assert with_history is not None
    assert json.loads(with_history) == doc("a", n=1)
    assert StoredRevision.of({"_id": "a"}).json(revisions=True) == b'{"_id":"a"}'


def test_databases_ids_and_revisions_are_kept_apart_and_counted() -> None:
    cache = RevisionCache()
    cache.put("db", doc("a"))
    assert cache.get("db", "a", "1-a") is not None
    assert [cache.get(*key) for key in (("other", "a", "1-a"), ("db", "b", "1-a"), ("db", "a", "2-a"))] == [None] * 3
    assert (cache.hits, cache.misses) == (1, 3)


def test_the_least_recently_used_goes_first() -> None:
    cache = RevisionCache(max_bytes=40_000)
    for n in range(20):
        cache.put("db", doc(f"d{n}", text="x" * 1_000))
        cache.get("db", "d0", "1-a")
    assert cache.get("db", "d0", "1-a") is not None
    cache.put("db", doc("more", text="x" * 1_800))
    for n in range(20):
        cache.put("db", doc(f"e{n}", text="x" * 1_000))
    assert cache.get("db", "d1", "1-a") is None
    assert cache.bytes <= 40_000


def test_a_document_too_large_for_its_share_pushes_nobody_out() -> None:
    cache = RevisionCache(max_bytes=40_000)
    cache.put("db", doc("a"))
    assert cache.put("db", doc("b", text="x" * 3_000)).size > 3_000
    assert cache.get("db", "b", "1-a") is None
    assert cache.get("db", "a", "1-a") is not None


def test_a_purged_document_is_dropped_with_all_its_revisions() -> None:
    cache = RevisionCache()
    for rev in ("1-a", "2-b"):
        cache.put("db", doc("a", rev))
    cache.put("db", doc("b"))
    cache.put("other", doc("a"))
    cache.drop("db", "a")
    assert len(cache) == 2
    cache.drop_database("db")
    assert len(cache) == 1
    cache.drop("other", "a")
    assert (len(cache), cache.bytes, cache._revs) == (0, 0, {})


@given(
    st.lists(st.tuples(st.sampled_from("pgdD"), st.sampled_from("abc"), st.sampled_from("123"), st.integers(0, 900)))
)
def test_the_bytes_are_always_those_of_the_entries_and_within_bounds(steps: list[tuple[str, str, str, int]]) -> None:
    cache = RevisionCache(max_bytes=24_000)
    for step, doc_id, rev, size in steps:
        if step == "p":
            cache.put("db", doc(doc_id, f"{rev}-x", text="x" * size))
        elif step == "g":
            found = _document(cache, "db", doc_id, f"{rev}-x")
            assert found is None or (found["_id"], found["_rev"]) == (doc_id, f"{rev}-x")
        elif step == "d":
            cache.drop("db", doc_id)
            assert cache.get("db", doc_id, f"{rev}-x") is None
        else:
            cache.drop_database("db")
            assert len(cache) == 0
        assert cache.bytes <= cache.max_bytes
        assert (cache.bytes == 0) == (len(cache) == 0)


async def test_misses_of_one_call_are_one_bulk_read_and_hits_are_none() -> None:
    database = GatedDatabase(open_gates=True)
    reader = RevisionReader(Batcher(database), RevisionCache())
    refs = [RevisionRef(doc_id, "1-a") for doc_id in ("a", "b", "a", "c")]
    database.missing.add(refs[1])
    read = await reader.documents(refs)
    assert [one and one["_id"] for one in read] == ["a", None, "a", "c"]
    assert read[0] is not read[2]
    assert len(database.bulks) == 1
    revision = await reader.revision(refs[0])
    assert revision is not None
    assert json.loads(revision.json()) == {"_id": "a", "_rev": "1-a", "read": 1}
    assert await reader.document(refs[1]) is None  # not there is never remembered
    assert [bulk.ids for bulk in database.bulks] == [["a", "b", "c"], ["b"]]


async def test_a_stampede_for_one_revision_is_one_read() -> None:
    database = GatedDatabase()
    reader = RevisionReader(Batcher(database), RevisionCache())
    tasks = []
    for _ in range(50):
        tasks.append(asyncio.ensure_future(reader.document(RevisionRef("a", "1-a"))))
        await asyncio.sleep(0)
    await database.settled()
    await database.release_all()
    assert len(await asyncio.gather(*tasks)) == 50
    assert len(database.bulks) == 1


async def test_a_read_begun_before_a_purge_does_not_put_the_body_back() -> None:
    database = GatedDatabase()
    cache = RevisionCache()
    reader = RevisionReader(Batcher(database), cache)
    reading = asyncio.ensure_future(reader.document(RevisionRef("a", "1-a")))
    await database.settled()
    cache.drop("db", "a")
    await database.release_all()
    assert await reading is not None
    assert len(cache) == 0


def test_a_document_that_cannot_be_written_as_json_again_is_unreadable() -> None:
    with pytest.raises(UnreadableDocument):
        RevisionCache().put("db", doc("a", text="\ud800"))
