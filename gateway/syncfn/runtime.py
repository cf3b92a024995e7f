"""The sync function of one database: calls in, verdicts out."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence

from gateway.errors import BadSyncFunction, SyncFunctionFailed, SyncFunctionUnavailable
from gateway.model.routing import Call, Verdict
from gateway.syncfn import answers, worker
from gateway.syncfn.engine import EngineLimits, compile_error
from gateway.syncfn.process import WorkerProcess

__all__ = ["EngineLimits", "SyncFunction", "compile_error"]

_CRASHED = b'{"error":["away","the JavaScript engine failed on this document"]}'
_log = logging.getLogger(__name__)


class SyncFunction:
    """One JavaScript function in a process of its own, which starts with the first call.

    What holds: each document is looked at by a function made anew, in a context where nothing that an earlier
    document left behind can be found; it may use SYNC_FUNCTION_SECONDS of CPU time and the memory and stack of
    limits.py. One that uses more gets an error, and the next one works. Another database's function is not concerned.
    """

    def __init__(self, source: str, *, name: str = "sync function", engine_limits: EngineLimits | None = None) -> None:
        """`name` says in the log whose function it is. Raises BadSyncFunction; blocks a few milliseconds."""
        if problem := compile_error(source):
            raise BadSyncFunction(problem)
        self.source = source
        self.digest = hashlib.sha256(source.encode()).hexdigest()
        self._name = name
        self._limits = engine_limits or EngineLimits()
        self._lock = asyncio.Lock()
        self._process: WorkerProcess | None = None
        self._running: set[asyncio.Task[list[Verdict]]] = set()
        self._closed = False

    async def run(self, calls: Sequence[Call], *, now: float | None = None) -> list[Verdict]:
        """One verdict for each call, in order; a failing function is a verdict's `error`, never raised.

        `now` in unix seconds is what a relative `expiry()` counts from. Batches run one after the other. A cancelled
        caller does not disturb the others. Raises SyncFunctionUnavailable when no process can be started or `close` was
        called, which is no answer about any document, and ValueError or TypeError for a body that is not JSON.
        """
        if self._closed:
            raise SyncFunctionUnavailable("the database is being closed")
        if not calls:
            return []
        task = asyncio.create_task(self._run(calls, time.time() if now is None else now))
        self._running.add(task)
        task.add_done_callback(self._ran)
        return await asyncio.shield(task)

    def _ran(self, task: asyncio.Task[list[Verdict]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller, if still there, has it too

    async def _run(self, calls: Sequence[Call], now: float) -> list[Verdict]:
        async with self._lock:
            lines = await self._answers(calls)
        verdicts = []
        for place, line in enumerate(lines):
            if place % 64 == 63:
                await asyncio.sleep(0)
            verdicts.append(answers.verdict(line, now))
        self._write_logs(calls, verdicts)
        return verdicts

    async def _answers(self, calls: Sequence[Call]) -> list[bytes]:
        lines: list[bytes] = []
        alone = False  # one document at a time, to find the one that the process does not survive
        while len(lines) < len(calls):
            if self._closed:
                raise SyncFunctionUnavailable("the database is being closed")
            if self._process is None:
                self._process = await WorkerProcess.start(self.source, self._limits)
            asked = calls[len(lines) : len(lines) + 1] if alone else calls[len(lines) :]
            try:
                answered = await self._process.ask(answers.questions(asked))
            except BaseException:
                await self._end_process()  # it may owe answers that nobody would take
                raise
            lines += answered
            if len(answered) == len(asked):
                continue
            code = await self._end_process()
            if code == worker.STUCK:
                continue
            if alone:
                lines.append(_CRASHED)
            alone = not alone
        return lines

    async def _end_process(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        code = await process.exit_code()
        await process.close()
        if not self._closed:
            _log.warning("%s: its process is replaced, exit code %s", self._name, code)
        return code

    def _write_logs(self, calls: Sequence[Call], verdicts: Sequence[Verdict]) -> None:
        for call, verdict in zip(calls, verdicts, strict=True):
            if isinstance(verdict.error, SyncFunctionFailed):
                _log.warning("%s: %s: %s", self._name, call.doc.get("_id"), verdict.error.reason)
            for line in verdict.logs:
                _log.info("%s: %s: %s", self._name, call.doc.get("_id"), line)

    async def close(self) -> None:
        """End the process. Calls under way raise SyncFunctionUnavailable."""
        self._closed = True
        if self._process is not None:
            await self._process.close()
        if self._running:
            await asyncio.wait(self._running)
        if self._process is not None:
            await self._process.close()
            self._process = None
