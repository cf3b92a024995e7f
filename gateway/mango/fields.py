"""Names of fields, the values at them, and documents cut down to some of them (mango_util, mango_doc, mango_fields)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, TypeAlias

from gateway.errors import InvalidQuery

Path: TypeAlias = tuple[str, ...]

_DOT = re.compile(r"(?<!\\)\.")
_POSITION = re.compile(r"[+-]?[0-9]{1,9}\Z")


class Missing(Enum):
    """Why there is no value: a member that is not there, or a path through something that has no members."""

    NOT_FOUND = 0
    BAD_PATH = 1


NOT_FOUND: Final = Missing.NOT_FOUND
BAD_PATH: Final = Missing.BAD_PATH


def parse_field(field: str) -> Path:
    r"""`a.b\.c` → `("a", "b.c")`. Raises InvalidQuery for an empty name."""
    parts = field.split(".")
    if "\\" in field:  # which goes from every name, whatever follows it
        parts = [part and part.replace("\\", "") for part in _DOT.split(field)]
    if "" in parts:
        raise InvalidQuery("invalid_field_name", f"Invalid field name: {field[:200]}")
    return tuple(parts)


def value_at(value: Any, path: Sequence[str]) -> Any:
    """The value at a path, or a `Missing`. Numbers index arrays, from 0."""
    for part in path:
        if isinstance(value, dict):
            if part not in value:
                return NOT_FOUND
            value = value[part]
        elif isinstance(value, list) and _POSITION.match(part) and 0 <= int(part) < len(value):
            value = value[int(part)]
        else:
            return BAD_PATH
    return value


def extract(doc: dict[str, Any], fields: Sequence[Path]) -> dict[str, Any]:
    """Only the named fields, in the places they have; an array that only a part was asked of becomes an object."""
    kept: dict[str, Any] = {}
    for path in fields:
        value = value_at(doc, path)
        if isinstance(value, Missing):
            continue
        place = kept
        for part in path[:-1]:
            inner = place.get(part, NOT_FOUND)
            if not isinstance(inner, (dict, Missing)):
                break  # kept whole already
            # What was kept before belongs to the document: it is not written into, but replaced by a copy.
            place[part] = {} if isinstance(inner, Missing) else dict(inner)
            place = place[part]
        else:
            place[path[-1]] = value
    return kept
