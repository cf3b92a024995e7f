"""The client, the batcher and the cache against a real server: the embedded one on a port, and TEST_COUCHDB_URL."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.couch.batching import Batcher
from gateway.couch.client import CouchDatabase, CouchDB
from gateway.couch.revision_cache import RevisionCache, RevisionReader
from gateway.couch.upstream import ChangeRow, Idle, RevisionRef, WriteResult
from gateway.errors import NotFound, UnknownDatabase, UpstreamRefused

LOGIN = {"username": "gateway", "password": "p:w é"}


@pytest.fixture(params=["embedded", *(["TEST_COUCHDB_URL"] if "TEST_COUCHDB_URL" in os.environ else [])])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CouchDB]:
    if request.param != "embedded":
        client = CouchDB(os.environ["TEST_COUCHDB_URL"])
        yield client
        await client.close()
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.embedded", "--directory", str(tmp_path), "--port", "0",
        "--username", LOGIN["username"], "--password", LOGIN["password"], stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        client = CouchDB(line.split()[-1], **LOGIN)
        yield client
        await client.close()
    finally:
        process.terminate()
        await process.communicate()


@pytest.fixture
async def database(server: CouchDB) -> AsyncIterator[CouchDatabase]:
    name = f"t/{uuid.uuid4().hex}+x"
    yield await server.open(name, create=True)
    await server.delete(name)


async def test_a_database_is_created_found_listed_and_deleted(server: CouchDB) -> None:
    await server.check()
    name = f"t/{uuid.uuid4().hex}+x"
    with pytest.raises(UnknownDatabase):
        await server.open(name, create=False)
    database = await server.open(name, create=True)
    await server.open(name, create=True)
    assert name in await server.all_dbs()
    before = await database.identity()
    assert before.server_uuid
    assert before == await database.identity()
    await server.delete(name)
    with pytest.raises(NotFound):
        await database.identity()
    assert (await server.open(name, create=True)).name == name
    await server.delete(name)


async def test_wrong_credentials_are_refused(server: CouchDB) -> None:
    stranger = CouchDB(server.address.base, username="gateway", password="wrong")
    with pytest.raises(UpstreamRefused):
        await stranger.check()
    await stranger.close()


async def test_documents_are_written_read_and_compared(database: CouchDatabase) -> None:
    first, second = await database.write([{"_id": "a", "v": 1}, {"_id": "b é/?", "v": "ü"}], new_edits=True)
    assert first.rev is not None and second.rev is not None
    (conflict,) = await database.write([{"_id": "a", "v": 2}], new_edits=True)
    assert (conflict.rev, conflict.error) == (None, "conflict")
    history = {"start": 2, "ids": ["f" * 32, first.rev[2:]]}
    branches = [
        {"_id": "a", "_rev": "1-" + "0" * 32, "v": 3},
        {"_id": "a", "_rev": "2-" + "f" * 32, "_revisions": history, "_deleted": True},
    ]
    assert await database.write(branches, new_edits=False) == [
        WriteResult("a", "1-" + "0" * 32),
        WriteResult("a", "2-" + "f" * 32),
    ]
    refs = [
        RevisionRef("a", first.rev), RevisionRef("x", "1-a"), RevisionRef("a", "2-" + "f" * 32),
        RevisionRef("a", "9-x"), RevisionRef("b é/?", second.rev),
    ]  # fmt: skip
    read = await database.read(refs)
    assert [doc and (doc["_id"], doc["_rev"]) for doc in read] == [
        (refs[0].id, refs[0].rev), None, (refs[2].id, refs[2].rev), None, (refs[4].id, refs[4].rev)
    ]  # fmt: skip
    assert read[2] is not None and read[2]["_revisions"] == history
    assert read[2]["_deleted"] is True
    assert read[4] is not None and read[4]["v"] == "ü"
    diff = await database.revs_diff({"a": [first.rev, "3-c"], "x": ["1-a"], "b é/?": [second.rev]})
    assert {doc_id: entry["missing"] for doc_id, entry in diff.items()} == {"a": ["3-c"], "x": ["1-a"]}


@pytest.mark.parametrize("in_bulk", [True, False])
async def test_every_leaf_is_found_whichever_way_it_is_asked_for(database: CouchDatabase, in_bulk: bool) -> None:
    docs = [
        {"_id": "a/b", "_rev": "1-" + "1" * 32, "v": 1},
        {"_id": "a/b", "_rev": "1-" + "2" * 32, "v": 2},
        {"_id": "a/b", "_rev": "1-" + "3" * 32, "_deleted": True},
        {"_id": "gone", "_rev": "1-" + "1" * 32, "_deleted": True},
    ]
    await database.write(docs, new_edits=False)
    database._server._whole_bulk_reads = in_bulk
    leaves = await database.leaves(["x", "a/b", "gone"])
    assert [[doc["_rev"][2] for doc in found] for found in leaves] == [[], ["2", "1", "3"], ["1"]]
    assert all("_revisions" in doc for found in leaves for doc in found)


async def test_the_feed_delivers_what_is_there_and_what_comes(database: CouchDatabase) -> None:
    await database.write([{"_id": f"d{n}"} for n in range(5)], new_edits=True)
    seen: list[ChangeRow] = []
    item: ChangeRow | Idle = Idle()
    feed = database.changes("0")
    async with asyncio.timeout(20):
        while len(seen) < 5 or not isinstance(item, Idle):
            item = await anext(feed)
            if isinstance(item, ChangeRow):
                seen.append(item)
        (written,) = await database.write([{"_id": "new"}], new_edits=True)
        while not isinstance(item, ChangeRow):
            item = await anext(feed)
    assert (item.id, item.revs, item.deleted) == ("new", (written.rev,), False)
    await feed.aclose()
    again = database.changes(seen[-1].seq or "0")
    assert await asyncio.wait_for(anext(again), 20) == item
    await again.aclose()
    assert sorted(row.id for row in seen) == [f"d{n}" for n in range(5)]


async def test_purged_documents_are_listed(database: CouchDatabase) -> None:
    (written,) = await database.write([{"_id": "a"}], new_edits=True)
    before = await database.info()
    response = await database.request(
        "POST",
        "/_purge",
        headers={"Content-Type": "application/json"},
        body=b'{"a":["%s"]}' % str(written.rev).encode(),
    )
    assert response.status in {200, 201}
    assert b"".join([chunk async for chunk in response.content])
    assert (await database.info()).purge_seq != before.purge_seq
    assert ("a", [written.rev]) in await database.purged()
    assert await database.leaves(["a"]) == [[]]


async def test_attachments_pass_through_and_are_inlined_on_demand(database: CouchDatabase) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"hel"
        yield b"lo"

    put = await database.request(
        "PUT", "/a/x.txt", headers={"Content-Type": "text/x", "Content-Length": "5"}, body=body()
    )
    assert put.status == 201
    assert b"".join([chunk async for chunk in put.content])
    got = await database.request("GET", "/a/x.txt")
    assert (got.status, got.headers["content-type"]) == (200, "text/x")
    assert b"".join([chunk async for chunk in got.content]) == b"hello"
    ((leaf,),) = await database.leaves(["a"])
    assert leaf["_attachments"]["x.txt"]["stub"] is True
    (read,) = await database.read([RevisionRef("a", leaf["_rev"])], attachments=True)
    assert read is not None and read["_attachments"]["x.txt"]["data"] == "aGVsbG8="


async def test_a_hundred_writers_and_readers_share_few_requests(database: CouchDatabase) -> None:
    batcher, cache = Batcher(database), RevisionCache()
    reader = RevisionReader(batcher, cache)

    async def use(n: int) -> None:
        written = await batcher.write_one({"_id": f"d{n}", "n": n}, True)
        assert written.rev is not None
        doc = await reader.document(RevisionRef(f"d{n}", written.rev))
        assert doc is not None and doc["n"] == n
        (leaf,) = await batcher.leaves_of(f"d{n}")
        assert leaf == doc

    await asyncio.gather(*(use(n) for n in range(100)))
    assert (len(cache), cache.misses) == (100, 100)
    await batcher.close()
