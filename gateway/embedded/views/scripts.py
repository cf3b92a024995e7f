"""The processes that run views' functions: one for each design document in use, a few at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway import json_text, limits
from gateway.embedded.views.design import Design
from gateway.errors import CompilationError, UpstreamUnreachable
from gateway.syncfn.engine import SourceError
from gateway.syncfn.runner import Runner
from gateway.viewfn.engine import ViewLimits


@dataclass(frozen=True, slots=True)
class Script:
    """The functions of one process: the hello of viewfn/worker.py. `id` says in the log whose they are."""

    id: str
    functions: Mapping[str, Any]
    digest: str

    @classmethod
    def of_views(cls, design: Design) -> Script:
        return cls(design.id, design.functions, _digest(design.functions))

    @classmethod
    def of_designs(cls, id: str, designs: Sequence[tuple[str, Mapping[str, Any]]]) -> Script:
        """The functions beside the views of whole design documents, compiled when they are first called."""
        functions = {"lib": None, "maps": [], "reduces": [], "designs": designs}
        return cls(id, functions, _digest(functions))


def _digest(functions: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_text.canonical(dict(functions))).hexdigest()


def _is_error(answer: bytes) -> bool:
    return answer.startswith(b'{"error"')


def _ran_away(answer: bytes) -> bool:
    """Whether limits were passed. An error with a name is what the function threw: its process can go on."""
    return _is_error(answer) and not answer.startswith(b'{"error":["named"')


class Scripts:
    """Asks design documents' functions. The process used longest ago ends when one too many is needed."""

    def __init__(self, view_limits: ViewLimits | None = None) -> None:
        self._limits = view_limits or ViewLimits()
        self._runners: dict[str, Runner] = {}  # the one used last is last
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    def _runner(self, script: Script) -> Runner:
        if self._closed:
            raise UpstreamUnreachable("the embedded server is closed")
        runner = self._runners.pop(script.digest, None)
        if runner is None:
            hello = {"functions": script.functions, "limits": asdict(self._limits)}
            runner = Runner(
                "gateway.viewfn.worker",
                hello,
                name=script.id,
                what="a design document's function",
                silence_seconds=limits.EMBEDDED_VIEW_SILENCE_SECONDS,
            )
        self._runners[script.digest] = runner
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
            return await self._ask(Script.of_views(design), questions, _is_error)
        except SourceError as error:
            raise CompilationError(str(error)) from None

    async def call(self, script: Script, questions: Sequence[bytes]) -> list[bytes]:
        """The answers to lines, up to the first one for which a function passed its limits.

        Raises SyncFunctionUnavailable.
        """
        return await self._ask(script, questions, _ran_away)

    async def _ask(self, script: Script, questions: Sequence[bytes], last: Callable[[bytes], bool]) -> list[bytes]:
        return await self._runner(script).run(len(questions), lambda start, end: iter(questions[start:end]), last=last)

    async def compile(self, design: Design) -> None:
        """Start the functions. Raises CompilationError with CouchDB's reason, SyncFunctionUnavailable."""
        try:
            await self._runner(Script.of_views(design)).start()
        except SourceError as error:
            raise CompilationError(str(error)) from None

    async def close(self) -> None:
        """End all processes."""
        self._closed = True
        await asyncio.gather(*(runner.close() for runner in self._runners.values()), *self._ending)
        self._runners.clear()
