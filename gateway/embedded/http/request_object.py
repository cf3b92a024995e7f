"""The request as the functions of design documents see it (https://docs.couchdb.org/en/stable/json-structure.html#request-object)."""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote, urlencode

from gateway.couch.upstream import Document
from gateway.embedded import reading
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.http.message import Request
from gateway.errors import BadParameter

_DECODED = ("startkey", "endkey", "key", "descending")
_LOGIN = ("authorization", "cookie", "proxy-authorization")  # whose business it is: not that of a design document


async def request_object(request: Request, database: EmbeddedDatabase, *, body: Any, id: str | None = None) -> Document:
    """As chttpd_external builds it, without what names the client: `peer` and the login."""
    path = "/" + "/".join(quote(part, safe="") for part in request.parts)
    query = request.params.values
    return {
        "info": await database.raw_info(),
        "uuid": uuid.uuid4().hex,
        "id": id,
        "method": request.method,
        "requested_path": list(request.parts),
        "path": list(request.parts),
        "raw_path": f"{path}?{urlencode(query)}" if query else path,
        "query": {name: _decoded(name, value) for name, value in query.items()},
        "headers": {
            "-".join(part.capitalize() for part in name.split("-")): value
            for name, value in request.headers.items()
            if name not in _LOGIN
        },
        "body": body,
        "form": {},
        "cookie": {},
        "userCtx": database.user_context,
        "secObj": await database.reading(reading.security),
    }


def _decoded(name: str, value: str) -> Any:
    if name not in _DECODED:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadParameter(f"Invalid JSON in parameter `{name}`: {value!r}") from None
