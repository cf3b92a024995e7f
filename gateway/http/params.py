"""Options of a request: the query string, or the query string over a JSON body.

In a query string values are text and keys are JSON (`startkey="a"`), as in CouchDB; in a body they are JSON already.
Getters raise BadParameter, naming the option and the value. What nobody asks for is ignored, as CouchDB does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, Final
from urllib.parse import parse_qsl

from gateway import json_text, limits
from gateway.errors import BadJson, BadParameter, BadRequest
from gateway.model.revisions import parse_rev

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_INTEGER = re.compile(r"-?[0-9]{1,15}\Z")
_NONE: Final[Mapping[str, Any]] = {}


class Missing(Enum):
    """A JSON option that was not given, which null is not."""

    MISSING = 0


MISSING: Final = Missing.MISSING


def parse_query(raw: str) -> dict[str, str]:
    """Names and values of a raw query string; of a name given twice the last counts.

    Raises BadParameter for malformed escapes, what is not UTF-8, and too many of them.
    """
    if not raw:
        return {}
    if _BAD_ESCAPE.search(raw):
        raise BadParameter("the query string has a malformed percent-encoding")
    try:
        raw.encode("utf-8")
        pairs = parse_qsl(
            raw, keep_blank_values=True, errors="strict", max_num_fields=limits.QUERY_PARAMETERS_COUNT - 1
        )
    except UnicodeError:
        raise BadParameter("the query string is not UTF-8") from None
    except ValueError:
        raise BadParameter(
            f"the query string has more than {limits.QUERY_PARAMETERS_COUNT} parameters (limit QUERY_PARAMETERS_COUNT)"
        ) from None
    return dict(pairs)


def shown(value: object) -> str:
    """A value for an error's reason: JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 100 else text[:100] + "…"


class Options:
    """What a request asks for. The query string wins over the body; null in a body is as if not given."""

    def __init__(self, query: Mapping[str, str], body: Mapping[str, Any] = _NONE) -> None:
        self._query = query
        self._body = body

    def __contains__(self, name: str) -> bool:
        return name in self._query or self._body.get(name) is not None

    def first(self, *names: str) -> str:
        """The first of these spellings that was given, or the first."""
        return next((name for name in names if name in self), names[0])

    def flag(self, name: str, default: bool = False) -> bool:
        value: Any = self._query.get(name)
        if value is None:
            value = self._body.get(name)
        if value is None:
            return default
        if value is True or value == "true":
            return True
        if value is False or value == "false":
            return False
        raise self.bad(name, "true or false")

    def integer(self, name: str, *, least: int = 0) -> int | None:
        """An integer of at least `least`, and at most 15 digits."""
        value: Any = self._query.get(name)
        if value is None:
            value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, str) and _INTEGER.match(value):
            value = int(value)
        if type(value) is not int or value < least or value >= 10**15:
            raise self.bad(name, f"an integer of {least} or more" if least else "a non-negative integer")
        return int(value)

    def text(self, name: str) -> str | None:
        value: Any = self._query.get(name)
        if value is None:
            value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.bad(name, "a string")
        return value

    def json(self, name: str) -> Any:
        """A JSON value, or MISSING."""
        if name in self._query:
            try:
                return json_text.parse(self._query[name].encode())
            except BadJson:
                raise self.bad(name, "JSON") from None
        value = self._body.get(name)
        return MISSING if value is None else value

    def raw(self, name: str) -> Any:
        """Text from the query, JSON from the body, None if not given."""
        value: Any = self._query.get(name)
        return self._body.get(name) if value is None else value

    def bad(self, name: str, expected: str) -> BadParameter:
        """The error for a value that is not what is expected."""
        return BadParameter(f"Invalid value for `{name}`: {shown(self.raw(name))}. It must be {expected}.")


def only(query: Mapping[str, str], known: Collection[str]) -> None:
    """Where an option that is mistyped would do harm. Raises BadParameter for one that is not known."""
    if unknown := sorted(set(query) - set(known)):
        names = f"; known are {', '.join(sorted(known))}" if known else ", nothing is"
        raise BadParameter(f"`{unknown[0]}` is not known here{names}")


def rev_of(value: object) -> str:
    """A revision id. Raises BadRequest in CouchDB's words."""
    try:
        parse_rev(value)
    except ValueError:
        raise BadRequest("Invalid rev format") from None
    return str(value)
