"""Mango's JSON indexes: views of design documents in the language `query`, and which of them serves a query.

An index decides what CouchDB answers, and in which order; the documents are found by a scan all the same.
Sources: mango_idx.erl, mango_idx_view.erl, mango_idx_special.erl, mango_cursor.erl, mango_cursor_view.erl.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.errors import InvalidQuery
from gateway.mango.query import Find, parse_sort
from gateway.mango.selector import And, Condition, Field, Node, Or, normalize

LANGUAGE: Final = "query"
ALL_DOCS: Final[Mapping[str, Any]] = {
    "ddoc": None,
    "name": "_all_docs",
    "type": "special",
    "def": {"fields": [{"_id": "asc"}]},
}
_RANGES: Final = ("$lt", "$lte", "$eq", "$gte", "$gt")


@dataclass(frozen=True, slots=True)
class Index:
    """One JSON index. `definition` is the `map` of its view; `columns` are the fields that its rows are ordered by."""

    ddoc: str
    name: str
    definition: Mapping[str, Any]
    columns: tuple[str, ...]

    @property
    def partial(self) -> Any:
        """The selector of the documents that are in it, empty for all."""
        return self.definition.get("partial_filter_selector") or {}

    def told(self) -> dict[str, Any]:
        """As `_index` and `_explain` tell it."""
        shown = dict(self.definition)
        if not self.partial:
            shown.pop("partial_filter_selector", None)
        shown["fields"] = [{name: direction} for name, direction in self.definition["fields"].items()]
        return {"ddoc": self.ddoc, "name": self.name, "type": "json", "partitioned": False, "def": shown}

    def is_named(self, use_index: Sequence[str]) -> bool:
        """Whether `use_index` (a design document without its prefix, perhaps a name) means this one."""
        return self.ddoc.removeprefix("_design/") == use_index[0] and (len(use_index) == 1 or self.name == use_index[1])


@dataclass(frozen=True, slots=True)
class Plan:
    """A query with what its index adds: the order, and the filter of a partial one. `index` is None for all ids.

    `rows` is the selector of the rows that CouchDB would read from the index.
    """

    find: Find
    index: Index | None
    rows: Node


def of_design(id: str, body: Mapping[str, Any]) -> list[Index]:
    """The indexes of a design document; what is none is passed over."""
    views = body.get("views")
    if body.get("language") != LANGUAGE or not isinstance(views, dict):
        return []
    found = []
    for name, view in views.items():
        if not isinstance(view, dict) or not isinstance(view.get("options"), dict):
            continue
        definition = view.get("map")
        if not isinstance(definition, dict) or not isinstance(fields := definition.get("fields"), dict) or not fields:
            continue
        try:
            columns = parse_sort([{column: direction} for column, direction in fields.items()])
            normalize(definition.get("partial_filter_selector") or {})
        except InvalidQuery:
            continue
        found.append(Index(id, name, definition, tuple(column for column, _ in columns)))
    return found


def stored(connection: sqlite3.Connection) -> list[Index]:
    """All of them, in the order in which `_index` lists them."""
    rows = connection.execute(
        "SELECT doc.id, body.json FROM doc JOIN body ON body.key = doc.body"
        " WHERE doc.deleted = 0 AND doc.id >= '_design/' AND doc.id < '_design0'"
    )
    found = [index for id, text in rows for index in of_design(id, json.loads(text))]
    return sorted(found, key=lambda index: (index.ddoc.encode(), index.name.encode()))


def plan(indexes: Sequence[Index], find: Find) -> Plan:
    """How CouchDB would answer. Raises InvalidQuery when nothing has the order of the sort."""
    sort = [name for name, _ in find.sort]
    ranges = _ranges(find.node)
    usable = [
        index
        for index in indexes
        if (not index.partial or (find.use_index and index.is_named(find.use_index))) and _is_usable(index, find, sort)
    ]
    named = [index for index in usable if find.use_index and index.is_named(find.use_index)]
    if not usable:
        if sort and (sort != ["_id"] or "_id" not in ranges):
            raise InvalidQuery("no_usable_index", "No index exists for this sort, try indexing by the sort fields.")
        return Plan(find, None, find.node)
    index = min(named or usable, key=lambda one: (len(ranges) - _prefix(one, ranges), len(one.columns)))
    ordered = replace(find, sort=tuple((column, find.descending) for column in index.columns))
    if index.partial:
        ordered = replace(ordered, node=And((find.node, normalize(index.partial))))
    bounded = index.columns[: _prefix(index, ranges)]
    return Plan(ordered, index, And(tuple(_bounds(ordered.node, bounded, index.partial))))


def _is_usable(index: Index, find: Find, sort: Sequence[str]) -> bool:
    required = set(index.columns) - set(sort) - {"_id", "_rev"}
    return not _missing(find.node, required) and _has_order(index.columns, sort, find.node)


def _missing(node: Node, required: set[str]) -> set[str]:
    """Those of these fields that a match may lack."""
    if isinstance(node, And):
        for part in node.parts:
            required = _missing(part, required)
        return required
    if isinstance(node, Or) and node.parts:
        return set().union(*(_missing(part, required) for part in node.parts))
    if isinstance(node, Field) and node.part != Condition("$exists", False):
        return required - {node.path}
    return required


def _has_order(columns: Sequence[str], sort: Sequence[str], node: Node) -> bool:
    """Whether the sort is that of the index, but for columns before it that have one value in all matches."""
    constant = {path for path, operator in _conditions(node) if operator == "$eq"}
    rest = list(columns)
    while sort and rest and rest[0] != sort[0] and rest[0] in constant:
        del rest[0]
    return not sort or rest[: len(sort)] == list(sort)


def _ranges(node: Node) -> set[str]:
    """The fields that the selector bounds."""
    return {path for path, operator in _conditions(node) if operator in _RANGES}


def _bounds(node: Node, columns: Sequence[str], partial: Any) -> list[Node]:
    """The conditions that bound these columns, and what a partial index holds at all."""
    found = [] if not partial else [normalize(partial)]
    if isinstance(node, And):
        return found + [bound for part in node.parts for bound in _bounds(part, columns, None)]
    if isinstance(node, Field) and node.path in columns and isinstance(node.part, Condition):
        return [*found, node] if node.part.operator in _RANGES else found
    return found


def _prefix(index: Index, ranges: set[str]) -> int:
    """How many of the first columns are bounded."""
    return next((at for at, column in enumerate(index.columns) if column not in ranges), len(index.columns))


def _conditions(node: Node) -> list[tuple[str, str]]:
    """The field and operator of each condition that every match meets."""
    if isinstance(node, And):
        return [condition for part in node.parts for condition in _conditions(part)]
    if isinstance(node, Field) and isinstance(node.part, Condition):
        return [(node.path, node.part.operator)]
    return []
