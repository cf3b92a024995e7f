"""Short ways to put a document to a sync function in a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.model.routing import ADMIN, Call, Verdict, Writer
from gateway.syncfn import answers
from gateway.syncfn.engine import Engine, EngineLimits

NOW = 1_800_000_000.0
GUEST = Writer(None)
ANN = Writer("ann", channels=frozenset({"news", "!"}), roles=frozenset({"editor"}))


def call(
    doc: Mapping[str, Any] | None = None,
    old_doc: Mapping[str, Any] | None = None,
    writer: Writer = ADMIN,
    meta: Mapping[str, Any] | None = None,
) -> Call:
    return Call({"_id": "d", **(doc or {})}, old_doc, writer, meta or {})


def body(source: str) -> str:
    """A sync function with this body."""
    return f"function (doc, oldDoc, meta) {{ {source} }}"


class Quick:
    """One function in this very process: the same engine, prelude and reading of answers, without the process."""

    def __init__(
        self, source: str, engine_limits: EngineLimits | None = None, *, engine: type[Engine] = Engine
    ) -> None:
        self._engine = engine(source, engine_limits or EngineLimits())
        self.reusable = True

    def __call__(
        self,
        doc: Mapping[str, Any] | None = None,
        old_doc: Mapping[str, Any] | None = None,
        writer: Writer = ADMIN,
        meta: Mapping[str, Any] | None = None,
    ) -> Verdict:
        (line,) = answers.questions([call(doc, old_doc, writer, meta)])
        answer, self.reusable = self._engine.run(*line.decode().rstrip("\n").split("\t"))
        return answers.verdict(answer.encode(), NOW)


def ask(source: str, doc: Mapping[str, Any] | None = None, **more: Any) -> Verdict:
    """The verdict of a function with this body on one document."""
    return Quick(body(source))(doc, **more)
