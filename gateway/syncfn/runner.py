"""A process that runs JavaScript, kept running: it starts with the first question and is replaced when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

from gateway import limits
from gateway.errors import SyncFunctionUnavailable
from gateway.syncfn import worker
from gateway.syncfn.answers import CRASHED
from gateway.syncfn.process import WorkerProcess

_log = logging.getLogger(__name__)


class Runner:
    """Batches of questions run one after the other; a cancelled caller does not disturb the others."""

    def __init__(
        self,
        program: str,
        hello: Mapping[str, Any],
        *,
        name: str,
        what: str = "the sync function",
        silence_seconds: float = limits.SYNC_FUNCTION_SILENCE_SECONDS,
    ) -> None:
        """`program` is a module like worker.py; `name` says in the log, `what` in messages, which function it is."""
        self._program = program
        self._hello = hello
        self._name = name
        self._what = what
        self._silence_seconds = silence_seconds
        self._lock = asyncio.Lock()
        self._process: WorkerProcess | None = None
        self._running: set[asyncio.Task[list[bytes]]] = set()
        self._closed = False

    @property
    def busy(self) -> bool:
        return bool(self._running)

    async def run(
        self,
        count: int,
        questions: Callable[[int, int], Iterator[bytes]],
        *,
        last: Callable[[bytes], bool] | None = None,
    ) -> list[bytes]:
        """The `count` answers to `questions(0, count)`, lines of JSON; what fails has an answer with `error`.

        No more are asked for after one that is the `last`. `questions` is called again for a part of them when the
        process has to be replaced. Raises SourceError when the process refuses the source, SyncFunctionUnavailable when
        none can be started or `close` was called, and what the iterator raises.
        """
        if self._closed:
            raise SyncFunctionUnavailable("the database is being closed")
        return await self._shielded(self._run(count, questions, last)) if count else []

    async def start(self) -> None:
        """Start the process if it does not run. Raises as `run` does."""
        await self._shielded(self._run(0, lambda start, end: iter(()), None))

    async def _shielded(self, work: Coroutine[Any, Any, list[bytes]]) -> list[bytes]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ran)
        return await asyncio.shield(task)

    def _ran(self, task: asyncio.Task[list[bytes]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller, if still there, has it too

    async def _started(self) -> WorkerProcess:
        if self._closed:
            raise SyncFunctionUnavailable("the database is being closed")
        if self._process is None:
            self._process = await WorkerProcess.start(self._program, self._hello, self._what)
        return self._process

    async def _run(
        self,
        count: int,
        questions: Callable[[int, int], Iterator[bytes]],
        last: Callable[[bytes], bool] | None,
    ) -> list[bytes]:
        async with self._lock:
            await self._started()
            return await self._answers(count, questions, last)

    async def _answers(
        self,
        count: int,
        questions: Callable[[int, int], Iterator[bytes]],
        last: Callable[[bytes], bool] | None,
    ) -> list[bytes]:
        lines: list[bytes] = []
        alone = False  # one question at a time, to find the one that the process does not survive
        while len(lines) < count and not (last is not None and lines and last(lines[-1])):
            process = await self._started()
            end = len(lines) + 1 if alone else count
            asked = end - len(lines)
            try:
                answered = await process.ask(questions(len(lines), end), self._silence_seconds, last=last)
            except BaseException:
                await self._end_process()  # it may owe answers that nobody would take
                raise
            lines += answered
            if len(answered) == asked:
                continue
            code = await self._end_process()
            if code == worker.STUCK or (last is not None and answered and last(answered[-1])):
                continue
            if alone:
                lines.append(CRASHED)
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

    async def close(self) -> None:
        """End the process. Questions under way raise SyncFunctionUnavailable."""
        self._closed = True
        if self._process is not None:
            await self._process.close()
        if self._running:
            await asyncio.wait(self._running)
        if self._process is not None:
            await self._process.close()
            self._process = None
