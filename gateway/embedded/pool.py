"""Reading connections of one database, used by the threads that all databases of a server share."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway import limits
from gateway.embedded.schema import open_content_reader, open_reader
from gateway.errors import GatewayError, UpstreamError, UpstreamUnreachable

T = TypeVar("T")


class Threads:
    """The threads of a server: for short reads and encoding, for queries that scan whole databases, and for the bytes
    of attachments (each thread that had large pieces keeps memory for more of them: a few are enough)."""

    def __init__(self) -> None:
        self.quick = ThreadPoolExecutor(limits.EMBEDDED_READERS_COUNT, thread_name_prefix="embedded-reader")
        self.slow = ThreadPoolExecutor(limits.EMBEDDED_QUERIES_COUNT, thread_name_prefix="embedded-query")
        self.content = ThreadPoolExecutor(limits.EMBEDDED_CONTENT_COUNT, thread_name_prefix="embedded-content")

    def close(self) -> None:
        self.quick.shutdown(wait=False)
        self.slow.shutdown(wait=False)
        self.content.shutdown(wait=False)


class Readers:
    """`run(job)` gives the job a connection of its own for as long as it runs, in a thread."""

    def __init__(self, path: Path, threads: Threads, *, content: bool = False) -> None:
        """`content`: for the bytes of attachments."""
        self._path = path
        self._opener = open_content_reader if content else open_reader
        self._quick = threads.content if content else threads.quick
        self._slow = threads.slow
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    async def run(self, job: Callable[[sqlite3.Connection], T], *, slow: bool = False) -> T:
        """What the job returns; all its statements see one snapshot. A `slow` job does not hold up the others."""
        if self._closed:
            raise UpstreamUnreachable("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._slow if slow else self._quick, self._run, job)

    async def work(self, job: Callable[[], T]) -> T:
        """The same without a connection: encoding, hashing."""
        if self._closed:
            raise UpstreamUnreachable("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._quick, job)

    def _run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._take()
        try:
            connection.execute("BEGIN")  # one snapshot for all its statements
            try:
                return job(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise UpstreamError(f"the database could not be read: {error}") from error
        except RecursionError as error:
            raise GatewayError("the answer is nested too deeply") from error
        finally:
            self._give(connection)

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise UpstreamUnreachable("the database is closed")
            if self._idle:
                return self._idle.pop()
        return self._opener(self._path)

    def _give(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < limits.EMBEDDED_READERS_COUNT:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their job ends."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
