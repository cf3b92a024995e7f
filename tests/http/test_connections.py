"""How many may be connected, and for how long without asking anything."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from gateway import limits
from tests.http.conftest import Ports

Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]
UP = b"HEAD /_up HTTP/1.1\r\nHost: gateway\r\n\r\n"


async def connect(gateway: Ports, port: str = "public") -> Connected:
    base = getattr(gateway, port).base_url
    parts = urlsplit(str(base))
    return await asyncio.open_connection(parts.hostname, parts.port)


async def ask(connected: Connected) -> bytes:
    """The first line of an answer, empty when the connection is closed."""
    reader, writer = connected
    try:
        writer.write(UP)
        await writer.drain()
        async with asyncio.timeout(20):
            return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""


async def ended(connected: Connected) -> bool:
    try:
        async with asyncio.timeout(20):
            return await connected[0].read() == b""
    except ConnectionError:
        return True


async def leave(*several: Connected) -> None:
    for _, writer in several:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_one_connection_too_many_is_closed_and_the_others_go_on(gateway: Ports) -> None:
    gateway.traffic.connections_count = gateway.traffic.connections_open + 2
    first, second = await connect(gateway), await connect(gateway)
    assert await ask(first) == await ask(second) == b"HTTP/1.1 200 OK"
    third = await connect(gateway)
    assert await ended(third)
    assert gateway.traffic.connections_refused == 1
    assert await ask(first) == b"HTTP/1.1 200 OK"
    administrator = await connect(gateway, "admin")
    assert await ask(administrator) == b"HTTP/1.1 200 OK", "there is always room for administrators"
    await leave(second, third)
    async with asyncio.timeout(20):
        while gateway.traffic.connections_open >= gateway.traffic.connections_count:  # noqa: ASYNC110
            await asyncio.sleep(0)
    fourth = await connect(gateway)
    assert await ask(fourth) == b"HTTP/1.1 200 OK"
    await leave(first, fourth, administrator)


async def test_who_asks_nothing_is_let_go_and_who_asked_may_be_idle(
    gateway: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_REQUEST_SECONDS", 0.3)
    asking = await connect(gateway)
    assert await ask(asking) == b"HTTP/1.1 200 OK"
    silent, slow = await connect(gateway), await connect(gateway)
    slow[1].write(UP[:20])
    assert await ended(silent)
    assert await ended(slow)
    assert await ask(asking) == b"HTTP/1.1 200 OK"
    await leave(asking, silent, slow)
