"""Requests made up from the OpenAPI description: right ones, odd ones and wrong ones (hypothesis)."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar
from urllib.parse import quote

from hypothesis import strategies as st

from gateway.http.openapi import describe
from gateway.http.routes import ROUTES

DESCRIPTION: Final = describe(ROUTES)
REV: Final = "1-" + "a" * 32
_METHODS: Final = ("get", "put", "post", "delete", "x-copy")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str  # with its query string, encoded
    headers: tuple[tuple[str, str], ...]
    body: bytes | None

    def __str__(self) -> str:
        headers = " ".join(f"-H {f'{name}: {value}'!r}" for name, value in self.headers)
        return f"{self.method} {self.path} {headers} {self.body!r}"


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation of the description, with its references resolved."""

    path: str
    method: str
    whose: str  # as x-for
    ports: tuple[str, ...]
    parameters: tuple[tuple[str, Mapping[str, Any]], ...]  # of the query string: name, parameter
    kinds: tuple[tuple[str, Mapping[str, Any]], ...]  # of the body: content type, schema
    passed: bool
    refused: bool

    @property
    def weight(self) -> int:
        """How often to ask: what takes much more often; what is refused, or mostly not there, seldom."""
        if self.refused or (self.passed and self.path.startswith("/_")):
            return 1
        return 3 + min(len(self.parameters), 8) + 4 * bool(self.kinds) + 6 * (self.path == "/{db}/{doc}")


def _resolved(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = DESCRIPTION
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def _operations() -> Iterator[Operation]:
    for path, item in DESCRIPTION["paths"].items():
        for method in (one for one in _METHODS if one in item):
            operation = item[method]
            every = [_resolved(one) for one in item.get("parameters", []) + operation.get("parameters", [])]
            content = operation.get("requestBody", {}).get("content", {})
            yield Operation(
                path,
                method.removeprefix("x-").upper(),
                operation["x-for"],
                tuple(operation.get("x-ports", ("public", "admin"))),
                tuple((one["name"], one) for one in every if one["in"] == "query"),
                tuple((kind, one.get("schema", {})) for kind, one in content.items()),
                "x-passed-through" in operation,
                "2XX" not in operation["responses"],
            )


OPERATIONS: Final = tuple(_operations())
_EVERY_PARAMETER: Final = tuple(
    (name, one) for name, one in DESCRIPTION["components"]["parameters"].items() if one["in"] == "query"
)

# JSON values

_integers = st.sampled_from([0, 1, 2, 10, -1, 2**31, 2**53, 2**63, 10**30, -(10**20)])
_texts = st.sampled_from(
    ["", "a", "b", "ann", "é", "😀", "\x00", "_x", "_design/d", "_local/l", "*", "!", "room", "a,b", "a/b", "x" * 300]
) | st.text(max_size=6)
_scalars = st.none() | st.booleans() | _integers | st.sampled_from([1.5, -0.0, 1e300, 1e-300]) | _texts
_names = st.sampled_from(
    ["_id", "_rev", "_deleted", "_attachments", "_revisions", "docs", "keys", "channels", "a", "$gt"]
)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names | _texts, inner, max_size=3),
    max_leaves=6,
)
_revs = st.sampled_from([REV, "1-a", "2-" + "b" * 32, "0-a", "1-", "x", "", "99999999999999999999-a", "1-\x00"])
_operators = st.sampled_from(
    [
        *("$eq", "$ne", "$gt", "$lte", "$in", "$nin", "$exists", "$type", "$size", "$mod", "$regex", "$beginsWith"),
        *("$all", "$elemMatch", "$allMatch", "$keyMapMatch", "$and", "$or", "$nor", "$not", "$text", "$unknown", ""),
    ]
)
_operands = _json | st.sampled_from(["(", "^a", "[", "string", [2, 0], [2, 1], {"$gt": 1}])
_selectors = st.recursive(
    st.dictionaries(
        st.sampled_from(["a", "_id", "a.b", "a..b", ".", "\\."]), st.dictionaries(_operators, _operands, max_size=2)
    ),
    lambda inner: st.dictionaries(
        st.sampled_from(["$and", "$or", "$nor", "$not", "a"]), inner | st.lists(inner, max_size=2)
    ),
    max_leaves=3,
)
_designs = st.fixed_dictionaries(
    {},
    optional={
        "views": st.dictionaries(
            st.sampled_from(["v", "", "é", "lib"]),
            st.fixed_dictionaries(
                {},
                optional={
                    "map": st.sampled_from(
                        ["function (doc) { emit(doc._id, 1); }", "function (", "1", "function (d) { throw 1; }", 7, {}]
                    ),
                    "reduce": st.sampled_from(["_sum", "_count", "_stats", "_approx_count_distinct", "_x", "(", 1]),
                },
            )
            | _json,
            max_size=2,
        )
        | _json,
        "language": st.sampled_from(["javascript", "query", "erlang", 1]),
        "options": _json,
        "validate_doc_update": _json,
        "_rev": _revs,
    },
)
_indexes = st.fixed_dictionaries(
    {},
    optional={
        "fields": st.lists(st.sampled_from(["a", "a.b", {"a": "asc"}, {"a": "desc"}, {"a": "x"}, 1, ""]), max_size=3)
        | _json,
        "partial_filter_selector": _selectors | _json,
    },
)
# Where a name says more than its schema.
_HINTS: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    "selector": _selectors,
    "index": _indexes,
    "rev": _revs,
    "_rev": _revs,
    "since": st.sampled_from(["0", 0, "now", "1", "1:1", "1:2:3", "9-x", "-1", "x", "99999999999999999999"]),
    "bookmark": st.sampled_from(["", "nil", "x", "eyJpZCI6ImEifQ==", "g1AAAA"]),
    "sort": st.lists(st.sampled_from(["a", "_id", {"a": "desc"}, {"a": "x"}, 1]), max_size=2),
    "filter": st.sampled_from(["_doc_ids", "_selector", "_design", "_view", "sync_gateway/bychannel", "d/f", "x"]),
    "filter_channels": _texts,
    "open_revs": st.sampled_from(["all", json.dumps([REV]), "[]", "[1]", "x", "{}"]),
    "timeout": st.sampled_from([0, 1, 20, 50, -1, "x"]),
    "heartbeat": st.sampled_from([0, -1, "x", "true", "false", 1000]),
    # Costly for the same answer: logins are hashed.
    "password": st.sampled_from(["secret", "", "p", 1, "x" * 2_000]),
    # Those who ask go on to be there.
    "name": st.sampled_from(["bob", "carl", "", "a/b", "é", "_x", 1, "x" * 300]),
}


def _mostly(right: st.SearchStrategy[_T], wrong: st.SearchStrategy[_T]) -> st.SearchStrategy[_T]:
    """Four of five times the first."""
    return st.integers(0, 4).flatmap(lambda at: wrong if at == 4 else right)


def _of_schema(schema: Mapping[str, Any], name: str = "", depth: int = 4) -> st.SearchStrategy[Any]:
    """What the schema asks for, mostly."""
    schema = _resolved(schema)
    if name in _HINTS:
        return _mostly(_HINTS[name], _json)
    kinds = schema.get("type", [])
    right = [_of_type(kind, schema, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    if "enum" in schema:
        right = [st.sampled_from(schema["enum"])]
    return _mostly(st.one_of(right), _json) if right else _json


def _of_type(kind: str, schema: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    match kind:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(0, 20)
        case "array" if depth:
            return st.lists(_of_schema(schema.get("items", {}), depth=depth - 1), max_size=3)
        case "object" if depth:
            known = {name: _of_schema(one, name, depth - 1) for name, one in schema.get("properties", {}).items()}
            required = {name: known.pop(name) for name in schema.get("required", ())}
            members = st.fixed_dictionaries(required, optional=known)
            more = schema.get("additionalProperties")
            others = st.dictionaries(_texts, _of_schema(more, depth=depth - 1) if more else _json, max_size=2)
            others = others if more else _mostly(st.just({}), others)
            return st.builds(lambda one, two: {**two, **one}, members, others)
        case "string":
            if "pattern" in schema:
                return _revs
            if schema.get("contentEncoding") == "base64":
                return st.sampled_from(["", "YQ==", "YQ", "?", "a" * 400])
            return _texts
    return _json


# Pieces of requests


def _segment(values: Sequence[str]) -> st.SearchStrategy[str]:
    odd = st.sampled_from(
        ["%", "%ff", "%00", "..", ".", "%2F", "_", "~", "*", "+", "%F0%9F%98%80", "x" * 300, "A", "'"]
    )
    right = st.sampled_from(values)
    return _mostly(right, odd | _texts.filter(bool).map(lambda text: quote(text, safe="")))


_IDS: Final = ("a", "b", "conflict", "attached", "new-1", "new-2", "_design%2Fd", "_local%2Fl", "d%2Fe", "%C3%A9")
_RESTS: Final = (
    *("_view/v", "_view/v/queries", "_info", "_view/none", "_show/s/a", "_list/l/v", "_update/u", "a.txt"),
    *("d/json/i", "_design/d/json/i", "docs", "jobs", "a/b/c", "_local/_stats"),
)
_VARIABLES: Final[Mapping[str, st.SearchStrategy[str]]] = {
    "doc": _segment(_IDS),
    "id": _segment(("l", "checkpoint", "%C3%A9")),
    "name": _segment(("bob", "carl", "dora")),  # never who asks
    "design": _segment(("d", "e", "sync_gateway")),
    "channel": _segment(("A", "!", "%2A", "none")),
    "attachment": st.lists(_segment(("a.txt", "b.png", "_x")), min_size=1, max_size=3).map("/".join),
    "rest": st.sampled_from(_RESTS * 2 + ("_view/v",) * 8)
    | st.lists(_segment(_RESTS), min_size=1, max_size=3).map("/".join),
}
_MADE: Final = _segment(("made-1", "made-2", "made_3"))  # databases that may be made and deleted


@st.composite
def _paths(draw: st.DrawFn, operation: Operation, database: str) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] != "db":
            return draw(_VARIABLES[found[1]])
        if operation.path == "/{db}" and operation.method in ("PUT", "DELETE"):
            return draw(_MADE)
        return draw(st.sampled_from([database] * 9 + ["none"]))

    return re.sub(r"\{([^}]*)\}", value, operation.path)


def _query_value(name: str, parameter: Mapping[str, Any]) -> st.SearchStrategy[str]:
    if "content" in parameter:
        right = _of_schema(parameter["content"]["application/json"]["schema"], name).map(json.dumps)
    else:
        right = _of_schema(parameter["schema"], name).map(lambda one: one if isinstance(one, str) else json.dumps(one))
    return _mostly(right, st.sampled_from(["", "null", "TRUE", "1e3", "[", "%", "-0"]) | _texts)


@cache
def _queries(operation: Operation) -> st.SearchStrategy[str]:
    known = _EVERY_PARAMETER if operation.passed else operation.parameters
    views = (("group", {"schema": {"type": "boolean"}}), ("group_level", {"schema": {"type": "integer"}}))
    choices = [*known, *(views if operation.passed else ()), ("unknown", {"schema": {}})]
    one = st.one_of([st.tuples(st.just(name), _query_value(name, parameter)) for name, parameter in choices])
    ends = "feed" in dict(known)

    def text(given: list[tuple[str, str]]) -> str:
        pairs = [f"{name}={value if value == '%' else quote(value, safe='')}" for name, value in given]
        return "&".join([*pairs, *(["timeout=20"] if ends and "timeout" not in dict(given) else [])])

    return st.lists(one, max_size=4 if known else 1).map(text)


_NO_JSON: Final = (
    *(b"", b"{", b"[1,]", b"\xff\xfe", b"{} {}", b'{"a": NaN}', b'{"a": 1e999}', b"'x'", b'{"a": "\\ud800"}', b"\x00"),
    *(b"[" * 2_000, b'{"a":' * 600 + b"1" + b"}" * 600, b"9" * 5_000, b"--b\r\n\r\n{}\r\n--b--"),
)
_KINDS: Final = ("text/plain", "", "application/json;x", "multipart/related; boundary=b", "multipart/related", "a/b; é")


@cache
def _bodies(operation: Operation) -> st.SearchStrategy[tuple[str | None, bytes | None]]:
    """Content type and body."""
    there = [_body(operation, kind, schema) for kind, schema in operation.kinds]
    if there:
        return st.one_of(there)
    kind = "application/json" if operation.method == "POST" else None
    return _mostly(st.just((kind, None)), _body(operation, "application/json", {}))


def _body(
    operation: Operation, kind: str, schema: Mapping[str, Any]
) -> st.SearchStrategy[tuple[str | None, bytes | None]]:
    values = _of_schema(schema)
    if operation.passed and operation.path.startswith("/{db}/_design"):
        values = _mostly(_designs, values)
    if operation.passed and operation.path.startswith(("/{db}/_index", "/{db}/_explain")):
        query = _of_schema({"$ref": "#/components/schemas/Query"})
        values = query | st.fixed_dictionaries({"index": _indexes}, optional={"ddoc": _texts, "name": _texts})
    body = _mostly(values.map(lambda one: json.dumps(one).encode()), st.sampled_from(_NO_JSON))
    return st.tuples(_mostly(st.just(kind), st.sampled_from(_KINDS)), body)


_HEADERS: Final = (
    *(("If-Match", REV), ("If-Match", f'"{REV}"'), ("If-Match", '"'), ("If-None-Match", "*"), ("If-None-Match", '"x"')),
    *(("Accept", "multipart/mixed"), ("Accept", "application/yaml"), ("Accept", ";;,"), ("Accept", "text/html")),
    *(("Range", "bytes=0-0"), ("Range", "bytes=9-1"), ("Range", "bytes=-5"), ("Range", "x"), ("Expect", "x")),
    *(("Content-Encoding", "gzip"), ("Content-Encoding", "x"), ("Accept-Encoding", "gzip"), ("Last-Event-ID", "x")),
    *(("X-Couch-Full-Commit", "false"), ("Content-MD5", "x"), ("Cookie", "AuthSession=x"), ("Origin", "null")),
    *(("X-Forwarded-Host", "é"), ("X-HTTP-Method-Override", "PUT"), ("Host", "a b"), ("Upgrade", "websocket")),
)
_DESTINATIONS: Final = ("new-3", f"a?rev={REV}", "", "%", "_design/c", "_local/c", "http://x/y/z", "é", "?rev=", "_x")


def requests(database: str, port: str, whose: frozenset[str]) -> st.SearchStrategy[Request]:
    """Requests to the gateway, mostly of one database, and mostly of what is for these at this port."""
    operations = _mostly(_operations_for(port, whose), st.sampled_from(OPERATIONS))
    return operations.flatmap(lambda operation: request_to(operation, database))


@st.composite
def request_to(draw: st.DrawFn, operation: Operation, database: str) -> Request:
    """A request to this operation."""
    method = operation.method
    other = draw(st.integers(0, 29))
    if operation.path == "/{db}" or other > 4:
        pass  # nobody deletes the database, or makes others in its place
    elif method == "GET" and other < 4:
        method = "HEAD"
    elif other == 4:
        method = draw(st.sampled_from(["OPTIONS", "PATCH", "PUT", "POST"]))
    query = draw(_queries(operation))
    kind, body = draw(_bodies(operation))
    headers = [draw(st.sampled_from(_HEADERS))] if draw(st.booleans()) else []
    if kind is not None:
        headers.append(("Content-Type", kind))
    if operation.method == "COPY":
        headers.append(("Destination", draw(st.sampled_from(_DESTINATIONS))))
    if ("Content-Encoding", "gzip") in headers and body and draw(st.booleans()):
        body = gzip.compress(body, mtime=0)
    path = draw(_paths(operation, database))
    return Request(method, f"{path}?{query}" if query else path, tuple(headers), body)


@cache
def _operations_for(port: str, whose: frozenset[str]) -> st.SearchStrategy[Operation]:
    return st.sampled_from([one for one in operations_for(port, whose) for _ in range(one.weight)])


def operations_for(port: str, whose: frozenset[str]) -> list[Operation]:
    """What is for these at this port."""
    return [one for one in OPERATIONS if one.whose in whose and port in one.ports]
