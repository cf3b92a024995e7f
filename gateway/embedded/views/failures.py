"""What a view's functions can fail with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.errors import BadRequest, Conflict, Forbidden, GatewayError, NotFound, Unauthorized

_NAMED: Mapping[str, type[GatewayError]] = {
    "bad_request": BadRequest,
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "conflict": Conflict,
}


def whole(text: str) -> str:
    """Half surrogate pairs, which JavaScript allows and JSON in UTF-8 does not, become question marks."""
    return text.encode("utf-8", "replace").decode()


class ViewFailed(GatewayError):
    """A view's function passed its limits, was given what it cannot take, or gave up: CouchDB's error for it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(whole(reason))
        self.name = whole(name)

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


def named_failure(error: Sequence[str]) -> GatewayError:
    """The same for functions that are called by a request: some names of errors have statuses (chttpd:error_info)."""
    if error[0] == "named" and error[1] in _NAMED:
        return _NAMED[error[1]](whole(error[2]))
    return failure(error)
