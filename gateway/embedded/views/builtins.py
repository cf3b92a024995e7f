"""CouchDB's reduce functions that are no JavaScript, folded over the rows of one group. Pure.

Source: couch_query_servers.erl (builtin_reduce). What it computes over a tree of partial reductions is computed here in
one pass, so `_approx_count_distinct` is exact.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable
from typing import Any, Protocol

from gateway import json_text, limits
from gateway.embedded.views.failures import ViewFailed
from gateway.embedded.views.rows import Row
from gateway.mango.collation import sort_key

_SUM_ERROR = (
    "The _sum function requires that map values be numbers, arrays of numbers, or objects. Objects cannot be mixed "
    "with other data structures. Objects can be arbitrarily nested, provided that the values for all fields are "
    "themselves numbers, arrays of numbers, or objects."
)
_STATS = ("sum", "count", "min", "max", "sumsqr")


class Fold(Protocol):
    """One group on its way to its reduction."""

    def add(self, row: Row) -> None:
        """Raises ViewFailed for a value that cannot be reduced, where CouchDB answers an error for the query."""

    def result(self) -> Any: ...


class Count:
    def __init__(self) -> None:
        self._count = 0

    def add(self, row: Row) -> None:
        self._count += 1

    def result(self) -> int:
        return self._count


class _NotSummable(Exception):
    def __init__(self, value: Any) -> None:
        self.value = value


class Sum:
    def __init__(self) -> None:
        self._sum: Any = 0
        self._error: Any = None
        self._characters = 0

    def add(self, row: Row) -> None:
        self._characters += len(row.key) + len(row.id) + len(row.value)
        if self._error is not None:
            return
        value = json.loads(row.value)
        try:
            if isinstance(value, dict) and self._sum == 0 and not isinstance(self._sum, (dict, list)):
                self._sum = value
            else:
                self._sum = _added(value, self._sum)
        except _NotSummable as error:
            self._error = {"error": "builtin_reduce_error", "reason": _SUM_ERROR, "caused_by": error.value}

    def result(self) -> Any:
        if self._error is not None:
            return self._error
        if isinstance(self._sum, (dict, list)):
            size = len(json_text.encode(self._sum))
            if size > limits.EMBEDDED_VIEW_REDUCTION_CHARACTERS and 2 * size > self._characters:
                reason = f"Reduce output must shrink more rapidly: input size: {self._characters} output size: {size}"
                return {"error": "builtin_reduce_error", "reason": reason}
        return self._sum


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _added(value: Any, total: Any) -> Any:
    if _is_number(value) and _is_number(total):
        return total + value
    if isinstance(value, dict) and isinstance(total, dict):
        # CouchDB's sums have their members sorted.
        names = sorted(value.keys() | total.keys(), key=str.encode)
        return {
            name: _added(value[name], total[name])
            if name in value and name in total
            else value.get(name, total.get(name))
            for name in names
        }
    if isinstance(value, (list, int, float)) and isinstance(total, (list, int, float)):
        if isinstance(value, bool) or isinstance(total, bool):
            raise _NotSummable(value)
        left, right = (one if isinstance(one, list) else [one] for one in (total, value))
        both = min(len(left), len(right))
        if not all(_is_number(one) for one in (*left[:both], *right[:both])):
            raise _NotSummable(value)
        return [a + b for a, b in zip(left, right, strict=False)] + left[both:] + right[both:]
    raise _NotSummable(value)


class Stats:
    def __init__(self) -> None:
        self._stats: Any = None

    def add(self, row: Row) -> None:
        value = json.loads(row.value)
        self._stats = _first_stats(value) if self._stats is None else _more_stats(value, self._stats)

    def result(self) -> Any:
        return _named(self._stats)


def _named(stats: Any) -> Any:
    if isinstance(stats, list):
        return [_named(one) for one in stats]
    return dict(zip(_STATS, stats or (0, 0, 0, 0, 0), strict=True))


def _first_stats(value: Any) -> Any:
    if isinstance(value, list):
        return [_first_stats(one) for one in value]
    if _is_number(value):
        return (value, 1, value, value, value * value)
    if isinstance(value, dict):
        return _given_stats(value)
    raise ViewFailed("invalid_value", f"non-numeric _stats input: {_erlang(value)}")


def _more_stats(value: Any, stats: Any) -> Any:
    if isinstance(value, list) and isinstance(stats, list):
        if len(value) != len(stats):
            raise ViewFailed("invalid_value", "the arrays that _stats is given must have one length")
        return [_more_stats(one, other) for one, other in zip(value, stats, strict=True)]
    if isinstance(stats, list) or not (_is_number(value) or isinstance(value, dict)):
        reason = "The _stats function requires that map values be numbers or arrays of numbers, not "
        raise ViewFailed("invalid_value", f"{reason}'{_erlang(value)}'")
    more = _first_stats(value)
    return (
        stats[0] + more[0],
        stats[1] + more[1],
        min(stats[2], more[2]),
        max(stats[3], more[3]),
        stats[4] + more[4],
    )


def _given_stats(value: dict[str, Any]) -> tuple[Any, ...]:
    """Statistics that the map function made itself."""
    for name in _STATS:
        if name not in value:
            raise ViewFailed("invalid_value", f"user _stats input missing required field {name} ({_erlang(value)})")
        if not _is_number(value[name]):
            raise ViewFailed("invalid_value", f"non-numeric _stats input received for {name}: {_erlang(value[name])}")
    return tuple(value[name] for name in _STATS)


def _erlang(value: Any) -> str:
    """A JSON value as CouchDB's messages write it."""
    if isinstance(value, str):
        return f'<<"{value}">>'
    if isinstance(value, list):
        return "[" + ",".join(map(_erlang, value)) + "]"
    if isinstance(value, dict):
        return "{[" + ",".join(f"{{{_erlang(name)},{_erlang(item)}}}" for name, item in value.items()) + "]}"
    return json_text.encode(value).decode()


class Distinct:
    """How many different keys: rows come in their order, so equal ones are neighbours but for collation's equals."""

    def __init__(self) -> None:
        self._count = 0
        self._sort: bytes | None = None
        self._keys: set[str] = set()

    def add(self, row: Row) -> None:
        if row.sort != self._sort:
            self._sort, self._keys = row.sort, set()
        if row.key not in self._keys:
            self._keys.add(row.key)
            self._count += 1

    def result(self) -> int:
        return self._count


class Edge:
    """`_first`, `_last`: the value of the row that comes first or last in ascending order."""

    def __init__(self, *, last: bool) -> None:
        self._last = last
        self._row: Row | None = None

    def add(self, row: Row) -> None:
        place = (row.sort, row.id, row.number)
        if self._row is not None:
            known = (self._row.sort, self._row.id, self._row.number)
            if place < known if self._last else place > known:
                return
        self._row = row

    def result(self) -> Any:
        return None if self._row is None else json.loads(self._row.value)


class Ranked:
    """`_top_N`, `_bottom_N`: the N different values that come last or first in the order of keys."""

    def __init__(self, count: int, *, top: bool) -> None:
        self._count = count
        self._top = top
        self._values: list[tuple[bytes, Any]] = []  # ascending

    def add(self, row: Row) -> None:
        value = json.loads(row.value)
        sort = sort_key(value)
        at = bisect.bisect_left(self._values, sort, key=lambda entry: entry[0])
        if at < len(self._values) and self._values[at][0] == sort:
            return
        self._values.insert(at, (sort, value))
        if len(self._values) > self._count:
            del self._values[0 if self._top else -1]

    def result(self) -> list[Any]:
        values = [value for _, value in self._values]
        return values[::-1] if self._top else values


def builtin(name: str) -> Callable[[], Fold]:
    """How to make the fold of a built-in reduce function. Raises ViewFailed for an unknown one."""
    for prefix, make in _FOLDS.items():
        if name.startswith(prefix):
            return make
    for prefix, top in (("_top_", True), ("_bottom_", False)):
        number = name.removeprefix(prefix)
        if name.startswith(prefix) and number.isascii() and number.isdigit() and 0 < int(number[:9]) <= 100:
            count = int(number)
            return lambda: Ranked(count, top=top)
    raise ViewFailed("invalid_design_doc", f"`{name}` is not a supported reduce function.")


_FOLDS: dict[str, Callable[[], Fold]] = {
    "_sum": Sum,
    "_count": Count,
    "_stats": Stats,
    "_approx_count_distinct": Distinct,
    "_first": lambda: Edge(last=False),
    "_last": lambda: Edge(last=True),
}
