"""The embedded server: a directory of databases, as an `Upstream`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.pool import Threads
from gateway.embedded.views.scripts import Scripts
from gateway.errors import AlreadyExists, UnknownDatabase, UpstreamUnreachable
from gateway.model.names import check_database_name
from gateway.viewfn.engine import ViewLimits

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger(__name__)

_CATALOGUE = """
CREATE TABLE IF NOT EXISTS server (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS database (
    name                TEXT PRIMARY KEY,
    file                TEXT NOT NULL UNIQUE,
    instance_start_time TEXT NOT NULL UNIQUE,
    token               TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A database in the catalogue."""

    name: str
    file: str
    instance_start_time: str
    token: str


class EmbeddedServer:
    """Implements `Upstream` on `directory`, which is created if missing and used by one process at a time."""

    def __init__(self, directory: Path | str, *, view_limits: ViewLimits | None = None) -> None:
        self.directory = Path(directory)
        self._threads = Threads()
        self._scripts = Scripts(view_limits)
        self._catalogue_thread = ThreadPoolExecutor(1, thread_name_prefix="embedded-catalogue")
        self._catalogue: sqlite3.Connection | None = None
        self._open: dict[str, EmbeddedDatabase] = {}
        self._lock = asyncio.Lock()
        self._uuid = ""
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def uuid(self) -> str:
        """The identity of the server, the same for as long as its directory lives. Known once it was used."""
        return self._uuid

    # Upstream

    async def check(self) -> None:
        async with self._lock:
            await self._start()

    async def open(self, name: str, *, create: bool) -> EmbeddedDatabase:
        async with self._lock:
            catalogue = await self._start()
            if (known := self._open.get(name)) is not None:
                return known
            entry = await self._in_catalogue(_find, catalogue, name)
            if entry is not None:
                self._open[name] = await self._open_entry(entry, create=False)
                return self._open[name]
            if not create:
                raise UnknownDatabase
            return await self._create(catalogue, name)

    async def create(self, name: str) -> EmbeddedDatabase:
        """A new database. Raises AlreadyExists or IllegalName."""
        async with self._lock:
            catalogue = await self._start()
            if await self._in_catalogue(_find, catalogue, check_database_name(name)) is not None:
                raise AlreadyExists("The database could not be created, the file already exists.")
            return await self._create(catalogue, name)

    async def _create(self, catalogue: sqlite3.Connection, name: str) -> EmbeddedDatabase:
        entry = _new_entry(check_database_name(name))
        database = await self._open_entry(entry, create=True)
        try:
            await self._in_catalogue(_insert, catalogue, entry)
        except BaseException:
            await database.close(deleted=True)
            raise
        self._open[name] = database
        return database

    async def _open_entry(self, entry: _Entry, *, create: bool) -> EmbeddedDatabase:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads.quick, partial(self._open_file, entry, create=create)
        )

    async def delete(self, name: str) -> None:
        async with self._lock:
            catalogue = await self._start()
            entry = await self._in_catalogue(_find, catalogue, name)
            if entry is None:
                raise UnknownDatabase
            # Out of the catalogue first: after a crash here the file is an orphan, never a half-deleted database.
            await self._in_catalogue(_remove, catalogue, name)
            if (database := self._open.pop(name, None)) is not None:
                await database.close(deleted=True)
            await asyncio.get_running_loop().run_in_executor(self._threads.quick, self._unlink, entry.file)

    async def all_dbs(self) -> list[str]:
        async with self._lock:
            catalogue = await self._start()
            return await self._in_catalogue(_names, catalogue)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        # The face is built on the server; only this one call goes the other way.
        from gateway.embedded.http.dispatch import handle  # noqa: PLC0415

        return await handle(self, method, path, query, headers or {}, body)

    async def close(self) -> None:
        async with self._lock:
            self._closed = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for database in self._open.values():
                await database.close()
            self._open.clear()
            await self._scripts.close()
            if (catalogue := self._catalogue) is not None:
                self._catalogue = None
                await self._in_catalogue(catalogue.close)
        self._catalogue_thread.shutdown(wait=False)
        self._threads.close()

    def background(self, task: asyncio.Task[None]) -> None:
        """Own a task (compaction) until it ends or the server closes."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def work(self, job: Callable[[], T]) -> T:
        """Run something that takes long, and needs no database, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads.quick, job)

    # Files

    async def _start(self) -> sqlite3.Connection:
        if self._closed:
            raise UpstreamUnreachable("the embedded server is closed")
        if self._catalogue is None:
            opened, self._uuid = await self._in_catalogue(_open_catalogue, self.directory)
            self._catalogue = opened
            return opened
        return self._catalogue

    async def _in_catalogue(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._catalogue_thread, partial(job, *args, **kwargs))

    def _open_file(self, entry: _Entry, *, create: bool) -> EmbeddedDatabase:
        prefix = "/" + quote(entry.name, safe="")

        def requests(
            method: str,
            path: str,
            *,
            query: str,
            headers: Mapping[str, str] | None,
            body: bytes | AsyncIterator[bytes] | None,
        ) -> Awaitable[UpstreamResponse]:
            return self.request(method, prefix + path, query=query, headers=headers, body=body)

        return EmbeddedDatabase(
            entry.name,
            self.directory / entry.file,
            server_uuid=self._uuid,
            instance_start_time=entry.instance_start_time,
            token=entry.token,
            threads=self._threads,
            scripts=self._scripts,
            requests=requests,
            successor=partial(self.open, entry.name, create=False),
            create=create,
        )

    def _unlink(self, file: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            (self.directory / f"{file}{suffix}").unlink(missing_ok=True)


def _new_entry(name: str) -> _Entry:
    # The file's name is only for people; the random part makes a recreated database another file.
    token = secrets.token_hex(8)
    return _Entry(name, f"{quote(name, safe='')[:100]}.{token}.sqlite", str(time.time_ns() // 1000), token)


def _open_catalogue(directory: Path) -> tuple[sqlite3.Connection, str]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            directory / "catalogue.sqlite", isolation_level=None, check_same_thread=False, timeout=1.0
        )
    except (OSError, sqlite3.Error) as error:
        raise UpstreamUnreachable(f"the embedded server's directory {directory} cannot be used: {error}") from error
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second process must not write the same files
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")
        for statement in filter(str.strip, _CATALOGUE.split(";")):
            connection.execute(statement)
        connection.execute("INSERT OR IGNORE INTO server (name, value) VALUES ('uuid', ?)", (uuid.uuid4().hex,))
        connection.execute("COMMIT")
        found = connection.execute("SELECT value FROM server WHERE name = 'uuid'").fetchone()[0]
    except sqlite3.Error as error:
        connection.close()
        reason = "another process uses it" if "locked" in str(error) else str(error)
        raise UpstreamUnreachable(f"the embedded server's directory {directory} cannot be used: {reason}") from error
    return connection, str(found)


def _find(catalogue: sqlite3.Connection, name: str) -> _Entry | None:
    row = catalogue.execute(
        "SELECT name, file, instance_start_time, token FROM database WHERE name = ?", (name,)
    ).fetchone()
    return None if row is None else _Entry(*row)


def _insert(catalogue: sqlite3.Connection, entry: _Entry) -> None:
    catalogue.execute(
        "INSERT INTO database (name, file, instance_start_time, token) VALUES (?, ?, ?, ?)",
        (entry.name, entry.file, entry.instance_start_time, entry.token),
    )


def _remove(catalogue: sqlite3.Connection, name: str) -> None:
    catalogue.execute("DELETE FROM database WHERE name = ?", (name,))


def _names(catalogue: sqlite3.Connection) -> list[str]:
    return [row[0] for row in catalogue.execute("SELECT name FROM database ORDER BY name")]
