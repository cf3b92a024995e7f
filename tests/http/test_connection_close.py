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


async def _nothing(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


async def test_a_client_accepted_at_the_last_moment_is_let_go_too() -> None:
    server = Server(_nothing)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = runner.addresses[0][:2]
    readers = []
    for _ in range(5):  # accepted by the system, perhaps not by the event loop
        reader, writer = await asyncio.open_connection(*address)
        readers.append((reader, writer))
    await runner.cleanup()
    assert server.connections == []
    for reader, writer in readers:
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_that_is_made_after_the_end_is_closed_at_once() -> None:
    server = Server(_nothing)
    await server.shutdown()
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname()[:2])
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    while server.connections:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0)
    writer.close()
    listening.close()
    await listening.wait_closed()
