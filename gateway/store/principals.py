"""Users and roles: their properties, what the admin gives them, their lives."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from gateway.errors import Conflict, NotFound
from gateway.model.intervals import intervals, open_channels
from gateway.store.index import SqliteIndex
from gateway.store.protocol import Principal, PrincipalChange, PrincipalKind
from gateway.store.transaction import Transaction

ADMIN = "admin"


def _row(connection: sqlite3.Connection, database: int, kind: str, name: str) -> tuple[int, Any, int, int] | None:
    found: tuple[int, Any, int, int] | None = connection.execute(
        "SELECT id, properties, seq, login_seq FROM principal WHERE database = ? AND kind = ? AND name = ?",
        (database, kind, name),
    ).fetchone()
    return found


def put(
    tx: Transaction, connection: sqlite3.Connection, kind: PrincipalKind, name: str, change: PrincipalChange, new: bool
) -> bool:
    """Create or change; True if created. Takes one sequence, none when nothing changes."""
    row = _row(connection, tx.database, kind, name)
    exists = row is not None and row[1] is not None
    if exists and new:
        raise Conflict("Already exists")
    before: dict[str, Any] = json.loads(row[1]) if row is not None and exists else {}
    after = {key: value for key, value in {**before, **change.properties}.items() if value is not None}
    principal = tx.principal(kind, name)
    channels = None if change.admin_channels is None else set(tx.channels(change.admin_channels).values())
    roles = None if change.admin_roles is None else {tx.principal("role", role) for role in change.admin_roles}
    same_channels = channels is None or channels == tx.targets(principal, "channel", ADMIN)
    same_roles = roles is None or roles == tx.targets(principal, "role", ADMIN)
    if exists and after == before and same_channels and same_roles:
        return False
    seq = tx.next_seq()
    if channels is not None:
        tx.set_source(principal, "channel", channels, ADMIN, seq)
    if roles is not None:
        tx.set_source(principal, "role", roles, ADMIN, seq)
    if not exists:
        tx.begin_life(principal, seq)
    tx.sql("UPDATE principal SET properties = ?, seq = ? WHERE id = ?", (json.dumps(after), seq, principal))
    if not exists or _ends_logins(before, after):
        tx.sql("UPDATE principal SET login_seq = ? WHERE id = ?", (seq, principal))
    if kind == "user":
        tx.touch_user(name)
    return not exists


def _ends_logins(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    disabled = bool(after.get("disabled")) and not before.get("disabled")
    return disabled or before.get("password") != after.get("password")


def delete(tx: Transaction, connection: sqlite3.Connection, kind: PrincipalKind, name: str) -> None:
    """End the life and everything the admin gave; what documents give stays for the day it is created again."""
    row = _row(connection, tx.database, kind, name)
    if row is None or row[1] is None:
        raise NotFound
    seq = tx.next_seq()
    tx.set_source(row[0], "channel", set(), ADMIN, seq)
    tx.set_source(row[0], "role", set(), ADMIN, seq)
    tx.end_life(row[0], seq)
    tx.sql("UPDATE principal SET properties = NULL, seq = ? WHERE id = ?", (seq, row[0]))
    if kind == "user":
        tx.touch_user(name)


def get(connection: sqlite3.Connection, index: SqliteIndex, database: int, kind: str, name: str) -> Principal | None:
    row = _row(connection, database, kind, name)
    if row is None or row[1] is None:
        return None
    held = open_channels(intervals(index.access_of(row[0]), None, index.star))
    names = index.channel_names(held)
    return Principal(
        "user" if kind == "user" else "role",
        name,
        row[2],
        json.loads(row[1]),
        frozenset(_names(connection, row[0], "channel")),
        frozenset(_names(connection, row[0], "role")),
        {names[channel]: since for channel, since in held.items()},
        frozenset(_held_roles(connection, row[0])),
        row[3],
    )


def _names(connection: sqlite3.Connection, principal: int, kind: str) -> list[str]:
    table = "channel" if kind == "channel" else "principal"
    found = connection.execute(
        f"SELECT t.name FROM grants g JOIN {table} t ON t.id = g.target"
        " WHERE g.principal = ? AND g.kind = ? AND g.source = ?",
        (principal, kind, ADMIN),
    )
    return [row[0] for row in found]


def _held_roles(connection: sqlite3.Connection, user: int) -> list[str]:
    found = connection.execute(
        "SELECT p.name FROM access a JOIN principal p ON p.id = a.target"
        " WHERE a.principal = ? AND a.kind = 'role' AND a.until_seq IS NULL AND p.properties IS NOT NULL",
        (user,),
    )
    return [row[0] for row in found]


def names(connection: sqlite3.Connection, database: int, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
    found = connection.execute(
        "SELECT name, properties FROM principal"
        " WHERE database = ? AND kind = ? AND properties IS NOT NULL ORDER BY name",
        (database, kind),
    )
    return [(name, json.loads(properties)) for name, properties in found]
