"""Feeds of every kind that run while a timeline goes on, read row by row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

import aiohttp

PATIENCE_SECONDS: Final = 30.0
WAITING_MILLISECONDS: Final = 600_000
KINDS: Final = ("continuous", "longpoll", "eventsource", "websocket")
Json = dict[str, Any]


class RunningFeed(Protocol):
    """One feed that waits for what comes. Whatever does not come in time fails the test."""

    async def take(self, count: int) -> list[Json]:
        """The next rows."""

    async def end(self) -> str | None:
        """After the last row of a feed with a limit: it is over. The `last_seq` it says, where it says one."""

    async def refused(self) -> None:
        """It is over since its login is."""

    def close(self) -> None: ...


async def open_feed(
    http: aiohttp.ClientSession, kind: str, url: str, headers: Mapping[str, str], options: Json
) -> RunningFeed:
    """A feed that the gateway has begun to answer. `options` are JSON values, without `feed`."""
    if kind == "websocket":
        socket = await http.ws_connect(url, params={"feed": kind}, headers=headers)
        await socket.send_json({**options, "timeout": WAITING_MILLISECONDS})
        return _Websocket(socket)
    asked = in_the_query({**options, "feed": kind, "timeout": WAITING_MILLISECONDS})
    response = await http.get(url, params=asked, headers=headers)
    assert response.status == 200, await response.text()
    if kind == "longpoll":
        return _Longpoll(http, url, headers, asked, response)
    return _Continuous(response) if kind == "continuous" else _EventSource(response)


def in_the_query(options: Json) -> dict[str, str]:
    """Options as a query string has them."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}


class _Continuous:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def _line(self) -> Json:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (line := (await self._response.content.readline()).rstrip(b"\n")):
                assert not self._response.content.at_eof(), "the feed ended"
        return dict(json.loads(line))

    async def take(self, count: int) -> list[Json]:
        return [await self._line() for _ in range(count)]

    async def end(self) -> str:
        last = await self._line()
        assert last.keys() == {"last_seq", "pending"}
        assert await self._response.content.read() == b""
        return str(last["last_seq"])

    async def refused(self) -> None:
        assert (await self._line())["error"] == "unauthorized"

    def close(self) -> None:
        self._response.close()


class _EventSource:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def _event(self) -> Json:
        async with asyncio.timeout(PATIENCE_SECONDS):
            data, seq, empty = [await self._response.content.readline() for _ in range(3)]
        assert empty == b"\n", "the feed ended"
        row = dict(json.loads(data.removeprefix(b"data: ")))
        assert seq == f"id: {json.dumps(row['seq'])}\n".encode()
        return row

    async def take(self, count: int) -> list[Json]:
        return [await self._event() for _ in range(count)]

    async def end(self) -> None:
        assert await self._response.content.read() == b""

    async def refused(self) -> None:
        try:
            assert await self._response.content.read() == b""
        except aiohttp.ClientPayloadError:
            pass  # broken off, so that browsers ask again
        else:
            raise AssertionError("the feed ended as if nothing were wrong")

    def close(self) -> None:
        self._response.close()


class _Websocket:
    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._rows: list[Json] = []

    async def take(self, count: int) -> list[Json]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self._rows) < count:
                self._rows += await self._socket.receive_json()
        taken, self._rows = self._rows[:count], self._rows[count:]
        return taken

    async def _closed(self) -> int | None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (message := await self._socket.receive()).type is aiohttp.WSMsgType.TEXT:
                assert message.data == "[]", "rows that nobody expects"
        return self._socket.close_code

    async def end(self) -> None:
        assert self._rows == []
        assert await self._closed() == aiohttp.WSCloseCode.OK

    async def refused(self) -> None:
        assert await self._closed() == aiohttp.WSCloseCode.POLICY_VIOLATION

    def close(self) -> None:
        self._socket._response.close()  # at once: nobody waits for the other side's goodbye


class _Longpoll:
    """Answered, it is asked again from where the answer ended."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        asked: dict[str, str],
        response: aiohttp.ClientResponse,
    ) -> None:
        self._http = http
        self._url = url
        self._headers = headers
        self._asked = asked
        self._response = response
        self._last = ""
        self._rows: list[Json] = []

    async def take(self, count: int) -> list[Json]:
        while len(self._rows) < count:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = json.loads(await self._response.read())
            assert answer["results"], "answered with nothing"
            self._rows += answer["results"]
            self._last = answer["last_seq"]
            if "limit" not in self._asked:
                self._asked["since"] = self._last
                self._response = await self._http.get(self._url, params=self._asked, headers=self._headers)
                assert self._response.status == 200, await self._response.text()
        taken, self._rows = self._rows[:count], self._rows[count:]
        return taken

    async def end(self) -> str:
        assert self._rows == []
        return self._last

    async def refused(self) -> None:
        try:
            await self._response.read()
        except aiohttp.ClientPayloadError:
            pass  # half a JSON object, which must not look whole
        else:
            raise AssertionError("the feed ended as if nothing were wrong")

    def close(self) -> None:
        self._response.close()
