"""The versions of a database's sync function: which one is in force, and which one is wanted in its place."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

from gateway import limits
from gateway.errors import NotFound
from gateway.store.protocol import SyncOrigin, SyncVersion
from gateway.store.transaction import Transaction

_COLUMNS = "number, digest, source, made_at, origin"


def versions(sql: sqlite3.Connection, database: int) -> list[SyncVersion]:
    found = sql.execute(f"SELECT {_COLUMNS} FROM sync_version WHERE database = ? ORDER BY number", (database,))
    return [_version(row) for row in found]


def version(sql: sqlite3.Connection, database: int, number: int) -> SyncVersion:
    """Raises NotFound."""
    row = sql.execute(
        f"SELECT {_COLUMNS} FROM sync_version WHERE database = ? AND number = ?", (database, number)
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no version {number} of the sync function")
    return _version(row)


def _version(row: tuple[Any, ...]) -> SyncVersion:
    return SyncVersion(*row)


def want(tx: Transaction, source: str, origin: SyncOrigin, now: float) -> SyncVersion:
    """Make this source the wanted version, kept under a number of its own if it is new.

    Nothing is wanted any more when it is in force already. It is in force at once where nothing was routed yet: there
    is nothing to route again.
    """
    wanted = _found(tx, source) or _added(tx, source, origin, now)
    in_force, routed = tx.sql(
        "SELECT sync_version, EXISTS (SELECT 1 FROM document WHERE database = ?1) FROM database WHERE id = ?1",
        (tx.database,),
    ).fetchone()
    if not in_force or not routed:
        set_in_force(tx, wanted.number)
    else:
        number = None if wanted.number == in_force else wanted.number
        tx.sql("UPDATE database SET sync_wanted = ? WHERE id = ?", (number, tx.database))
    _forget_oldest(tx)
    return wanted


def follow_file(tx: Transaction, source: str, now: float) -> SyncVersion | None:
    """As `want`, of the config file's function, if it is another one than when the file was last read; else None."""
    digest = _digest(source)
    before, in_force = tx.sql("SELECT sync_file, sync_version FROM database WHERE id = ?", (tx.database,)).fetchone()
    if before == digest and in_force:
        return None
    tx.sql("UPDATE database SET sync_file = ? WHERE id = ?", (digest, tx.database))
    return want(tx, source, "config", now)


def set_in_force(tx: Transaction, number: int) -> None:
    """From this transaction on the version decides, and is not wanted any more; another one that is wanted stays so.

    What it says of the documents that are recorded must be recorded in the same transaction. Raises NotFound.
    """
    if tx.sql("SELECT 1 FROM sync_version WHERE database = ? AND number = ?", (tx.database, number)).fetchone() is None:
        raise NotFound(f"there is no version {number} of the sync function")
    tx.sql(
        "UPDATE database SET sync_version = ?1, sync_wanted = nullif(sync_wanted, ?1) WHERE id = ?2",
        (number, tx.database),
    )


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def _found(tx: Transaction, source: str) -> SyncVersion | None:
    row = tx.sql(
        f"SELECT {_COLUMNS} FROM sync_version WHERE database = ? AND digest = ?", (tx.database, _digest(source))
    ).fetchone()
    return None if row is None else _version(row)


def _added(tx: Transaction, source: str, origin: SyncOrigin, now: float) -> SyncVersion:
    (last,) = tx.sql("SELECT coalesce(max(number), 0) FROM sync_version WHERE database = ?", (tx.database,)).fetchone()
    made = SyncVersion(last + 1, _digest(source), source, now, origin)
    tx.sql(
        f"INSERT INTO sync_version (database, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        (tx.database, made.number, made.digest, made.source, made.made_at, made.origin),
    )
    return made


def _forget_oldest(tx: Transaction) -> None:
    """Keep to the limits. The newest always stays, so no number is given twice."""
    in_force, wanted = tx.sql("SELECT sync_version, sync_wanted FROM database WHERE id = ?", (tx.database,)).fetchone()
    found = tx.sql(
        "SELECT number, length(CAST(source AS BLOB)) FROM sync_version WHERE database = ? ORDER BY number DESC",
        (tx.database,),
    ).fetchall()
    used = [size for number, size in found if number in (in_force, wanted)]
    count, room = len(used), limits.SYNC_VERSIONS_BYTES - sum(used)
    for number, size in found:
        if number in (in_force, wanted):
            continue
        count, room = count + 1, room - size
        if count > limits.SYNC_VERSIONS_COUNT or room < 0:
            tx.sql("DELETE FROM sync_version WHERE database = ? AND number <= ? AND number NOT IN (?, ?)",
                   (tx.database, number, in_force, wanted or 0))  # fmt: skip
            return
