"""The route table as an OpenAPI 3.1 description, for programs.

https://spec.openapis.org/oas/v3.1.1.html. What it cannot say is in members that begin with `x-`: the method COPY
(`x-copy`), on which ports an endpoint is where it is not on the public and the admin port (`x-ports`), and that CouchDB
itself answers, with parameters of its own (`x-passed-through`). Like the route table it holds nothing of a gateway's
configuration or databases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from hashlib import md5
from typing import Any, Final

import yaml

from gateway import __version__, json_text
from gateway.http import passthrough
from gateway.http.openapi_schemas import BODIES, FORMS, JSON_PARAMETERS, PARAMETERS, SCHEMAS, reference
from gateway.http.route import ListenerName, Route

_VARIABLE: Final = re.compile(r"\{([a-z]+)(\.\.\.)?\}")
_METHODS: Final = frozenset({"get", "put", "post", "delete"})
_LOGIN: Final[list[dict[str, list[str]]]] = [{"basic": []}, {"cookie": []}]
_LOGIN_OR_GUEST: Final = [*_LOGIN, {}]  # of the whole description: what users may
_SECURITY: Final[dict[str, list[dict[str, list[str]]]]] = {"public": [], "admin": _LOGIN, "server": _LOGIN}
_FOR: Final = {
    "public": "anybody",
    "user": "users",
    "admin": "administrators",
    "server": "administrators",
    "own": "administrators; with sign-up, each user his own",
}
_BOTH: Final[tuple[ListenerName, ...]] = ("public", "admin")
_DESCRIPTION: Final = (
    "CouchDB's protocol, under access: to a user it is a CouchDB that holds what the user may read. GET serves HEAD, "
    "and every path OPTIONS. What is not described here is CouchDB's reference, or docs/protocol.md."
)
_NAMES_OF_SEVERAL: Final = "one segment or more, with their slashes"


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The description of these routes, of JSON values only; the same for the same routes."""
    by_path: dict[str, list[tuple[str, Route]]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).extend((method, route) for method in route.methods)
    names = sorted({name for rows in by_path.values() for _, route in rows for name in route.parameters})
    several = {name for path in by_path for name, dots in _VARIABLE.findall(path) if dots}
    single = {name for path in by_path for name, dots in _VARIABLE.findall(path) if not dots}
    if several & single:
        raise ValueError(f"{several & single} are one segment in one path, and more in another")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Couch Gateway",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "externalDocs": {"url": "https://docs.couchdb.org/en/stable/http-api.html"},
        "servers": [{"url": "/"}],
        "security": _LOGIN_OR_GUEST,
        "paths": {_VARIABLE.sub(r"{\1}", path): _path_item(path, rows) for path, rows in by_path.items()},
        "components": {
            "schemas": SCHEMAS,
            "parameters": {
                **{f"path-{name}": _variable(name, name in several) for name in sorted(several | single)},
                **{name: _parameter(name) for name in names},
                "Destination": {"name": "Destination", "in": "header", "required": True, "schema": {"type": "string"}},
            },
            "responses": {
                "Done": {"description": "Done"},
                "Error": {
                    "description": "What is wrong",
                    "content": {"application/json": {"schema": reference("Error")}},
                },
            },
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "AuthSession"},
            },
        },
    }


@cache
def as_json(routes: tuple[Route, ...]) -> bytes:
    """The description as JSON text."""
    return json_text.encode(describe(routes)) + b"\n"


@cache
def as_yaml(routes: tuple[Route, ...]) -> bytes:
    """The description as YAML. Takes a large part of a second, once: not in the event loop."""
    text = yaml.dump(
        describe(routes), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )
    return text.encode()


def tag(text: bytes) -> str:
    """Its ETag."""
    return f'"{md5(text, usedforsecurity=False).hexdigest()}"'


class _Plain(yaml.SafeDumper):
    """Without anchors: whoever reads a part of the file reads it whole."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _path_item(path: str, rows: list[tuple[str, Route]]) -> dict[str, Any]:
    shared = frozenset.intersection(*(route.parameters for _, route in rows))
    parameters = [f"path-{name}" for name, _ in _VARIABLE.findall(path)] + sorted(shared)
    item: dict[str, Any] = {"parameters": _parameters(parameters)} if parameters else {}
    for method, route in rows:
        name = method.lower()
        item[name if name in _METHODS else f"x-{name}"] = _operation(route, method, route.parameters - shared)
    return item


def _operation(route: Route, method: str, names: Iterable[str]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route, method),
        "x-for": _FOR[route.policy],
    }
    if route.listeners != _BOTH:
        operation["x-ports"] = list(route.listeners)
    if passes_through(route):
        operation["x-passed-through"] = True
    parameters = [*sorted(names), *(["Destination"] if method == "COPY" else [])]
    if parameters:
        operation["parameters"] = _parameters(parameters)
    kinds = FORMS.get((method, route.path), ("application/json",))
    schema = BODIES.get((method, route.path))
    taken = passes_through(route) and method in ("PUT", "POST")
    if schema is not None or taken or kinds != ("application/json",):
        operation["requestBody"] = {"content": {kind: _content(kind, schema) for kind in kinds}}
    responses = {"default": {"$ref": "#/components/responses/Error"}}
    operation["responses"] = responses if route.refuses else {"2XX": _DONE, **responses}
    if route.policy in _SECURITY:
        operation["security"] = _SECURITY[route.policy]
    return operation


_DONE: Final = {"$ref": "#/components/responses/Done"}


def passes_through(route: Route) -> bool:
    """Whether CouchDB answers for itself, with parameters that are its own."""
    return route.handler in (passthrough.pass_through, passthrough.pass_through_server)


def _operation_id(route: Route, method: str) -> str:
    return "_".join([method.lower(), *re.findall(r"[a-z_]+", route.path)])


def _parameters(names: Iterable[str]) -> list[dict[str, str]]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _variable(name: str, several: bool) -> dict[str, Any]:
    schema = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    return schema | ({"description": _NAMES_OF_SEVERAL} if several else {})


def _parameter(name: str) -> dict[str, Any]:
    schema = PARAMETERS[name]
    if name in JSON_PARAMETERS:
        return {"name": name, "in": "query", "content": {"application/json": {"schema": schema}}}
    return {"name": name, "in": "query", "schema": schema}


def _content(kind: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    return {"schema": schema} if schema is not None and kind != "multipart/related" else {}
