"""Feeds on the wire: their forms, their ends, clients that leave, a gateway that stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.database import FeedRows, Heartbeat
from gateway.errors import Unauthorized
from gateway.model.positions import Position, Since
from tests.http.conftest import ANN, Ports, listening
from tests.http.fake import FakeFeed

ROWS = FeedRows([b'{"seq":"1-x","id":"a","changes":[]}', b'{"seq":"2-x","id":"b","changes":[]}'])
MORE = FeedRows([b'{"seq":"3-x","id":"c","changes":[]}'])
LOGIN = b"Host: x\r\nAuthorization: Basic YW5uOnNlY3JldA==\r\n"


class Wire:
    """One raw connection with a feed on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def chunk(self) -> bytes:
        """The next chunk; empty is the end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def rest(self) -> bytes:
        return await self.reader.read()


@contextlib.asynccontextmanager
async def feeding(gateway: Ports, query: str) -> AsyncIterator[Wire]:
    """Ask for a feed and read its head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"])
    try:
        writer.write(b"GET /notes/_changes?%b HTTP/1.1\r\n%b\r\n" % (query.encode(), LOGIN))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head
        assert b"\r\nX-Accel-Buffering: no\r\n" in head
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_normal_feed_is_one_object_in_couchdbs_form(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, MORE])
    answer = await gateway.ann.get("/notes/_changes")
    assert answer.content == (
        b'{"results":[\n' + b",\r\n".join([*ROWS.rows, *MORE.rows]) + b'\n],\n"last_seq":"3-3f2a","pending":0}\n'
    )
    gateway.db.feed = FakeFeed([])
    empty = await gateway.ann.get("/notes/_changes")
    assert empty.content == b'{"results":[\n\n],\n"last_seq":"0-3f2a","pending":0}\n'
    assert empty.headers["content-type"] == "application/json"


async def test_a_long_normal_feed_is_sent_as_its_pages_come(gateway: Ports) -> None:
    page = FeedRows([b'{"id":"%b"}' % (b"x" * 1_000)] * 100)
    gate = asyncio.Event()
    gateway.db.feed = FakeFeed([page, FeedRows([]), gate, page, Heartbeat()])
    async with feeding(gateway, "") as wire:
        first = await wire.chunk()
        assert not gate.is_set()
        gate.set()
        whole = first
        while chunk := await wire.chunk():
            whole += chunk
    assert len(json.loads(whole)["results"]) == 200


async def test_a_normal_feed_whose_filter_finds_nothing_for_long_sends_heartbeats(gateway: Ports) -> None:
    gate = asyncio.Event()
    gateway.db.feed = FakeFeed([Heartbeat(), gate, ROWS])
    async with feeding(gateway, "heartbeat=1000") as wire:
        first = await wire.chunk()
        assert first == b'{"results":[\n\n'
        gate.set()
        whole = first
        while chunk := await wire.chunk():
            whole += chunk
    assert len(json.loads(whole)["results"]) == len(ROWS.rows)


async def test_a_longpoll_sends_its_head_and_heartbeats_while_it_waits(gateway: Ports) -> None:
    gate = asyncio.Event()
    gateway.db.feed = FakeFeed([Heartbeat(), gate, ROWS])
    async with feeding(gateway, "feed=longpoll&heartbeat=1000") as wire:
        assert await wire.chunk() == b'{"results":[\n'
        assert await wire.chunk() == b"\n"
        gate.set()
        assert await wire.chunk() == b",\r\n".join(ROWS.rows)
        assert await wire.chunk() == b'\n],\n"last_seq":"2-3f2a","pending":0}\n'
        assert await wire.chunk() == b""


async def test_a_continuous_feed_is_lines_and_ends_with_the_last_sequence(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, Heartbeat(), MORE])
    async with feeding(gateway, "feed=continuous") as wire:
        assert await wire.chunk() == b"\n".join(ROWS.rows) + b"\n"
        assert await wire.chunk() == b"\n"
        assert await wire.chunk() == MORE.rows[0] + b"\n"
        assert await wire.chunk() == b'{"last_seq":"3-3f2a","pending":0}\n'
        assert await wire.chunk() == b""


async def test_an_eventsource_is_couchdbs_server_sent_events_and_has_no_end_of_its_own(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, Heartbeat(), MORE])
    async with gateway.ann.stream("GET", "/notes/_changes?feed=eventsource") as answer:
        assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("text/event-stream", "no-cache")
        assert await answer.aread() == (
            b'data: {"seq":"1-x","id":"a","changes":[]}\nid: "1-x"\n\n'
            b'data: {"seq":"2-x","id":"b","changes":[]}\nid: "2-x"\n\n'
            b"event: heartbeat\ndata: \n\n"
            b'data: {"seq":"3-x","id":"c","changes":[]}\nid: "3-x"\n\n'
        )


async def test_an_eventsource_that_fails_breaks_off_so_that_browsers_ask_again(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, Unauthorized("the user was disabled")])
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.ann.get("/notes/_changes?feed=eventsource")


async def test_a_browser_that_comes_back_goes_on_at_its_last_event(gateway: Ports) -> None:
    headers = {"Last-Event-ID": '"12-3f2a"'}
    await gateway.ann.get("/notes/_changes?feed=eventsource&since=3", headers=headers)
    assert gateway.db.last("changes")[1].since == Since(Position(12), "3f2a")
    await gateway.ann.get("/notes/_changes?feed=longpoll&since=3", headers=headers)
    assert gateway.db.last("changes")[1].since == Since(Position(3))
    await gateway.ann.get("/notes/_changes?feed=eventsource&since=3")
    assert gateway.db.last("changes")[1].since == Since(Position(3))


async def test_a_normal_feed_has_an_etag_of_its_reader_and_is_not_sent_again_unchanged(gateway: Ports) -> None:
    first = await gateway.ann.get("/notes/_changes")
    held = {"If-None-Match": first.headers["etag"]}
    again = await gateway.ann.get("/notes/_changes", headers=held)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (await gateway.public.get("/notes/_changes", headers=held, auth=("bob", "secret"))).status_code == 200
    for kind in ("longpoll", "continuous", "eventsource"):
        answer = await gateway.ann.get(f"/notes/_changes?feed={kind}", headers=held)
        assert (answer.status_code, "etag" in answer.headers) == (200, False)
    gateway.db.tag = "2"
    assert (await gateway.ann.get("/notes/_changes", headers=held)).status_code == 200


async def test_the_head_of_a_waiting_feed_comes_before_anything_happens(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([asyncio.Event()])
    async with feeding(gateway, "feed=continuous"):
        await asyncio.wait_for(gateway.db.feed.waiting.wait(), 10)
        assert gateway.traffic.feeds_open == 1


@pytest.mark.parametrize("kind", ["normal", "longpoll", "continuous"])
async def test_a_client_that_leaves_ends_its_feed_at_once(gateway: Ports, kind: str) -> None:
    gateway.db.feed = FakeFeed([FeedRows([b"x" * 70_000]), asyncio.Event()])
    async with feeding(gateway, f"feed={kind}") as wire:
        await asyncio.wait_for(gateway.db.feed.waiting.wait(), 10)
        wire.writer.close()
        await asyncio.wait_for(gateway.db.feed.closed.wait(), 10)
    assert await gateway.traffic.drain(10)
    assert gateway.traffic.feeds_open == 0


async def test_a_connection_serves_further_requests_after_a_feed(gateway: Ports) -> None:
    for _ in range(3):
        for kind in ("normal", "longpoll", "continuous"):
            gateway.db.feed = FakeFeed([ROWS])
            answer = await gateway.ann.get("/notes/_changes", params={"feed": kind})
            assert answer.status_code == 200


async def test_a_client_of_http_1_0_gets_a_feed_that_ends_with_the_connection(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS])
    answer = await gateway.raw(b"GET /notes/_changes?feed=continuous HTTP/1.0\r\n%b\r\n" % LOGIN)
    assert b"chunked" not in answer
    assert answer.endswith(ROWS.rows[1] + b'\n{"last_seq":"2-3f2a","pending":0}\n')


async def test_a_failure_before_the_first_byte_is_an_ordinary_error(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, Unauthorized("the user was disabled")])
    answer = await gateway.ann.get("/notes/_changes")
    assert (answer.status_code, answer.json()["reason"]) == (401, "the user was disabled")


async def test_a_continuous_feed_says_in_its_last_line_what_went_wrong(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, Unauthorized("the user was disabled")])
    async with feeding(gateway, "feed=continuous") as wire:
        await wire.chunk()
        assert json.loads(await wire.chunk()) == {
            "error": "unauthorized",
            "reason": "the user was disabled",
            "code": "CG2000",
        }
        assert await wire.chunk() == b""


@pytest.mark.parametrize("error", [Unauthorized(), RuntimeError("hunter2")])
async def test_half_an_object_breaks_off_and_never_looks_whole(gateway: Ports, error: Exception) -> None:
    gateway.db.feed = FakeFeed([ROWS, error])
    async with feeding(gateway, "feed=longpoll") as wire:
        await wire.chunk()
        await wire.chunk()
        assert await wire.rest() == b""  # not even the chunk that ends the answer
    gateway.db.feed = FakeFeed([ROWS, error])
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.ann.get("/notes/_changes", params={"feed": "longpoll"})


async def test_an_unexpected_failure_in_a_feed_tells_nothing_of_itself(
    gateway: Ports, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.db.feed = FakeFeed([ROWS, RuntimeError("hunter2")])
    answer = await gateway.ann.get("/notes/_changes", params={"feed": "continuous"})
    assert "hunter2" not in answer.text
    assert json.loads(answer.text.splitlines()[-1])["error"] == "internal_server_error"
    assert "hunter2" in caplog.text


async def test_head_of_a_feed_is_its_head_alone(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([asyncio.Event()])
    for kind in ("normal", "longpoll", "continuous"):
        answer = await gateway.ann.head("/notes/_changes", params={"feed": kind})
        assert (answer.status_code, answer.content) == (200, b"")


async def test_more_feeds_than_the_limit_are_503(gateway: Ports) -> None:
    async with listening(feeds_count=1) as small:
        small.db.feed = FakeFeed([asyncio.Event()])
        async with feeding(small, "feed=continuous"):
            answer = await small.ann.get("/notes/_changes")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "FEEDS_COUNT" in answer.json()["reason"]


async def test_a_slow_client_is_let_go(gateway: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.CLIENT_WRITE_SECONDS", 0.05)
    page = FeedRows([b"x" * 1_000_000])
    gateway.db.feed = FakeFeed([page] * 200)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"], limit=1)
    writer.write(b"GET /notes/_changes?feed=continuous HTTP/1.1\r\n%b\r\n" % LOGIN)
    await asyncio.wait_for(gateway.db.feed.closed.wait(), 20)
    writer.close()


async def test_a_client_that_takes_nothing_of_a_plain_answer_is_let_go_too(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.limits.CLIENT_WRITE_SECONDS", 0.05)
    caplog.set_level("INFO")
    await gateway.ann.put("/notes/large", json={"text": "x" * 6_000_000})
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"], limit=65_536)
    writer.write(b"GET /notes/large HTTP/1.1\r\n%b\r\n" % LOGIN * 3)
    async with asyncio.timeout(20):
        while "took nothing" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert len(await reader.read()) < 18_000_000  # it was cut off
    writer.close()


async def test_a_slow_client_that_goes_on_taking_is_not_let_go(gateway: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.CLIENT_WRITE_SECONDS", 0.5)
    gateway.db.feed = FakeFeed([FeedRows([b'"%b"' % (b"x" * 8_000_000)])])
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"], limit=65_536)
    writer.write(b"GET /notes/_changes?feed=continuous HTTP/1.0\r\n%b\r\n" % LOGIN)
    taken = b""
    while piece := await reader.read(600_000):
        taken = taken[-100:] + piece
        await asyncio.sleep(0.02)
    assert taken.endswith(b'{"last_seq":"1-3f2a","pending":0}\n')
    writer.close()


async def test_draining_ends_each_feed_completely_and_refuses_what_comes_after(gateway: Ports) -> None:
    waiting = []
    async with contextlib.AsyncExitStack() as stack:
        wires = {}
        for kind in ("normal", "longpoll", "continuous"):
            feed = gateway.db.feed = FakeFeed([FeedRows([b'"%b"' % (b"x" * 70_000)]), asyncio.Event()])
            wires[kind] = await stack.enter_async_context(feeding(gateway, f"feed={kind}"))
            await asyncio.wait_for(feed.waiting.wait(), 10)
            waiting.append(feed)
        assert gateway.traffic.feeds_open == 3
        assert await gateway.traffic.drain(10)
        bodies = {}
        for kind, wire in wires.items():
            body = b""
            while chunk := await asyncio.wait_for(wire.chunk(), 10):
                body += chunk
            bodies[kind] = body
            assert await wire.rest() == b""  # the connection is closed, too
        assert json.loads(bodies["normal"])["last_seq"] == "1-3f2a"
        assert json.loads(bodies["longpoll"])["last_seq"] == "1-3f2a"
        assert json.loads(bodies["continuous"].splitlines()[-1]) == {"last_seq": "1-3f2a", "pending": 0}
        assert all(feed.closed.is_set() for feed in waiting)
    refused = await gateway.ann.get("/notes/a")
    assert (refused.status_code, refused.json()["error"]) == (503, "service_unavailable")
    assert refused.headers["connection"] == "close"
    up = await gateway.public.get("/_up", auth=ANN)
    assert (up.status_code, up.json()) == (503, {"status": "shutting_down"})


async def test_draining_does_not_wait_for_ever(gateway: Ports) -> None:
    with gateway.traffic.request():
        assert not await gateway.traffic.drain(0.01)
    assert await gateway.traffic.drain(0.01)
