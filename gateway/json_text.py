"""JSON in and out, strictly: what CouchDB would not store is refused here with a reason."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from gateway import limits
from gateway.errors import BadJson

_COUNTED_BYTES = 65_536


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    """1e999 parses to infinity, which could not be written again."""
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is out of range")
    return value


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_canonical = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False, sort_keys=True)


def parse(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises BadJson (with the place) for malformed text, NaN and infinities, lone surrogates, integers of more digits
    than Python converts, and nesting deeper than JSON_DEPTH.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"invalid UTF-8 at byte {error.start}") from None
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson(f"invalid UTF-8 JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise BadJson(f"JSON is nested deeper than {limits.JSON_DEPTH} levels") from None
    except ValueError as error:
        raise BadJson(f"invalid UTF-8 JSON: {error}") from None
    if too_deep(value):
        raise BadJson(f"JSON is nested deeper than {limits.JSON_DEPTH} levels")
    if "\\u" in text or "\\U" in text:
        try:
            encode(value)
        except UnicodeEncodeError:
            raise BadJson("a string holds half of a surrogate pair") from None
    return value


def too_many_values(data: bytes, most: int = limits.JSON_VALUES_COUNT) -> bool:
    """Whether a JSON text holds more than `most` commas and opening brackets outside of its strings.

    That is about its values, where an array or an object counts twice. Parsing holds the interpreter for as long as
    there are values, so they are counted before. Of a malformed text only what is well-formed at its beginning counts,
    which is as far as parsing gets.
    """
    if _separators(data) <= most:  # with those in strings: true of nearly every text
        return False
    count, in_string, rest = 0, False, b""
    for start in range(0, len(data), _COUNTED_BYTES):  # in pieces: other threads have their turn between two
        piece = rest + data[start : start + _COUNTED_BYTES]
        piece = piece.replace(b"\\\\", b"")  # what is left of a run of backslashes escapes what follows
        rest = b"\\" if piece.endswith(b"\\") else b""
        parts = piece.removesuffix(b"\\").replace(b'\\"', b"").split(b'"')
        count += _separators(b" ".join(parts[in_string::2]))
        if count > most:
            return True
        in_string ^= len(parts) % 2 == 0
    return False


def _separators(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def too_deep(value: Any, depth: int = limits.JSON_DEPTH) -> bool:
    """Whether arrays and objects are nested deeper than `depth`; without recursion, so it cannot fail itself."""
    level = [value] if isinstance(value, (list, dict)) else []
    while level:
        if depth == 0:
            return True
        depth -= 1
        level = [
            inner
            for outer in level
            if isinstance(outer, (list, dict))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
    return False


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return _encoder.encode(value).encode("utf-8")


def canonical(value: Any) -> bytes:
    """One text for equal values: members sorted. For digests only."""
    return _canonical.encode(value).encode("ascii")
