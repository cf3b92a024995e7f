"""One writing thread for each database, with group commit: writes that wait while a commit runs share the next one."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gateway import limits
from gateway.errors import GatewayError, UpstreamError, UpstreamUnreachable

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(slots=True)
class State:
    """The counters of a database; written with every transaction that changed them."""

    seq: int = 0
    doc_count: int = 0
    doc_del_count: int = 0
    purge_seq: int = 0
    body: int = 0  # the highest row of `body` ever used
    revs_limit: int = 1000
    purged_infos_limit: int = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A document at its latest sequence: all its leaves, the winner first."""

    seq: int
    id: str
    revs: tuple[str, ...]
    deleted: bool


@dataclass(slots=True)
class Transaction:
    """What a job works with. Jobs of one commit see what earlier ones did."""

    connection: sqlite3.Connection
    state: State
    rows: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class _Job:
    run: Callable[[Transaction], Any]
    weight: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Writer:
    """Runs jobs one after the other on the writing connection, many in one transaction.

    `committed(rows)` is called in the thread after each commit, before any job of it is answered.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        state: State,
        committed: Callable[[list[Row]], None],
        name: str,
    ) -> None:
        self._connection = connection
        self.state = state  # as of the last commit; replaced, never changed, by the thread
        self._committed = committed
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name=f"embedded-writer {name}", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[Transaction], T], *, weight: int = 1) -> T:
        """The answer of `job` once its transaction is on disk.

        `weight` is about the number of rows it writes. What the job raises is raised here and only its own changes
        are undone. Cancelling does not undo a job that already runs.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._gate:
            if self._closed:
                raise UpstreamUnreachable("the database is closed")
            self._queue.put(_Job(job, weight, loop, future))
        return await future

    def close(self) -> None:
        """Finish what waits, then close the connection. Blocks; call it in a thread."""
        with self._gate:
            first = not self._closed
            self._closed = True
            if first:
                self._queue.put(None)
        self._thread.join()

    def _loop(self) -> None:
        open_ = True
        while open_:
            job = self._queue.get()
            batch: list[_Job] = []
            weight = 0
            while job is not None:
                batch.append(job)
                weight += job.weight
                if weight >= limits.EMBEDDED_COMMIT_ROWS_COUNT:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            open_ = job is not None
            if batch:
                self._commit(batch)
        self._connection.close()

    def _commit(self, batch: list[_Job]) -> None:
        transaction = Transaction(self._connection, copy(self.state))
        answers: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            answers.extend(self._run_one(transaction, job) for job in batch)
            if transaction.state != self.state:
                save_state(self._connection, transaction.state)
            self._connection.execute("COMMIT")
        except Exception as error:
            log.exception("a transaction failed")
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            failure = UpstreamError(f"the database could not be written: {error}")
            answers = [(job, None, failure) for job in batch]
        else:
            self.state = transaction.state
            if transaction.rows:
                self._committed(transaction.rows)
        self._answer(answers)

    def _run_one(self, transaction: Transaction, job: _Job) -> tuple[_Job, Any, BaseException | None]:
        before, rows = copy(transaction.state), len(transaction.rows)
        self._connection.execute("SAVEPOINT job")
        try:
            answer = job.run(transaction)
        except Exception as error:
            self._connection.execute("ROLLBACK TO job")
            self._connection.execute("RELEASE job")
            transaction.state = before
            del transaction.rows[rows:]
            if not isinstance(error, GatewayError):
                log.exception("a write failed")
                error = UpstreamError(f"the database could not be written: {error}")
            return job, None, error
        self._connection.execute("RELEASE job")
        return job, answer, None

    @staticmethod
    def _answer(answers: list[tuple[_Job, Any, BaseException | None]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Any, BaseException | None]]] = {}
        for answer in answers:
            by_loop.setdefault(answer[0].loop, []).append(answer)
        for loop, some in by_loop.items():
            try:
                loop.call_soon_threadsafe(_settle, some)
            except RuntimeError:  # the loop is closed: nobody waits any more
                log.debug("%d answers had nobody waiting", len(some))


def _settle(answers: list[tuple[_Job, Any, BaseException | None]]) -> None:
    for job, value, error in answers:
        if job.future.done():  # cancelled
            continue
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(value)


_NAMES = ("seq", "doc_count", "doc_del_count", "purge_seq", "body", "revs_limit", "purged_infos_limit")


def save_state(connection: sqlite3.Connection, state: State) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", [(name, getattr(state, name)) for name in _NAMES]
    )


def load_state(connection: sqlite3.Connection) -> State:
    stored = dict(connection.execute("SELECT name, value FROM meta"))
    return State(**{name: stored[name] for name in _NAMES if name in stored})
