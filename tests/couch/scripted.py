"""A server on a real port that answers byte by byte what a test tells it, also what no sane server sends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

COUCHDB = {"couchdb": "Welcome", "version": "3.5.0", "uuid": "u1", "vendor": {"name": "The Apache Software Foundation"}}


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Out:
    """The connection an answer is written to."""

    writer: asyncio.StreamWriter
    done: bool = False

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, status: int, value: Any, **headers: str) -> None:
        await self.text(status, json.dumps(value), "application/json", **headers)

    async def text(self, status: int, text: str, kind: str = "text/html", **headers: str) -> None:
        body = text.encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self, *lines: str) -> None:
        """The status line and headers of an answer that ends with its connection."""
        await self.raw("\r\n".join(["HTTP/1.1 200 OK", *lines, "Connection: close", "", ""]).encode())

    def close(self) -> None:
        self.done = True
        self.writer.close()

    def abort(self) -> None:
        self.done = True
        self.writer.transport.abort()


Handler = Callable[[Request, Out], Awaitable[None]]


@dataclass
class ScriptedServer:
    """`async with ScriptedServer(handler) as server`: `server.url`, `server.requests`; connections are counted."""

    handler: Handler
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    ended: asyncio.Queue[None] = field(default_factory=asyncio.Queue)  # one item for each connection that ended
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for _ in range(4):  # what was accepted just now becomes a connection, and its task begins, in the next turns
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        out = Out(writer)
        try:
            ahead = b""
            while not out.done and (request := await _read_request(reader, ahead)) is not None:
                self.requests.append(request)
                answer = asyncio.ensure_future(self.handler(request, out))
                # A client that goes away ends its handler, as a web server would.
                after = asyncio.ensure_future(reader.read(1))
                try:
                    await asyncio.wait({answer, after}, return_when=asyncio.FIRST_COMPLETED)
                    ahead = after.result() if after.done() else b""
                    if after.done() and not ahead:
                        break
                    await answer
                finally:
                    for step in (answer, after):
                        step.cancel()
                    await asyncio.gather(answer, after, return_exceptions=True)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self.ended.put_nowait(None)
            self._tasks.discard(task)


async def _read_request(reader: asyncio.StreamReader, ahead: bytes) -> Request | None:
    try:
        head = ahead + await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)
