"""The contract suite runs on every implementation of `Upstream`.

`embedded` and `couchdb-over-embedded` (the CouchDB client against the embedded server's port) always; `couchdb` when
TEST_COUCHDB_URL names a server, with its credentials: http://admin:pw@127.0.0.1:5984.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import limits
from gateway.couch.client import CouchDB
from gateway.couch.upstream import ChangeRow, Document, Idle, Upstream, UpstreamDatabase
from gateway.embedded import EmbeddedServer
from gateway.embedded.http.app import Credentials, serve

COUCHDB_URL = os.environ.get("TEST_COUCHDB_URL")


@pytest.fixture(autouse=True)
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty feed over HTTP says that it is idle with its first heartbeat."""
    monkeypatch.setattr(limits, "UPSTREAM_HEARTBEAT_SECONDS", 0.2)


@pytest.fixture(
    params=[
        "embedded",
        "couchdb-over-embedded",
        pytest.param("couchdb", marks=pytest.mark.skipif(not COUCHDB_URL, reason="TEST_COUCHDB_URL is not set")),
    ]
)
async def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Upstream]:
    if request.param == "couchdb":
        assert COUCHDB_URL is not None
        client = CouchDB(COUCHDB_URL)
        yield client
        await client.close()
        return
    server = EmbeddedServer(tmp_path / "data")
    if request.param == "embedded":
        yield server
        await server.close()
        return
    listener = await serve(server, credentials=Credentials("admin", "p@ss:word"))
    client = CouchDB(listener.url, username="admin", password="p@ss:word")
    yield client
    await client.close()
    await server.close()
    await listener.close()


@pytest.fixture
async def name(upstream: Upstream) -> AsyncIterator[str]:
    """The name of a database of the test's own; what is made under it is deleted."""
    chosen = f"test_{uuid.uuid4().hex}"
    yield chosen
    if chosen in await upstream.all_dbs():
        await upstream.delete(chosen)


@pytest.fixture
async def database(upstream: Upstream, name: str) -> UpstreamDatabase:
    return await upstream.open(name, create=True)


async def forget(name: str) -> None:
    """Delete a database of a test that closed its own client: only a real server outlives the test."""
    if COUCHDB_URL is not None:
        client = CouchDB(COUCHDB_URL)
        if name in await client.all_dbs():
            await client.delete(name)
        await client.close()


class Feed:
    """A feed that a test reads step by step."""

    def __init__(self, database: UpstreamDatabase, since: str = "0") -> None:
        self._rows = database.changes(since)

    async def next(self) -> ChangeRow | Idle:
        async with asyncio.timeout(20):
            return await anext(self._rows)

    async def row(self) -> ChangeRow:
        """The next row, over any Idle."""
        while True:
            if isinstance(found := await self.next(), ChangeRow):
                return found

    async def until_idle(self) -> list[ChangeRow]:
        """The rows before the next Idle."""
        rows = []
        while isinstance(found := await self.next(), ChangeRow):
            rows.append(found)
        return rows

    async def caught_up(self, database: UpstreamDatabase) -> list[ChangeRow]:
        """The rows up to the state of now: CouchDB may say Idle before it has read everything."""
        seqs = (await database.info()).update_seq.partition("-")[0]
        rows: list[ChangeRow] = []
        while not rows or (rows[-1].seq or "0").partition("-")[0] != seqs:
            rows.append(await self.row())
        return rows

    async def close(self) -> None:
        if hasattr(self._rows, "aclose"):
            await self._rows.aclose()


@pytest.fixture
async def feeds() -> AsyncIterator[list[Feed]]:
    """Feeds put in here are closed at the end."""
    opened: list[Feed] = []
    yield opened
    for feed in opened:
        await feed.close()


async def store(database: UpstreamDatabase, *docs: Document) -> list[str]:
    """Write new documents or revisions; the revisions they got. Fails the test when one is refused."""
    results = await database.write(docs, new_edits=True)
    assert [result.error for result in results] == [""] * len(docs)
    return [result.rev or "" for result in results]


async def replicate(database: UpstreamDatabase, id: str, *revs: str, deleted: bool = False, **body: object) -> str:
    """Store a revision with its history, newest first, as a replicator does."""
    generation = int(revs[0].partition("-")[0])
    doc: Document = {
        "_id": id,
        "_rev": revs[0],
        "_revisions": {"start": generation, "ids": [rev.partition("-")[2] for rev in revs]},
        **body,
    }
    if deleted:
        doc["_deleted"] = True
    (result,) = await database.write([doc], new_edits=False)
    assert (result.id, result.rev, result.error) == (id, revs[0], "")
    return revs[0]
