"""`_find` requests, their bookmarks and answers (mango_opts, mango_sort, mango_json_bookmark, mango_httpd).

https://docs.couchdb.org/en/stable/api/database/find.html
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway import json_text
from gateway.errors import BadJson, InvalidQuery
from gateway.mango.collation import sort_key
from gateway.mango.erlang import term
from gateway.mango.fields import Missing, Path, parse_field, value_at
from gateway.mango.selector import And, Node, Or, normalize

NO_BOOKMARK: Final = "nil"
_LIMIT: Final = 25  # CouchDB's default
_MANY_EXAMINED: Final = 10  # documents looked at for each that matched; above it CouchDB warns
_NO_INDEX: Final = "No matching index found, create an index to optimize query time."
_EXAMINED: Final = (
    "The number of documents examined is high in proportion to the number of results returned."
    " Consider adding a more specific index to improve this."
)


@dataclass(frozen=True, slots=True)
class Find:
    """A parsed `_find` request. `sort` and `fields` are paths; `sort` is empty for the order of ids."""

    given: Mapping[str, Any]
    node: Node
    fields: tuple[Path, ...] | None
    sort: tuple[tuple[str, bool], ...]  # (field, descending)
    limit: int
    skip: int
    conflicts: bool
    bookmark: str  # as it was given
    stats: bool
    use_index: tuple[str, ...] = ()  # (design document without its prefix) or with a name

    @property
    def descending(self) -> bool:
        return bool(self.sort) and self.sort[0][1]

    @property
    def by_id(self) -> bool:
        """Whether the order is that of the ids, which are unique: what follows `_id` in a sort changes nothing."""
        return not self.sort or self.sort[0][0] == "_id"

    @property
    def sort_paths(self) -> tuple[Path, ...]:
        return tuple([parse_field(name) for name, _ in self.sort])

    @property
    def finds_nothing(self) -> bool:
        """CouchDB does not even begin with `{"$or": []}` and `{"$and": []}`, which match everything elsewhere."""
        return self.node in (And(()), Or(())) and bool(self.given["selector"])

    def resume_id(self) -> str | None:
        """The id that the bookmark goes on after. Raises InvalidQuery."""
        value = self._unpacked()
        if value is None:
            return None
        if not isinstance(value.get("id"), str) or "key" in value:
            raise self._bad_bookmark()
        return str(value["id"])

    def resume_sorted(self) -> tuple[bytes, str] | None:
        """The sort key and id that the bookmark goes on after. Raises InvalidQuery."""
        value = self._unpacked()
        if value is None:
            return None
        values = value.get("key")
        if not isinstance(value.get("id"), str) or not isinstance(values, list) or len(values) != len(self.sort):
            raise self._bad_bookmark()
        return sort_key(values), str(value["id"])

    def sort_values(self, doc: Mapping[str, Any]) -> list[Any] | None:
        """What to sort the document by; None if it lacks one of the fields: CouchDB's index would not have it."""
        values = [value_at(doc, path) for path in self.sort_paths]
        return None if any(isinstance(value, Missing) for value in values) else values

    def _unpacked(self) -> dict[str, Any] | None:
        if self.bookmark == NO_BOOKMARK:
            return None
        try:
            value = json_text.parse(base64.b64decode(self.bookmark, altchars=b"-_", validate=True))
        except (ValueError, binascii.Error, BadJson):
            raise self._bad_bookmark() from None
        if not isinstance(value, dict):
            raise self._bad_bookmark()
        return value

    def _bad_bookmark(self) -> InvalidQuery:
        shown = json_text.encode(self.bookmark[:1_000]).decode()
        return InvalidQuery("invalid_bookmark", f"Invalid bookmark value: {shown}")


def make_bookmark(value: Any) -> str:
    return base64.urlsafe_b64encode(json_text.encode(value)).decode()


def parse_find(body: Mapping[str, Any], *, planned: bool = False) -> Find:
    """Raises InvalidQuery with CouchDB's names for what is wrong.

    `planned`: an index may give the order yet, so whether the bookmark fits it shows later.
    """
    values = {name: read(body[name]) for name, read in _OPTIONS.items() if name in body}
    if "selector" not in body:
        raise InvalidQuery("missing_required_key", "Missing required key: selector")
    for name in body:
        if name not in _OPTIONS:
            raise InvalidQuery("invalid_key", f"Invalid key {name[:200]} for this request.")
    find = Find(
        given=body,
        node=values["selector"],
        fields=values.get("fields"),
        sort=values.get("sort", ()),
        limit=values.get("limit", _LIMIT),
        skip=values.get("skip", 0),
        conflicts=values.get("conflicts", False),
        bookmark=values.get("bookmark", NO_BOOKMARK),
        stats=values.get("execution_stats", False),
        use_index=values.get("use_index", ()),
    )
    if not planned:
        find.resume_id() if find.by_id else find.resume_sorted()
    return find


def parse_fields(given: Any) -> tuple[Path, ...] | None:
    """The paths of `fields`; None for all. Raises InvalidQuery."""
    if not isinstance(given, list):
        raise InvalidQuery("invalid_fields", f"Fields must be an array of strings, not: {term(given)}")
    for name in given:
        if not isinstance(name, str):
            raise InvalidQuery("invalid_field", f"Invalid JSON for field spec: {term(name)}")
    return tuple([parse_field(name) for name in given]) or None


def parse_sort(given: Any) -> tuple[tuple[str, bool], ...]:
    """`["a", {"b": "desc"}]` → `(("a", False), ("b", True))`; one direction for all. Raises InvalidQuery."""
    if not isinstance(given, list):
        raise InvalidQuery("invalid_sort_json", f"Sort must be an array of sort specs, not: {term(given, pretty=True)}")
    found = []
    for entry in given:
        name, direction = entry, "asc"
        if isinstance(entry, dict) and len(entry) == 1:
            ((name, direction),) = entry.items()
        if not isinstance(name, str) or not name or direction not in ("asc", "desc"):
            raise InvalidQuery("invalid_sort_field", f"Invalid sort field: {term(entry, pretty=True)}")
        parse_field(name)
        found.append((name, direction == "desc"))
    if len({descending for _, descending in found}) > 1:
        raise InvalidQuery("unsupported_mixed_sort", "Sorts currently only support a single direction for all fields.")
    return tuple(found)


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidQuery("invalid_non_neg_integer", f"{term(value)} is not an integer greater than or equal to zero")
    return value


def _positive(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidQuery("invalid_pos_integer", f"{term(value)} is not an integer greater than zero")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidQuery("invalid_boolean", f"Invalid boolean value: {term(value)}")
    return value


def _stale(value: Any) -> Any:
    if value not in ("ok", "false") and value is not False:
        raise InvalidQuery("invalid_ok_or_false_value", f"{term(value)} is not ok or false")
    return value


def _bookmark(value: Any) -> str:
    if value in (None, ""):
        return NO_BOOKMARK
    if not isinstance(value, str) or not value.isascii():
        raise InvalidQuery("invalid_bookmark", f"Invalid bookmark value: {json_text.encode(value)[:1_000].decode()}")
    return value


def _partition(value: Any) -> str:
    if value != "":
        raise InvalidQuery("invalid_partition", "the database is not partitioned")
    return ""


def _use_index(value: Any) -> tuple[str, ...]:
    parts = value
    if isinstance(value, str):
        parts = value.removeprefix("_design/").split("/")
    elif value is None:
        parts = []
    elif isinstance(value, list) and value and isinstance(value[0], str):
        parts = [value[0].removeprefix("_design/"), *value[1:]]
    if not isinstance(parts, list) or len(parts) > 2 or not all(isinstance(part, str) for part in parts):
        raise InvalidQuery("invalid_index_name", f"Invalid index name: {term(value)}")
    return tuple(parts)


_OPTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "selector": normalize,
    "use_index": _use_index,
    "bookmark": _bookmark,
    "limit": _number,
    "skip": _number,
    "sort": parse_sort,
    "fields": parse_fields,
    "partition": _partition,
    "r": _positive,
    "conflicts": _flag,
    "stale": _stale,
    "update": _flag,
    "stable": _flag,
    "execution_stats": _flag,
    "allow_fallback": _flag,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a `_find` came to; `docs` are JSON texts."""

    docs: Sequence[bytes]
    bookmark: str
    examined: int
    milliseconds: float


def answer_text(find: Find, found: Found, *, indexed: bool = False, as_named: bool = False) -> bytes:
    """The body of the answer, laid out as CouchDB does.

    `indexed`: an index other than that of the ids served it; `as_named`: the one of `use_index`.
    """
    members: dict[str, Any] = {"bookmark": found.bookmark}
    if find.stats:
        members["execution_stats"] = {
            "total_keys_examined": found.examined,
            "total_docs_examined": found.examined,
            "total_quorum_docs_examined": 0,
            "results_returned": len(found.docs),
            "execution_time_ms": round(found.milliseconds, 3),
        }
    warnings = []
    if find.use_index and not as_named:
        warnings.append(_unused(find.use_index))
    if not indexed:
        warnings.append(_NO_INDEX)
    if found.examined > _MANY_EXAMINED * max(len(found.docs), 1):
        warnings.append(_EXAMINED)
    if warnings:
        members["warning"] = "\n".join(warnings)
    text = b'{"docs":[' + (b"\r\n" + b",\r\n".join(found.docs) if found.docs else b"") + b"\r\n]"
    if not find.finds_nothing:
        for name, value in members.items():
            text += b",\r\n" + json_text.encode(name) + b": " + json_text.encode(value)
    return text + b"}\r\n"


def _unused(index: tuple[str, ...]) -> str:
    if len(index) == 1:
        return f"_design/{index[0]} was not used because it does not contain a valid index for this query."
    return f"_design/{index[0]}, {index[1]} was not used because it is not a valid index for this query."
