"""From a call to the line that asks the sync function's process, and from the line it answers to a verdict."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.errors import (
    GatewayError,
    IllegalName,
    RefusedBySyncFunction,
    SyncFunctionBadExpiry,
    SyncFunctionBadName,
    SyncFunctionFailed,
    SyncFunctionRanAway,
    UnauthorizedBySyncFunction,
)
from gateway.model.names import ALL_CHANNELS, GUEST, channel_problem, check_principal_name
from gateway.model.routing import Call, Routing, Thrown, Verdict, Writer
from gateway.syncfn.engine import MEMORY, TIME, place_of
from gateway.syncfn.expiry import end_of, expiry_of

# In ASCII, so that no tab and no line end is in it; bodies come from JSON and hold no circles.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
_decode = json.JSONDecoder().raw_decode
_LARGEST = 2**53 - 1  # what a JavaScript number holds exactly
_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else byte for byte in range(256))
_MANY_DIGITS = b"0" * len(str(_LARGEST))
_ROLE = "role:"
CRASHED = b'{"error":["away","the JavaScript engine failed on this document"]}'
_RUNAWAYS = (TIME[:-1].encode(), MEMORY[:-1].encode(), CRASHED)


def questions(calls: Sequence[Call]) -> Iterator[bytes]:
    """One line for each call. Raises ValueError or TypeError for a body that is not JSON."""
    writers: dict[int, str] = {}  # by identity: the calls of one batch have few writers
    for call in calls:
        writer = writers.get(id(call.writer))
        if writer is None:
            writer = writers[id(call.writer)] = _writer(call.writer)
        old_doc = None if call.old_doc is None else _old_body(call.old_doc, call.doc)
        bodies = (_body(call.doc), old_doc, dict(call.meta))
        line = _line(bodies, writer)
        # That there is no such integer is found at a tenth of the cost of looking at each value.
        if _MANY_DIGITS in line.translate(_DIGITS_TO_ZERO):
            line = _line([_exact(body) for body in bodies], writer)
        yield line


def _line(bodies: Sequence[dict[str, Any] | None], writer: str) -> bytes:
    doc, old_doc, meta = ("" if body is None else _encode(body) if body else "{}" for body in bodies)
    return f"{doc}\t{old_doc}\t{meta}\t{writer}\n".encode("ascii")


def _writer(writer: Writer) -> str:
    if writer.admin:
        return ""
    name = GUEST if writer.name is None else writer.name
    return _encode({"name": name, "channels": sorted(writer.channels), "roles": sorted(writer.roles)})


def _body(doc: Mapping[str, Any]) -> dict[str, Any]:
    """What the function sees: of the members that begin with `_` only `_id`, `_rev` and a true `_deleted`."""
    body = {name: value for name, value in doc.items() if name[:1] != "_"}
    for name in ("_id", "_rev"):
        if name in doc:
            body[name] = doc[name]
    if doc.get("_deleted"):
        body["_deleted"] = True
    return body


def _old_body(old_doc: Mapping[str, Any], doc: Mapping[str, Any]) -> dict[str, Any]:
    body = _body(old_doc)
    body.pop("_rev", None)
    body.setdefault("_id", doc.get("_id"))
    return body


def _exact(value: Any) -> Any:
    """Integers that a JavaScript number cannot hold become strings of their digits."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_LARGEST <= value <= _LARGEST else str(value)
    # Loops, not comprehensions: these would take two of Python's frames for each level of a deep document.
    if isinstance(value, list):
        items = []
        for item in value:
            items.append(_exact(item))  # noqa: PERF401
        return items
    if isinstance(value, dict):
        members = {}
        for name, item in value.items():
            members[name] = _exact(item)
        return members
    return value


def verdict(line: bytes, now: float, version: int = 0) -> Verdict:
    """What the process answered to one call; `now` in unix seconds is what relative times count from."""
    answer: dict[str, Any] = _decode(line.decode())[0]
    logs = tuple(_clean(text) for text in answer.get("logs", ()))
    if error := answer.get("error"):
        refusal, thrown = _error(*error)
        if thrown is None:
            return Verdict(error=refusal, logs=logs, version=version)
        where = f" at line {thrown.line} column {thrown.column}" if thrown.line else ""
        told = (*logs, f"error: {thrown.message}{where}")
        return Verdict(error=refusal, logs=told, thrown=thrown, version=version)
    try:
        return Verdict(_routing(answer, now), logs=logs, version=version)
    except (SyncFunctionBadName, SyncFunctionBadExpiry) as problem:
        return Verdict(error=problem, logs=logs, version=version)


def ran_away(line: bytes) -> bool:
    """Whether this answer took all the time or memory that a document may use, or ended the process."""
    return line.startswith(_RUNAWAYS)


def _routing(answer: dict[str, Any], now: float) -> Routing:
    channels = _channels(answer.get("channels", ()), "channel()")
    if ALL_CHANNELS in channels:
        channels = frozenset({ALL_CHANNELS})
    grants: set[tuple[str, str]] = set()
    grant_ends: set[tuple[str, str, float]] = set()
    for principal, names, *limited in answer.get("grants", ()):
        _principal(principal.removeprefix(_ROLE), "access()")
        grants.update((principal, name) for name in _channels(names, "access()"))
        for name, values in limited[0] if limited else ():
            _channels([name], "access()")
            grants.add((principal, name))
            grant_ends.add((principal, name, _end(values, now, "access()")))
    roles: set[tuple[str, str]] = set()
    role_ends: set[tuple[str, str, float]] = set()
    for user, names, *limited in answer.get("roles", ()):
        _principal(user, "role()")
        roles.update((user, _role(name)) for name in names)
        for name, values in limited[0] if limited else ():
            roles.add((user, _role(name)))
            role_ends.add((user, _role(name), _end(values, now, "role()")))
    expiry = expiry_of(answer["expiry"], now) if "expiry" in answer else None
    return Routing(
        channels,
        frozenset(grants),
        frozenset(roles),
        expiry,
        frozenset(grant_ends),
        frozenset(role_ends),
        now,
    )


def _end(values: Sequence[object], now: float, place: str) -> float:
    end = end_of(values, now)
    if end is None:
        wrong = next(value for value in values if end_of([value], now) is None)
        shown = json.dumps(wrong, ensure_ascii=False)
        raise SyncFunctionBadExpiry(_clean(f"{place} got no time for `expires`: {shown}"))
    return end


def _channels(names: Sequence[str], place: str) -> frozenset[str]:
    for name in names:
        if problem := channel_problem(name):
            raise _bad_name(problem, name, place)
    return frozenset(names)


def _principal(name: str, place: str) -> str:
    try:
        return check_principal_name(name)
    except IllegalName as error:
        raise _bad_name(error.reason, name, place) from None


def _role(name: str) -> str:
    if not name.startswith(_ROLE):
        raise _bad_name(f'a role must begin with "{_ROLE}"', name, "role()")
    return _principal(name.removeprefix(_ROLE), "role()")


def _bad_name(problem: str, name: str, place: str) -> SyncFunctionBadName:
    shown = name if len(name) <= 60 else name[:60] + "…"
    return SyncFunctionBadName(_clean(f'the sync function named "{shown}" in {place}: {problem}'))


def _error(kind: str, text: str | None = None, stack: str = "") -> tuple[GatewayError, Thrown | None]:
    """The error to answer, and what only the log is told."""
    reason = None if text is None else _clean(text)
    if kind == "forbidden":
        return RefusedBySyncFunction(reason), None
    if kind == "unauthorized":
        return UnauthorizedBySyncFunction(reason or "unauthorized"), None
    if kind == "name":
        return SyncFunctionBadName(reason), None
    if kind == "end":
        return SyncFunctionBadExpiry(reason), None
    if kind == "away":
        return SyncFunctionRanAway(reason), None
    if kind == "memory":
        return SyncFunctionRanAway("the sync function used too much memory"), None
    if kind == "stack":
        return SyncFunctionRanAway("the sync function recursed too deeply"), None
    place = place_of(stack)
    return SyncFunctionFailed(), Thrown(str(reason), *(place or ()))


def _clean(text: str) -> str:
    """Half surrogate pairs, which JavaScript allows and JSON in UTF-8 does not, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
