"""Reading rows of a view from the file, in pages: ranges, given keys, documents beside their rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import json_text, limits
from gateway.embedded import reading
from gateway.embedded.reading import DocOptions, Found
from gateway.embedded.tree import NO_BODY
from gateway.embedded.views.design import View
from gateway.embedded.views.failures import ViewFailed
from gateway.embedded.views.index import State
from gateway.embedded.views.options import UNSET, ViewQuery
from gateway.model.revisions import parse_rev

_PAGE_BYTES = 4_000_000  # of JSON made at once


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it is stored."""

    number: int
    sort: bytes
    id: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of rows: SQL conditions below and above, whatever the direction, with their values."""

    low: tuple[str, tuple[Any, ...]] | None
    high: tuple[str, tuple[Any, ...]] | None


def _bound(sort: bytes, id: str | None, sign: str, included: bool) -> tuple[str, tuple[Any, ...]]:
    """Rows on one side of (key, id). Without an id all rows with the key belong to it."""
    mark = sign + "=" if included else sign
    return (f"sort {mark} ?", (sort,)) if id is None else (f"(sort, id) {mark} (?, ?)", (sort, id))


def bounds_of(query: ViewQuery, sort_key: Callable[[Any], bytes], key: Any = UNSET) -> Bounds:
    """The range of a query, or of one of its keys."""
    start, end = (query.start, query.end) if key is UNSET else (key, key)
    below, above = ("<", ">") if not query.descending else (">", "<")
    first = None if start is UNSET else _bound(sort_key(start), query.start_id, above, True)
    last = None if end is UNSET else _bound(sort_key(end), query.end_id, below, query.inclusive_end)
    return Bounds(last, first) if query.descending else Bounds(first, last)


def check(connection: sqlite3.Connection, state: State) -> None:
    """Raise ViewFailed when the index went while its rows were read: its design document changed."""
    if connection.execute("SELECT 1 FROM view_index WHERE key = ?", (state.key,)).fetchone() is None:
        raise ViewFailed("ddoc_updated", "the design document changed while its view was read")


class Range:
    """Reads the rows of one range, a page at a time, in the direction of the query."""

    def __init__(self, state: State, view: View, bounds: Bounds, *, descending: bool, skip: int = 0) -> None:
        self._where = "idx = ? AND map = ?"
        self._values: tuple[Any, ...] = (state.key, view.map)
        self._bounds = bounds
        self._descending = descending
        self._after: tuple[bytes, str, int] | None = None
        self.skip = skip
        self.finished = False

    def _conditions(self) -> tuple[str, tuple[Any, ...]]:
        where, values = self._where, self._values
        for bound in (self._bounds.low, self._bounds.high):
            if bound is not None:
                where, values = f"{where} AND {bound[0]}", values + bound[1]
        return where, values

    def before(self, connection: sqlite3.Connection) -> int:
        """How many rows of the view come before the range, in its direction."""
        bound = self._bounds.high if self._descending else self._bounds.low
        if bound is None:
            return 0
        where, values = bound
        row = connection.execute(
            f"SELECT count(*) FROM view_row WHERE {self._where} AND NOT ({where})", self._values + values
        ).fetchone()
        return int(row[0])

    def count(self, connection: sqlite3.Connection) -> int:
        """How many rows the range has."""
        where, values = self._conditions()
        return int(connection.execute(f"SELECT count(*) FROM view_row WHERE {where}", values).fetchone()[0])

    def page(self, connection: sqlite3.Connection, most: int) -> list[Row]:
        """The next rows, at most `most`."""
        where, values = self._conditions()
        sign, order = ("<", "DESC") if self._descending else (">", "ASC")
        if self._after is not None:
            where, values = f"{where} AND (sort, id, key) {sign} (?, ?, ?)", values + self._after
        cursor = connection.execute(
            f"SELECT key, sort, id, key_json, value FROM view_row WHERE {where} "
            f"ORDER BY sort {order}, id {order}, key {order} LIMIT ? OFFSET ?",
            (*values, most, self.skip),
        )
        rows: list[Row] = []
        size = 0
        for found in cursor:
            row = Row(*found)
            rows.append(row)
            size += len(row.key) + len(row.value)
            if size > _PAGE_BYTES:
                break
        else:
            self.finished = len(rows) < most
        if rows:
            self.skip = 0
            self._after = (rows[-1].sort, rows[-1].id, rows[-1].number)
        elif self.skip:
            self.skip -= min(self.skip, self._skipped(connection, where, values))
        return rows

    @staticmethod
    def _skipped(connection: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> int:
        """How many rows a range had that was skipped as a whole: the next key's range has fewer to skip."""
        return int(connection.execute(f"SELECT count(*) FROM view_row WHERE {where}", values).fetchone()[0])


@dataclass(frozen=True, slots=True)
class Head:
    """What comes before the rows."""

    total: int
    offset: int


class MapRows:
    """The answer of a query without reduce, encoded in pages. Its methods run in reading threads."""

    def __init__(self, state: State, view: View, query: ViewQuery, sort_key: Callable[[Any], bytes]) -> None:
        self._state = state
        self._view = view
        self._query = query
        self._left = query.limit
        keys: Sequence[Any] = (UNSET,) if query.keys is None else query.keys
        if query.descending and query.keys is not None:
            keys = keys[::-1]
        self._ranges = [
            Range(state, view, bounds_of(query, sort_key, key), descending=query.descending) for key in keys
        ]
        if self._ranges:
            self._ranges[0].skip = query.skip
        self._at = 0
        self.finished = False

    def head(self, connection: sqlite3.Connection) -> Head:
        check(connection, self._state)
        total = Range(self._state, self._view, Bounds(None, None), descending=False).count(connection)
        offset = 0
        for one in self._ranges:  # where the first row is; without any, where the last range would be
            offset = one.before(connection)
            if len(self._ranges) == 1 or one.count(connection):
                break
        return Head(total, min(total, offset + self._query.skip))

    def next_page(self, connection: sqlite3.Connection) -> bytes:
        """Some rows with commas between; empty at the end, or between two ranges."""
        check(connection, self._state)
        rows: list[Row] = []
        most = limits.EMBEDDED_PAGE_ROWS_COUNT
        size = 0
        while self._at < len(self._ranges) and self._left != 0 and len(rows) < most and size < _PAGE_BYTES:
            current = self._ranges[self._at]
            wanted = most - len(rows)
            found = current.page(connection, wanted if self._left is None else min(wanted, self._left))
            rows += found
            size += sum(len(row.value) for row in found)
            if self._left is not None:
                self._left -= len(found)
            if current.finished:
                self._at += 1
                if self._at < len(self._ranges):
                    self._ranges[self._at].skip = current.skip
        self.finished = self._at >= len(self._ranges) or self._left == 0
        return b",\r\n".join(self._encoded(connection, rows))

    def _encoded(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> list[bytes]:
        if not self._query.include_docs:
            return [_row(row, "") for row in rows]
        docs = _Documents(connection, rows, self._query.doc_options)
        return [_row(row, ',"doc":' + json_text.encode(docs.of(row)).decode()) for row in rows]


def _row(row: Row, doc: str) -> bytes:
    id = json_text.encode(row.id).decode()
    return f'{{"id":{id},"key":{row.key},"value":{row.value}{doc}}}'.encode()


class _Documents:
    """The documents beside some rows (`include_docs`): the row's own, or the one that the value names by `_id`.

    fabric_view:possibly_embed_doc: with `_rev` exactly that revision, without it the winner; a linked document comes
    without the extra members that were asked for.
    """

    def __init__(self, connection: sqlite3.Connection, rows: Sequence[Row], options: DocOptions) -> None:
        self._connection = connection
        self._options = options
        self._values = {row.number: json.loads(row.value) for row in rows if row.value.startswith("{")}
        ids = [row.id for row in rows]
        ids += [value["_id"] for value in self._values.values() if isinstance(value.get("_id"), str)]
        self._found = reading.find(connection, ids)
        self._budget = reading.Budget()

    def of(self, row: Row) -> Any:
        value = self._values.get(row.number, {})
        id, rev = value.get("_id", row.id), value.get("_rev")
        if not isinstance(id, str) or (found := self._found.get(id)) is None:
            return None
        options = reading.PLAIN if "_id" in value else self._options
        return self._read(found, rev, options)

    def _read(self, found: Found, rev: Any, options: DocOptions) -> Any:
        if rev is None:
            rev, deleted = found.leaves()[0]
            if deleted:
                return None
        else:
            try:
                parse_rev(rev)
            except ValueError:
                return None
        node = found.tree.nodes.get(rev)
        if node is None or node.body == NO_BODY:
            return None
        body = reading.bodies(self._connection, [node.body]).get(node.body)
        if body is None:
            return None
        return reading.revision(self._connection, found, rev, body, options, self._budget).doc
