"""The route table as an OpenAPI 3.1 description, for programs.

https://spec.openapis.org/oas/v3.1.1.html. What it cannot say is in members that begin with `x-`: the method COPY
(`x-copy`), on which ports an endpoint is (`x-ports`), and that CouchDB itself answers (`x-passed-through`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from gateway import __version__
from gateway.http import passthrough
from gateway.http.openapi_schemas import BODIES, FORMS, JSON_PARAMETERS, PARAMETERS, SCHEMAS, reference
from gateway.http.route import Route

_VARIABLE: Final = re.compile(r"\{([a-z]+)(\.\.\.)?\}")
_METHODS: Final = frozenset({"get", "put", "post", "delete"})
_LOGIN: Final[list[dict[str, list[str]]]] = [{"basic": []}, {"cookie": []}]
_SECURITY: Final[dict[str, list[dict[str, list[str]]]]] = {
    "public": [],
    "user": [*_LOGIN, {}],  # the guest
    "admin": _LOGIN,
    "server": _LOGIN,
}
_FOR: Final = {"public": "anybody", "user": "users", "admin": "administrators", "server": "administrators"}
_DESCRIPTION: Final = (
    "CouchDB's protocol, under access: to a user it is a CouchDB that holds what the user may read. GET serves HEAD, "
    "and every path OPTIONS. What is not described here is CouchDB's reference, or docs/protocol.md."
)


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The description of these routes, of JSON values only; the same for the same routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _VARIABLE.sub(r"{\1}", route.path)
        item = paths.setdefault(path, _variables(route.path))
        for method in route.methods:
            name = method.lower()
            item[name if name in _METHODS else f"x-{name}"] = _operation(route, method)
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
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {
                "Error": {
                    "description": "What is wrong",
                    "content": {"application/json": {"schema": reference("Error")}},
                }
            },
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "AuthSession"},
            },
        },
    }


def _variables(path: str) -> dict[str, Any]:
    found = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            **({"description": "one segment or more, with their slashes"} if several else {}),
        }
        for name, several in _VARIABLE.findall(path)
    ]
    return {"parameters": found} if found else {}


def _operation(route: Route, method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": _operation_id(route, method),
        "x-for": _FOR[route.policy],
        "x-ports": list(route.listeners),
    }
    parameters = [_parameter(name) for name in sorted(route.parameters)]
    if method == "COPY":
        parameters.append({"name": "Destination", "in": "header", "required": True, "schema": {"type": "string"}})
    if parameters:
        operation["parameters"] = parameters
    if passes_through(route):
        operation["x-passed-through"] = True
    kinds = FORMS.get((method, route.path), ("application/json",))
    schema = BODIES.get((method, route.path))
    taken = passes_through(route) and method in ("PUT", "POST")
    if schema is not None or taken or kinds != ("application/json",):
        operation["requestBody"] = {"content": {kind: _content(kind, schema) for kind in kinds}}
    operation["responses"] = {
        "2XX": {"description": "Done"},
        "default": {"$ref": "#/components/responses/Error"},
    }
    operation["security"] = _SECURITY[route.policy]
    return operation


def passes_through(route: Route) -> bool:
    """Whether CouchDB answers for itself, with parameters that are its own."""
    return route.handler in (passthrough.pass_through, passthrough.pass_through_server)


def _operation_id(route: Route, method: str) -> str:
    return "_".join([method.lower(), *re.findall(r"[a-z_]+", route.path)])


def _parameter(name: str) -> dict[str, Any]:
    schema = PARAMETERS[name]
    if name in JSON_PARAMETERS:
        return {"name": name, "in": "query", "content": {"application/json": {"schema": schema}}}
    return {"name": name, "in": "query", "schema": schema}


def _content(kind: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    return {"schema": schema} if schema is not None and kind != "multipart/related" else {}
