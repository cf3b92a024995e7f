"""What ends by itself: grants that are over, and documents that expire. Each database finds its own, the next first."""

from __future__ import annotations

import sqlite3

from gateway.store.protocol import Expiring
from gateway.store.transaction import Transaction


def next_grant_end(sql: sqlite3.Connection, database: int) -> float | None:
    row = sql.execute(
        "SELECT min(expires_at) FROM grants WHERE database = ? AND expires_at IS NOT NULL", (database,)
    ).fetchone()
    return None if row is None else row[0]


def end_grants(tx: Transaction, now: float, limit: int) -> int:
    """Take away what is over at `now`, all at one sequence; how many grants that were."""
    over = tx.sql(
        "SELECT principal, kind, target, source FROM grants WHERE database = ? AND expires_at <= ?"
        " ORDER BY expires_at LIMIT ?",
        (tx.database, now, limit),
    ).fetchall()
    if over:
        seq = tx.next_seq()
        for principal, kind, target, source in over:
            tx.revoke(principal, kind, target, source, seq)
    return len(over)


def expiring(
    sql: sqlite3.Connection, database: int, after: tuple[float, int, str] | None, limit: int
) -> list[Expiring]:
    start = after or (-1.0, 0, "")
    found = sql.execute(
        "SELECT l.expiry, l.document, l.rev, d.doc FROM leaf l CROSS JOIN document d ON d.id = l.document"
        " WHERE l.database = ? AND l.expiry IS NOT NULL AND l.deleted = 0 AND l.superseded_at IS NULL"
        " AND l.expiry >= ? AND (l.expiry, l.document, l.rev) > (?, ?, ?)"
        " ORDER BY l.expiry, l.document, l.rev LIMIT ?",
        (database, start[0], *start, limit),
    )
    return [Expiring(*row) for row in found]
