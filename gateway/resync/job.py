"""The resync of one database: started, stopped, gone on with after a restart, and what there is to tell of it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Any, TypeAlias

from gateway import limits
from gateway.couch.upstream import UpstreamDatabase
from gateway.errors import (
    BadSyncFunction,
    Conflict,
    GatewayError,
    NotFound,
    PreconditionFailed,
    UnknownDatabase,
    UpstreamUnreachable,
)
from gateway.queries import ResyncKind, ResyncStart
from gateway.resync.compute import Computing, RanAwayTooOften
from gateway.store.protocol import DatabaseStore
from gateway.store.resync_protocol import ResyncJob
from gateway.sync_versions import SyncVersions
from gateway.syncfn.runtime import SyncFunction, compile_error

log = logging.getLogger(__name__)
AtRest: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
_RATE_SECONDS = 10.0  # what the rate is measured over


class Resync:
    """For administrators only. `resume` it once the router runs, `close` it before that ends.

    A job computes, document after document in the order of their sequences, what another function says, and keeps what
    differs beside the routing that serves. Whatever changes meanwhile takes a later sequence, so it is computed, too.
    When nothing is left to compute, a preview ends; else routing stops for a moment, and in one transaction the
    difference is applied and the function comes in force.
    """

    def __init__(
        self, name: str, store: DatabaseStore, upstream: UpstreamDatabase, versions: SyncVersions, at_rest: AtRest
    ) -> None:
        """`at_rest()`: nothing is routed meanwhile."""
        self._name = name
        self._store = store
        self._upstream = upstream
        self._versions = versions
        self._at_rest = at_rest
        self._lock = asyncio.Lock()  # of starting and stopping
        self._task: asyncio.Task[None] | None = None
        self._job: ResyncJob | None = None  # that runs
        self._waits_for: str | None = None
        self._closing = False
        self._due_after = False  # whether a version came to be wanted that waits for the end of a preview
        self._progress: deque[tuple[float, int]] = deque()  # when, and how many documents were computed since the start
        self._changes: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    async def resume(self) -> None:
        """Go on with the job that ran when the gateway ended."""
        async with self._lock:
            job = await self._store.resync.job()
            if job is not None and job.state == "running":
                log.info("database %s: the resync goes on", self._name)
                self._run(job)

    async def close(self) -> None:
        """End the work; a job that runs goes on at the next `resume`."""
        self._closing = True
        await asyncio.gather(*self._changes, return_exceptions=True)
        await self._end()
        await asyncio.gather(*self._changes, return_exceptions=True)

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def start(self, asked: ResyncStart) -> None:
        """Begin a job, or go on with one that ended before its end: of the same function, from where it was.

        Raises Conflict while one runs, PreconditionFailed when nothing is wanted, NotFound for a version that is not
        kept, BadSyncFunction.
        """

        async def started() -> None:
            async with self._lock:
                await self._start(asked)

        await self._to_its_end(started())

    async def _to_its_end(self, change: Coroutine[Any, Any, None]) -> None:
        """Whatever becomes of the client that wanted it."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changed)
        await asyncio.shield(task)

    def _changed(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # who asked, if still there, has it too

    async def _start(self, asked: ResyncStart) -> None:
        if self.running:
            raise Conflict("a resync is running; stop it first")
        number, source = await self._source(asked)
        digest = hashlib.sha256(source.encode()).hexdigest()
        known = await self._store.resync.job()
        job = ResyncJob(
            *(number, digest, source, asked.preview, "running", -1, asked.accept_failures, time.time()),
            accept_deletions=asked.accept_deletions,
        )
        if known is not None and known.digest == digest and (known.state != "completed" or known.preview):
            job = replace(job, cursor=known.cursor)
        await self._store.resync.begin(job)
        what = "preview of a sync function" if number is None else f"resync to version {number} of the sync function"
        log.info("database %s: %s%s", self._name, what, " (preview)" if asked.preview and number is not None else "")
        self._run(job)

    async def _source(self, asked: ResyncStart) -> tuple[int | None, str]:
        """The version's number, None if it shall be none, and its source."""
        if asked.source is not None and asked.preview:
            if problem := await asyncio.to_thread(compile_error, asked.source):
                raise BadSyncFunction(problem)
            return None, asked.source
        if asked.source is not None:
            version = await self._versions.put(asked.source)
        elif asked.version is not None and asked.preview:
            version = await self._versions.version(asked.version)
        elif asked.version is not None:
            version = await self._versions.go_back(asked.version)
        elif self._versions.wanted is not None:
            version = await self._versions.version(self._versions.wanted)
        else:
            raise PreconditionFailed(
                "no other version of the sync function is wanted than the one in force: change the function, or name a"
                " version"
            )
        return version.number, version.source

    async def stop(self) -> None:
        """End the work of a job, to be gone on with by a `start`. Raises PreconditionFailed when none runs."""

        async def stopped() -> None:
            async with self._lock:
                if not self.running:
                    raise PreconditionFailed("no resync is running")
                await self._stop(None)

        await self._to_its_end(stopped())

    async def _stop(self, why: str | None) -> None:
        await self._end()
        await self._store.resync.note("stopped", error=why, ended_at=time.time())

    # Another version is wanted

    def wanted_changed(self) -> None:
        """Another version is wanted than before, or none. Never waits."""
        task = asyncio.create_task(self._follow())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)

    async def _follow(self) -> None:
        """Let no job go on that would bring in what is not wanted any more, and begin the one that is, if set to."""
        try:
            async with self._lock:
                wanted = self._versions.wanted
                running = self._job if self.running else None
                due = wanted or self._versions.in_force
                if running is not None and not running.preview and running.version != due:
                    await self._stop("another version of the sync function is wanted")
                if not self._versions.automatic or wanted is None or self._closing:
                    return
                if self.running:
                    self._due_after = self._job is not None and self._job.preview
                    return
                known = await self._store.resync.job()
                if known is not None and known.version == wanted and known.state in ("held", "stopped"):
                    return  # somebody has to decide
                await self._start(ResyncStart())
        except GatewayError as error:
            log.error("database %s: the resync was not started: %s", self._name, error.reason)

    # The work

    def _run(self, job: ResyncJob) -> None:
        self._job = job
        self._waits_for = None
        self._progress.clear()
        self._task = asyncio.create_task(self._work(job), name=f"resync:{self._name}")
        self._task.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        if self._due_after and not self._closing:
            self._due_after = False
            self.wanted_changed()

    async def _work(self, job: ResyncJob) -> None:
        function = SyncFunction(job.source, name=f"sync function of {self._name}", checked=True, in_resync=True)
        taken = False
        try:
            taken = await self._patiently(job, function)
        except RanAwayTooOften:
            await self._failed(f"the sync function ran away on more than {limits.RESYNC_RUNAWAYS_COUNT} documents")
        except UnknownDatabase:
            return
        except Conflict as error:
            await self._store.resync.note("stopped", error=error.reason, ended_at=time.time())
        except Exception:
            log.exception("database %s: the resync failed", self._name)
            await self._failed("the resync failed; the log says more")
        finally:
            if not taken:
                await function.close()

    async def _failed(self, why: str) -> None:
        with suppress(GatewayError):  # the store itself may be what failed: then it goes on after a restart
            await self._store.resync.note("error", error=why, ended_at=time.time())

    async def _patiently(self, job: ResyncJob, function: SyncFunction) -> bool:
        """Whether the function is in force in the end. What may pass is waited for."""
        pause = limits.UPSTREAM_RETRY_FIRST_SECONDS
        cursor = job.cursor
        allowed = limits.RESYNC_AT_REST_FIRST_SECONDS
        computing = Computing(self._store.resync, self._upstream, function)
        while True:
            try:
                while cursor < 0:
                    if await self._store.resync.clear(limits.RESYNC_CLEARED_COUNT):
                        cursor = 0
                count = limits.RESYNC_BATCH_DOCUMENTS_COUNT
                while count == limits.RESYNC_BATCH_DOCUMENTS_COUNT:
                    began = time.monotonic()
                    count, cursor = await self._batch(computing, cursor)
                    took = time.monotonic() - began
                    pause = limits.UPSTREAM_RETRY_FIRST_SECONDS
                    await asyncio.sleep(limits.RESYNC_PAUSE_SECONDS)
                if job.preview or job.version is None:
                    await self._store.resync.settle(time.time())
                    await self._store.resync.note("completed", ended_at=time.time())
                    return False
                if await self._is_held(job):
                    return False
                if took > allowed:  # what came meanwhile may take as long: it is computed while writes go on, too
                    allowed = min(allowed * 2, limits.RESYNC_AT_REST_LAST_SECONDS)
                    continue
                async with self._at_rest():
                    try:
                        async with asyncio.timeout(allowed):
                            count, cursor = await self._batch(computing, cursor)
                    except TimeoutError:  # computed while writes go on, then
                        allowed = min(allowed * 2, limits.RESYNC_AT_REST_LAST_SECONDS)
                        continue
                    if count == limits.RESYNC_BATCH_DOCUMENTS_COUNT:
                        continue  # too much came meanwhile to hold up routing for it
                    if await self._is_held(job):
                        return False
                    if await self._brought_in_force(function, job.version):
                        return True
            except Conflict:
                raise
            except GatewayError as error:
                if isinstance(error, UnknownDatabase) or not error.passing:
                    raise
                if self._waits_for is None:
                    log.warning("database %s: the resync waits: %s", self._name, error.reason)
                self._waits_for = error.reason
                await asyncio.sleep(pause)
                pause = min(pause * 2, limits.UPSTREAM_RETRY_LAST_SECONDS)

    async def _batch(self, computing: Computing, cursor: int) -> tuple[int, int]:
        try:
            count, cursor = await computing.batch(cursor, limits.RESYNC_BATCH_DOCUMENTS_COUNT)
        except NotFound:
            raise UpstreamUnreachable("the upstream database is not there") from None
        self._waits_for = None
        done = self._progress[-1][1] if self._progress else 0
        self._progress.append((time.monotonic(), done + count))
        while len(self._progress) > 2 and self._progress[-1][0] - self._progress[0][0] > _RATE_SECONDS:
            self._progress.popleft()
        return count, cursor

    async def _is_held(self, job: ResyncJob) -> bool:
        """Documents that would be lost, hidden or deleted, are for an administrator to decide about."""
        store = self._store.resync
        why = None
        if not job.accept_failures and (await store.list_documents("failed", None, 0, 1))[0]:
            failed = (await store.counts()).failed
            why = f"the sync function failed on {failed} documents, which would be hidden; see kind=failed"
        elif not job.accept_deletions and (expired := await store.count_expired(time.time())):
            why = f"{expired} documents have expired by the sync function and would be deleted; see kind=expiring"
        if why is None:
            return False
        await store.settle(time.time())
        log.warning("database %s: the resync is held: %s", self._name, why)
        await store.note("held", error=why, ended_at=time.time())
        return True

    async def _brought_in_force(self, function: SyncFunction, version: int) -> bool:
        """To its end whatever happens: what the store has brought in force has to decide from then on."""
        task = asyncio.create_task(self._bring_in_force(function, version))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.gather(task, return_exceptions=True)
            raise

    async def _bring_in_force(self, function: SyncFunction, version: int) -> bool:
        began = time.monotonic()
        if not await self._store.resync.apply(version, time.time()):
            return False
        self._versions.taken(function, version)
        log.info("database %s: the resync was applied in %.1f s", self._name, time.monotonic() - began)
        return True

    # What there is to tell

    def brief(self) -> dict[str, Any] | None:
        """For the status of the database, while one runs."""
        if not self.running or self._job is None:
            return None
        return {
            "status": "running" if self._waits_for is None else "waiting",
            "preview": self._job.preview,
            "version": self._job.version,
            "docs_computed": self._progress[-1][1] if self._progress else 0,
        }

    async def status(self) -> dict[str, Any]:
        """`status` is none, running, waiting (for the upstream, see `last_error`), stopped, held, completed or error.

        `rate` is in documents a second; times are unix seconds.
        """
        job = await self._store.resync.job()
        if job is None:
            return {"status": "none"}
        counts = await self._store.resync.counts()
        # What it ended as is told once the work has ended too: the function in force decides, another job may begin.
        running = self.running or job.state == "running"
        waits = self._waits_for if running else None
        rate = self._rate() if running and waits is None else None
        applied = job.state == "completed" and not job.preview and not running
        return {
            "status": "waiting" if waits is not None else "running" if running else job.state,
            "preview": job.preview,
            "version": job.version,
            "digest": job.digest,
            "docs_total": counts.total,
            # Once applied, what is written later is routed by the function itself.
            "docs_processed": counts.total if applied else max(counts.total - counts.left, 0),
            "docs_changed": counts.changed,
            "docs_refused": counts.refused,
            "docs_failed": counts.failed,
            "docs_expiring": counts.expiring,
            "channels": {"entered": counts.channels_entered, "left": counts.channels_left},
            "access": {"gained": counts.access_gained, "lost": counts.access_lost},
            "accept_failures": job.accept_failures,
            "accept_deletions": job.accept_deletions,
            "rate": rate,
            "seconds_left": round(counts.left / rate, 1) if rate else None,
            "started_at": job.started_at,
            "ended_at": job.ended_at,
            "last_error": waits or job.error,
        }

    def _rate(self) -> float | None:
        if len(self._progress) < 2 or self._progress[-1][0] == self._progress[0][0]:
            return None
        (began, before), (ended, after) = self._progress[0], self._progress[-1]
        return round((after - before) / (ended - began), 1) or None

    async def documents(self, kind: ResyncKind, channel: str | None, start: int, limit: int) -> dict[str, Any]:
        rows, following = await self._store.resync.list_documents(kind, channel, start, limit)
        return {"kind": kind, "documents": rows, "next": following}

    async def channels(self, start: str, limit: int) -> dict[str, Any]:
        rows, following = await self._store.resync.list_channels(start, limit)
        return {"channels": rows, "next": following}

    async def access(self, start: int, limit: int) -> dict[str, Any]:
        rows, following = await self._store.resync.list_access(start, limit)
        return {"access": rows, "next": following}
