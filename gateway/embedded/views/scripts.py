"""The processes that run views' functions: one for each design document in use, a few at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import asdict

from gateway import json_text, limits
from gateway.embedded.views.design import Design
from gateway.errors import CompilationError, UpstreamUnreachable
from gateway.syncfn.engine import SourceError
from gateway.syncfn.runner import Runner
from gateway.viewfn.engine import ViewLimits


def _is_error(answer: bytes) -> bool:
    return answer.startswith(b'{"error"')


class Scripts:
    """Asks design documents' functions. The process used longest ago ends when one too many is needed."""

    def __init__(self, view_limits: ViewLimits | None = None) -> None:
        self._limits = view_limits or ViewLimits()
        self._runners: dict[str, Runner] = {}  # the one used last is last
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def _runner(self, design: Design) -> Runner:
        if self._closed:
            raise UpstreamUnreachable("the embedded server is closed")
        digest = hashlib.sha256(json_text.canonical(dict(design.functions))).hexdigest()
        runner = self._runners.pop(digest, None)
        if runner is None:
            hello = {"functions": design.functions, "limits": asdict(self._limits)}
            runner = Runner(
                "gateway.viewfn.worker",
                hello,
                name=design.id,
                what="a view",
                silence_seconds=limits.EMBEDDED_VIEW_SILENCE_SECONDS,
            )
        self._runners[digest] = runner
        if len(self._runners) > limits.EMBEDDED_VIEW_PROCESSES_COUNT:
            self._end_one()
        return runner

    def _end_one(self) -> None:
        """End the idle process used longest ago; while all are busy there may be more."""
        for digest, runner in list(self._runners.items())[:-1]:
            if not runner.busy:
                del self._runners[digest]
                task = asyncio.create_task(runner.close())
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
                return

    async def ask(self, design: Design, questions: Sequence[bytes]) -> list[bytes]:
        """The answers to lines for viewfn/worker.py, up to the first one that is an error.

        Raises CompilationError, SyncFunctionUnavailable.
        """
        try:
            return await self._runner(design).run(
                len(questions), lambda start, end: iter(questions[start:end]), last=_is_error
            )
        except SourceError as error:
            raise CompilationError(str(error)) from None

    async def compile(self, design: Design) -> None:
        """Start the functions. Raises CompilationError with CouchDB's reason, SyncFunctionUnavailable."""
        try:
            await self._runner(design).start()
        except SourceError as error:
            raise CompilationError(str(error)) from None

    async def close(self) -> None:
        """End all processes."""
        self._closed = True
        await asyncio.gather(*(runner.close() for runner in self._runners.values()), *self._ending)
        self._runners.clear()
