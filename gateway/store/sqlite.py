"""The metadata store on SQLite: one file, one writing thread, several that read."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gateway import limits
from gateway.couch.upstream import Identity
from gateway.errors import UnknownDatabase
from gateway.model.apply import Recorded
from gateway.model.names import ALL_CHANNELS, PUBLIC_CHANNEL
from gateway.store import catalogue, documents, ends, imports, local_docs, members, principals, rows, versions
from gateway.store.connections import Connections
from gateway.store.index import SqliteIndex, public_and_star
from gateway.store.protocol import (
    CreatedState,
    DatabaseState,
    Expiring,
    FoundDocument,
    Index,
    Principal,
    PrincipalChange,
    PrincipalKind,
    Publication,
    ServerUser,
    SyncOrigin,
    SyncVersion,
)
from gateway.store.resync import SqliteResync
from gateway.store.sessions import SqliteSessions
from gateway.store.transaction import Transaction

T = TypeVar("T")


class SqliteStore:
    """Implements `MetadataStore`."""

    def __init__(self, path: Path) -> None:
        """Open the file, created and migrated if need be. Raises StoreError naming it. Blocks; call it at start."""
        self._connections = Connections(path)
        self.sessions = SqliteSessions(self._connections)
        self._listeners: list[Callable[[Publication], None]] = []
        self._own: dict[str, OwnConnections] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def database(self, name: str) -> SqliteDatabase:
        self._loop = asyncio.get_running_loop()
        own = self._own.setdefault(name, OwnConnections(self._connections))
        number, public, star = await own.write(lambda sql: _open_database(sql, name))
        return SqliteDatabase(name, number, public, star, own, self._publish)

    def subscribe(self, listener: Callable[[Publication], None]) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[Publication], None]) -> None:
        self._listeners.remove(listener)

    async def uuid(self) -> str:
        return await self._connections.write(catalogue.uuid)

    async def server_user(self, name: str) -> ServerUser | None:
        return await self._connections.read(lambda sql: members.server_user(sql, name))

    async def server_users(self) -> list[ServerUser]:
        return await self._connections.read(members.server_users)

    async def put_server_user(self, user: ServerUser, over: str | None) -> None:
        limit = limits.SERVER_USERS_COUNT
        await self._connections.write(lambda sql: members.put_server_user(sql, user, over, limit))

    async def created(self) -> dict[str, CreatedState]:
        return await self._connections.read(catalogue.created)

    async def note_created(self, name: str, state: CreatedState | None) -> None:
        await self._connections.write(lambda sql: catalogue.note_created(sql, name, state))

    async def drop(self, name: str) -> None:
        own = self._own.pop(name, None)

        def run(sql: sqlite3.Connection) -> None:
            catalogue.drop(sql, name)
            if own is not None:
                own.dropped = True  # in the writing thread: nothing of it is written after this

        await self._connections.write(run)

    async def sweep(self) -> bool:
        return await self._connections.write(catalogue.sweep)

    def _publish(self, publication: Publication) -> None:
        """Called in the writing thread after each commit; listeners run on the loop, in the order of commits, and
        before the caller of the transaction goes on."""
        if self._loop is not None and publication.first_seq <= publication.last_seq:
            for listener in self._listeners:
                self._loop.call_soon_threadsafe(listener, publication)

    async def close(self) -> None:
        await self._connections.close()


class OwnConnections:
    """The connections as one database uses them. Nothing passes after it was dropped: a new one may have its number."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.dropped = False

    async def write(self, function: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> T:
        """As `Connections.write`. Raises UnknownDatabase."""
        return await self._connections.write(self._checked(function), then)

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """As `Connections.read`. Raises UnknownDatabase."""
        return await self._connections.read(self._checked(function))

    def _checked(self, function: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
        def run(sql: sqlite3.Connection) -> T:
            if self.dropped:
                raise UnknownDatabase
            return function(sql)

        return run


def _open_database(sql: sqlite3.Connection, name: str) -> tuple[int, int, int]:
    row = sql.execute("SELECT id FROM database WHERE name = ?", (name,)).fetchone()
    if row is None:
        row = sql.execute(
            "INSERT INTO database (name, epoch) VALUES (?, ?) RETURNING id", (name, secrets.token_hex(4))
        ).fetchone()
        sql.executemany(
            "INSERT INTO channel (database, name) VALUES (?, ?)", [(row[0], PUBLIC_CHANNEL), (row[0], ALL_CHANNELS)]
        )
    return (int(row[0]), *public_and_star(sql, row[0]))


class SqliteDatabase:
    """Implements `DatabaseStore`."""

    def __init__(
        self,
        name: str,
        number: int,
        public: int,
        star: int,
        connections: OwnConnections,
        publish: Callable[[Publication], None],
    ) -> None:
        self.name = name
        self._number = number
        self._public = public
        self._star = star
        self._connections = connections
        self._publish = publish
        self.resync = SqliteResync(number, star, self)

    async def state(self) -> DatabaseState:
        return await self._connections.read(lambda sql: rows.state(sql, self._number))

    async def read(self, function: Callable[[Index], T]) -> T:
        return await self._connections.read(lambda sql: function(self._index(sql)))

    def _index(self, sql: sqlite3.Connection) -> SqliteIndex:
        return SqliteIndex(sql, self._number, self._star, self._public)

    async def recorded(self, ids: Collection[str]) -> dict[str, Recorded]:
        found = await self._connections.read(lambda sql: documents.recorded(sql, self._number, ids))
        return {doc: value for doc, (_, value) in found.items()}

    async def _snapshot(self, function: Callable[[SqliteIndex, sqlite3.Connection], T]) -> T:
        return await self._connections.read(lambda sql: function(self._index(sql), sql))

    async def _transaction(self, function: Callable[[Transaction, sqlite3.Connection], T]) -> T:
        def run(sql: sqlite3.Connection) -> tuple[T, Publication]:
            tx = Transaction(sql, self._number, self.name)
            result = function(tx, sql)
            return result, tx.finish()

        result, _ = await self._connections.write(run, lambda done: self._publish(done[1]))
        return result

    async def apply(
        self, found: Sequence[FoundDocument], *, upstream_since: str | None, now: float
    ) -> dict[str, frozenset[str]]:
        def run(tx: Transaction, sql: sqlite3.Connection) -> dict[str, frozenset[str]]:
            answer = documents.apply_documents(tx, sql, found, self._star, now)
            if upstream_since is not None:
                tx.sql("UPDATE database SET upstream_since = ? WHERE id = ?", (upstream_since, self._number))
            return answer

        return await self._transaction(run)

    async def next_grant_end(self) -> float | None:
        return await self._connections.read(lambda sql: ends.next_grant_end(sql, self._number))

    async def end_grants(self, now: float, limit: int) -> int:
        return await self._transaction(lambda tx, _: ends.end_grants(tx, now, limit))

    async def expiring(self, after: tuple[float, int, str] | None, limit: int) -> list[Expiring]:
        return await self._connections.read(lambda sql: ends.expiring(sql, self._number, after, limit))

    async def remember(
        self,
        *,
        identity: Identity | None = None,
        purge_seq: str | None = None,
        import_rules: str | None = None,
    ) -> None:
        def run(sql: sqlite3.Connection) -> None:
            if identity is not None:
                sql.execute(
                    "UPDATE database SET server_uuid = ?, instance_start_time = ? WHERE id = ?",
                    (identity.server_uuid, identity.instance_start_time, self._number),
                )
            if purge_seq is not None:
                sql.execute("UPDATE database SET purge_seq = ? WHERE id = ?", (purge_seq, self._number))
            if import_rules is not None:
                sql.execute("UPDATE database SET import_rules = ? WHERE id = ?", (import_rules, self._number))

        await self._connections.write(run)

    async def note_own(self, writes: Collection[tuple[str, str]], now: float) -> None:
        await self._connections.write(lambda sql: imports.note_own(sql, self._number, writes, now))

    async def own(self, writes: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        return await self._connections.read(lambda sql: imports.own(sql, self._number, writes))

    async def forget_own(self, before: float) -> int:
        return await self._connections.write(lambda sql: imports.forget_own(sql, self._number, before))

    async def note_not_imported(self, found: Mapping[str, Mapping[str, str]], now: float) -> None:
        await self._connections.write(lambda sql: imports.note_not_imported(sql, self._number, found, now))

    async def not_imported_ids(self, after: str, limit: int) -> list[str]:
        return await self._connections.read(lambda sql: imports.not_imported_ids(sql, self._number, after, limit))

    async def forget_not_imported(self) -> None:
        await self._connections.write(lambda sql: imports.forget_not_imported(sql, self._number))

    async def sync_versions(self) -> list[SyncVersion]:
        return await self._connections.read(lambda sql: versions.versions(sql, self._number))

    async def sync_version(self, number: int) -> SyncVersion:
        return await self._connections.read(lambda sql: versions.version(sql, self._number, number))

    async def want_sync(self, source: str, origin: SyncOrigin, now: float) -> SyncVersion:
        return await self._transaction(lambda tx, sql: versions.want(tx, source, origin, now))

    async def follow_sync_file(self, source: str, now: float) -> SyncVersion | None:
        return await self._transaction(lambda tx, sql: versions.follow_file(tx, source, now))

    async def recorded_ids(self, after: str, limit: int) -> list[str]:
        found = await self._connections.read(
            lambda sql: sql.execute(
                "SELECT doc FROM document WHERE database = ? AND doc > ? AND winner IS NOT NULL ORDER BY doc LIMIT ?",
                (self._number, after, limit),
            ).fetchall()
        )
        return [row[0] for row in found]

    async def forget_superseded(self, before: float) -> int:
        statement = (
            "DELETE FROM leaf WHERE superseded_at < ? AND (SELECT database FROM document WHERE id = leaf.document) = ?"
        )
        return await self._connections.write(lambda sql: sql.execute(statement, (before, self._number)).rowcount)

    async def put_principal(
        self, kind: PrincipalKind, name: str, change: PrincipalChange, *, must_be_new: bool = False
    ) -> bool:
        return await self._transaction(lambda tx, sql: principals.put(tx, sql, kind, name, change, must_be_new))

    async def delete_principal(self, kind: PrincipalKind, name: str) -> None:
        await self._transaction(lambda tx, sql: principals.delete(tx, sql, kind, name))

    async def principal(self, kind: PrincipalKind, name: str) -> Principal | None:
        return await self._connections.read(lambda sql: principals.get(sql, self._index(sql), self._number, kind, name))

    async def principals(self, kind: PrincipalKind) -> list[tuple[str, Mapping[str, Any]]]:
        return await self._connections.read(lambda sql: principals.names(sql, self._number, kind))

    async def security(self) -> dict[str, Any] | None:
        return await self._connections.read(lambda sql: members.security(sql, self._number))

    async def set_security(self, value: Mapping[str, Any]) -> None:
        def run(tx: Transaction, sql: sqlite3.Connection) -> None:
            members.set_security(sql, self._number, value)
            members.settle(tx, sql, self._star)

        await self._transaction(run)

    async def settle_members(self, name: str | None = None) -> None:
        await self._transaction(lambda tx, sql: members.settle(tx, sql, self._star, name))

    async def local_get(self, owner: str, doc: str) -> tuple[str, dict[str, Any]] | None:
        return await self._connections.read(lambda sql: local_docs.get(sql, self._number, owner, doc))

    async def local_put(self, owner: str, doc: str, rev: str | None, body: Mapping[str, Any]) -> str:
        return await self._connections.write(lambda sql: local_docs.put(sql, self._number, owner, doc, rev, body))

    async def local_delete(self, owner: str, doc: str) -> None:
        await self._connections.write(lambda sql: local_docs.delete(sql, self._number, owner, doc))

    async def local_revs(self, owner: str) -> list[tuple[str, str]]:
        return await self._connections.read(lambda sql: local_docs.revs(sql, self._number, owner))
