"""Compaction: forgetting the bodies of replaced revisions, attachments nobody names, and old purge records."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from gateway.embedded.attachments import drop
from gateway.embedded.edits import drop_bodies
from gateway.embedded.tree import Tree
from gateway.embedded.writer import Transaction
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase

log = logging.getLogger(__name__)
_DOCUMENTS = 200  # in one transaction, so that writers do not wait long


class Pins:
    """Blobs that a request is receiving or about to name: compaction leaves them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: Counter[int] = Counter()

    def pin(self, blob: int) -> None:
        with self._lock:
            self._count[blob] += 1

    def unpin(self, blob: int) -> None:
        with self._lock:
            self._count[blob] -= 1
            if self._count[blob] <= 0:
                del self._count[blob]

    @contextmanager
    def held(self, blobs: list[int]) -> Iterator[None]:
        """Unpin `blobs` at the end; the list may grow inside."""
        try:
            yield
        finally:
            for blob in blobs:
                self.unpin(blob)

    def current(self) -> set[int]:
        with self._lock:
            return set(self._count)


async def compact(database: EmbeddedDatabase) -> None:
    """`POST /{db}/_compact`, to its end. Reads and writes go on between its transactions."""
    database.compacting = True
    try:
        last: int | None = 0
        while last is not None:
            last = await database.writing(partial(_compact_documents, after=last))
        await database.writing(lambda transaction: _drop_unused(transaction, database.pins))
    except GatewayError as error:  # the database was deleted or closed meanwhile
        log.info("the compaction of %s ended early: %s", database.name, error.reason)
    finally:
        database.compacting = False


def _compact_documents(transaction: Transaction, after: int) -> int | None:
    """One step: the key to go on from, or None at the end."""
    rows = transaction.connection.execute(
        "SELECT key, tree FROM doc WHERE key > ? ORDER BY key LIMIT ?", (after, _DOCUMENTS)
    ).fetchall()
    changed = []
    for key, text in rows:
        tree = Tree.decode(text)
        if dropped := tree.forget_interior_bodies():
            drop_bodies(transaction.connection, dropped)
            changed.append((tree.encode(), key))
    transaction.connection.executemany("UPDATE doc SET tree = ? WHERE key = ?", changed)
    return rows[-1][0] if len(rows) == _DOCUMENTS else None


def _drop_unused(transaction: Transaction, pins: Pins) -> None:
    connection, state = transaction.connection, transaction.state
    used = _named(connection) | pins.current()
    for (blob,) in connection.execute("SELECT key FROM blob").fetchall():
        if blob not in used:
            drop(connection, blob)
    connection.execute("DELETE FROM purge WHERE seq <= ?", (state.purge_seq - state.purged_infos_limit,))


def _named(connection: sqlite3.Connection) -> set[int]:
    return {
        entry[0]
        for (text,) in connection.execute("SELECT attachments FROM body WHERE attachments IS NOT NULL")
        for entry in json.loads(text).values()
    }
