"""The request as the functions of design documents see it (https://docs.couchdb.org/en/stable/json-structure.html#request-object)."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote, urlencode

from gateway.couch.upstream import Document
from gateway.embedded import reading
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.http.message import Params, Request
from gateway.errors import BadParameter

_DECODED = ("startkey", "endkey", "key", "descending")
_LOGIN = ("authorization", "cookie", "proxy-authorization")  # whose business it is: not that of a design document


async def request_object(request: Request, database: EmbeddedDatabase, *, body: Any, id: str | None = None) -> Document:
    """As chttpd_external builds it, without what names the client: `peer` and the login."""
    # The id of a design document is one segment of `parts`, and two of the path.
    path = [name for part in request.parts for name in (part.split("/") if part.startswith("_design/") else (part,))]
    raw_path = "/" + "/".join(quote(name, safe="") for name in path)
    query = request.params.values
    return {
        "info": await database.raw_info(),
        "uuid": uuid.uuid4().hex,
        "id": id,
        "method": request.method,
        "requested_path": path,
        "path": path,
        "raw_path": f"{raw_path}?{urlencode(query)}" if query else raw_path,
        "query": {name: _decoded(name, value) for name, value in query.items()},
        "headers": {
            "-".join(part.capitalize() for part in name.split("-")): value
            for name, value in request.headers.items()
            if name not in _LOGIN
        },
        "body": body,
        "form": _form(request, body),
        "cookie": {},
        "userCtx": database.user_context,
        "secObj": await database.reading(reading.security),
    }


def _form(request: Request, body: Any) -> Document:
    kind = (request.header("content-type") or "").lower()
    if not isinstance(body, str) or not kind.startswith("application/x-www-form-urlencoded"):
        return {}
    return dict(Params.parse(body).values)


def _decoded(name: str, value: str) -> Any:
    if name not in _DECODED:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadParameter(f"Invalid JSON in parameter `{name}`: {value!r}") from None
