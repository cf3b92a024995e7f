"""Mango selectors: parsed once into a predicate over documents. Pure but for the clock of a bounded `$regex`.

The rules are those of mango_selector.erl (https://docs.couchdb.org/en/stable/api/database/find.html#selector-syntax):
negations are pushed down to the conditions, and a condition on a missing field is false, but for `$exists: false`.
Values are ordered null < false < true < numbers < strings < arrays < objects, strings by their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gateway.embedded.regex import BadPattern, Pattern, PatternRanAway
from gateway.errors import BadRequest

Predicate: TypeAlias = Callable[[Any], bool]
_MISSING = object()
_DOT = re.compile(r"(?<!\\)\.")
_TYPES = ("null", "boolean", "number", "string", "array", "object")
_NEGATED = {
    "$lt": "$gte",
    "$gte": "$lt",
    "$lte": "$gt",
    "$gt": "$lte",
    "$eq": "$ne",
    "$ne": "$eq",
    "$in": "$nin",
    "$nin": "$in",
}
_DEPTH = 100


class InvalidQuery(BadRequest):
    """A selector or another part of a query that CouchDB refuses, with CouchDB's own name for it."""

    code = "CG1012"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name

    def body(self) -> dict[str, Any]:
        return super().body() | {"error": self.name}


def rank(value: Any) -> tuple[Any, ...]:
    """A sort key in the order of values."""
    if value is None:
        return (0,)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    if isinstance(value, str):
        return (3, value.encode("utf-8", "surrogatepass"))
    if isinstance(value, list):
        return (4, [rank(item) for item in value])
    return (5, [((3, key.encode("utf-8", "surrogatepass")), rank(item)) for key, item in value.items()])


def equal(left: Any, right: Any) -> bool:
    """Equality of JSON values: objects regardless of the order of members, numbers by value, never 1 = true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def split_path(field: str) -> list[str]:
    """`a.b\\.c` → `["a", "b.c"]`. Raises InvalidQuery for an empty name."""
    parts = [part.replace("\\.", ".") for part in _DOT.split(field)]
    if "" in parts:
        raise InvalidQuery("invalid_field", f"Invalid field name: {field}")
    return parts


def value_at(value: Any, path: list[str]) -> Any:
    """The value at a path, or the marker that `is_missing` knows. Numbers index arrays."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part, _MISSING)
        elif isinstance(value, list) and part.isascii() and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else _MISSING
        else:
            return _MISSING
        if value is _MISSING:
            return _MISSING
    return value


def is_missing(value: Any) -> bool:
    return value is _MISSING


def selector(given: Any) -> Predicate:
    """The predicate of a selector. Raises InvalidQuery.

    The predicate raises InvalidQuery too, when a `$regex` runs away; it belongs to the thread that made it.
    """
    if not isinstance(given, dict):
        raise InvalidQuery("invalid_selector_json", "Selector must be a JSON object")
    return _parse(given, [], negated=False, depth=0)


def _parse(given: Any, path: list[str], *, negated: bool, depth: int) -> Predicate:
    if depth > _DEPTH:
        raise InvalidQuery("invalid_selector", "The selector is nested too deeply.")
    if not isinstance(given, dict) or (not given and path):
        return _at(path, _condition("$ne" if negated else "$eq", given))
    parts = [_parse_one(name, value, path, negated=negated, depth=depth + 1) for name, value in given.items()]
    return _any(parts) if negated else _all(parts)


def _parse_one(name: str, value: Any, path: list[str], *, negated: bool, depth: int) -> Predicate:
    if not name.startswith("$"):
        if not name:
            raise InvalidQuery("invalid_selector", "One or more conditions is missing a field name.")
        return _parse(value, [*path, *split_path(name)], negated=negated, depth=depth)
    if name in ("$and", "$or", "$nor"):
        if not isinstance(value, list):
            raise _bad_argument(name, value)
        inner = negated != (name == "$nor")
        for one in value:
            if not isinstance(one, dict) and not path:
                raise InvalidQuery("invalid_selector", "One or more conditions is missing a field name.")
        parts = [_parse(one, path, negated=inner, depth=depth) for one in value]
        return _all(parts) if (name != "$or") != negated else _any(parts)
    if name == "$not":
        if not isinstance(value, dict):
            raise _bad_argument(name, value)
        return _parse(value, path, negated=not negated, depth=depth)
    if not path and depth <= 1:
        raise InvalidQuery("invalid_selector", "One or more conditions is missing a field name.")
    if negated and name == "$exists":
        if not isinstance(value, bool):
            raise _bad_argument(name, value)
        return _at(path, _exists(not value))
    if negated and name in _NEGATED:
        return _at(path, _condition(_NEGATED[name], value))
    condition = _exists(value) if name == "$exists" else _condition(name, value, depth)
    if not negated:
        return _at(path, condition)
    return _at(path, lambda found: found is not _MISSING and not condition(found))


def _all(parts: list[Predicate]) -> Predicate:
    return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)


def _any(parts: list[Predicate]) -> Predicate:
    return parts[0] if len(parts) == 1 else lambda value: any(part(value) for part in parts)


def _at(path: list[str], condition: Predicate) -> Predicate:
    return lambda value: condition(value_at(value, path))


def _bad_argument(operator: str, argument: Any) -> InvalidQuery:
    return InvalidQuery("bad_arg", f"Bad argument for operator {operator}: {argument!r}")


def _exists(wanted: Any) -> Predicate:
    if not isinstance(wanted, bool):
        raise _bad_argument("$exists", wanted)
    return lambda found: (found is not _MISSING) is wanted


def _condition(name: str, argument: Any, depth: int = 0) -> Predicate:
    """A condition on a value that exists; false on the marker of a missing one."""
    if name in ("$where", "$geoWithin", "$geoIntersects", "$near", "$nearSphere", "$text"):
        raise InvalidQuery("not_supported", f"Unsupported operator: {name}")
    if (make := _CONDITIONS.get(name)) is not None:
        inner = make(argument)
    elif name in ("$elemMatch", "$allMatch", "$keyMapMatch"):
        if not isinstance(argument, dict):
            raise _bad_argument(name, argument)
        inner = _each(name, _parse(argument, [], negated=False, depth=depth + 1))
    else:
        raise InvalidQuery("invalid_operator", f"Invalid operator: {name}")
    return lambda found: found is not _MISSING and inner(found)


def _each(name: str, matches: Predicate) -> Predicate:
    if name == "$elemMatch":
        return lambda found: isinstance(found, list) and any(matches(item) for item in found)
    if name == "$allMatch":
        return lambda found: isinstance(found, list) and bool(found) and all(matches(item) for item in found)
    return lambda found: isinstance(found, dict) and any(matches(key) for key in found)


def _list(name: str, argument: Any) -> list[Any]:
    if not isinstance(argument, list):
        raise _bad_argument(name, argument)
    return argument


def _in(argument: Any) -> Predicate:
    wanted = _list("$in", argument)

    def matches(found: Any) -> bool:
        values = found if isinstance(found, list) else [found]
        return any(equal(value, one) for one in wanted for value in values)

    return matches


def _nin(argument: Any) -> Predicate:
    matches = _in(_list("$nin", argument))
    return lambda found: not matches(found)


def _every(argument: Any) -> Predicate:
    wanted = _list("$all", argument)

    def matches(found: Any) -> bool:
        if not isinstance(found, list):
            return False
        if all(any(equal(value, one) for value in found) for one in wanted):
            return True
        return len(wanted) == 1 and isinstance(wanted[0], list) and equal(wanted[0], found)

    return matches


def _type(argument: Any) -> Predicate:
    if not isinstance(argument, str):
        raise _bad_argument("$type", argument)
    return lambda found: _TYPES[rank_of_type(found)] == argument


def rank_of_type(value: Any) -> int:
    """The place of a value's type in the order of types."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return 1
    if isinstance(value, (int, float)):
        return 2
    return 3 if isinstance(value, str) else 4 if isinstance(value, list) else 5


def _size(argument: Any) -> Predicate:
    if isinstance(argument, bool) or not isinstance(argument, int) or argument < 0:
        raise _bad_argument("$size", argument)
    return lambda found: isinstance(found, list) and len(found) == argument


def _mod(argument: Any) -> Predicate:
    numbers = _list("$mod", argument)
    if len(numbers) != 2 or any(isinstance(one, bool) or not isinstance(one, int) for one in numbers) or not numbers[0]:
        raise _bad_argument("$mod", argument)
    divisor, wanted = numbers

    def matches(found: Any) -> bool:
        if isinstance(found, bool) or not isinstance(found, int):
            return False
        remainder = abs(found) % abs(divisor)  # Erlang's rem has the sign of the dividend
        return bool((-remainder if found < 0 else remainder) == wanted)

    return matches


def _begins_with(argument: Any) -> Predicate:
    if not isinstance(argument, str):
        raise _bad_argument("$beginsWith", argument)
    return lambda found: isinstance(found, str) and found.startswith(argument)


def _regex(argument: Any) -> Predicate:
    if not isinstance(argument, str):
        raise _bad_argument("$regex", argument)
    try:
        pattern = Pattern(argument)
    except BadPattern:
        raise _bad_argument("$regex", argument) from None

    def matches(found: Any) -> bool:
        if not isinstance(found, str):
            return False
        try:
            return pattern.matches(found)
        except PatternRanAway:
            raise InvalidQuery("bad_arg", f"$regex {argument!r} takes too long") from None

    return matches


_CONDITIONS: Mapping[str, Callable[[Any], Predicate]] = {
    "$eq": lambda argument: lambda found: equal(found, argument),
    "$ne": lambda argument: lambda found: not equal(found, argument),
    "$lt": lambda argument: lambda found: rank(found) < rank(argument),
    "$lte": lambda argument: lambda found: rank(found) <= rank(argument),
    "$gt": lambda argument: lambda found: rank(found) > rank(argument),
    "$gte": lambda argument: lambda found: rank(found) >= rank(argument),
    "$in": _in,
    "$nin": _nin,
    "$all": _every,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$beginsWith": _begins_with,
    "$regex": _regex,
}
