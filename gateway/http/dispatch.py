"""From a request's raw path to a row of the route table.

Document ids need exact control over the path: it is split on raw slashes first and each segment is decoded then, so
`%2F` belongs to a segment. `+` is a space, as in CouchDB (its default `decode_plus_to_space`), and `%2B` a plus.
Nothing here knows a database, so an answer tells nothing about any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.errors import BadRequest, InvalidDocumentId, MethodNotAllowed, NotFound

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PREFIXES = ("_design", "_local")
_MAX_SEGMENTS = 100  # only attachment names can have more than six


class Row(Protocol):
    """What the dispatcher needs of a route."""

    @property
    def methods(self) -> Sequence[str]: ...

    @property
    def path(self) -> str: ...


R = TypeVar("R", bound=Row)


class WrongMethod(MethodNotAllowed):
    """The path exists, not with this method. `allowed` is what the `Allow` header names."""

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"Only {','.join(allowed)} allowed")
        self.allowed = tuple(allowed)


def segments(raw_path: str) -> list[str]:
    """The decoded segments of a raw path; empty ones, so also a trailing slash, do not count (as in CouchDB).

    An id that begins with `_design/` or `_local/` in one segment (`_local%2Fx`) gives the two segments of its other
    spelling. Raises BadRequest for malformed escapes and for what is not UTF-8.
    """
    if _BAD_ESCAPE.search(raw_path):
        raise BadRequest("the path has a malformed percent-encoding")
    parts = [part for part in raw_path.split("/") if part]
    if len(parts) > _MAX_SEGMENTS:
        raise BadRequest(f"the path has more than {_MAX_SEGMENTS} segments")
    try:
        decoded = [_decode(part) for part in parts]
    except UnicodeDecodeError:
        raise BadRequest("the path is not UTF-8") from None
    if len(decoded) > 1:
        prefix, slash, rest = decoded[1].partition("/")
        if slash and prefix in _PREFIXES:
            decoded[1:2] = [prefix, rest] if rest else [prefix]
    return decoded


def _decode(part: str) -> str:
    # aiohttp keeps bytes that are not UTF-8 as surrogates.
    data = part.encode("utf-8", "surrogateescape").replace(b"+", b" ")
    return (unquote_to_bytes(data) if b"%" in data else data).decode("utf-8")


@dataclass(slots=True)
class _Node(Generic[R]):
    literals: dict[str, _Node[R]] = field(default_factory=dict)
    variable: tuple[str, _Node[R]] | None = None
    rest: tuple[str, dict[str, R]] | None = None  # `{name...}`: one segment or more
    rows: dict[str, R] = field(default_factory=dict)  # by method


@dataclass(frozen=True, slots=True)
class Match(Generic[R]):
    """`values` are the path's variables; the segments of a `{name...}` are joined by slashes."""

    row: R
    values: Mapping[str, str]


class Dispatcher(Generic[R]):
    """Finds the row for a method and a path.

    Patterns are like `/{db}/_local/{id}`; `{name...}` takes all segments that are left. A literal wins over a variable,
    and a variable never takes a segment that begins with an underscore where literals of that kind are possible: the
    first two, so that an endpoint which is not in the table is nobody's document.
    """

    def __init__(self, rows: Iterable[R]) -> None:
        self._root: _Node[R] = _Node()
        for row in rows:
            self._add(row)

    def _add(self, row: R) -> None:
        node = self._root
        target: dict[str, R] | None = None
        for part in filter(None, row.path.split("/")):
            if part.endswith("...}"):
                name = part[1:-4]
                if node.rest is None:
                    node.rest = (name, {})
                target = node.rest[1]
            elif part.startswith("{"):
                if node.variable is None:
                    node.variable = (part[1:-1], _Node())
                node = node.variable[1]
            else:
                node = node.literals.setdefault(part, _Node())
        for method in row.methods:
            rows = node.rows if target is None else target
            if method in rows:
                raise ValueError(f"two routes for {method} {row.path}")
            rows[method] = row

    def match(self, method: str, parts: Sequence[str]) -> Match[R]:
        """The row for these segments. HEAD is served by GET.

        Raises NotFound, WrongMethod, and InvalidDocumentId for writing to an id that only an endpoint could have.
        """
        rows, values = self._find(parts)
        row = rows.get("GET" if method == "HEAD" else method)
        if row is None:
            if not rows:
                if method == "PUT" and len(parts) == 2 and parts[1].startswith("_"):
                    raise InvalidDocumentId("Only reserved document ids may start with underscore.")
                raise NotFound
            raise WrongMethod(sorted(_with_head(rows)))
        return Match(row, values)

    def allowed(self, parts: Sequence[str]) -> list[str]:
        """The methods of a path, for OPTIONS. Raises NotFound."""
        rows, _ = self._find(parts)
        if not rows:
            raise NotFound
        return sorted({*_with_head(rows), "OPTIONS"})

    def _find(self, parts: Sequence[str]) -> tuple[Mapping[str, R], dict[str, str]]:
        node, values = self._root, {}
        for at, part in enumerate(parts):
            following = node.literals.get(part)
            if following is None and node.variable is not None and not (at < 2 and part.startswith("_")):
                name, following = node.variable
                values[name] = part
            if following is None:
                if node.rest is None:
                    return {}, {}
                values[node.rest[0]] = "/".join(parts[at:])
                return node.rest[1], values
            node = following
        return node.rows, values


def _with_head(methods: Iterable[str]) -> set[str]:
    names = set(methods)
    return names | {"HEAD"} if "GET" in names else names
