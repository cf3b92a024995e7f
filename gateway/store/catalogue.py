"""Which databases were made by request, and the end of a database in the metadata store."""

from __future__ import annotations

import sqlite3
import uuid as uuids
from collections.abc import Iterator

from gateway import limits
from gateway.store.protocol import CreatedState

# A dropped database keeps its rows under a name that none can have, until they are swept away in pieces.
_DROPPED = "-dropped-"
# Whose rows go first: those of documents and principals are found through them.
_PARENTS = ("document", "principal")


def uuid(sql: sqlite3.Connection) -> str:
    """The name of this metadata store, given at the first call."""
    sql.execute("INSERT OR IGNORE INTO server_fact (name, value) VALUES ('uuid', ?)", (uuids.uuid4().hex,))
    return str(sql.execute("SELECT value FROM server_fact WHERE name = 'uuid'").fetchone()[0])


def created(sql: sqlite3.Connection) -> dict[str, CreatedState]:
    return dict(sql.execute("SELECT name, state FROM created_database ORDER BY name").fetchall())


def note_created(sql: sqlite3.Connection, name: str, state: CreatedState | None) -> None:
    if state is None:
        sql.execute("DELETE FROM created_database WHERE name = ?", (name,))
    else:
        sql.execute("INSERT OR REPLACE INTO created_database (name, state) VALUES (?, ?)", (name, state))


def drop(sql: sqlite3.Connection, name: str) -> None:
    """Free the name, in one step; what is left behind is swept later."""
    sql.execute("UPDATE database SET name = ? || id WHERE name = ?", (_DROPPED, name))
    note_created(sql, name, None)


def sweep(sql: sqlite3.Connection) -> bool:
    """Remove some rows of a dropped database. False when there is nothing left to do.

    Tables are found by their columns, so that those of later migrations are swept, too.
    """
    row = sql.execute("SELECT id FROM database WHERE name LIKE ? || '%' LIMIT 1", (_DROPPED,)).fetchone()
    if row is None:
        return False
    tables = {name: _columns(sql, name) for name in _tables(sql)}
    for parent in _PARENTS:
        ids = [
            one
            for (one,) in sql.execute(
                f"SELECT id FROM {parent} WHERE database = ? LIMIT ?", (row[0], limits.SWEEP_ROWS_COUNT)
            )
        ]
        if ids:
            children = [name for name, columns in tables.items() if parent in columns]
            for child in children:
                sql.executemany(f"DELETE FROM {child} WHERE {parent} = ?", [(one,) for one in ids])
            sql.executemany(f"DELETE FROM {parent} WHERE id = ?", [(one,) for one in ids])
            return True
    for name, columns in tables.items():
        if "database" not in columns:
            continue
        key = ", ".join(column for column, is_key in columns.items() if is_key)
        found = sql.execute(
            f"DELETE FROM {name} WHERE ({key}) IN (SELECT {key} FROM {name} WHERE database = ? LIMIT ?)",
            (row[0], limits.SWEEP_ROWS_COUNT),
        )
        if found.rowcount:
            return True
    sql.execute("DELETE FROM database WHERE id = ?", (row[0],))
    return True


def _tables(sql: sqlite3.Connection) -> Iterator[str]:
    found = sql.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    )
    return (str(name) for (name,) in found.fetchall())


def _columns(sql: sqlite3.Connection, table: str) -> dict[str, bool]:
    """The columns of a table, and which of them make its primary key."""
    found = {row[1]: bool(row[5]) for row in sql.execute(f"PRAGMA table_info({table})")}
    return found if any(found.values()) else {**found, "rowid": True}
