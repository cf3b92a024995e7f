"""The rows of one `_find`, collected as documents are matched: in order of their ids, or the first of a sort."""

from __future__ import annotations

from typing import Any, Protocol

from gateway import json_text, limits
from gateway.errors import TooLarge
from gateway.mango.collation import sort_key
from gateway.mango.fields import extract
from gateway.mango.query import Find, make_bookmark

Document = dict[str, Any]


class Rows(Protocol):
    """Takes the documents that match, in order of their ids or against it as the query says, until it is full."""

    size: int  # bytes that are held

    def is_full(self) -> bool: ...

    def take(self, doc: Document) -> None: ...

    def docs(self) -> list[bytes]: ...

    def bookmark(self) -> str: ...


def rows_of(find: Find, sort_rows: int = limits.FIND_SORT_ROWS_COUNT) -> Rows:
    """`sort_rows`: how many a sort may hold. Raises InvalidQuery for a bookmark of another query, TooLarge."""
    return InOrder(find) if find.by_id else Sorted(find, sort_rows)


class InOrder:
    """Rows in the order they come, after `skip` of them. The bookmark names the last match, also a skipped one."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._skip = find.skip
        self._docs: list[bytes] = []
        self._last: str | None = None
        self.size = 0
        self._full = find.limit == 0

    def is_full(self) -> bool:
        return self._full

    def take(self, doc: Document) -> None:
        if self._full:
            return
        self._last = doc["_id"]
        if self._skip:
            self._skip -= 1
            return
        text = _encoded(doc, self._find)
        self.size = _within(self.size + len(text))
        self._docs.append(text)
        self._full = len(self._docs) == self._find.limit

    def docs(self) -> list[bytes]:
        return self._docs

    def bookmark(self) -> str:
        return self._find.bookmark if self._last is None else make_bookmark({"id": self._last})


class Sorted:
    """The first `skip` + `limit` rows of the sort, all others are forgotten as they come. Ties go by id.

    The bookmark holds the values sorted by and the id of the last row: it goes on after them whatever was written
    meanwhile.
    """

    def __init__(self, find: Find, most: int) -> None:
        self._find = find
        self._wanted = find.skip + find.limit
        if self._wanted > most:
            raise TooLarge(
                f"with a sort, `skip` and `limit` are together at most {most} (limit FIND_SORT_ROWS_COUNT);"
                " go on with the bookmark"
            )
        self._full = find.limit == 0
        self._after = find.resume_sorted()
        self._kept: list[tuple[tuple[bytes, str], list[Any], bytes]] = []
        self.size = 0

    def is_full(self) -> bool:
        return self._full

    def take(self, doc: Document) -> None:
        values = self._find.sort_values(doc)
        if values is None or self._full:
            return
        place = (sort_key(values), doc["_id"])
        if self._after is not None and (place >= self._after if self._find.descending else place <= self._after):
            return
        text = _encoded(doc, self._find)
        self._kept.append((place, values, text))
        self.size += len(text)
        if len(self._kept) >= 2 * self._wanted + 100 or self.size > limits.FIND_ANSWER_BYTES:
            self._settle()
            _within(self.size)

    def _settle(self) -> None:
        self._kept.sort(key=lambda row: row[0], reverse=self._find.descending)
        del self._kept[self._wanted :]
        self.size = sum(len(text) for _, _, text in self._kept)

    def docs(self) -> list[bytes]:
        self._settle()
        return [text for _, _, text in self._kept[self._find.skip :]]

    def bookmark(self) -> str:
        self._settle()
        if not self._kept:
            return self._find.bookmark
        (_, doc_id), values, _ = self._kept[-1]
        return make_bookmark({"key": values, "id": doc_id})


def _encoded(doc: Document, find: Find) -> bytes:
    return json_text.encode(doc if find.fields is None else extract(doc, find.fields))


def _within(size: int) -> int:
    if size > limits.FIND_ANSWER_BYTES:
        raise TooLarge(
            f"the answer is larger than {limits.FIND_ANSWER_BYTES} bytes (limit FIND_ANSWER_BYTES); use `fields` or a"
            " smaller `limit`, and go on with the bookmark"
        )
    return size
