"""JSON in and out, strictly: what CouchDB would not store is refused here with a reason."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from gateway import limits
from gateway.errors import BadJson


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
