"""`_changes?feed=websocket`, as Sync Gateway has it (https://datatracker.ietf.org/doc/html/rfc6455).

The client's first message is a JSON object with the options. Then each message to it is an array of rows, an empty
array once it has caught up, and an empty message for a heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from gateway import json_text, limits
from gateway.database import CaughtUp, Feed, FeedRows
from gateway.errors import BadRequest, Forbidden, GatewayError
from gateway.http.call import Call, close
from gateway.http.cookies import check_page
from gateway.http.streaming import Event, Running, log, running_feed
from gateway.queries import ChangesQuery

Socket: TypeAlias = web.WebSocketResponse[Any]
_REASON_BYTES: Final = 123  # a close frame holds no more (RFC 6455 section 5.5)


class _Closed(Exception):
    """Close with this code and reason."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason


async def serve_websocket(
    call: Call, query_of: Callable[[Mapping[str, Any]], Awaitable[ChangesQuery]]
) -> web.StreamResponse:
    """Answer a feed over a websocket until it ends, its client leaves or says what it should not, or the gateway stops.

    `query_of` makes a query of the client's message, or raises a GatewayError. What is wrong before the handshake is an
    ordinary error, later the reason of the close frame.
    """
    # Compression would hold about 300 kB for each client.
    socket: Socket = web.WebSocketResponse(
        timeout=limits.WEBSOCKET_CLOSE_SECONDS,
        heartbeat=limits.WEBSOCKET_PING_SECONDS,
        max_msg_size=limits.WEBSOCKET_OPTIONS_BYTES,
        compress=False,
    )
    if call.request.method != "GET" or not socket.can_prepare(call.request):
        raise BadRequest("feed=websocket takes a GET with the handshake of a websocket (RFC 6455)")
    _check_origin(call)
    with running_feed(call) as running:
        await call.begin(socket)
        code, reason = await _serve(call, socket, running, query_of)
        with suppress(ConnectionError):
            await socket.close(code=code, message=reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode())
    return socket


def _check_origin(call: Call) -> None:
    """Let in what is no web page, pages of the gateway itself, and those that CORS trusts.

    Browsers send cookies and stored logins with a handshake from any page, and CORS does not hold for websockets
    (RFC 6455 section 10.2). Raises Forbidden.
    """
    try:
        check_page(call.request, trusted=call.gate.trusts(call.request))
    except Forbidden:
        raise Forbidden("a page of another origin may not open a websocket; allow its origin") from None


async def _serve(
    call: Call, socket: Socket, running: Running, query_of: Callable[[Mapping[str, Any]], Awaitable[ChangesQuery]]
) -> tuple[int, str]:
    """The code and the reason to close with."""
    try:
        query = await query_of(await _options(socket, running))
        feed = call.database.changes(call.caller, query)
        await _send(socket, running, feed)
        if call.traffic.draining:
            raise _Closed(WSCloseCode.GOING_AWAY, "the gateway is shutting down")
    except _Closed as closed:
        return closed.code, closed.reason
    except GatewayError as error:
        code = WSCloseCode.POLICY_VIOLATION if error.status < 500 else WSCloseCode.INTERNAL_ERROR
        return code, f"{error.error}: {error.reason}"
    except ConnectionError:
        return WSCloseCode.OK, ""  # nobody is there to be told
    except Exception:
        log.exception("a feed of %s failed", call.database.name)
        return WSCloseCode.INTERNAL_ERROR, GatewayError.error
    return WSCloseCode.OK, ""


async def _options(socket: Socket, running: Running) -> Mapping[str, Any]:
    """The client's first message. Raises _Closed; BadRequest for what is no JSON object."""
    try:
        async with asyncio.timeout(limits.WEBSOCKET_OPTIONS_SECONDS):
            message: WSMessage | None = await running.wait(socket.receive)
    except TimeoutError:
        raise _Closed(WSCloseCode.POLICY_VIOLATION, "no message with the options came") from None
    if message is None:
        raise _Closed(WSCloseCode.GOING_AWAY, "the gateway is shutting down")
    if message.type is WSMsgType.BINARY:
        raise _Closed(WSCloseCode.UNSUPPORTED_DATA, "the options are a text message")
    if message.type is not WSMsgType.TEXT:
        raise _Closed(WSCloseCode.OK)  # it left
    options = json_text.parse(message.data.encode()) if message.data.strip() else {}
    if not isinstance(options, dict):
        raise BadRequest("the options must be a JSON object")
    return {name: value for name, value in options.items() if name != "feed"}


async def _send(socket: Socket, running: Running, feed: Feed) -> None:
    """Send the feed while listening to the client, whose pongs and goodbye have to be heard."""
    listening = asyncio.create_task(_listen(socket, running))
    events = feed.events()
    try:
        await _send_events(socket, running, events)
    finally:
        await close(events)
        said = listening.done() and not listening.cancelled() and listening.result()
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    if said:
        raise _Closed(WSCloseCode.POLICY_VIOLATION, "nothing is taken after the options")


async def _send_events(socket: Socket, running: Running, events: AsyncIterator[Event]) -> None:
    while (event := await running.next(events)) is not None:
        if isinstance(event, FeedRows):
            for message in _messages(event):
                await socket.send_frame(message, WSMsgType.TEXT)
        else:
            await socket.send_frame(b"[]" if isinstance(event, CaughtUp) else b"", WSMsgType.TEXT)


async def _listen(socket: Socket, running: Running) -> bool:
    """Stop the feed when the client leaves, or says something: then True."""
    message = await socket.receive()  # answers pings itself
    running.stop()
    return message.type in (WSMsgType.TEXT, WSMsgType.BINARY)


def _messages(event: FeedRows) -> Iterator[bytes]:
    """Arrays of rows that no client finds too large, where single rows are not."""
    some: list[bytes] = []
    size = 0
    for row in event.rows:
        if some and (
            len(some) == limits.WEBSOCKET_MESSAGE_ROWS_COUNT or size + len(row) > limits.WEBSOCKET_MESSAGE_BYTES
        ):
            yield b"[" + b",".join(some) + b"]"
            some, size = [], 0
        some.append(row)
        size += len(row)
    if some:
        yield b"[" + b",".join(some) + b"]"
