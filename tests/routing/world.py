"""A whole database in one process: real store, real sync function, real router, a scripted upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.auth.credentials import Credentials
from gateway.auth.passwords import Passwords
from gateway.callers import Caller, administrator
from gateway.couch.revision_cache import RevisionCache
from gateway.couch.upstream import Document
from gateway.database import Database, Feed, FeedRows
from gateway.embedded.server import EmbeddedServer
from gateway.model.leaves import Leaf
from gateway.model.positions import Since, parse_since
from gateway.queries import AllDocsQuery, ChangesQuery, DocumentQuery, Listing, Outcome
from gateway.settings.values import DatabaseSettings, GuestSettings, ImportRules
from gateway.store.protocol import DatabaseStore, DocumentRow, Index, PrincipalChange
from gateway.store.sqlite import SqliteStore
from tests.routing.scripted import ScriptedDatabase, ScriptedUpstream

ADMIN = administrator()

# `tell` shows in a channel what the function was given as oldDoc.
SYNC = """
function (doc, oldDoc) {
  if (oldDoc && oldDoc.owner) { requireUser(oldDoc.owner); }
  if (doc.only) { requireUser(doc.only); }
  if (doc.needs) { requireAccess(doc.needs); }
  if (doc.caught) { try { requireUser(doc.caught); } catch (error) { channel("caught"); return; } }
  if (doc.forbidden) { throw({forbidden: "never"}); }
  channel(doc.channels);
  if (doc.tell) { channel("old." + (oldDoc === null ? "none" : oldDoc._deleted ? "deleted" : oldDoc.v)); }
  if (doc.grant) { access(doc.grant, doc.to); }
  if (doc.member) { role(doc.member, doc.roles); }
}
"""


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 20) -> None:
    """Wait for something that other tasks bring about."""

    async def holds() -> bool:
        found = condition()
        return found if isinstance(found, bool) else await found

    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.002)


class World:
    """One database `notes` on files in a directory, which outlive a crash."""

    def __init__(self, directory: Path, sync: str = SYNC) -> None:
        self.directory = directory
        self.sync = sync
        self.imports = ImportRules()
        self.database: Database
        self.upstream: ScriptedDatabase
        self.server: ScriptedUpstream
        self.store: DatabaseStore

    async def open(self, script: Callable[[ScriptedDatabase], None] = lambda upstream: None) -> None:
        """Open everything. `script` prepares the upstream before the router starts."""
        self._metadata = SqliteStore(self.directory / "metadata.db")
        self.server = _PreparedUpstream(EmbeddedServer(self.directory / "couch"), script)
        self._passwords = Passwords()
        self._credentials = Credentials(self._passwords)
        settings = DatabaseSettings(
            "notes", "notes", self.sync, "a test", False, GuestSettings(), {}, {}, imports=self.imports
        )
        self.cache = RevisionCache()
        self.database = await Database.open(
            settings, self._metadata, self.server, self.cache, self._passwords, self._credentials
        )
        self.upstream = self.server.databases["notes"]
        self.store = await self._metadata.database("notes")

    async def close(self) -> None:
        """As a shutdown; as far as files go a crash looks the same, for nothing is written at the end."""
        await self.database.close()
        await self.server.close()
        await self._metadata.close()
        await self._credentials.close()
        await self._passwords.close()

    async def restart(self, script: Callable[[ScriptedDatabase], None] = lambda upstream: None) -> None:
        await self.close()
        await self.open(script)

    async def caught_up(self) -> None:
        assert await self.database.wait_caught_up(20)

    # Principals

    async def user(
        self, name: str, channels: Iterable[str] = (), roles: Iterable[str] = (), **properties: Any
    ) -> Caller:
        change = PrincipalChange({"password": "$argon2$x", **properties}, list(channels), list(roles))
        await self.store.put_principal("user", name, change)
        return Caller(name)

    async def role(self, name: str, channels: Iterable[str]) -> None:
        await self.store.put_principal("role", name, PrincipalChange({}, list(channels)))

    async def channels_of(self, name: str) -> set[str]:
        found = await self.store.principal("user", name)
        assert found is not None
        return set(found.channels) - {"!"}

    # Documents

    async def write(self, caller: Caller, doc_id: str, rev: str | None = None, **body: Any) -> str:
        """Through the gateway; the new revision."""
        doc = {"_id": doc_id, **({} if rev is None else {"_rev": rev}), **body}
        outcome = await self.database.write(caller, doc)
        assert outcome.routed
        return outcome.rev or ""

    async def graft(self, caller: Caller, doc_id: str, *revs: str, **body: Any) -> Outcome:
        """Through the gateway with new_edits=false; `revs` newest first."""
        return await self.database.write(caller, grafted(doc_id, *revs, **body), new_edits=False)

    async def direct(self, doc_id: str, rev: str | None = None, **body: Any) -> str:
        """Straight to the upstream; the new revision."""
        doc = {"_id": doc_id, **({} if rev is None else {"_rev": rev}), **body}
        (result,) = await self.upstream.inner.write([doc], new_edits=True)
        assert result.rev is not None, result
        return result.rev

    async def direct_graft(self, doc_id: str, *revs: str, **body: Any) -> None:
        await self.upstream.inner.write([grafted(doc_id, *revs, **body)], new_edits=False)

    async def routed(self) -> None:
        """Until everything that is upstream now is routed."""
        wanted = (await self.upstream.inner.info()).update_seq
        await until(lambda: self.database.router.status.upstream_since == wanted)

    # What callers see

    def feed(self, caller: Caller, since: str | int = 0, **query: Any) -> Feed:
        return self.database.changes(caller, ChangesQuery(since=parse_since(str(since)), **query))

    async def changes(self, caller: Caller, since: str | int = 0, **query: Any) -> list[dict[str, Any]]:
        return await rows_of(self.feed(caller, since, **query))

    async def ids(self, caller: Caller, since: str | int = 0) -> list[str]:
        return [row["id"] for row in await self.changes(caller, since)]

    async def listed(self, caller: Caller) -> dict[str, str]:
        answer = await listed(await self.database.all_docs(caller, AllDocsQuery()))
        return {row["id"]: row["value"]["rev"] for row in answer["rows"]}

    async def get(self, caller: Caller, doc_id: str, rev: str | None = None) -> Document:
        return await self.database.document(caller, doc_id, DocumentQuery(rev=rev))

    async def seq(self) -> int:
        return (await self.store.state()).last_seq

    # The index

    async def row(self, doc_id: str) -> DocumentRow | None:
        return await self.store.read(lambda index: index.find([doc_id]).get(doc_id))

    async def leaves(self, doc_id: str) -> dict[str, Leaf]:
        def read(index: Index) -> dict[str, Leaf]:
            row = index.find([doc_id]).get(doc_id)
            return (
                {} if row is None else {leaf.rev: leaf for leaf in index.leaves([row.document]).get(row.document, [])}
            )

        return await self.store.read(read)

    async def channels(self, doc_id: str) -> set[str]:
        """The channels that the document is in now, without `*`."""

        def read(index: Index) -> set[str]:
            row = index.find([doc_id]).get(doc_id)
            if row is None:
                return set()
            found = index.channels_of([row.document]).get(row.document, set())
            return set(index.channel_names(found).values()) - {"*"}

        return await self.store.read(read)


class _PreparedUpstream(ScriptedUpstream):
    def __init__(self, server: EmbeddedServer, script: Callable[[ScriptedDatabase], None]) -> None:
        super().__init__(server)
        self._script = script

    async def open(self, name: str, *, create: bool) -> ScriptedDatabase:
        database = await super().open(name, create=create)
        self._script(database)
        return database


def grafted(doc_id: str, *revs: str, **body: Any) -> Document:
    start = int(revs[0].partition("-")[0])
    return {
        "_id": doc_id,
        "_rev": revs[0],
        "_revisions": {"start": start, "ids": [rev.partition("-")[2] for rev in revs]},
        **body,
    }


async def listed(listing: Listing) -> dict[str, Any]:
    """A listing taken to its end: `total_rows`, `offset`, `rows`."""
    return {**listing.head, "rows": [json.loads(row) async for page in listing.pages for row in page]}


async def rows_of(feed: Feed) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    async for event in feed.events():
        if isinstance(event, FeedRows):
            rows += [json.loads(row) for row in event.rows]
    return rows


def position(row: dict[str, Any]) -> Since:
    found = parse_since(row["seq"])
    assert found is not None
    return found


@asynccontextmanager
async def world_in(directory: Path, sync: str = SYNC) -> AsyncIterator[World]:
    world = World(directory, sync)
    await world.open()
    try:
        yield world
    finally:
        await world.close()
