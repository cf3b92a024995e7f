"""A listener that closes: what was answered goes out, and no connection stays behind."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from gateway.http.connection import Server


async def test_a_client_that_takes_nothing_is_let_go_when_its_listener_closes() -> None:
    sockets = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        sockets.append(request.transport.get_extra_info("socket"))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 30_000_000)
        return response

    runner = web.ServerRunner(Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    assert sockets[0].fileno() >= 0
    await runner.cleanup()
    assert sockets[0].fileno() == -1
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
