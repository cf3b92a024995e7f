"""What a view's functions can fail with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.errors import GatewayError


class ViewFailed(GatewayError):
    """A view's function passed its limits, was given what it cannot take, or gave up: CouchDB's error for it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name

    def body(self) -> dict[str, Any]:
        return super().body() | {"error": self.name}


def failure(error: Sequence[str]) -> ViewFailed:
    """The error of an answer of viewfn/worker.py."""
    kind = error[0]
    if kind == "named":
        return ViewFailed(error[1], error[2])
    if kind == "away":
        return ViewFailed("os_process_error", "OS process timed out.")
    if kind == "memory":
        return ViewFailed("InternalError", "out of memory")
    if kind == "stack":
        return ViewFailed("RangeError", "Maximum call stack size exceeded")
    return ViewFailed("unnamed_error", error[1] if len(error) > 1 else kind)
