"""An HTTP proxy between a client and its server, for tests: it notes requests, holds answers, outlives its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

import aiohttp
from aiohttp import web
from yarl import URL

_HOP: Final = {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}
_PIECE_BYTES: Final = 65_536
PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]


@dataclass(slots=True)
class Proxy:
    """`url` stays the same when `target` becomes another server, or when there is none for a while."""

    target: str
    url: str = ""
    seen: list[Request] = field(default_factory=list)
    broken: list[Request] = field(default_factory=list)
    given_up: list[Request] = field(default_factory=list)  # by the client, before their answer's end
    _held_path: str | None = None
    _held_method: str | None = None
    _breaking: tuple[str, str] | None = None
    _cutting: tuple[str, int] | None = None
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _session: aiohttp.ClientSession | None = None

    def hold(self, suffix: str, method: str | None = None) -> None:
        """From now on nothing more of answers to paths that end so (and this method) reaches the client."""
        self._held_path, self._held_method = suffix, method
        self._released.clear()

    def release(self) -> None:
        self._held_path = None
        self._released.set()

    def break_off(self, method: str, suffix: str) -> None:
        """From now on the connection of each such request ends without an answer; `broken` lists them."""
        self._breaking = (method, suffix)

    def mend(self) -> None:
        self._breaking = self._cutting = None

    def cut(self, suffix: str, after_bytes: int) -> None:
        """From now on answers to paths that end so break off there."""
        self._cutting = (suffix, after_bytes)

    async def was_given_up(self) -> Request:
        """Wait until the client gave a request up; the first since ever."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: bool(self.given_up))
        return self.given_up[0]

    async def broke_off(self) -> None:
        """Wait until a request was broken off."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: bool(self.broken))

    async def request(self, method: str, suffix: str, **query: str) -> Request:
        """Wait for a request to a path that ends so, with these parameters among its own; the first since ever."""

        def found() -> Request | None:
            for request in self.seen:
                if (
                    request.method == method
                    and request.path.endswith(suffix)
                    and query.items() <= request.query.items()
                ):
                    return request
            return None

        async with asyncio.timeout(PATIENCE_SECONDS), self._news:
            await self._news.wait_for(lambda: found() is not None)
        request = found()
        assert request is not None
        return request

    def forget(self) -> None:
        self.seen.clear()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._session is not None
        asked = Request(request.method, request.path, dict(parse_qsl(request.query_string)))
        breaks = self._breaks(asked)
        async with self._news:
            (self.broken if breaks else self.seen).append(asked)
            self._news.notify_all()
        if breaks and request.transport is not None:
            request.transport.abort()
            return web.Response(status=502)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        if request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        response: web.StreamResponse | None = None
        passed = 0
        try:
            async with self._session.request(
                request.method,
                URL(self.target + request.raw_path, encoded=True),
                headers=headers,
                data=request.content.iter_any() if request.can_read_body else None,
                allow_redirects=False,
            ) as answer:
                kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP]
                response = web.StreamResponse(status=answer.status)
                response.headers.extend(kept)
                await self._held(request)
                await response.prepare(request)
                while data := await answer.content.readany():
                    await self._held(request)
                    passed += len(data)
                    if self._cuts(asked, passed):
                        raise ConnectionResetError("cut")
                    await response.write(data)
                await response.write_eof()
        except asyncio.CancelledError:
            async with self._news:
                self.given_up.append(asked)
                self._news.notify_all()
            raise
        except (aiohttp.ClientError, ConnectionError, web.RequestPayloadError):
            # As if the server itself were gone: no answer, or the half of one.
            if request.transport is not None:
                request.transport.abort()
        return response or web.Response(status=502)

    def _breaks(self, asked: Request) -> bool:
        if self._breaking is None:
            return False
        method, suffix = self._breaking
        return asked.method == method and asked.path.endswith(suffix)

    def _cuts(self, asked: Request, passed: int) -> bool:
        return self._cutting is not None and asked.path.endswith(self._cutting[0]) and passed > self._cutting[1]

    async def _held(self, request: web.BaseRequest) -> None:
        if self._held_path is None or self._held_method not in (None, request.method):
            return
        if request.path.endswith(self._held_path):
            await self._released.wait()


@asynccontextmanager
async def proxy_to(target: str) -> AsyncIterator[Proxy]:
    """A proxy on a port of its own, within the block."""
    proxy = Proxy(target)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        proxy._session = session
        server = web.Server(proxy._handle, auto_decompress=False, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield proxy
        finally:
            proxy.release()
            connections = list(server.connections)
            with suppress(asyncio.CancelledError):
                await runner.cleanup()
            for connection in connections:  # a cleanup that was cancelled by one of them leaves the others open
                if connection.transport is not None:
                    connection.transport.abort()
