"""One JavaScript context, and one with a sync function in it. Synchronous, and bound to the thread that made it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Protocol

import quickjs

from gateway import limits

PRELUDE = Path(__file__).with_name("prelude.js")
# The engine names every text `<input>`; the function's own lines are told from the prelude's by their numbers.
_LINES_BEFORE = 1_000
_PLACE = re.compile(r"<input>:([0-9]+):([0-9]+)")
_LAST_SEMICOLON = re.compile(r";\s*\Z")
# What large documents need beside the limits, only to be parsed: arrays of empty arrays are the worst.
_TEXT_WITHOUT_SURCHARGE = 100_000
_MEMORY_PER_CHARACTER = 48
_MEMORY_SURCHARGE_BYTES = 800_000_000
_SECONDS_PER_CHARACTER = 2e-7
_SECONDS_SURCHARGE = 4.0

TIME = '{"error":["away","the sync function took too long"]}'
STACK = '{"error":["stack"]}'
MEMORY = '{"error":["memory"]}'
PROMISES = '{"error":["thrown","promises and async functions do not work in a sync function",""]}'


class ResourceLimits(Protocol):
    """What one call may use."""

    @property
    def seconds(self) -> float: ...

    @property
    def memory_bytes(self) -> int: ...

    @property
    def stack_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one document may use. The prelude reads them by these names."""

    seconds: float = limits.SYNC_FUNCTION_SECONDS
    memory_bytes: int = limits.SYNC_FUNCTION_MEMORY_BYTES
    stack_bytes: int = limits.SYNC_FUNCTION_STACK_BYTES
    channels: int = limits.SYNC_FUNCTION_CHANNELS_COUNT
    grants: int = limits.SYNC_FUNCTION_GRANTS_COUNT
    expiries: int = limits.SYNC_FUNCTION_EXPIRIES_COUNT
    logs: int = limits.SYNC_FUNCTION_LOG_LINES_COUNT
    log_length: int = limits.SYNC_FUNCTION_LOG_CHARACTERS
    channel_length: int = limits.CHANNEL_NAME_BYTES
    principal_length: int = limits.NAME_BYTES + len("role:")


class SourceError(ValueError):
    """The source is not one plain JavaScript function. The text has line and column where the engine tells them."""


def place_of(stack: str) -> tuple[int, int] | None:
    """The (line, column) within the function's source that a stack trace names first; None: it names only others."""
    for match in _PLACE.finditer(stack):
        line = int(match[1]) - _LINES_BEFORE
        if line > 0:
            return line, int(match[2])
    return None


class Sandbox:
    """A context whose functions are called with texts and answer a JSON text, within limits."""

    def __init__(self, resource_limits: ResourceLimits) -> None:
        self._resources = resource_limits
        self._raised = False
        self.used = False
        self.seconds = resource_limits.seconds  # what the call at hand may use
        self._context = quickjs.Context()
        self._context.set_max_stack_size(resource_limits.stack_bytes)
        self._context.set_memory_limit(resource_limits.memory_bytes)

    def _call(self, function: quickjs.Object, arguments: Sequence[object], characters: int) -> tuple[str, bool]:
        """The answer, and whether this context may be used again. `characters` says how large the arguments are."""
        self.used = True
        self._allow_for(characters)
        try:
            answer: str = function(*arguments)
            if self._context.execute_pending_job():
                return PROMISES, False
        except quickjs.StackOverflow:
            return STACK, False
        except quickjs.JSException as error:
            # The prelude catches everything but an interruption, and fails itself only for want of memory.
            text = str(error)
            if "interrupted" in text:
                return TIME, False
            if "out of memory" in text or text.startswith("null"):
                return MEMORY, False
            return dumps({"error": ["thrown", text, ""]}), False
        return answer, True

    def _allow_for(self, characters: int) -> None:
        large = characters > _TEXT_WITHOUT_SURCHARGE
        if large or self._raised:
            size = characters if large else 0
            self.seconds = self._resources.seconds + min(_SECONDS_PER_CHARACTER * size, _SECONDS_SURCHARGE)
            self._context.set_time_limit(self.seconds)
            memory = min(_MEMORY_PER_CHARACTER * size, _MEMORY_SURCHARGE_BYTES)
            self._context.set_memory_limit(self._resources.memory_bytes + memory)
            self._raised = large


class Engine(Sandbox):
    """A context that has run the prelude and holds a function. Raises SourceError when it makes none."""

    def __init__(self, source: str, engine_limits: EngineLimits) -> None:
        super().__init__(engine_limits)
        prelude = PRELUDE.read_text(encoding="utf-8").rstrip()
        self._entry = self._context.eval(f"{prelude}({dumps(asdict(engine_limits))})")
        self._context.set_time_limit(engine_limits.seconds)
        self._make = self._compiled(_LAST_SEMICOLON.sub("", source))
        try:
            problem = self._entry(self._make)
        except quickjs.JSException as error:
            raise SourceError(_compile_message(str(error))) from None
        if problem:
            raise SourceError(f"not a sync function: {problem}")

    def _compiled(self, source: str) -> quickjs.Object:
        """A JavaScript function that answers `[the sync function]`, made anew at each call.

        What closes the array too early does not compile within parentheses, so the source is one expression.
        """
        compiled_lines(self._context, f"(function () {{ return (\n{source}\n); }})")
        return compiled_lines(self._context, f"(function () {{ return [\n{source}\n]; }})")

    def run(self, doc: str, old_doc: str, meta: str, writer: str) -> tuple[str, bool]:
        """The prelude's answer to one document as a JSON text, and whether this engine may be used again."""
        size = len(doc) + len(old_doc) + len(meta) + len(writer)
        answer, reusable = self._call(self._entry, (self._make, doc, old_doc, meta, writer), size)
        return answer, reusable and not answer.endswith('"spoilt":true}')


def compiled_lines(context: quickjs.Context, text: str) -> quickjs.Object:
    """What a text is worth, whose second line is the function's first to `place_of`. Raises SourceError."""
    try:
        return context.eval("\n" * (_LINES_BEFORE - 1) + text)
    except quickjs.JSException as error:
        raise SourceError(_compile_message(str(error))) from None


def _compile_message(error: str) -> str:
    message = error.partition("\n")[0].strip() or "the engine refused it"
    place = place_of(error)
    return f"{message} at line {place[0]} column {place[1]}" if place else message


def compile_error(source: str) -> str | None:
    """What is wrong with a sync function's source, with line and column, or None. Runs at most SYNC_FUNCTION_SECONDS.

    The source is `function (doc, oldDoc, meta) {…}`, with or without a name, or an arrow function; comments may stand
    around it and one semicolon behind it. Blocks: call it off the event loop.
    """
    if not source.strip():
        return "the sync function is empty"
    try:
        source.encode()
    except UnicodeEncodeError:
        return "the sync function is not valid UTF-8"
    if "\0" in source:
        return "the sync function holds a null character"
    if len(source.encode()) > limits.SYNC_FUNCTION_SOURCE_BYTES:
        return f"the sync function exceeds {limits.SYNC_FUNCTION_SOURCE_BYTES} bytes"
    try:
        Engine(source, EngineLimits())
    except SourceError as error:
        return str(error)
    return None
