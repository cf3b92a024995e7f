"""What was written straight to the upstream and is not taken in, and which writes are the gateway's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from gateway.store.protocol import NotImported
from gateway.store.rows import texts


def note_own(sql: sqlite3.Connection, database: int, writes: Collection[tuple[str, str]], now: float) -> None:
    sql.executemany(
        "INSERT OR REPLACE INTO own_write (database, doc, digest, at) VALUES (?, ?, ?, ?)",
        [(database, doc, digest, now) for doc, digest in writes],
    )


def own(sql: sqlite3.Connection, database: int, writes: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of `writes`, (document, digest of the body), that are the gateway's own."""
    subquery, bound = texts({doc for doc, _ in writes})
    found = sql.execute(
        f"SELECT doc, digest FROM own_write WHERE database = ? AND doc IN ({subquery})", (database, bound)
    )
    return set(writes).intersection(found.fetchall())


def forget_own(sql: sqlite3.Connection, database: int, before: float) -> int:
    return sql.execute("DELETE FROM own_write WHERE database = ? AND at < ?", (database, before)).rowcount


def note_not_imported(
    sql: sqlite3.Connection, database: int, found: Mapping[str, Mapping[str, str]], now: float
) -> None:
    """Make this all that is not taken in of these documents: (document → revision → reason)."""
    subquery, bound = texts(found)
    before = {
        (doc, rev)
        for doc, rev in sql.execute(
            f"SELECT doc, rev FROM not_imported WHERE database = ? AND doc IN ({subquery})", (database, bound)
        )
    }
    after = {(doc, rev): reason for doc, revs in found.items() for rev, reason in revs.items()}
    sql.executemany(
        "DELETE FROM not_imported WHERE database = ? AND doc = ? AND rev = ?",
        [(database, *key) for key in before - after.keys()],
    )
    sql.executemany(
        "INSERT INTO not_imported (database, doc, rev, reason, seen_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (database, doc, rev) DO UPDATE SET reason = excluded.reason",
        [(database, doc, rev, reason, now) for (doc, rev), reason in after.items()],
    )


def not_imported(sql: sqlite3.Connection, database: int, doc: str) -> Sequence[NotImported]:
    found = sql.execute(
        "SELECT rev, reason, seen_at FROM not_imported WHERE database = ? AND doc = ? ORDER BY rev", (database, doc)
    )
    return [NotImported(*row) for row in found]


def not_imported_ids(sql: sqlite3.Connection, database: int, after: str, limit: int) -> list[str]:
    found = sql.execute(
        "SELECT DISTINCT doc FROM not_imported WHERE database = ? AND doc > ? ORDER BY doc LIMIT ?",
        (database, after, limit),
    )
    return [row[0] for row in found]


def forget_not_imported(sql: sqlite3.Connection, database: int) -> None:
    sql.execute("DELETE FROM not_imported WHERE database = ?", (database,))
