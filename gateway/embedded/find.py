"""`_find`: a scan of the documents in order of their ids, or a bounded sort of those that match."""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from gateway import json_text, limits
from gateway.couch.upstream import Document
from gateway.embedded import reading
from gateway.embedded.mango import InvalidQuery, Predicate, is_missing, rank, selector, split_path, value_at
from gateway.embedded.reading import DocOptions
from gateway.errors import BadRequest, TooLarge

T = TypeVar("T")
_LIMIT = 25  # CouchDB's default
_NO_BOOKMARK = "nil"
_ANSWER_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Find:
    """A parsed `_find` request."""

    selector: dict[str, Any]
    fields: tuple[tuple[str, ...], ...] | None
    sort: tuple[tuple[str, bool], ...]  # (field, descending)
    limit: int
    skip: int
    conflicts: bool
    bookmark: Any
    stats: bool

    def resume(self, name: str, kind: type[T]) -> T | None:
        """What the bookmark says about where to go on; None without one. Raises InvalidQuery for a foreign one."""
        if self.bookmark is None:
            return None
        value = self.bookmark.get(name) if isinstance(self.bookmark, dict) else None
        if not isinstance(value, kind):
            raise InvalidQuery("invalid_bookmark", "Invalid bookmark value")
        return value


def parse(body: dict[str, Any]) -> Find:
    """Raises InvalidQuery with CouchDB's names for what is wrong."""
    if "selector" not in body:
        raise InvalidQuery("missing_required_key", "Missing required key: selector")
    given = body["selector"]
    if not isinstance(given, dict):
        raise InvalidQuery("invalid_selector_json", "Selector must be a JSON object")
    fields = body.get("fields", [])
    if fields == "all_fields":
        fields = []
    if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
        raise InvalidQuery("invalid_fields_json", "Fields must be an array of strings, not: " + repr(fields))
    return Find(
        given,
        tuple(tuple(split_path(name)) for name in fields) or None,
        parse_sort(body.get("sort", [])),
        _number(body, "limit", _LIMIT),
        _number(body, "skip", 0),
        body.get("conflicts") is True,
        _bookmark(body.get("bookmark", _NO_BOOKMARK)),
        body.get("execution_stats") is True,
    )


def parse_sort(given: Any) -> tuple[tuple[str, bool], ...]:
    """`["a", {"b": "desc"}]` → `(("a", False), ("b", True))`; one direction for all. Raises InvalidQuery."""
    if not isinstance(given, list):
        raise InvalidQuery("invalid_sort_json", "Sort must be an array of sort specs, not: " + repr(given))
    found = []
    for entry in given:
        name, direction = entry, "asc"
        if isinstance(entry, dict) and len(entry) == 1:
            ((name, direction),) = entry.items()
        if not isinstance(name, str) or direction not in ("asc", "desc"):
            raise InvalidQuery("invalid_sort_field", f"Invalid sort field: {entry!r}")
        split_path(name)
        found.append((name, direction == "desc"))
    if len({descending for _, descending in found}) > 1:
        raise InvalidQuery("unsupported_mixed_sort", "Sorts currently only support a single direction for all fields.")
    return tuple(found)


def _number(body: dict[str, Any], name: str, default: int) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidQuery(f"invalid_{name}_value", f"{name} must be a number of 0 or more, not {value!r}")
    return value


def _bookmark(text: Any) -> Any:
    if text in (None, "", _NO_BOOKMARK):
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(text))
    except (ValueError, TypeError, binascii.Error):
        raise InvalidQuery("invalid_bookmark", f"Invalid bookmark value: {text!r}") from None


def make_bookmark(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def run(connection: sqlite3.Connection, find: Find, indexed: bool) -> bytes:
    """The JSON answer. Runs in a reading thread, at most EMBEDDED_FIND_SECONDS."""
    matches = selector(find.selector)
    scan = _Scan(connection, find, matches)
    by_id = not find.sort or find.sort[0][0] == "_id"
    docs, bookmark = scan.in_order() if by_id else scan.sorted()
    answer: dict[str, Any] = {"docs": docs, "bookmark": bookmark}
    if find.stats:
        answer["execution_stats"] = {
            "total_keys_examined": 0,
            "total_docs_examined": scan.examined,
            "total_quorum_docs_examined": 0,
            "results_returned": len(docs),
            "execution_time_ms": round((time.monotonic() - scan.started) * 1000, 3),
        }
    if not indexed:
        answer["warning"] = "No matching index found, create an index to optimize query time."
    return json_text.encode(answer)


class _Scan:
    """One pass over the documents that are no design documents."""

    def __init__(self, connection: sqlite3.Connection, find: Find, matches: Predicate) -> None:
        self._connection = connection
        self._find = find
        self._matches = matches
        self._options = DocOptions(conflicts=find.conflicts)
        self.started = time.monotonic()
        self.examined = 0
        self._bytes = 0

    def _docs(self, after: str | None, descending: bool) -> Iterator[Document]:
        bound = "" if after is None else f"AND doc.id {'<' if descending else '>'} ?"
        cursor = self._connection.execute(
            "SELECT doc.id, doc.winner, body.json, body.attachments FROM doc JOIN body ON body.key = doc.body "
            f"WHERE doc.deleted = 0 {bound} ORDER BY doc.id {'DESC' if descending else 'ASC'}",
            () if after is None else (after,),
        )
        for id, rev, text, atts in cursor:
            if id.startswith("_design/"):
                continue
            self.examined += 1
            if time.monotonic() - self.started > limits.EMBEDDED_FIND_SECONDS:
                raise BadRequest(f"the query took longer than {limits.EMBEDDED_FIND_SECONDS:.0f} s")
            doc: Document = {"_id": id, "_rev": rev} | json.loads(text)
            if atts is not None or self._find.conflicts:
                found = reading.find(self._connection, [id])[id]
                doc = reading.revision(self._connection, found, rev, (text, atts), self._options).doc
            if self._matches(doc):
                yield doc

    def in_order(self) -> tuple[list[Document], str]:
        """Matches in order of their ids; the bookmark is the last id."""
        find = self._find
        after: str | None = find.resume("id", str)
        descending = bool(find.sort) and find.sort[0][1]
        skip = 0 if after is not None else find.skip
        docs: list[Document] = []
        last = after
        for doc in self._docs(after, descending) if find.limit else ():
            if skip:
                skip -= 1
                continue
            docs.append(self._project(doc))
            last = doc["_id"]
            if len(docs) == find.limit:
                break
        return docs, _NO_BOOKMARK if last is None else make_bookmark({"id": last})

    def sorted(self) -> tuple[list[Document], str]:
        """Matches that have all sort fields, sorted in memory; the bookmark is how many were handed out."""
        find = self._find
        paths = [split_path(name) for name, _ in find.sort]
        found = []
        for doc in self._docs(None, descending=False):
            values = [value_at(doc, path) for path in paths]
            if any(is_missing(value) for value in values):
                continue
            found.append(([collation(value) for value in values], doc["_id"], self._project(doc)))
            if len(found) > limits.EMBEDDED_SORT_ROWS_COUNT:
                raise TooLarge(f"more than {limits.EMBEDDED_SORT_ROWS_COUNT} documents to sort")
        found.sort(key=lambda entry: entry[:2], reverse=find.sort[0][1])
        resumed: int | None = find.resume("skip", int)
        start = find.skip if resumed is None else resumed
        chosen = [doc for _, _, doc in found[start : start + find.limit]]
        return chosen, make_bookmark({"skip": start + len(chosen)}) if chosen else _NO_BOOKMARK

    def _project(self, doc: Document) -> Document:
        if self._find.fields is not None:
            doc = _project(doc, self._find.fields)
        self._bytes += len(str(doc))
        if self._bytes > _ANSWER_BYTES:
            raise TooLarge(f"the answer is larger than about {_ANSWER_BYTES} bytes; use fields or limit")
        return doc


def _project(doc: Document, fields: tuple[tuple[str, ...], ...]) -> Document:
    """Only the named fields, in the places they have."""
    kept: Document = {}
    for path in fields:
        value = value_at(doc, list(path))
        if is_missing(value):
            continue
        place = kept
        for part in path[:-1]:
            inner = place.setdefault(part, {})
            if not isinstance(inner, dict):
                break
            place = inner
        else:
            place[path[-1]] = value
    return kept


def collation(value: Any) -> tuple[Any, ...]:
    """A sort key near CouchDB's ICU order: strings by letters first, then accents, then lower before upper case."""
    if isinstance(value, str):
        plain = "".join(c for c in unicodedata.normalize("NFKD", value) if not unicodedata.combining(c))
        return (3, plain.casefold(), value.casefold(), value.swapcase())
    if isinstance(value, list):
        return (4, [collation(item) for item in value])
    if isinstance(value, dict):
        return (5, [(collation(key), collation(item)) for key, item in value.items()])
    return rank(value)
