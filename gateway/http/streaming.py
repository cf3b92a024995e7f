"""A running `_changes` request: events of the feed to bytes on the socket, and the ways it can end.

Build a page, write it, only then advance: the next event is asked for when the one before is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from aiohttp import web

from gateway import json_text
from gateway.database import CaughtUp, Feed, FeedRows, Heartbeat
from gateway.errors import GatewayError, Unavailable
from gateway.http import answers
from gateway.http.call import Call, close
from gateway.http.connection import Connection

log = logging.getLogger(__name__)

_COLLECTED_BYTES: Final = 65_536
T = TypeVar("T")
Event: TypeAlias = FeedRows | Heartbeat | CaughtUp


@dataclass(frozen=True, slots=True)
class _Form:
    """How a kind of feed looks on the wire, as CouchDB writes it."""

    start: bytes
    between: bytes  # two rows
    after: bytes  # the last row of an event
    before_end: bytes
    heartbeat: bytes = b"\n"
    as_events: bool = False

    def rows(self, event: FeedRows, *, first: bool) -> bytes:
        if self.as_events:
            return b"".join(map(_as_event, event.rows))
        text = self.between.join(event.rows) + self.after
        return text if first or self.after else self.between + text

    def end(self, feed: Feed) -> bytes:
        if self.as_events:
            return b""
        tail = json_text.encode({"last_seq": feed.last_seq, "pending": feed.pending})
        return self.before_end + (tail[1:] if self.before_end else tail) + b"\n"


_LINES: Final = _Form(start=b"", between=b"\n", after=b"\n", before_end=b"")
_OBJECT: Final = _Form(start=b'{"results":[\n', between=b",\r\n", after=b"", before_end=b"\n],\n")
_EVENTS: Final = _Form(
    start=b"", between=b"", after=b"", before_end=b"", heartbeat=b"event: heartbeat\ndata: \n\n", as_events=True
)
_FORMS: Final = {"longpoll": _OBJECT, "continuous": _LINES, "eventsource": _EVENTS}
_EVENTS_HEAD: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}


def _as_event(row: bytes) -> bytes:
    """CouchDB's server-sent event; its id is the sequence as JSON, so that browsers send it back in quotes."""
    seq, _, _ = row.removeprefix(b'{"seq":').partition(b",")
    return b"data: " + row + b"\nid: " + seq + b"\n\n"


class Running:
    """A feed in its task, which can be stopped from outside while it waits for an event, never while it writes."""

    __slots__ = ("_gone", "_stopped", "_task", "_waiting")

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._task = task
        self._waiting = False
        self._stopped = False
        self._gone = False

    @property
    def stopped(self) -> bool:
        """Whether it was made to end."""
        return self._stopped

    def stop(self) -> None:
        """Make the feed end as if it had come to its end."""
        self._stopped = True
        if self._waiting:
            self._waiting = False
            self._task.cancel()

    def lost(self) -> None:
        """The client is gone: end at once, whatever it does."""
        self._gone = True
        self._task.cancel()

    async def next(self, events: AsyncIterator[T]) -> T | None:
        """The next event; None at the end."""
        return await self.wait(lambda: anext(events, None))

    async def wait(self, begin: Callable[[], Awaitable[T | None]]) -> T | None:
        """What `begin()` gives; None as soon as the feed is stopped."""
        if self._ends():
            return None
        self._waiting = True
        try:
            return await begin()
        except asyncio.CancelledError:
            if self._ends() and self._task.uncancel() == 0:
                return None
            raise
        finally:
            self._waiting = False

    def _ends(self) -> bool:
        return self._stopped and not self._gone


@contextmanager
def running_feed(call: Call) -> Iterator[Running]:
    """Around every feed of any kind. Raises Unavailable when there are too many, or the gateway is stopping."""
    running = Running()
    with call.traffic.feed(running):
        if call.traffic.draining:
            raise Unavailable("the gateway is shutting down")
        connection = call.request.protocol
        if not isinstance(connection, Connection):
            raise TypeError("feeds run on the gateway's own connections")
        connection.on_lost = running.lost
        try:
            yield running
        finally:
            connection.on_lost = None


async def stream_feed(call: Call, feed: Feed, kind: str, tag: str | None = None) -> web.StreamResponse:
    """Answer a feed until it ends, its client leaves, or the gateway stops. `tag` is the ETag of a normal one.

    What goes wrong before the first byte is an ordinary error. After it, a continuous feed says so in its last line;
    the others break off, since half a JSON object must not look whole.
    """
    events = feed.events()
    try:
        with running_feed(call) as running:
            return await _send(call, feed, events, kind, running, {} if tag is None else {"ETag": tag})
    finally:
        await close(events)


async def _send(
    call: Call,
    feed: Feed,
    events: AsyncIterator[Event],
    kind: str,
    running: Running,
    headers: dict[str, str],
) -> web.StreamResponse:
    if kind == "eventsource":
        headers |= _EVENTS_HEAD
    if call.is_head:
        response = answers.stream(200, headers)
        await call.begin(response)
        return response
    if kind == "normal":
        return await _send_normal(call, feed, events, running, headers)
    form = _FORMS[kind]
    response = answers.stream(200, headers)
    await call.begin(response)  # at once: the client, and each proxy between, is to know that the feed runs
    try:
        if form.start:
            await call.write(form.start)
        first = True
        while (event := await running.next(events)) is not None:
            if isinstance(event, Heartbeat):
                await call.write(form.heartbeat)
            elif isinstance(event, FeedRows) and event.rows:
                await call.write(form.rows(event, first=first))
                first = False
        await call.write(form.end(feed))
    except ConnectionError:
        raise
    except Exception as error:
        return await fail_feed(call, response, kind, error)
    return response


async def _send_normal(
    call: Call, feed: Feed, events: AsyncIterator[Event], running: Running, headers: dict[str, str]
) -> web.StreamResponse:
    """One answer, collected while it is short; a long one goes out as its pages come.

    Its end names the last sequence, so a page that never reached the client is no loss.
    """
    pieces, size, first = [_OBJECT.start], 0, True
    response: web.StreamResponse | None = None
    try:
        while (event := await running.next(events)) is not None:
            beat = isinstance(event, Heartbeat)  # a filter that finds nothing for long: the answer begins
            if beat:
                pieces.append(b"\n")
            elif isinstance(event, FeedRows) and event.rows:
                pieces.append(_OBJECT.rows(event, first=first))
                first = False
                size += len(pieces[-1])
            if beat or size >= _COLLECTED_BYTES:
                if response is None:
                    response = answers.stream(200, headers)
                    await call.begin(response, compress=True)
                await call.write(b"".join(pieces))
                pieces, size = [], 0
        pieces.append(_OBJECT.end(feed))
        if response is None:
            return answers.plain(200, b"".join(pieces), headers)
        await call.write(b"".join(pieces))
    except ConnectionError:
        raise
    except Exception as error:
        if response is None:
            raise
        return await fail_feed(call, response, "normal", error)
    return response


async def fail_feed(call: Call, response: web.StreamResponse, kind: str, error: Exception) -> web.StreamResponse:
    """End a feed that has begun: continuous ones say in their last line why, the others break off."""
    if not isinstance(error, GatewayError):
        log.exception("a feed of %s failed", call.database.name)
    body: dict[str, Any] = (error if isinstance(error, GatewayError) else GatewayError()).body()
    if kind == "continuous":
        await call.write(json_text.encode(body) + b"\n")
    else:
        call.break_off()
    return response
