"""Answers in CouchDB's form."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from gateway import __version__, json_text, limits
from gateway.errors import GatewayError, Unauthorized, Unavailable
from gateway.http.dispatch import WrongMethod

SERVER: Final = f"CouchGateway/{__version__}"
REALM: Final = 'Basic realm="Couch Gateway"'
_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "must-revalidate", "Server": SERVER}


def answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer, with the line end that CouchDB gives it."""
    return plain(status, json_text.encode(value) + b"\n", headers)


def plain(status: int, data: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """The same for JSON text that has its line end."""
    return web.Response(status=status, body=data, headers={**_JSON, **headers} if headers else _JSON)


def empty(status: int, headers: Mapping[str, str]) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status, headers={"Server": SERVER, **headers})


class Stream(web.StreamResponse):
    """An answer of unknown length. Its pieces go through `pack` when it is set: a piece, and whether it is the end."""

    pack: Callable[[bytes, bool], bytes] | None = None

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.pack is not None and len(data) > limits.COMPRESSED_INLINE_BYTES:
            data = await asyncio.to_thread(self.pack, bytes(data), False)
        elif self.pack is not None:
            data = self.pack(bytes(data), False)
        await super().write(data)

    async def write_eof(self, data: bytes = b"") -> None:
        if self.pack is not None:
            data, self.pack = self.pack(data, True), None
        await super().write_eof(data)


def stream(status: int, headers: Mapping[str, str] | None = None) -> Stream:
    """An answer in pieces that proxies shall not collect; JSON unless `headers` say otherwise."""
    return Stream(status=status, headers={**_JSON, "X-Accel-Buffering": "no", **(headers or {})})


def failure(error: GatewayError, request: Mapping[str, str]) -> web.Response:
    """The answer for an error; `request` are the request's headers."""
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized) and _wants_challenge(request):
        headers["WWW-Authenticate"] = REALM
    if isinstance(error, WrongMethod):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, Unavailable):
        headers["Retry-After"] = "1"
    return answer(error.status, error.body(), headers)


def _wants_challenge(request: Mapping[str, str]) -> bool:
    """Not for scripts of a web page: the browser would ask its user for a password before the script hears of it."""
    return not (
        request.get("X-Requested-With", "").lower() == "xmlhttprequest"
        or "Origin" in request
        or "X-CouchDB-WWW-Authenticate" in request
        or request.get("Sec-Fetch-Mode", "navigate") != "navigate"
    )


def vary(response: web.StreamResponse, name: str) -> None:
    """Name a request header on which this answer depends (RFC 9110 section 12.5.5), beside those named already."""
    before = response.headers.get("Vary", "")
    named = {part.strip().lower() for part in before.split(",")}
    if "*" not in named and name.lower() not in named:
        response.headers["Vary"] = f"{before}, {name}" if before else name


def not_modified(request: web.BaseRequest, tag: str) -> web.Response | None:
    """The 304 for a request that holds this ETag already (RFC 9110 section 13.1.2), or None."""
    header = request.headers.get("If-None-Match")
    if header is None:
        return None
    held = {part.strip().removeprefix("W/") for part in header.split(",")}
    if tag not in held and "*" not in held:
        return None
    return empty(304, {"ETag": tag, "Cache-Control": "must-revalidate"})


def location(*parts: str) -> str:
    """The path of a database, document or attachment for `Location`, encoded as CouchDB does."""
    return "".join("/" + quote(part, safe=":").replace("~", "%7E") for part in parts)


def complete_location(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Put scheme and host before the path of what was stored: what the client called this server, as CouchDB does.

    A proxy that changes `Host` says what it was (`chttpd:absolute_uri`, X-Forwarded-Host and -Proto).
    """
    path = response.headers.get("Location", "")
    host = request.headers.get("X-Forwarded-Host") or request.headers.get("Host")
    if response.status not in (201, 202) or not path.startswith("/") or response.prepared or not host:
        return
    encrypted = request.headers.get("X-Forwarded-Ssl") == "on"
    scheme = "https" if encrypted else request.headers.get("X-Forwarded-Proto", request.scheme)
    response.headers["Location"] = f"{scheme if scheme in ('http', 'https') else request.scheme}://{host}{path}"


def accepts(request: web.BaseRequest, kind: str) -> bool:
    """Whether `Accept` names this content type, its family or everything; without the header, as CouchDB: yes."""
    header = request.headers.get("Accept")
    if header is None:
        return True
    family = kind.partition("/")[0] + "/*"
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name in (kind, family, "*/*") and not any(piece.replace(" ", "") in _REFUSED for piece in parameters):
            return True
    return False


_REFUSED: Final = frozenset({"q=0", "q=0.0", "q=0.00", "q=0.000"})


def content_tag(doc: Mapping[str, Any]) -> str:
    """An ETag of all that is in a document, as CouchDB has it of `_local` ones (couch_httpd:doc_etag)."""
    return f'"{hashlib.md5(json_text.canonical(doc), usedforsecurity=False).hexdigest()}"'
