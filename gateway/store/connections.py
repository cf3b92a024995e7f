"""SQLite connections and the threads they live in: one that writes, several that read snapshots."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TypeVar

from gateway import limits
from gateway.errors import StoreUnavailable
from gateway.store.rows import TEXT_OF_HEX, text_of_hex

T = TypeVar("T")
_log = logging.getLogger(__name__)
# Exactly these speak of the file: a full disk, a damaged page. What derives from them is a wrong statement.
_OF_THE_FILE = (sqlite3.OperationalError, sqlite3.DatabaseError)


class StoreError(Exception):
    """The metadata store cannot be opened. The message says why and names the file."""


def connect(path: Path, *, readonly: bool = False) -> sqlite3.Connection:
    """A connection with our pragmas. A commit is on the disk when it returns (synchronous=FULL): sequences that were
    handed to clients must never be given out twice."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.create_function(TEXT_OF_HEX, 1, text_of_hex, deterministic=True)
        if readonly:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, in order."""
    folder = resources.files("gateway.store") / "migrations"
    found = sorted((file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql"))
    return [(int(name.partition("_")[0]), text) for name, text in found]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to the newest version, each migration in a transaction of its own.

    Raises StoreError for a store written by a newer gateway, and for a database of something else.
    """
    known = migrations()
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise StoreError("is a database of another application")
    if version > known[-1][0]:
        raise StoreError(f"was written by a newer version (schema {version}, this gateway knows {known[-1][0]})")
    for number, text in known:
        if number > version:
            connection.executescript(f"BEGIN EXCLUSIVE;\n{text}\nPRAGMA user_version = {number};\nCOMMIT;")


class Connections:
    """The writing thread and the reading threads of one file."""

    def __init__(self, path: Path) -> None:
        """Open, create if missing, migrate. Raises StoreError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writing = connect(path)
            try:
                migrate(self._writing)
            except BaseException:
                self._writing.close()
                raise
        except (sqlite3.Error, OSError, StoreError) as error:
            raise StoreError(f"metadata store {path}: {error}") from error
        self._path = path
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(limits.STORE_READERS_COUNT, "store-reader")
        self._local = threading.local()
        self._reading: list[sqlite3.Connection] = []
        self._lock = threading.Lock()

    def _failed(self, error: sqlite3.Error) -> StoreUnavailable:
        _log.error("metadata store %s: %s", self._path, error)
        return StoreUnavailable(f"the metadata store failed: {error}")

    async def write(self, function: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> T:
        """Run `function` in the writing thread, within one transaction.

        `then` runs in that thread after the commit, before the next transaction begins. Shielded: a caller that is
        cancelled does not undo it.
        """

        def run() -> T:
            try:
                self._writing.execute("BEGIN IMMEDIATE")
                result = function(self._writing)
                self._writing.execute("COMMIT")
            except BaseException as error:
                if self._writing.in_transaction:
                    self._writing.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error) and type(error) in _OF_THE_FILE:
                    raise self._failed(error) from error
                raise
            if then is not None:
                then(result)
            return result

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writer, run))

    async def read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` in a reading thread, within one snapshot."""

        def run() -> T:
            try:
                connection = self._reader()
                connection.execute("BEGIN")
                try:
                    return function(connection)
                finally:
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                if type(error) in _OF_THE_FILE:
                    raise self._failed(error) from error
                raise

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._path, readonly=True)
            with self._lock:
                self._reading.append(connection)
        return connection

    async def close(self) -> None:
        """Wait for what is running, then close every connection."""
        for pool in (self._readers, self._writer):
            await asyncio.to_thread(pool.shutdown)
        for connection in (*self._reading, self._writing):
            connection.close()
