"""The rows of views in the database's file: which documents are due, storing what they emitted, forgetting indexes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway import limits
from gateway.embedded import reading
from gateway.embedded.reading import DocOptions
from gateway.embedded.views.design import Design
from gateway.embedded.writer import Transaction

_DROPPED_ROWS = 5_000  # in one transaction, so that writers do not wait long


@dataclass(frozen=True, slots=True)
class State:
    """An index as it is: `seq` is the sequence it reflects."""

    key: int
    seq: int


@dataclass(frozen=True, slots=True)
class Due:
    """A document whose rows are to be made anew; without `json` it has none any more."""

    id: str
    seq: int
    json: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What the next documents are. Once they are stored, the index is at `seq`."""

    docs: Sequence[Due]
    seq: int


@dataclass(frozen=True, slots=True)
class Emitted:
    """One row of a map function: the key as it sorts, key and value as JSON."""

    map: int
    sort: bytes
    key: str
    value: str


def state(connection: sqlite3.Connection, signature: str) -> State | None:
    row = connection.execute("SELECT key, seq FROM view_index WHERE signature = ?", (signature,)).fetchone()
    return None if row is None else State(*row)


def create(transaction: Transaction, signature: str) -> State:
    """The index of this signature, made if missing."""
    transaction.connection.execute("INSERT OR IGNORE INTO view_index (signature, seq) VALUES (?, 0)", (signature,))
    found = state(transaction.connection, signature)
    assert found is not None  # noqa: S101  just made
    return found


def due(connection: sqlite3.Connection, design: Design, after: int) -> Batch:
    """The documents that changed after this sequence, as many as are mapped at once."""
    options = DocOptions(conflicts=True, deleted_conflicts=True, local_seq=design.local_seq)
    rows = connection.execute(
        "SELECT doc.id, doc.seq, doc.deleted, doc.winner, doc.leaves IS NULL, body.json, body.attachments "
        "FROM doc LEFT JOIN body ON body.key = doc.body WHERE doc.seq > ? ORDER BY doc.seq LIMIT ?",
        (after, limits.EMBEDDED_VIEW_BATCH_DOCUMENTS_COUNT),
    )
    docs: list[Due] = []
    size = 0
    for id, seq, deleted, winner, single, text, attachments in rows:
        if deleted or text is None or (id.startswith("_design/") and not design.include_design):
            docs.append(Due(id, seq, None))
            continue
        if single and attachments is None and not design.local_seq:
            doc = {"_id": id, "_rev": winner} | json.loads(text)
        else:
            found = reading.find(connection, [id])[id]
            doc = reading.revision(connection, found, winner, (text, attachments), options).doc
        # In ASCII: no tab and no line end is in it.
        docs.append(Due(id, seq, json.dumps(doc, separators=(",", ":"), check_circular=False).encode("ascii")))
        size += len(docs[-1].json or b"")
        if size > limits.EMBEDDED_VIEW_BATCH_BYTES:
            return Batch(docs, seq)
    if len(docs) == limits.EMBEDDED_VIEW_BATCH_DOCUMENTS_COUNT:
        return Batch(docs, docs[-1].seq)
    # All of them: sequences above the last one are of documents that were purged since.
    newest = connection.execute("SELECT value FROM meta WHERE name = 'seq'").fetchone()
    return Batch(docs, max(after, docs[-1].seq if docs else 0, newest[0] if newest else 0))


def store(transaction: Transaction, key: int, batch: Batch, rows: Sequence[Sequence[Emitted]]) -> State | None:
    """Put what each document of the batch emitted in the place of what it emitted before; None: the index is gone."""
    connection = transaction.connection
    if connection.execute("SELECT 1 FROM view_index WHERE key = ?", (key,)).fetchone() is None:
        return None
    connection.executemany("DELETE FROM view_row WHERE id = ? AND idx = ?", [(doc.id, key) for doc in batch.docs])
    ids = [doc.id for doc in batch.docs]
    there: set[str] = set()  # what changed since it was read will come again, what was purged will not
    for some in reading.slices(ids):
        marks = reading.placeholders(some)
        there.update(id for (id,) in connection.execute(f"SELECT id FROM doc WHERE id IN ({marks})", some))
    connection.executemany(
        "INSERT INTO view_row (idx, map, sort, id, key_json, value) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (key, row.map, row.sort, doc.id, row.key, row.value)
            for doc, emitted in zip(batch.docs, rows, strict=True)
            if doc.id in there
            for row in emitted
        ],
    )
    connection.execute("UPDATE view_index SET seq = ? WHERE key = ?", (batch.seq, key))
    return State(key, batch.seq)


def retire(transaction: Transaction, kept: Collection[str]) -> None:
    """Forget every index but those of these signatures; `sweep` removes their rows."""
    connection = transaction.connection
    rows = connection.execute("SELECT key, signature FROM view_index").fetchall()
    gone = [(key,) for key, signature in rows if signature not in kept]
    connection.executemany("DELETE FROM view_index WHERE key = ?", gone)


def sweep(transaction: Transaction) -> bool:
    """Remove some rows of forgotten indexes; whether more are left."""
    connection, left = transaction.connection, _DROPPED_ROWS
    kept = {key for (key,) in connection.execute("SELECT key FROM view_index")}
    last = 0
    while (
        last := connection.execute("SELECT min(idx) FROM view_row WHERE idx > ?", (last,)).fetchone()[0]
    ) is not None:
        if last not in kept:
            left -= connection.execute(
                "DELETE FROM view_row WHERE key IN (SELECT key FROM view_row WHERE idx = ? LIMIT ?)", (last, left)
            ).rowcount
            if left <= 0:
                return True
    return False


def count(connection: sqlite3.Connection, key: int) -> tuple[int, int]:
    """(rows, bytes of keys and values) of an index."""
    row = connection.execute(
        "SELECT count(*), coalesce(sum(length(key_json) + length(value)), 0) FROM view_row WHERE idx = ?", (key,)
    ).fetchone()
    return int(row[0]), int(row[1])
