"""`feed=websocket`: the handshake, the options, the messages, and each way to end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType

from gateway import limits
from gateway.auth.origins import CorsPolicy
from gateway.database import CaughtUp, FeedRows, Heartbeat
from gateway.errors import Unauthorized
from gateway.http.cors import Cors
from gateway.model.positions import Position, Since
from gateway.queries import ChangesQuery
from tests.http.conftest import ANN, BOB, Ports, listening
from tests.http.fake import FakeFeed

ROWS = FeedRows([b'{"seq":"1-x","id":"a","changes":[]}', b'{"seq":"2-x","id":"b","changes":[]}'])
HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
KEY = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}


@contextlib.asynccontextmanager
async def connected(
    gateway: Ports, options: Any = None, *, query: str = "", auth: tuple[str, str] | None = ANN, **more: Any
) -> AsyncIterator[ClientWebSocketResponse]:
    """A websocket; `options` are sent, unless None."""
    login = {"Authorization": aiohttp.encode_basic_auth(*auth)} if auth else {}
    url = f"http://127.0.0.1:{gateway.ports['public']}/notes/_changes?feed=websocket{query}"
    async with aiohttp.ClientSession(headers=login) as session, session.ws_connect(url, **more) as socket:
        if options is not None:
            await socket.send_str(options if isinstance(options, str) else json.dumps(options))
        yield socket


async def ended(socket: ClientWebSocketResponse) -> tuple[int | None, str]:
    """The code and the reason that a socket is closed with, after messages that nobody looks at."""
    while (message := await asyncio.wait_for(socket.receive(), 10)).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
        pass
    return socket.close_code, message.extra or ""


async def test_rows_come_as_arrays_an_empty_one_when_caught_up_and_empty_messages_as_heartbeats(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, CaughtUp(), Heartbeat(), FeedRows([b'{"seq":"3-x"}'])])
    async with connected(gateway, {"include_docs": True, "since": "7-3f2a", "feed": "websocket"}) as socket:
        assert await socket.receive_json() == [json.loads(row) for row in ROWS.rows]
        assert await socket.receive_json() == []
        assert await socket.receive_str() == ""
        assert await socket.receive_json() == [{"seq": "3-x"}]
        assert await ended(socket) == (1000, "")
    query = gateway.db.last("changes")[1]
    assert query == ChangesQuery(feed="websocket", include_docs=True, since=Since(Position(7), "3f2a"))


async def test_options_may_stand_in_the_url_and_the_message_may_be_empty(gateway: Ports) -> None:
    for options in ("", "{}", " "):
        async with connected(gateway, options, query="&limit=3&last-event-id=4") as socket:
            assert await ended(socket) == (1000, "")
        assert gateway.db.last("changes")[1] == ChangesQuery(feed="websocket", limit=3, since=Since(Position(4)))


async def test_messages_hold_few_rows_and_no_more_bytes_than_a_client_takes(gateway: Ports) -> None:
    small = [b'{"n":%d}' % n for n in range(45)]
    large = [b'{"text":"%b"}' % (b"x" * 40_000)] * 3
    huge = b'{"text":"%b"}' % (b"x" * 2 * limits.WEBSOCKET_MESSAGE_BYTES)
    gateway.db.feed = FakeFeed([FeedRows(small), FeedRows([*large, huge, *large])])
    async with connected(gateway, {}) as socket:
        assert [len(await socket.receive_json()) for _ in range(3)] == [20, 20, 5]
        assert [len(await socket.receive_json()) for _ in range(7)] == [1] * 7
        assert await ended(socket) == (1000, "")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("{", "bad_request: invalid UTF-8 JSON"),
        ("[]", "bad_request: the options must be a JSON object"),
        ("7", "bad_request: the options must be a JSON object"),
        ('{"limit": "few"}', "query_parse_error: Invalid value for `limit`"),
        ('{"since": "x"}', "bad_request: Malformed sequence"),
        ('{"filter": "' + "é" * 300 + '"}', "bad_request: "),
    ],
)
async def test_options_that_are_wrong_close_with_the_reason(gateway: Ports, sent: str, said: str) -> None:
    async with connected(gateway, sent) as socket:
        code, reason = await ended(socket)
    assert (code, reason[: len(said)]) == (1008, said)
    assert not [what for what, _ in gateway.db.asked if what == "changes"]


async def test_anything_said_after_the_options_closes_with_a_reason(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([asyncio.Event()])
    async with connected(gateway, {}) as socket:
        await socket.send_str("{}")
        assert await ended(socket) == (1008, "nothing is taken after the options")
    assert gateway.db.feed.closed.is_set()


async def test_binary_options_and_too_large_ones_are_refused(gateway: Ports) -> None:
    async with connected(gateway) as socket:
        await socket.send_bytes(b"{}")
        assert await ended(socket) == (1003, "the options are a text message")
    async with connected(gateway, "x" * (limits.WEBSOCKET_OPTIONS_BYTES + 1)) as socket:
        assert (await ended(socket))[0] == 1009


async def test_a_client_that_sends_no_options_is_let_go(gateway: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.limits.WEBSOCKET_OPTIONS_SECONDS", 0.05)
    async with connected(gateway) as socket:
        assert await ended(socket) == (1008, "no message with the options came")


async def test_a_login_that_ends_closes_with_the_reason(gateway: Ports) -> None:
    gateway.db.feed = FakeFeed([ROWS, Unauthorized("the password was changed")])
    async with connected(gateway, {}) as socket:
        assert await ended(socket) == (1008, "unauthorized: the password was changed")


async def test_an_unexpected_failure_tells_nothing_of_itself(gateway: Ports, caplog: pytest.LogCaptureFixture) -> None:
    gateway.db.feed = FakeFeed([ROWS, RuntimeError("hunter2")])
    async with connected(gateway, {}) as socket:
        assert await ended(socket) == (1011, "internal_server_error")
    assert "hunter2" in caplog.text


async def test_a_client_that_says_goodbye_or_just_leaves_ends_its_feed(gateway: Ports) -> None:
    for politely in (True, False):
        feed = gateway.db.feed = FakeFeed([asyncio.Event()])
        async with connected(gateway, {}) as socket:
            await asyncio.wait_for(feed.waiting.wait(), 10)
            if politely:
                await socket.close()
            elif (transport := socket._response.connection) is not None and transport.transport is not None:
                transport.transport.abort()
            await asyncio.wait_for(feed.closed.wait(), 10)
    assert await gateway.traffic.drain(10)
    assert gateway.traffic.feeds_open == 0


async def test_draining_closes_with_1001_after_whole_messages_also_before_the_options(gateway: Ports) -> None:
    feed = gateway.db.feed = FakeFeed([ROWS, asyncio.Event()])
    async with connected(gateway, {}) as socket, connected(gateway) as silent:
        await asyncio.wait_for(feed.waiting.wait(), 10)
        drained = asyncio.create_task(gateway.traffic.drain(10))
        assert len(await socket.receive_json()) == 2
        assert await ended(socket) == (1001, "the gateway is shutting down")
        assert await ended(silent) == (1001, "the gateway is shutting down")
        assert await drained


async def test_a_client_that_does_not_read_holds_little_and_is_let_go(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.CLIENT_WRITE_SECONDS", 0.05)
    row = b'{"text":"%b"}' % (b"x" * 1_000_000)
    feed = gateway.db.feed = FakeFeed([FeedRows([row])] * 500)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.ports["public"], limit=1)
    head = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, **KEY}.items())
    writer.write(b"GET /notes/_changes?feed=websocket HTTP/1.1\r\nHost: x\r\n" + head.encode())
    # The options: a masked frame of no text.
    writer.write(b"Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n\x81\x80\x00\x00\x00\x00")
    await asyncio.wait_for(feed.closed.wait(), 20)
    assert int(feed.last_seq.partition("-")[0]) < 100  # the others were never made
    writer.close()


async def test_the_handshake_needs_a_login_and_a_free_place(gateway: Ports) -> None:
    for auth, status in ((None, 401), (("ann", "wrong"), 401)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with connected(gateway, auth=auth):
                raise AssertionError
        assert refused.value.status == status
    async with listening(feeds_count=1) as small:
        async with connected(small):
            with pytest.raises(aiohttp.WSServerHandshakeError) as full:
                async with connected(small, auth=BOB):
                    raise AssertionError
        assert full.value.status == 503


async def test_what_is_no_handshake_is_a_bad_request(gateway: Ports) -> None:
    plain = await gateway.ann.get("/notes/_changes?feed=websocket")
    posted = await gateway.ann.post("/notes/_changes", json={"feed": "websocket"})
    no_key = await gateway.ann.get("/notes/_changes?feed=websocket", headers=HANDSHAKE)
    for answer in (plain, posted, no_key):
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
        assert "handshake" in answer.json()["reason"]


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {"Origin": origin}
            for origin in ("https://evil.example", "null", "file://", "http://127.0.0.1:1", "https://")
        ),
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1"},
    ],
)
async def test_a_page_of_another_origin_may_not_use_a_browsers_login(gateway: Ports, headers: dict[str, str]) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with connected(gateway, headers=headers):
            raise AssertionError
    assert refused.value.status == 403
    assert not gateway.db.asked


async def test_a_page_of_the_gateways_own_origin_may(gateway: Ports) -> None:
    own = f"http://127.0.0.1:{gateway.ports['public']}"
    for headers in ({"Origin": own}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}):
        async with connected(gateway, {}, headers=headers) as socket:
            assert await ended(socket) == (1000, "")


async def test_a_page_of_an_origin_that_cors_trusts_may(gateway: Ports) -> None:
    app = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    for policy, trusted in (
        (CorsPolicy(frozenset({"https://app.example"}), credentials=True), True),
        (CorsPolicy(frozenset({"https://app.example"})), False),
        (CorsPolicy(frozenset({"*"})), False),
    ):
        async with listening(cors=Cors(policy)) as running:
            if trusted:
                async with connected(running, {}, headers=app) as socket:
                    assert await ended(socket) == (1000, "")
                continue
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with connected(running, headers=app):
                    raise AssertionError
            assert refused.value.status == 403
