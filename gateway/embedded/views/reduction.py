"""Reduced rows, computed when they are asked for: nothing of a reduction is stored.

The cost of a query is its range: each row is read, and with a reduce function in JavaScript given to it, some hundred
at a time. As in CouchDB's cluster, a function sees its own reductions once more at the end (`rereduce`).
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import json_text, limits
from gateway.embedded.views.builtins import Fold, builtin
from gateway.embedded.views.design import Design, View
from gateway.embedded.views.failures import ViewFailed, failure
from gateway.embedded.views.index import State
from gateway.embedded.views.options import EXACT, UNSET, ViewQuery
from gateway.embedded.views.rows import Range, Row, bounds_of, check
from gateway.errors import TooLarge

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase

log = logging.getLogger(__name__)
_PARTS = 100  # reductions of one group that are reduced again at once


@dataclass(slots=True)
class _Segment:
    """Rows of one group, which goes on in the next segment unless that `begins` one."""

    begins: bool
    label: str  # the key of the group, JSON
    rows: list[Row] = field(default_factory=list)


class _Walk:
    """Goes through the rows of a query. `segments` runs in a reading thread."""

    def __init__(self, state: State, view: View, query: ViewQuery, sort_key: Callable[[Any], bytes]) -> None:
        self._state = state
        self._sort_key = sort_key
        self._level = query.group_level or 0
        keys: Sequence[Any] = (UNSET,) if query.keys is None else query.keys
        if query.descending and query.keys is not None:
            keys = keys[::-1]
        self.ranges = [Range(state, view, bounds_of(query, sort_key, key), descending=query.descending) for key in keys]
        self._at = 0
        self._sort: bytes | None = None  # of the row before, within a range
        self._group: bytes | None = None
        self.ended = not self.ranges
        self._deadline = time.monotonic() + limits.EMBEDDED_VIEW_REDUCE_SECONDS

    def segments(self, connection: sqlite3.Connection) -> list[_Segment]:
        self.check(connection)
        current = self.ranges[self._at]
        found: list[_Segment] = []
        for row in current.page(connection, limits.EMBEDDED_PAGE_ROWS_COUNT):
            if row.sort == self._sort and found:
                found[-1].rows.append(row)
                continue
            self._sort = row.sort
            group, label = self._group_of(row)
            if not found or group != self._group:
                found.append(_Segment(group != self._group, label))
                self._group = group
            found[-1].rows.append(row)
        if current.finished:
            self._at += 1
            self._sort = self._group = None
            self.ended = self._at >= len(self.ranges)
        return found

    def check(self, connection: sqlite3.Connection) -> None:
        """Raise ViewFailed when the index is gone or the time is over."""
        check(connection, self._state)
        if time.monotonic() > self._deadline:
            raise ViewFailed("timeout", "The request could not be processed in a reasonable amount of time.")

    def _group_of(self, row: Row) -> tuple[bytes, str]:
        if self._level == 0:
            return b"", "null"
        if self._level == EXACT or not row.key.startswith("[") or row.key == "[]":
            return row.sort, row.key
        key = json.loads(row.key)[: self._level]
        return self._sort_key(key), json_text.encode(key).decode()


class _Answer:
    """The rows of the answer so far: those between skip and limit."""

    def __init__(self, query: ViewQuery) -> None:
        self._skip = query.skip
        self._left = query.limit
        self._size = 0
        self.rows: list[bytes] = []

    @property
    def full(self) -> bool:
        return self._left is not None and self._left <= 0

    def add(self, row: str) -> None:
        if self._skip:
            self._skip -= 1
            return
        if self.full:
            return
        if self._left is not None:
            self._left -= 1
        self.rows.append(row.encode())
        self._size += len(self.rows[-1])
        if self._size > limits.EMBEDDED_VIEW_ANSWER_BYTES:
            raise TooLarge(f"the answer is larger than {limits.EMBEDDED_VIEW_ANSWER_BYTES} bytes; use a limit")


def _reduced_row(label: str, value: str) -> str:
    return f'{{"key":{label},"value":{value}}}'


async def reduced(
    database: EmbeddedDatabase, design: Design, view: View, state: State, query: ViewQuery,
    sort_key: Callable[[Any], bytes],
) -> list[bytes]:  # fmt: skip
    """The encoded rows. Raises ViewFailed, TooLarge."""
    walk, answer = _Walk(state, view, query, sort_key), _Answer(query)
    if query.limit == 0:
        return []
    assert view.reduce is not None  # noqa: S101  options.checked
    if view.reducer is None:
        if view.reduce.startswith("_count") and not query.group_level:
            await database.reading(partial(_count, walk, answer), slow=True)
        else:
            folding = _Folding(builtin(view.reduce), answer)
            while not walk.ended and not answer.full:
                await database.reading(partial(folding.step, walk), slow=True)
            folding.end()
    else:
        asking = _Asking(database, design, view.reducer, answer)
        while not walk.ended and not answer.full:
            await asking.take(await database.reading(walk.segments, slow=True), ended=walk.ended)
    return answer.rows


def _count(walk: _Walk, answer: _Answer, connection: sqlite3.Connection) -> None:
    walk.check(connection)
    total = sum(one.count(connection) for one in walk.ranges)
    if total:
        answer.add(_reduced_row("null", str(total)))


class _Folding:
    """A built-in function. `step` runs in a reading thread."""

    def __init__(self, make: Callable[[], Fold], answer: _Answer) -> None:
        self._make = make
        self._answer = answer
        self._label = ""
        self._fold: Fold | None = None

    def step(self, walk: _Walk, connection: sqlite3.Connection) -> None:
        for segment in walk.segments(connection):
            if segment.begins or self._fold is None:
                self.end()
                self._label, self._fold = segment.label, self._make()
            for row in segment.rows:
                self._fold.add(row)
            if self._answer.full:
                return

    def end(self) -> None:
        """The group at hand is complete."""
        if self._fold is not None:
            self._answer.add(_reduced_row(self._label, json_text.encode(self._fold.result()).decode()))
            self._fold = None


@dataclass(slots=True)
class _Group:
    """A group in the hands of a function in JavaScript: its reductions so far, JSON texts."""

    label: str
    parts: list[str] = field(default_factory=list)
    overflow: str | None = None


class _Asking:
    """A reduce function in JavaScript."""

    def __init__(self, database: EmbeddedDatabase, design: Design, reducer: int, answer: _Answer) -> None:
        self._database = database
        self._design = design
        self._reducer = reducer
        self._answer = answer
        self._group: _Group | None = None

    async def take(self, segments: Sequence[_Segment], *, ended: bool) -> None:
        """Reduce some rows, and once more the groups that are complete with them."""
        calls: list[tuple[_Group, list[Row]]] = []
        complete: list[_Group] = []
        for segment in segments:
            if segment.begins or self._group is None:
                if self._group is not None:
                    complete.append(self._group)
                self._group = _Group(segment.label)
            step, group = limits.EMBEDDED_VIEW_CALL_ROWS_COUNT, self._group
            calls += [(group, segment.rows[at : at + step]) for at in range(0, len(segment.rows), step)]
        questions = await self._database.readers.work(lambda: [_question(self._reducer, rows) for _, rows in calls])
        await self._ask([group for group, _ in calls], questions)
        if ended and self._group is not None:
            complete.append(self._group)
            self._group = None
        if self._group is not None and len(self._group.parts) >= _PARTS:
            await self._again([self._group])
        await self._again(complete)
        for group in complete:
            if group.overflow is not None:
                reason = json_text.encode(group.overflow).decode()
                self._answer.add(f'{{"key":null,"error":"reduce_overflow_error","reason":{reason}}}')
            else:
                self._answer.add(_reduced_row(group.label, group.parts[0]))

    async def _again(self, groups: Sequence[_Group]) -> None:
        """`rereduce` until each group has one reduction, at least once."""
        waiting = [group for group in groups if group.overflow is None]
        while waiting:
            calls: list[tuple[_Group, list[str]]] = []
            for group in waiting:
                calls += [(group, group.parts[at : at + _PARTS]) for at in range(0, len(group.parts), _PARTS)]
                group.parts = []
            prefix = f"rereduce\t{self._reducer}\t\t"
            questions = [f"{prefix}[{','.join(map(_ascii, parts))}]\n".encode("ascii") for _, parts in calls]
            await self._ask([group for group, _ in calls], questions)
            waiting = [group for group in waiting if group.overflow is None and len(group.parts) > 1]

    async def _ask(self, groups: Sequence[_Group], questions: Sequence[bytes]) -> None:
        lines = await self._database.views.scripts.ask(self._design, questions)
        for group, line in zip(groups, lines, strict=False):  # the last may be an error, with nothing behind it
            answer = json.loads(line)
            for text in answer.get("logs", ()):
                log.info("%s: %s: %s", self._database.name, self._design.id, text)
            if error := answer.get("error"):
                log.warning("%s: %s: a reduce function: %s", self._database.name, self._design.id, error[0])
                raise failure(error)
            if "overflow" in answer:
                group.overflow = answer["overflow"]
            else:
                group.parts.append(answer["value"])


def _question(reducer: int, rows: Sequence[Row]) -> bytes:
    keys = ",".join([f"[{_ascii(row.key)},{json.dumps(row.id)}]" for row in rows])
    values = ",".join([_ascii(row.value) for row in rows])
    return f"reduce\t{reducer}\t[{keys}]\t[{values}]\n".encode("ascii")


def _ascii(text: str) -> str:
    return text if text.isascii() else json.dumps(json.loads(text), separators=(",", ":"))
