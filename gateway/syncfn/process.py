"""The gateway's end of a process that runs JavaScript: start it, put questions to it, notice that it died."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gateway import limits
from gateway.errors import SyncFunctionUnavailable
from gateway.syncfn.engine import SourceError

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
_QUESTIONS_AT_ONCE = 32
_PORTION_BYTES = 262_144
_LAST_MOMENT_SECONDS = 0.5


def _environment() -> dict[str, str]:
    """Where to find the package and the engine, and none of the gateway's passwords."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *(path for path in sys.path if path and Path(path).is_absolute() and path != root)]
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}


def _portion(questions: Iterator[bytes]) -> list[bytes]:
    """The next few lines, or one long one: making them takes time too."""
    lines: list[bytes] = []
    size = 0
    for line in islice(questions, _QUESTIONS_AT_ONCE):
        lines.append(line)
        size += len(line)
        if size >= _PORTION_BYTES:
            break
    return lines


class WorkerProcess(asyncio.SubprocessProtocol):
    """One running process. Questions are put by one caller at a time; answers come in their order."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._answers: list[bytes] = []
        self._looked_at = 0
        self._rest = bytearray()
        self._gone = False  # no answer will come any more
        self._enough = False  # the last answer that is wanted came
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._exited: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.SubprocessTransport | None = None
        self._input: asyncio.WriteTransport | None = None

    @classmethod
    async def start(cls, program: str, hello: Mapping[str, Any], what: str = "the sync function") -> WorkerProcess:
        """A process of the module `program` (worker.py) that has taken the hello; `what` it runs is for messages.

        Raises SourceError when the source in the hello is refused, SyncFunctionUnavailable when it gets not so far.
        """
        try:
            transport, worker = await asyncio.get_running_loop().subprocess_exec(
                cls, sys.executable, "-P", "-m", program, stderr=None, env=_environment()
            )
        except OSError as error:
            raise SyncFunctionUnavailable(f"{what}'s process cannot be started: {error.strerror}") from None
        worker._transport = transport
        pipe = transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)  # noqa: S101  stdin is a pipe unless told otherwise
        worker._input = pipe
        try:
            said = json.dumps(hello).encode() + b"\n"
            answers = await worker.ask(iter([said]), limits.SYNC_FUNCTION_START_SECONDS)
            if not answers:
                raise SyncFunctionUnavailable(f"{what}'s process ended as it started")
            if problem := json.loads(answers[0]).get("error"):
                raise SourceError(problem)
        except BaseException:
            await worker.close()
            raise
        return worker

    async def ask(
        self,
        questions: Iterator[bytes],
        silence_seconds: float,
        *,
        last: Callable[[bytes], bool] | None = None,
    ) -> list[bytes]:
        """The answers to these lines; fewer than questions when the process ended or fell silent: it is of no use then.

        Questions are taken from the iterator while earlier ones are at work. An answer that is the `last` one to be
        wanted ends it all, as does a cancellation or an error of the iterator: only `close` may be called then, unless
        all that were asked are answered.
        """
        assert self._input is not None  # noqa: S101  set by start
        asked = 0
        answers: list[bytes] = []
        self._enough = False
        while not (self._gone or self._enough):
            lines = _portion(questions)
            if not lines:
                break
            asked += len(lines)
            self._input.writelines(lines)
            await asyncio.sleep(0)  # the event loop's other work between two portions
            if not self._writable.is_set():
                await self._until(self._writable, silence_seconds)
            self._look_for(last)
        while not (self._gone or self._enough) and len(self._answers) < asked:
            self._arrived.clear()
            await self._until(self._arrived, silence_seconds)
            self._look_for(last)
        answers, self._answers, self._looked_at = self._answers, [], 0
        return answers

    def _look_for(self, last: Callable[[bytes], bool] | None) -> None:
        """Take no more answers once the last one that is wanted came."""
        if last is None:
            return
        for at in range(self._looked_at, len(self._answers)):
            if last(self._answers[at]):
                del self._answers[at + 1 :]
                self._enough = True
                break
        self._looked_at = len(self._answers)

    async def _until(self, event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            self._gone = True

    async def exit_code(self) -> int | None:
        """With what it ended by itself, negative for a signal; None: it still runs."""
        if self._transport is None or not self._gone:
            return None
        with contextlib.suppress(TimeoutError):  # its output is closed a moment before it has ended
            async with asyncio.timeout(_LAST_MOMENT_SECONDS):
                await asyncio.shield(self._exited)
        return self._transport.get_returncode()

    async def close(self) -> None:
        """End the process at once: it has nothing to save."""
        if self._transport is not None:
            self._transport.close()
            await self._exited

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._rest += data
        if b"\n" in data:
            *answers, self._rest = self._rest.split(b"\n")
            self._answers += map(bytes, answers)
            self._arrived.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:  # the last answer was read before
            self._gone = True
            self._arrived.set()
            self._writable.set()

    def process_exited(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
