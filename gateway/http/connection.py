"""The lowest layer: aiohttp's connection with JSON errors.

It tells a running feed that its client left, and lets go of a client that takes nothing of its answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway import limits
from gateway.errors import BadRequest, GatewayError, TooLarge
from gateway.http import answers
from gateway.http.traffic import Traffic

log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_HEADERS_COUNT: Final = 100
# After a socket was accepted its connection is made in one of the next turns of the event loop (selector_events).
_TURNS_UNTIL_MADE: Final = 3


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_counted", "_first", "_left", "_stall", "_traffic", "on_lost")

    on_lost: Callable[[], object] | None
    _stall: asyncio.TimerHandle | None
    _first: asyncio.TimerHandle | None
    _traffic: Traffic | None
    _counted: bool
    _left: Callable[[Connection], object]

    def counted_by(self, traffic: Traffic | None, left: Callable[[Connection], object]) -> Connection:
        """Let it in only while there is room in this traffic; None: always. `left` is told when it is closed."""
        self._traffic = traffic
        self._left = left
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._first = self._loop.call_later(limits.FIRST_REQUEST_SECONDS, self._nothing_asked)
        traffic = self._traffic
        self._counted = traffic is not None and traffic.connections_open < traffic.connections_count
        if traffic is None:
            return
        if self._counted:
            traffic.connections_open += 1
        elif self.transport is not None:
            # Without a word: an answer would cost what there is none of.
            traffic.connections_refused += 1
            self.transport.abort()

    def asked(self) -> None:
        """A request came: from now on it may be idle for KEEPALIVE_SECONDS."""
        if self._first is not None:
            self._first.cancel()
            self._first = None

    def _nothing_asked(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._left(self)
        super().connection_lost(exc)
        self.asked()
        if self._counted and self._traffic is not None:
            self._counted = False
            self._traffic.connections_open -= 1
        self._watch_no_more()
        told, self.on_lost = getattr(self, "on_lost", None), None
        if told is not None:
            told()

    def pause_writing(self) -> None:
        """More is waiting to be sent than the buffer should hold: nothing is made until the client takes some of it."""
        super().pause_writing()
        self._watch(self._unsent())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch_no_more()

    def _watch(self, unsent: int) -> None:
        self._stall = self._loop.call_later(limits.CLIENT_WRITE_SECONDS, self._check, unsent)

    def _watch_no_more(self) -> None:
        stall, self._stall = getattr(self, "_stall", None), None
        if stall is not None:
            stall.cancel()

    def _check(self, before: int) -> None:
        """A slow client may take its time, one that takes nothing may not: what waits for it is memory."""
        unsent = self._unsent()
        if unsent < before:
            self._watch(unsent)
        elif self.transport is not None:
            log.info("a client took nothing of its answer for %s s", limits.CLIENT_WRITE_SECONDS)
            self.transport.abort()

    def _unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP request, as JSON. Such clients can be anything, so it is not worth a warning."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was sent already")
        error: GatewayError
        if isinstance(exc, LineTooLong):
            error = TooLarge(f"the request head is larger than {limits.HEADER_BYTES} bytes (limit HEADER_BYTES)")
        elif status < 500:
            said = (message or "").strip().partition("\n")[0].rstrip(":")
            error = BadRequest(f"this is no valid HTTP request: {said}")
        else:
            log.error("a request failed", exc_info=exc)
            error = GatewayError()
        log.debug("%s: %s", request.remote, error.reason)
        response = answers.failure(error, request.headers)
        response.force_close()
        return response


class Server(web.Server):
    """Makes a Connection of each accepted socket. Create it inside the event loop."""

    def __init__(self, handler: Handler, limited_by: Traffic | None = None) -> None:
        """`limited_by`: where connections are counted, and refused when there are too many."""
        super().__init__(handler)
        self._limited_by = limited_by
        self._running_loop = asyncio.get_running_loop()
        self._closing: dict[Connection, asyncio.Transport] = {}
        self._closed = asyncio.Event()
        self._is_shut = False

    def __call__(self) -> Connection:
        connection = Connection(
            self,
            loop=self._running_loop,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            keepalive_timeout=limits.KEEPALIVE_SECONDS,
            max_line_size=limits.HEADER_BYTES,
            max_field_size=limits.HEADER_BYTES,
            max_headers=_HEADERS_COUNT,
        )
        return connection.counted_by(self._limited_by, self._left)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Close all connections: what was answered goes out first, for CLOSE_SECONDS at most.

        Call it when nothing is accepted any more.
        """
        self._is_shut = True
        for _ in range(_TURNS_UNTIL_MADE):
            await asyncio.sleep(0)
        for connection in self.connections:
            if isinstance(connection, Connection) and isinstance(connection.transport, asyncio.Transport):
                self._closing[connection] = connection.transport
        await super().shutdown(timeout)
        try:
            async with asyncio.timeout(limits.CLOSE_SECONDS):
                while self._closing:
                    self._closed.clear()
                    await self._closed.wait()
        except TimeoutError:
            for transport in self._closing.values():
                transport.abort()
            await asyncio.sleep(0)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._is_shut:
            transport.abort()

    def _left(self, connection: Connection) -> None:
        if self._closing.pop(connection, None) is not None:
            self._closed.set()
