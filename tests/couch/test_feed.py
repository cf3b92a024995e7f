"""The continuous feed, byte by byte."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.couch.client import CouchDatabase
from gateway.couch.feed import Lines, parse_row
from gateway.couch.upstream import ChangeRow, Idle
from gateway.errors import UnknownDatabase, UpstreamError, UpstreamUnreachable
from tests.couch.conftest import Connect
from tests.couch.scripted import Out, Request


def row(number: int, **members: Any) -> bytes:
    value = {"seq": f"{number}-x", "id": f"d{number}", "changes": [{"rev": "1-é"}], **members}
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def read(number: int) -> ChangeRow:
    return ChangeRow(f"d{number}", ("1-é",), False, f"{number}-x")


async def take(database: CouchDatabase, count: int, since: str = "0") -> list[ChangeRow | Idle]:
    feed = database.changes(since)
    items = [await anext(feed) for _ in range(count)]
    await feed.aclose()
    return items


async def rows_until_the_end(database: CouchDatabase) -> tuple[list[ChangeRow], UpstreamError]:
    rows: list[ChangeRow] = []
    with pytest.raises(UpstreamError) as caught:
        async for item in database.changes("0"):
            rows += [item] if isinstance(item, ChangeRow) else []
    return rows, caught.value


async def test_the_feed_is_asked_for_with_all_leaves_and_a_heartbeat(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await out.raw(b"\n")
        await asyncio.Event().wait()

    server, _, database = await connect(answer)
    assert await take(database, 1, since='[3,"g+/="]') == [Idle()]
    assert server.requests[0].target == (
        "/db/_changes?feed=continuous&style=all_docs&heartbeat=5000&since=%5B3%2C%22g%2B%2F%3D%22%5D"
    )


async def test_an_idle_follows_as_soon_as_everything_received_is_handed_out(connect: Connect) -> None:
    more = asyncio.Event()

    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await out.raw(row(1) + row(2) + b'{"seq":')
        await more.wait()
        await out.raw(b'"3-x","id":"d3","changes":[{"rev":"2-b"},{"rev":"2-a"}],"deleted":true}\n')
        await asyncio.Event().wait()

    _, _, database = await connect(answer)
    feed = database.changes("0")
    assert [await anext(feed) for _ in range(3)] == [read(1), read(2), Idle()]
    more.set()
    assert await anext(feed) == ChangeRow("d3", ("2-b", "2-a"), True, "3-x")
    assert await anext(feed) == Idle()
    await feed.aclose()


async def test_rows_survive_being_cut_at_every_byte(connect: Connect) -> None:
    text = b"\n" + row(1) + b"\r\n" + row(2) + row(3)

    async def answer(request: Request, out: Out) -> None:
        await out.head("Transfer-Encoding: chunked")
        for byte in text:
            await out.raw(b"1\r\n" + bytes((byte,)) + b"\r\n")
            await asyncio.sleep(0)
        await out.raw(b"0\r\n\r\n")
        out.close()

    _, _, database = await connect(answer)
    rows, error = await rows_until_the_end(database)
    assert rows == [read(1), read(2), read(3)]
    assert isinstance(error, UpstreamUnreachable)


@given(st.lists(st.binary(max_size=8), max_size=12))
def test_lines_do_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    lines = Lines()
    got = [line for piece in pieces for line in lines.feed(piece)]
    assert got == b"".join(pieces).split(b"\n")[:-1]


async def test_a_silent_feed_is_dead(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_SILENCE_SECONDS", 0.05)

    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await out.raw(row(1))
        await asyncio.Event().wait()

    server, _, database = await connect(answer)
    rows, error = await rows_until_the_end(database)
    assert rows == [read(1)]
    assert isinstance(error, UpstreamUnreachable)
    assert "silent" in error.reason
    await asyncio.wait_for(server.ended.get(), 5)


async def test_a_server_that_never_answers_is_a_dead_feed(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_SILENCE_SECONDS", 0.05)

    async def answer(request: Request, out: Out) -> None:
        await asyncio.Event().wait()

    _, _, database = await connect(answer)
    assert (await rows_until_the_end(database))[0] == []


@pytest.mark.parametrize(
    "end", [b'{"last_seq":"9-x","pending":0}\n', b'{"error":"timeout","reason":"shards"}\n', b"", b'{"seq":'], ids=str
)
async def test_a_feed_that_ends_is_unreachable_after_its_rows(connect: Connect, end: bytes) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await out.raw(row(1) + end)
        out.close()

    _, _, database = await connect(answer)
    rows, error = await rows_until_the_end(database)
    assert rows == [read(1)]
    assert isinstance(error, UpstreamUnreachable)


async def test_a_feed_that_breaks_is_unreachable(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.head("Content-Length: 1000")
        await out.raw(row(1))
        out.abort()

    _, _, database = await connect(answer)
    assert isinstance((await rows_until_the_end(database))[1], UpstreamUnreachable)


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[1]",
        b'{"id":7,"changes":[]}',
        b'{"id":"a"}',
        b'{"id":"a","changes":[{"rev":1}]}',
        b'{"id":"a","changes":["x"]}',
    ],
)
def test_a_line_that_is_no_row_is_an_upstream_error(line: bytes) -> None:
    with pytest.raises(UpstreamError):
        parse_row(line)


def test_sequences_may_be_numbers_arrays_or_absent() -> None:
    def seq(text: str) -> str | None:
        return parse_row(b'{"id":"a","changes":[],"seq":' + text.encode() + b"}").seq

    assert [seq(text) for text in ("7", '"7-a"', '[7, "x"]', "null")] == ["7", "7-a", '[7,"x"]', None]


async def test_an_endless_line_is_refused_in_bounded_memory(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_ROW_BYTES", 10_000)

    async def answer(request: Request, out: Out) -> None:
        await out.head()
        while True:
            await out.raw(b"x" * 1_000)

    _, _, database = await connect(answer)
    rows, error = await rows_until_the_end(database)
    assert rows == []
    assert "10000 bytes" in error.reason


async def test_a_feed_of_a_database_that_is_gone_is_unknown(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(404, {"error": "not_found", "reason": "Database does not exist."})

    _, _, database = await connect(answer)
    with pytest.raises(UnknownDatabase):
        await take(database, 1)


async def test_leaving_a_feed_closes_its_connection(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await out.raw(row(1))
        await asyncio.Event().wait()

    server, _, database = await connect(answer)
    assert await take(database, 1) == [read(1)]
    await asyncio.wait_for(server.ended.get(), 5)


async def test_closing_the_client_ends_its_feeds(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.head("Transfer-Encoding: chunked")
        await out.raw(b"1\r\n\n\r\n")
        await asyncio.Event().wait()

    _, client, database = await connect(answer)
    feed = database.changes("0")
    assert await anext(feed) == Idle()
    waiting = asyncio.ensure_future(anext(feed))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(UpstreamUnreachable):
        await asyncio.wait_for(waiting, 5)


async def test_feeds_do_not_use_up_the_connections_of_requests(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_CONNECTIONS_COUNT", 1)

    async def answer(request: Request, out: Out) -> None:
        if "_changes" not in request.target:
            await out.json(200, ["db"])
            return
        await out.head()
        await out.raw(b"\n")
        await asyncio.Event().wait()

    _, client, database = await connect(answer)
    feeds = [database.changes("0") for _ in range(3)]
    assert [await anext(feed) for feed in feeds] == [Idle()] * 3
    assert await client.all_dbs() == ["db"]
    for feed in feeds:
        await feed.aclose()
