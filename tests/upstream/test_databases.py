from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.couch.upstream import RevisionRef, Upstream, UpstreamDatabase, UpstreamResponse
from gateway.errors import NotFound
from tests.upstream.conftest import Feed, replicate, store


async def content(response: UpstreamResponse) -> bytes:
    return b"".join([chunk async for chunk in response.content])


async def test_a_usable_server_passes_its_check(upstream: Upstream) -> None:
    await upstream.check()


async def test_a_database_is_created_only_when_asked(upstream: Upstream, name: str) -> None:
    with pytest.raises(NotFound):
        await upstream.open(name, create=False)
    assert name not in await upstream.all_dbs()
    created = await upstream.open(name, create=True)
    assert created.name == name
    assert name in await upstream.all_dbs()
    assert (await (await upstream.open(name, create=False)).info()).doc_count == 0


async def test_opening_a_database_again_keeps_its_documents(upstream: Upstream, name: str) -> None:
    (rev,) = await store(await upstream.open(name, create=True), {"_id": "a", "n": 1})
    again = await upstream.open(name, create=True)
    (doc,) = await again.read([RevisionRef("a", rev)])
    assert doc is not None


async def test_names_with_every_allowed_character_work(upstream: Upstream) -> None:
    name = f"t{uuid.uuid4().hex[:8]}/sub_$()+-x"
    database = await upstream.open(name, create=True)
    try:
        assert name in await upstream.all_dbs()
        (rev,) = await store(database, {"_id": "a"})
        assert (await database.read([RevisionRef("a", rev)]))[0] is not None
    finally:
        await upstream.delete(name)


async def test_all_dbs_is_sorted(upstream: Upstream, name: str) -> None:
    await upstream.open(name, create=True)
    names = await upstream.all_dbs()
    assert names == sorted(names)


async def test_a_deleted_database_is_gone(upstream: Upstream, database: UpstreamDatabase) -> None:
    await upstream.delete(database.name)
    assert database.name not in await upstream.all_dbs()
    for use in (database.info, database.identity):
        with pytest.raises(NotFound):
            await use()
    with pytest.raises(NotFound):
        await upstream.delete(database.name)


async def test_a_database_created_again_is_another_one(upstream: Upstream, database: UpstreamDatabase) -> None:
    before = await database.identity()
    await store(database, {"_id": "a"})
    await upstream.delete(database.name)
    again = await upstream.open(database.name, create=True)
    after = await again.identity()
    assert after.server_uuid == before.server_uuid
    if after.instance_start_time == before.instance_start_time:  # CouchDB counts it in seconds
        await upstream.delete(database.name)
        await asyncio.sleep(1.1)
        after = await (await upstream.open(database.name, create=True)).identity()
    assert after.instance_start_time != before.instance_start_time
    again = await upstream.open(database.name, create=True)
    assert (await again.info()).doc_count == 0


async def test_what_was_opened_before_reaches_the_database_created_again_under_its_name(
    upstream: Upstream, database: UpstreamDatabase, feeds: list[Feed]
) -> None:
    await store(database, {"_id": "old"})
    await upstream.delete(database.name)
    again = await upstream.open(database.name, create=True)
    (rev,) = await store(again, {"_id": "new"})
    assert await database.identity() == await again.identity()
    assert (await database.info()).doc_count == 1
    assert (await database.read([RevisionRef("new", rev)]))[0] is not None
    feeds.append(feed := Feed(database))
    assert (await feed.row()).id == "new"
    await store(database, {"_id": "newer"})
    assert (await feed.row()).id == "newer"


async def test_the_identity_stays_the_same(upstream: Upstream, database: UpstreamDatabase) -> None:
    before = await database.identity()
    await store(database, {"_id": "a"})
    assert await database.identity() == before
    assert await (await upstream.open(database.name, create=False)).identity() == before


async def test_the_counts_follow_the_documents(database: UpstreamDatabase) -> None:
    first, _, _ = await store(database, {"_id": "a"}, {"_id": "b"}, {"_id": "_design/c"})
    await store(database, {"_id": "_local/d"})
    await store(database, {"_id": "a", "_rev": first, "_deleted": True})
    info = await database.info()
    assert (info.doc_count, info.doc_del_count) == (2, 1)
    await store(database, {"_id": "a"})
    info = await database.info()
    assert (info.doc_count, info.doc_del_count) == (3, 0)
    assert info.raw["db_name"] == database.name


async def test_update_seq_moves_with_every_write(database: UpstreamDatabase) -> None:
    before = (await database.info()).update_seq
    await store(database, {"_id": "a"})
    assert (await database.info()).update_seq != before


async def purge(database: UpstreamDatabase, revs: dict[str, list[str]]) -> dict[str, list[str]]:
    response = await database.request(
        "POST", "/_purge", headers={"content-type": "application/json"}, body=json.dumps(revs).encode()
    )
    body = json.loads(await content(response))
    assert response.status == 201, body
    purged: dict[str, list[str]] = body["purged"]
    return purged


async def test_a_purged_document_leaves_no_row_but_is_remembered(database: UpstreamDatabase) -> None:
    (rev,) = await store(database, {"_id": "a"})
    before = (await database.info()).purge_seq
    assert await purge(database, {"a": [rev]}) == {"a": [rev]}
    assert await database.leaves(["a"]) == [[]]
    info = await database.info()
    assert info.purge_seq != before
    assert (info.doc_count, info.doc_del_count) == (0, 0)
    assert await database.purged() == [("a", [rev])]


async def test_purging_one_leaf_leaves_the_others_and_has_a_row(database: UpstreamDatabase, feeds: list[Feed]) -> None:
    await replicate(database, "a", "2-b", "1-a")
    await replicate(database, "a", "2-c", "1-a")
    feeds.append(feed := Feed(database))
    await feed.caught_up(database)
    assert await purge(database, {"a": ["2-c"]}) == {"a": ["2-c"]}
    row = await feed.row()
    assert (row.id, row.revs) == ("a", ("2-b",))
    assert await database.read([RevisionRef("a", "2-c")]) == [None]


async def test_only_leaves_are_purged(database: UpstreamDatabase) -> None:
    await replicate(database, "a", "2-b", "1-a")
    assert await purge(database, {"a": ["1-a"], "nobody": ["1-x"]}) == {"a": [], "nobody": []}
    assert [leaf["_rev"] for leaf in (await database.leaves(["a"]))[0]] == ["2-b"]


async def test_a_purged_document_starts_anew(database: UpstreamDatabase) -> None:
    (rev,) = await store(database, {"_id": "a"})
    await purge(database, {"a": [rev]})
    assert await store(database, {"_id": "a"}) == [rev]


async def test_a_raw_request_to_a_database_is_passed_on(database: UpstreamDatabase) -> None:
    await store(database, {"_id": "a/b", "n": 1})
    response = await database.request("GET", "/a%2Fb", query="conflicts=true")
    assert response.status == 200
    assert response.headers["content-type"].startswith("application/json")
    assert json.loads(await content(response))["n"] == 1


async def test_a_raw_request_for_the_database_itself_has_an_empty_path(database: UpstreamDatabase) -> None:
    response = await database.request("GET", "")
    assert json.loads(await content(response))["db_name"] == database.name


async def test_an_error_status_is_an_answer_and_not_an_exception(database: UpstreamDatabase) -> None:
    response = await database.request("GET", "/nobody")
    assert response.status == 404
    assert json.loads(await content(response))["error"] == "not_found"


async def test_a_body_can_be_streamed_both_ways(database: UpstreamDatabase) -> None:
    size, piece = 3_000_000, bytes(range(250))

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // 50_000):
            yield piece * 200

    stored = await database.request("PUT", "/a/file", headers={"content-type": "application/x-test"}, body=chunks())
    assert stored.status == 201, await content(stored)
    await content(stored)
    found = await database.request("GET", "/a/file")
    assert found.headers["content-type"] == "application/x-test"
    assert await content(found) == piece * (size // 250)


async def test_a_raw_request_to_the_server_is_passed_on(upstream: Upstream, database: UpstreamDatabase) -> None:
    response = await upstream.request("GET", "/_all_dbs")
    assert database.name in json.loads(await content(response))


async def test_compaction_forgets_replaced_bodies_and_keeps_leaves(database: UpstreamDatabase) -> None:
    (first,) = await store(database, {"_id": "a", "n": 1})
    (second,) = await store(database, {"_id": "a", "_rev": first, "n": 2})
    response = await database.request("POST", "/_compact", headers={"content-type": "application/json"}, body=b"{}")
    assert response.status == 202
    await content(response)
    async with asyncio.timeout(20):
        while (await database.read([RevisionRef("a", first)]))[0] is not None:
            pass  # compaction runs beside the requests and says nothing when it is done
    assert (await database.read([RevisionRef("a", second)]))[0] is not None
