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

log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_HEADERS_COUNT: Final = 100


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_stall", "on_lost")

    on_lost: Callable[[], object] | None
    _stall: asyncio.TimerHandle | None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
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

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler)
        self._running_loop = asyncio.get_running_loop()

    def __call__(self) -> Connection:
        return Connection(
            self,
            loop=self._running_loop,
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            keepalive_timeout=limits.KEEPALIVE_SECONDS,
            max_line_size=limits.HEADER_BYTES,
            max_field_size=limits.HEADER_BYTES,
            max_headers=_HEADERS_COUNT,
        )
