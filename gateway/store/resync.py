"""The tables beside the serving ones: what a resync has computed, kept batch by batch with its cursor."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from gateway.model.apply import Found
from gateway.model.leaves import Leaf, LeafRouting
from gateway.model.routing import Routing
from gateway.store import resync_apply, resync_lists, rows
from gateway.store.documents import interned
from gateway.store.index import SqliteIndex
from gateway.store.resync_protocol import (
    Computed,
    ListKind,
    NewRouting,
    ResyncCounts,
    ResyncJob,
    ResyncState,
    RoutedDocument,
    RoutedLeaf,
)
from gateway.store.rows import ids_json
from gateway.store.transaction import Transaction

T = TypeVar("T")
_JOB = "version, digest, source, preview, state, cursor, accept_failures, started_at, ended_at, error, accept_deletions"


class Opened(Protocol):
    """The store of the database, as this part of it needs it."""

    async def _transaction(self, function: Callable[[Transaction, sqlite3.Connection], T]) -> T: ...

    async def _snapshot(self, function: Callable[[SqliteIndex, sqlite3.Connection], T]) -> T: ...


class SqliteResync:
    """Implements `ResyncStore`."""

    def __init__(self, number: int, star: int, opened: Opened) -> None:
        self._number = number
        self._star = star
        self._transaction = opened._transaction
        self._snapshot = opened._snapshot

    async def job(self) -> ResyncJob | None:
        return await self._snapshot(lambda _, sql: job(sql, self._number))

    async def begin(self, value: ResyncJob) -> None:
        await self._transaction(lambda tx, _: _begin(tx, value))

    async def note(self, state: ResyncState, *, error: str | None = None, ended_at: float | None = None) -> None:
        def run(tx: Transaction, _: sqlite3.Connection) -> None:
            tx.sql(
                "UPDATE resync_job SET state = ?, error = ?, ended_at = ? WHERE database = ? AND state = 'running'",
                (state, error, ended_at, tx.database),
            )

        await self._transaction(run)

    async def clear(self, limit: int) -> bool:
        return await self._transaction(lambda tx, _: _clear(tx, limit))

    async def batch(self, after: int, limit: int) -> list[RoutedDocument]:
        return await self._snapshot(lambda index, sql: _batch(index, sql, after, limit))

    async def put(self, computed: Sequence[Computed], cursor: int) -> None:
        await self._transaction(lambda tx, _: _put(tx, computed, cursor, self._star))

    async def settle(self, now: float) -> None:
        await self._transaction(lambda tx, _: resync_apply.find_access(tx, now))

    async def apply(self, version: int, now: float) -> bool:
        def run(tx: Transaction, sql: sqlite3.Connection) -> bool:
            known = job(sql, self._number)
            if known is None or SqliteIndex(sql, self._number, self._star, 0).entries(self._star, known.cursor, 1):
                return False
            resync_apply.apply(tx, version, now)
            return True

        return await self._transaction(run)

    async def count_expired(self, now: float) -> int:
        return await self._snapshot(lambda _, sql: resync_lists.expired(sql, self._number, now))

    async def counts(self) -> ResyncCounts:
        return await self._snapshot(lambda index, sql: resync_lists.counts(sql, index.state, self._number, self._star))

    async def list_documents(
        self, kind: ListKind, channel: str | None, start: int, limit: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        return await self._snapshot(
            lambda index, sql: resync_lists.documents(sql, index, self._number, kind, channel, start, limit)
        )

    async def list_channels(self, start: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        return await self._snapshot(lambda _, sql: resync_lists.channels(sql, self._number, start, limit))

    async def list_access(self, start: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        return await self._snapshot(lambda _, sql: resync_lists.access(sql, self._number, start, limit))


def job(sql: sqlite3.Connection, database: int) -> ResyncJob | None:
    row = sql.execute(f"SELECT {_JOB} FROM resync_job WHERE database = ?", (database,)).fetchone()
    if row is None:
        return None
    version, digest, source, preview, state, cursor, failures, started_at, ended_at, error, deletions = row
    return ResyncJob(
        *(version, digest, source, bool(preview), state, cursor, bool(failures), started_at, ended_at, error),
        bool(deletions),
    )


def _begin(tx: Transaction, value: ResyncJob) -> None:
    tx.sql(
        f"INSERT OR REPLACE INTO resync_job (database, {_JOB}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(tx.database, value.version, value.digest, value.source, value.preview, value.state, value.cursor),
            *(value.accept_failures, value.started_at, value.ended_at, value.error, value.accept_deletions),
        ),
    )
    if value.cursor < 0:
        tx.sql("DELETE FROM resync_access WHERE database = ?", (tx.database,))


def _clear(tx: Transaction, limit: int) -> bool:
    found = tx.sql("SELECT document FROM resync_document WHERE database = ? LIMIT ?", (tx.database, limit)).fetchall()
    _forget(tx, [row[0] for row in found])
    if len(found) == limit:
        return False
    tx.sql("UPDATE resync_job SET cursor = max(cursor, 0) WHERE database = ?", (tx.database,))
    return True


def _forget(tx: Transaction, documents: Sequence[int]) -> None:
    wanted = (ids_json(documents),)
    for table in ("resync_document", "resync_leaf", "resync_channel"):
        tx.sql(f"DELETE FROM {table} WHERE document IN (SELECT value FROM json_each(?))", wanted)


def _batch(index: SqliteIndex, sql: sqlite3.Connection, after: int, limit: int) -> list[RoutedDocument]:
    numbers = [document for _, document, _ in index.entries(index.star, after, limit)]
    documents = index.documents(numbers)
    leaves = index.leaves(numbers, superseded=True)
    routings = [leaf.routing for some in leaves.values() for leaf in some]
    names = _Names(index, sql, routings)
    found = []
    for number in numbers:
        row = documents[number]
        # A ghost's superseded leaves too are read by their routing, for a while.
        its = [_routed(leaf, names) for leaf in leaves.get(number, ())]
        alive = row.winner is not None and not row.deleted
        found.append(RoutedDocument(number, row.id, row.seq, row.winner, alive, its))
    return found


class _Names:
    """From numbers to names, of all routings of a batch."""

    def __init__(self, index: SqliteIndex, sql: sqlite3.Connection, routings: Sequence[LeafRouting]) -> None:
        channels = {channel for one in routings for channel in one.channels}
        channels |= {channel for one in routings for _, channel in one.grants}
        principals = {who for one in routings for who, _ in one.grants}
        principals |= {number for one in routings for pair in one.roles for number in pair}
        self.channels = index.channel_names(channels)
        self.principals: dict[int, str] = {}
        self.whom: dict[int, str] = {}  # as grants name them
        for number, kind, name in sql.execute(
            "SELECT id, kind, name FROM principal WHERE id IN (SELECT value FROM json_each(?))",
            (ids_json(principals),),
        ):
            self.principals[number] = name
            self.whom[number] = f"role:{name}" if kind == "role" else name


def _routed(leaf: Leaf, names: _Names) -> RoutedLeaf:
    routing = Routing(
        frozenset(names.channels[channel] for channel in leaf.routing.channels),
        frozenset((names.whom[who], names.channels[channel]) for who, channel in leaf.routing.grants),
        frozenset((names.principals[user], names.principals[role]) for user, role in leaf.routing.roles),
        leaf.routing.expiry,
        frozenset((names.whom[who], names.channels[channel], end) for who, channel, end in leaf.routing.grant_ends),
        frozenset((names.principals[user], names.principals[role], end) for user, role, end in leaf.routing.role_ends),
        leaf.routing.asked_at or 0.0,
    )
    return RoutedLeaf(leaf.rev, leaf.deleted, leaf.superseded_at is not None, routing, leaf.routing.refused)


def _put(tx: Transaction, computed: Sequence[Computed], cursor: int, star: int) -> None:
    _forget(tx, [one.document for one in computed])
    told = [one for one in computed if one.is_told]
    if told:
        wanted = (ids_json([one.document for one in told]),)
        now = dict(
            tx.sql("SELECT id, seq FROM document WHERE id IN (SELECT value FROM json_each(?))", wanted).fetchall()
        )
        told = [one for one in told if now.get(one.document) == one.seq]
        _put_told(tx, told, star)
    tx.sql("UPDATE resync_job SET cursor = ? WHERE database = ?", (cursor, tx.database))


def _put_told(tx: Transaction, told: Sequence[Computed], star: int) -> None:
    leaves = [(one.document, leaf) for one in told for leaf in one.leaves]
    channels = tx.channels(
        {
            name
            for _, leaf in leaves
            for name in (*leaf.routing.channels, *(channel for _, channel in leaf.routing.grants))
        }
        | {name for one in told for name in one.channels or ()}
    )
    tx.many(
        "INSERT INTO resync_document (document, database, changed, refused, failed, expires) VALUES (?, ?, ?, ?, ?, ?)",
        [(one.document, tx.database, one.changed, one.refused, one.failed, one.expires) for one in told],
    )
    tx.many(
        "INSERT INTO resync_leaf (document, rev, channels, grants, roles, expiry, refused, moved)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [_leaf_values(tx, channels, document, leaf) for document, leaf in leaves],
    )
    moving = {one.document: {channels[name] for name in one.channels} for one in told if one.channels is not None}
    before: dict[int, set[int]] = {document: set() for document in moving}
    for document, channel in tx.sql(
        "SELECT document, channel FROM channel_entry WHERE document IN (SELECT value FROM json_each(?))"
        " AND removed = 0",
        (ids_json(moving),),
    ):
        before[document].add(channel)
    tx.many(
        "INSERT INTO resync_channel (document, channel, database, entered) VALUES (?, ?, ?, ?)",
        [
            (document, channel, tx.database, channel in after)
            for document, after in moving.items()
            for channel in sorted((after ^ before[document]) - {star})
        ],
    )


def _leaf_values(tx: Transaction, channels: dict[str, int], document: int, leaf: NewRouting) -> tuple[Any, ...]:
    found = interned(tx, channels, Found(leaf.rev, False, (), None), leaf.routing, leaf.refused)
    assert found.routing is not None  # noqa: S101  it was given
    values = rows.leaf_values(document, Leaf(leaf.rev, False, 0, found.routing))
    _, _, _, _, its_channels, grants, roles, expiry, *_ = values
    return (document, leaf.rev, its_channels, grants, roles, expiry, leaf.refused, leaf.moved)
