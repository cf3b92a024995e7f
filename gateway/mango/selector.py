"""Mango selectors: normalized once, made a predicate over documents. Pure but for the clocks that bound its work.

The rules are those of mango_selector.erl in CouchDB 3.5, also where they surprise
(https://docs.couchdb.org/en/stable/api/database/find.html#selector-syntax): negations are pushed down to the
conditions, but not inside `$elemMatch` and its like; a condition on a missing field is false, but for `$exists: false`;
`$or: []` is true. `_id` is compared by its bytes, everything else by CouchDB's collation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway import json_text, limits
from gateway.errors import InvalidQuery
from gateway.mango.collation import rank, raw_sort_key, same_text, sort_key
from gateway.mango.erlang import term
from gateway.mango.fields import BAD_PATH, NOT_FOUND, parse_field, value_at
from gateway.mango.regex import BadPattern, PatternRanAway, Patterns

Predicate: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Nor:
    """Only inside `$elemMatch` and its like; elsewhere it was pushed down."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


@dataclass(frozen=True, slots=True)
class Condition:
    """An operator with its argument, on the value at hand."""

    operator: str
    argument: Any


@dataclass(frozen=True, slots=True)
class Each:
    """`$elemMatch`, `$allMatch` or `$keyMapMatch` on the value at hand."""

    operator: str
    part: Node


@dataclass(frozen=True, slots=True)
class Field:
    """A condition on the value at a path; the empty path is the value at hand itself."""

    path: str
    part: Node


Node: TypeAlias = And | Or | Nor | Not | Condition | Each | Field

_TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
_NEGATED: Final = {
    "$lt": "$gte",
    "$gte": "$lt",
    "$lte": "$gt",
    "$gt": "$lte",
    "$eq": "$ne",
    "$ne": "$eq",
    "$in": "$nin",
    "$nin": "$in",
}
_EACH: Final = ("$elemMatch", "$allMatch", "$keyMapMatch")
_UNSUPPORTED: Final = ("$where", "$geoWithin", "$geoIntersects", "$near", "$nearSphere", "$text")
_MATCH_ALL: Final = And(())


def normalize(given: Any) -> Node:
    """The selector with its negations pushed down. Raises InvalidQuery with CouchDB's names and reasons."""
    if not isinstance(given, dict):
        raise InvalidQuery("invalid_selector_json", f"Selector must be a JSON object, not: {term(given)}")
    if not given:
        return _MATCH_ALL
    node = _without_negations(_Parser().node(given, "", 0))
    if isinstance(node, Field) and node.path == "":
        raise InvalidQuery("invalid_selector", "One or more conditions is missing a field name.")
    return node


def selector(given: Any) -> Predicate:
    """The predicate of a selector. Raises InvalidQuery. See `predicate`."""
    return predicate(normalize(given))


def predicate(node: Node, seconds: float = limits.SELECTOR_BATCH_SECONDS) -> Predicate:
    """Whether a document matches, to be asked within so many seconds from now. Raises InvalidQuery for bad patterns.

    The predicate raises InvalidQuery when that time passes or a `$regex` runs away. It belongs to the thread that made
    it.
    """
    return _Compiler(seconds).node(node)


class _Parser:
    """Operators checked and made explicit, fields joined to paths (norm_ops and norm_fields)."""

    def __init__(self) -> None:
        self._left = limits.SELECTOR_CONDITIONS_COUNT

    def node(self, given: Any, path: str, depth: int) -> Node:
        if depth > limits.SELECTOR_DEPTH_COUNT:
            raise InvalidQuery(
                "invalid_selector",
                f"The selector is nested deeper than {limits.SELECTOR_DEPTH_COUNT} levels (limit SELECTOR_DEPTH_COUNT)",
            )
        if not isinstance(given, dict) or not given:
            return self._condition("$eq", given, path)
        parts = [self._member(name, value, path, depth + 1) for name, value in given.items()]
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _member(self, name: str, value: Any, path: str, depth: int) -> Node:
        if name in ("$and", "$or", "$nor"):
            if not isinstance(value, list):
                raise _bad_argument(name, value)
            parts = tuple([self.node(one, path, depth) for one in value])
            return And(parts) if name == "$and" else Or(parts) if name == "$or" else Nor(parts)
        if name == "$not":
            if not isinstance(value, dict):
                raise _bad_argument(name, value)
            return Not(self.node(value, path, depth))
        if name in _EACH:
            if not isinstance(value, dict):
                raise _bad_argument(name, value)
            return self._field(path, Each(name, self.node(value, "", depth)))
        if name.startswith("$"):
            _check(name, value)
            return self._condition(name, value, path)
        return self.node(value, f"{path}.{name}" if path else name, depth)

    def _condition(self, operator: str, argument: Any, path: str) -> Field:
        return self._field(path, Condition(operator, argument))

    def _field(self, path: str, part: Node) -> Field:
        self._left -= 1
        if self._left < 0:
            raise InvalidQuery(
                "invalid_selector",
                f"The selector has more than {limits.SELECTOR_CONDITIONS_COUNT} conditions"
                " (limit SELECTOR_CONDITIONS_COUNT)",
            )
        if path:
            parse_field(path)
        return Field(path, part)


def _check(name: str, value: Any) -> None:
    """Raises InvalidQuery unless it is an operator with an argument that it takes."""
    if name in _UNSUPPORTED:
        raise InvalidQuery("not_supported", f"Unsupported operator: {name}")
    takes = _ARGUMENTS.get(name)
    if takes is None or (name in ("$regex", "$beginsWith") and not isinstance(value, str)):
        raise InvalidQuery("invalid_operator", f"Invalid operator: {name[:100]}")
    if not takes(value):
        raise _bad_argument(name, value)


def _anything(value: Any) -> bool:
    return True


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_mod(value: Any) -> bool:
    # CouchDB takes the divisor 0 and fails at the first document.
    return isinstance(value, list) and len(value) == 2 and all(map(_is_integer, value)) and value[0] != 0


_ARGUMENTS: Final[dict[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("$eq", "$ne", "$lt", "$lte", "$gt", "$gte"), _anything),
    **dict.fromkeys(("$in", "$nin", "$all"), _is_list),
    **dict.fromkeys(("$regex", "$beginsWith", "$type"), lambda value: isinstance(value, str)),
    "$exists": lambda value: isinstance(value, bool),
    "$mod": _is_mod,
    "$size": lambda value: _is_integer(value) and value >= 0,
}


def _bad_argument(operator: str, argument: Any) -> InvalidQuery:
    return InvalidQuery("bad_arg", f"Bad argument for operator {operator}: {term(argument)}")


def _without_negations(node: Node) -> Node:
    if isinstance(node, Not):
        return _negated(node.part)
    if isinstance(node, Nor):
        return And(tuple(map(_negated, node.parts)))
    if isinstance(node, And):
        return And(tuple(map(_without_negations, node.parts)))
    if isinstance(node, Or):
        return Or(tuple(map(_without_negations, node.parts)))
    return node


def _negated(node: Node) -> Node:
    if isinstance(node, Not):
        return _without_negations(node.part)
    if isinstance(node, Nor):
        return Or(tuple(map(_without_negations, node.parts)))
    if isinstance(node, And):
        return Or(tuple(map(_negated, node.parts)))
    if isinstance(node, Or):
        return And(tuple(map(_negated, node.parts)))
    if isinstance(node, Field):
        return Field(node.path, _negated(node.part))
    if isinstance(node, Condition) and node.operator in _NEGATED:
        return Condition(_NEGATED[node.operator], node.argument)
    if isinstance(node, Condition) and node.operator == "$exists":
        return Condition("$exists", not node.argument)
    return Not(node)


class _NoMatch(Exception):
    """CouchDB fails at a `$nor` inside `$elemMatch` and its like, and takes that for false."""


class _Compiler:
    """Nodes to predicates (`match`)."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._patterns = Patterns()

    def node(self, node: Node, *, raw: bool = False) -> Predicate:
        """`raw`: strings are compared by their bytes."""
        if isinstance(node, And):
            return _all([self.node(part, raw=raw) for part in node.parts])
        if isinstance(node, Or):
            return _any([self.node(part, raw=raw) for part in node.parts])
        if isinstance(node, Not):
            inner = self.node(node.part, raw=raw)
            return lambda value: not inner(value)
        if isinstance(node, Field):
            return self._field(node, raw)
        if isinstance(node, Each):
            return self._each(node, raw)
        if isinstance(node, Nor):
            return _no_match
        return self._condition(node.operator, node.argument, raw)

    def _field(self, node: Field, raw: bool) -> Predicate:
        inner = self.node(node.part, raw=raw or node.path == "_id")
        if node.path == "":
            return inner
        path = parse_field(node.path)
        if node.part == Condition("$exists", False):
            return lambda value: value_at(value, path) is NOT_FOUND
        if len(path) == 1:
            (name,) = path

            def matches_member(value: Any) -> bool:
                if isinstance(value, dict):
                    return name in value and inner(value[name])
                return matches(value)

            matches = _at(path, inner)
            return matches_member
        return _at(path, inner)

    def _each(self, node: Each, raw: bool) -> Predicate:
        inner = self.node(node.part, raw=raw)

        def matches_inner(value: Any) -> bool:
            if time.monotonic() > self._until:
                raise InvalidQuery("timeout", f"the query takes longer than {self._seconds:.0f} s")
            return inner(value)

        def any_element(found: Any) -> bool:
            return isinstance(found, list) and _settled(lambda: any(map(matches_inner, found)))

        def all_elements(found: Any) -> bool:
            return isinstance(found, list) and bool(found) and _settled(lambda: all(map(matches_inner, found)))

        def any_name(found: Any) -> bool:
            return isinstance(found, dict) and _settled(lambda: any(map(matches_inner, found)))

        return {"$elemMatch": any_element, "$allMatch": all_elements, "$keyMapMatch": any_name}[node.operator]

    def _condition(self, name: str, argument: Any, raw: bool) -> Predicate:
        if name == "$regex":
            return self._regex(argument)
        if name in _COMPARED:
            return _compared(name, argument, raw)
        if name == "$in":
            return _in(argument, raw)
        if name == "$nin":
            inside = _in(argument, raw)
            return lambda found: not inside(found)
        return _CONDITIONS[name](argument)

    def _regex(self, argument: str) -> Predicate:
        try:
            matches = self._patterns.add(argument)
        except BadPattern:
            raise _bad_argument("$regex", argument) from None

        def run(found: Any) -> bool:
            if not isinstance(found, str):
                return False
            if time.monotonic() > self._until:
                raise InvalidQuery("timeout", f"the query takes longer than {self._seconds:.0f} s")
            try:
                return matches(found)
            except PatternRanAway:
                raise InvalidQuery("bad_arg", f"$regex {argument!r} takes too long") from None

        return run


def _settled(matches: Callable[[], bool]) -> bool:
    try:
        return matches()
    except _NoMatch:
        return False


def _no_match(value: Any) -> bool:
    raise _NoMatch


def _at(path: Sequence[str], inner: Predicate) -> Predicate:
    def matches(value: Any) -> bool:
        found = value_at(value, path)
        return found is not NOT_FOUND and found is not BAD_PATH and inner(found)

    return matches


def _all(parts: list[Predicate]) -> Predicate:
    return parts[0] if len(parts) == 1 else lambda value: all(part(value) for part in parts)


def _any(parts: list[Predicate]) -> Predicate:
    if not parts:
        return _anything
    return parts[0] if len(parts) == 1 else lambda value: any(part(value) for part in parts)


_COMPARED: Final[dict[str, Callable[[int], bool]]] = {
    "$eq": lambda order: order == 0,
    "$ne": lambda order: order != 0,
    "$lt": lambda order: order < 0,
    "$lte": lambda order: order <= 0,
    "$gt": lambda order: order > 0,
    "$gte": lambda order: order >= 0,
}


def _compared(name: str, argument: Any, raw: bool) -> Predicate:
    holds = _COMPARED[name]
    if raw:
        return lambda found: holds(_raw_order(found, argument))
    rank_of_it = rank(argument)
    if isinstance(argument, str) and name in ("$eq", "$ne"):
        return lambda found: (isinstance(found, str) and same_text(found, argument)) is (name == "$eq")
    its_key = sort_key(argument)

    def matches(found: Any) -> bool:
        if (of_found := rank(found)) != rank_of_it:
            return holds(of_found - rank_of_it)
        found_key = sort_key(found)
        return holds(0 if found_key == its_key else -1 if found_key < its_key else 1)

    return matches


def _raw_order(found: Any, argument: Any) -> int:
    """Erlang's order of terms: an id comes after everything that is no string."""
    left, right = raw_sort_key(found), raw_sort_key(argument)
    return 0 if left == right else -1 if left < right else 1


def _in(argument: list[Any], raw: bool) -> Predicate:
    key_of = raw_sort_key if raw else sort_key
    wanted = {key_of(one) for one in argument}

    def matches(found: Any) -> bool:
        if isinstance(found, list):
            return any(key_of(value) in wanted for value in found)
        return key_of(found) in wanted

    return matches if wanted else _never


def _never(found: Any) -> bool:
    return False


def _exact(value: Any) -> bytes:
    """Its text tells apart what Erlang's `=:=` does: 1 and 1.0, members in another order."""
    return json_text.encode(value)


def _every(argument: list[Any]) -> Predicate:
    if not argument:
        return _never
    wanted = {_exact(one) for one in argument}
    whole = _exact(argument[0]) if len(argument) == 1 and isinstance(argument[0], list) else None

    def matches(found: Any) -> bool:
        if not isinstance(found, list):
            return False
        return wanted <= {_exact(value) for value in found} or (whole is not None and whole == _exact(found))

    return matches


def _mod(argument: list[int]) -> Predicate:
    divisor, wanted = argument

    def matches(found: Any) -> bool:
        if not _is_integer(found):
            return False
        remainder = abs(found) % abs(divisor)  # Erlang's rem has the sign of the dividend
        return bool((-remainder if found < 0 else remainder) == wanted)

    return matches


_CONDITIONS: Final[dict[str, Callable[[Any], Predicate]]] = {
    "$exists": lambda argument: lambda found: bool(argument),
    "$all": _every,
    "$type": lambda argument: lambda found: _TYPES[rank(found)] == argument,
    "$size": lambda argument: lambda found: isinstance(found, list) and len(found) == argument,
    "$mod": _mod,
    "$beginsWith": lambda argument: lambda found: isinstance(found, str) and found.startswith(argument),
}
