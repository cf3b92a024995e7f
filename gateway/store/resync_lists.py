"""What a resync has computed, counted and listed a page at a time."""

from __future__ import annotations

import sqlite3
from typing import Any

from gateway.model.moments import moment_text
from gateway.store.index import SqliteIndex
from gateway.store.protocol import DatabaseState
from gateway.store.resync_protocol import ListKind, ResyncCounts
from gateway.store.rows import ids_json

_OF_KIND = {
    "refused": "SELECT document FROM resync_document WHERE database = ? AND refused IS NOT NULL",
    "failed": "SELECT document FROM resync_document WHERE database = ? AND failed IS NOT NULL",
    "expiring": "SELECT document FROM resync_document WHERE database = ? AND expires IS NOT NULL",
    "changed": "SELECT document FROM resync_document WHERE database = ? AND changed = 1",
}


def counts(sql: sqlite3.Connection, state: DatabaseState, database: int, star: int) -> ResyncCounts:
    row = sql.execute("SELECT cursor FROM resync_job WHERE database = ?", (database,)).fetchone()
    cursor = 0 if row is None else row[0]
    if cursor < 0:  # what is there is of an earlier job
        total = state.doc_count + state.doc_del_count
        return ResyncCounts(total, total, 0, 0, 0, 0, 0, 0, 0, 0)

    def one(statement: str, *values: object) -> int:
        return int(sql.execute(statement, values).fetchone()[0])

    entries = "SELECT count(*) FROM channel_entry WHERE channel = ? AND seq > ? AND removed = 0 AND deleted = {}"
    total = state.doc_count + state.doc_del_count
    left = sum(one(entries.format(deleted), star, cursor) for deleted in (0, 1)) if cursor > 0 else total
    documents = "SELECT count(*) FROM resync_document WHERE database = ? AND "
    channels = "SELECT count(*) FROM resync_channel WHERE database = ? AND entered = ?"
    access = "SELECT count(*) FROM resync_access WHERE database = ? AND gained = ?"
    return ResyncCounts(
        total,
        left,
        one(documents + "changed = 1", database),
        one(documents + "refused IS NOT NULL", database),
        one(documents + "failed IS NOT NULL", database),
        one(documents + "expires IS NOT NULL", database),
        one(channels, database, 1),
        one(channels, database, 0),
        one(access, database, 1),
        one(access, database, 0),
    )


def _begins(sql: sqlite3.Connection, database: int) -> bool:
    """Whether what is there is of an earlier job, and about to be forgotten."""
    statement = "SELECT 1 FROM resync_job WHERE database = ? AND cursor < 0"
    return sql.execute(statement, (database,)).fetchone() is not None


def expired(sql: sqlite3.Connection, database: int, now: float) -> int:
    found = sql.execute("SELECT count(*) FROM resync_document WHERE database = ? AND expires <= ?", (database, now))
    return int(found.fetchone()[0])


def documents(
    sql: sqlite3.Connection,
    index: SqliteIndex,
    database: int,
    kind: ListKind,
    channel: str | None,
    start: int,
    limit: int,
) -> tuple[list[dict[str, Any]], int | None]:
    if _begins(sql, database):
        return [], None
    values: tuple[object, ...] = (database,)
    if kind in _OF_KIND:
        statement = _OF_KIND[kind]
    elif channel is not None:
        number = index.channel_ids([channel]).get(channel, 0)
        statement = "SELECT document FROM resync_channel WHERE database = ? AND channel = ? AND entered = ?"
        values = (database, number, int(kind == "entered"))
    else:  # in the order of the table itself
        statement = "SELECT DISTINCT document FROM resync_channel WHERE +database = ? AND +entered = ?"
        values = (database, int(kind == "entered"))
    found = sql.execute(
        f"{statement} AND document >= ? ORDER BY document LIMIT ?", (*values, start, limit + 1)
    ).fetchall()
    numbers = [row[0] for row in found]
    return _described(sql, index, numbers[:limit]), numbers[limit] if len(numbers) > limit else None


def _described(sql: sqlite3.Connection, index: SqliteIndex, numbers: list[int]) -> list[dict[str, Any]]:
    wanted = (ids_json(numbers),)
    moves: dict[int, tuple[list[str], list[str]]] = {}
    for document, name, entered in sql.execute(
        "SELECT r.document, c.name, r.entered FROM resync_channel r JOIN channel c ON c.id = r.channel"
        " WHERE r.document IN (SELECT value FROM json_each(?)) ORDER BY c.name",
        wanted,
    ):
        moves.setdefault(document, ([], []))[0 if entered else 1].append(name)
    told = {
        row[0]: row[1:]
        for row in sql.execute(
            "SELECT document, refused, failed, expires FROM resync_document"
            " WHERE document IN (SELECT value FROM json_each(?))",
            wanted,
        )
    }
    rows = index.documents(numbers)
    answer = []
    for number in numbers:
        entered, left = moves.get(number, ([], []))
        refused, failed, expires = told.get(number, (None, None, None))
        row: dict[str, Any] = {"id": rows[number].id, "rev": rows[number].winner, "entered": entered, "left": left}
        if refused is not None:
            row["refused"] = refused
        if failed is not None:
            row["failed"] = failed
        if expires is not None:
            row["expires"] = moment_text(expires)
        answer.append(row)
    return answer


def channels(sql: sqlite3.Connection, database: int, start: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    if _begins(sql, database):
        return [], None
    found = sql.execute(
        "SELECT c.name, c.id FROM channel c WHERE c.database = ?1 AND c.name >= ?2"
        " AND EXISTS (SELECT 1 FROM resync_channel r WHERE r.database = ?1 AND r.channel = c.id)"
        " ORDER BY c.name LIMIT ?3",
        (database, start, limit + 1),
    ).fetchall()
    answer = []
    for name, number in found[:limit]:
        counted = dict(
            sql.execute(
                "SELECT entered, count(*) FROM resync_channel WHERE database = ? AND channel = ? GROUP BY entered",
                (database, number),
            ).fetchall()
        )
        answer.append({"channel": name, "entered": counted.get(1, 0), "left": counted.get(0, 0)})
    return answer, found[limit][0] if len(found) > limit else None


def access(sql: sqlite3.Connection, database: int, start: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    found = sql.execute(
        "SELECT x.id, p.kind, p.name, x.kind, coalesce(c.name, o.name), x.gained FROM resync_access x"
        " JOIN principal p ON p.id = x.who"
        " LEFT JOIN channel c ON x.kind = 'channel' AND c.id = x.target"
        " LEFT JOIN principal o ON x.kind = 'role' AND o.id = x.target"
        " WHERE x.database = ? AND x.id >= ? ORDER BY x.id LIMIT ?",
        (database, start, limit + 1),
    ).fetchall()
    answer = [
        {kind: name, what: target, "change": "gained" if gained else "lost"}
        for _, kind, name, what, target, gained in found[:limit]
    ]
    return answer, found[limit][0] if len(found) > limit else None
