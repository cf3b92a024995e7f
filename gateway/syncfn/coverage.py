"""Which lines of a sync function ran, while it was asked about some documents.

Also the process in which that is found out: `python -m gateway.syncfn.coverage` is worker.py with counters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import quickjs

from gateway.errors import SyncFunctionRanAway
from gateway.model.routing import Call, Verdict
from gateway.syncfn import answers
from gateway.syncfn.engine import Engine, EngineLimits, SourceError, compiled_lines
from gateway.syncfn.instrument import instrument
from gateway.syncfn.runner import Runner
from gateway.syncfn.tokens import NotUnderstood
from gateway.syncfn.worker import Runnable, serve

_COLUMN = re.compile(r" column [0-9]+\Z")


class NoCoverage(Exception):
    """It cannot be told which lines ran; the text says why."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """`lines` are those in which a statement begins, `missed` those of them with a statement that never ran."""

    lines: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def percent(self) -> float:
        """Of the lines, 100 only when none was missed."""
        return 100 * (len(self.lines) - len(self.missed)) / len(self.lines) if self.lines else 100.0


class CountingEngine(Engine):
    """An engine whose function counts. Raises SourceError as Engine does, NotUnderstood as `instrument` does."""

    def __init__(self, source: str, engine_limits: EngineLimits) -> None:
        self._counted = instrument(source)
        super().__init__(self._counted.source, engine_limits)

    def _compiled(self, source: str) -> quickjs.Object:
        super()._compiled(source)
        name = self._counted.counter  # nothing in the source contains it
        return compiled_lines(
            self._context,
            f"(function () {{ const {name}_seen = new Set(), {name} = (unit) => {{ {name}_seen.add(unit); }};"
            f" return function ({name}_read) {{ if ({name}_read === true) {{"
            f" const text = JSON.stringify(Array.from({name}_seen)); {name}_seen.clear(); return text; }}"
            f" return [\n{source}\n]; }}; }})()",
        )

    def run(self, doc: str, old_doc: str, meta: str, writer: str) -> tuple[str, bool]:
        """As Engine's, with the units that ran as another member of the answer: `"ran"`."""
        answer, reusable = super().run(doc, old_doc, meta, writer)
        ran: list[int] = []
        try:
            ran = json.loads(self._make(True))
        except quickjs.JSException:
            reusable = False  # it ran away; what ran before is not known
        said: dict[str, Any] = json.loads(answer)
        return json.dumps({**said, "ran": ran}), reusable


async def measure(source: str, calls: Sequence[Call], verdicts: Sequence[Verdict], *, now: float) -> Coverage:
    """Ask again about these calls, with counters. `verdicts` are the answers of the source as it is written, at `now`.

    Raises NoCoverage when the source cannot be instrumented, or gave another answer when it was.
    """
    try:
        units = instrument(source).lines
    except NotUnderstood as problem:
        raise NoCoverage(str(problem)) from None
    runner = Runner(
        "gateway.syncfn.coverage", {"source": source, "limits": asdict(EngineLimits())}, name="sync function"
    )
    try:
        lines = await runner.run(len(calls), lambda start, end: answers.questions(calls[start:end]))
    except SourceError as problem:
        raise NoCoverage(f"with counters in it the function does not compile: {problem}") from None
    finally:
        await runner.close()
    ran: set[int] = set()
    for call, line, verdict in zip(calls, lines, verdicts, strict=True):
        if not _same(answers.verdict(line, now), verdict):
            shown = json.dumps(call.doc.get("_id"), ensure_ascii=False)
            raise NoCoverage(f"the function answers differently each time, or with counters in it (document {shown})")
        ran.update(json.loads(line).get("ran", ()))
    missed = {line for unit, line in enumerate(units) if unit not in ran}
    return Coverage(tuple(sorted(set(units))), tuple(sorted(missed)))


def _same(counted: Verdict, verdict: Verdict) -> bool:
    ran_away = [isinstance(one.error, SyncFunctionRanAway) for one in (counted, verdict)]
    if any(ran_away):
        return all(ran_away)
    return _comparable(counted) == _comparable(verdict)


def _comparable(verdict: Verdict) -> object:
    error = None if verdict.error is None else (type(verdict.error), verdict.error.reason)
    # Counters are put within lines, so a failure's line is the same and its column is not.
    return verdict.routing, error, [_COLUMN.sub("", line) for line in verdict.logs]


def _counting(hello: dict[str, Any]) -> Runnable:
    return CountingEngine(hello["source"], EngineLimits(**hello["limits"]))


if __name__ == "__main__":
    serve(_counting)
