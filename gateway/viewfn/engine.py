"""One JavaScript context with the functions of one design document. Synchronous, bound to the thread that made it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Any

import quickjs

from gateway import limits
from gateway.syncfn.engine import Sandbox, SourceError

PRELUDE = Path(__file__).with_name("prelude.js")


@dataclass(frozen=True, slots=True)
class ViewLimits:
    """What one document, or one call of a reduce function, may use. The prelude reads them by these names."""

    seconds: float = limits.EMBEDDED_VIEW_FUNCTION_SECONDS
    memory_bytes: int = limits.EMBEDDED_VIEW_FUNCTION_MEMORY_BYTES
    stack_bytes: int = limits.SYNC_FUNCTION_STACK_BYTES
    logs: int = limits.SYNC_FUNCTION_LOG_LINES_COUNT
    log_length: int = limits.SYNC_FUNCTION_LOG_CHARACTERS
    reduce_length: int = limits.EMBEDDED_VIEW_REDUCTION_CHARACTERS


class ViewEngine(Sandbox):
    """Runs map and reduce functions. Raises SourceError, with CouchDB's text, when one of them does not compile."""

    def __init__(self, functions: dict[str, Any], view_limits: ViewLimits) -> None:
        """`functions` is `{"lib", "maps": [[name, source], …], "reduces": …, "designs": [[id, document], …]}`."""
        super().__init__(view_limits)
        prelude = PRELUDE.read_text(encoding="utf-8").rstrip()
        self._entry = self._context.eval(f"{prelude}({dumps(asdict(view_limits))})")
        self._context.set_time_limit(view_limits.seconds)
        try:
            problem = self._entry("define", dumps(functions))
        except quickjs.JSException as error:
            raise SourceError(str(error).partition("\n")[0]) from None
        if problem:
            raise SourceError(problem)

    def run(self, *texts: str) -> tuple[str, bool]:
        """The answer to `map, doc`, `reduce, number, keys, values` or `rereduce, number, "", values`; for the first of
        `designs` to `filter, path, doc, req`, `emits, path, doc` and `update, path, doc, req`, for all of them to
        `validate, doc, old, user, security`.

        Answers are `{"rows"}`, `{"value"}`, `{"overflow"}`, `{"passes"}`, `{"doc", "response"}`, `{"refused"}`,
        `{"failed"}`, `{}` (valid) or `{"error"}`; and whether this engine may be used again.
        """
        answer, reusable = self._call(self._entry, texts, sum(map(len, texts)))
        return answer, reusable and not answer.startswith('{"error":["memory"]')
