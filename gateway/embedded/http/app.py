"""The face on a port of its own, on aiohttp."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web
from aiohttp.web_request import BaseRequest

from gateway import limits
from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.http.dispatch import close, handle
from gateway.embedded.http.message import answer
from gateway.embedded.server import EmbeddedServer
from gateway.errors import UpstreamUnreachable

log = logging.getLogger(__name__)
_READ_BYTES = 262_144
_WHOLE_BYTES = 65_536  # an answer this small is sent at once


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one login of the port, HTTP Basic."""

    username: str
    password: str

    def accept(self, header: str | None) -> bool:
        """Whether an `Authorization` header carries them; takes the same time whatever is wrong."""
        kind, _, encoded = (header or "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if kind.lower() == "basic" else b""
        except binascii.Error:
            given = b""
        return hmac.compare_digest(given, f"{self.username}:{self.password}".encode())


class Face:
    """Serves one `EmbeddedServer`; `handler` is what aiohttp's `web.Server` calls."""

    def __init__(self, server: EmbeddedServer, credentials: Credentials | None = None) -> None:
        self._server = server
        self._credentials = credentials

    async def handler(self, request: BaseRequest) -> web.StreamResponse:
        if self._credentials is not None and not self._credentials.accept(request.headers.get("Authorization")):
            response = answer(
                401,
                {"error": "unauthorized", "reason": "You are not a server admin."},
                {"www-authenticate": 'Basic realm="administrator"'},
            )
        else:
            path, _, query = request.raw_path.partition("?")
            body = _body(request) if request.body_exists else None
            response = await handle(self._server, request.method, path, query, request.headers, body)
        return await _send(request, response)


async def _body(request: BaseRequest) -> AsyncIterator[bytes]:
    while chunk := await request.content.read(_READ_BYTES):
        yield chunk


async def _send(request: BaseRequest, response: UpstreamResponse) -> web.StreamResponse:
    headers = {"Server": "CouchDB (embedded)", **response.headers}
    outgoing = web.StreamResponse(status=response.status, headers=headers)
    try:
        if int(response.headers.get("content-length", _WHOLE_BYTES + 1)) <= _WHOLE_BYTES and request.method != "HEAD":
            # Headers and body in one packet.
            body = b"".join([chunk async for chunk in response.content])
            return web.Response(status=response.status, headers=headers, body=body)
        await outgoing.prepare(request)
        async for chunk in response.content:
            await outgoing.write(chunk)
        await outgoing.write_eof()
    except ConnectionError:
        log.debug("%s %s: the client left", request.method, request.path)
    except UpstreamUnreachable as error:
        log.info("%s %s: ended, %s", request.method, request.path, error.reason)
        _abort(request)
    except Exception:
        # The status is sent already: all that is left is to break the connection, so that nobody takes it for the end.
        log.exception("%s %s failed after its answer began", request.method, request.path)
        _abort(request)
    finally:
        await close(response.content)
    return outgoing


def _abort(request: BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


@dataclass(frozen=True, slots=True)
class Listener:
    """A running port. `close` ends its connections, not the server behind it."""

    url: str
    runner: web.ServerRunner

    async def close(self) -> None:
        await self.runner.cleanup()


async def serve(
    server: EmbeddedServer,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    credentials: Credentials | None = None,
) -> Listener:
    """Listen on `port` (0: any free one) until the listener is closed. Raises OSError when the port is taken."""
    await server.check()
    face = Face(server, credentials)
    runner = web.ServerRunner(
        web.Server(
            face.handler,
            max_field_size=limits.HEADER_BYTES,
            max_line_size=limits.HEADER_BYTES,
            auto_decompress=False,  # a gzipped attachment is stored as it is
        ),
        shutdown_timeout=limits.DRAIN_SECONDS,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    bound = runner.addresses[0][1]
    return Listener(f"http://{f'[{host}]' if ':' in host else host}:{bound}", runner)
