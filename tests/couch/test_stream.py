"""Pass-through requests: streamed both ways, without any login but our own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway import limits
from gateway.couch.upstream import UpstreamResponse
from gateway.errors import BadRequest, InvalidDocumentId, UpstreamUnreachable
from tests.couch.conftest import Connect
from tests.couch.scripted import Out, Request


async def whole(response: UpstreamResponse) -> bytes:
    return b"".join([chunk async for chunk in response.content])


async def test_an_answer_passes_as_it_is_without_what_belongs_to_the_connection(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.text(
            404, "\x1f\x8b", "x/y", Content_Encoding="gzip", ETag='"1"', Set_Cookie="AuthSession=x",
            Connection="X-Private", X_Private="1", Keep_Alive="5", Vary="a",
        )  # fmt: skip

    server, _, database = await connect(answer)
    response = await database.request("GET", "/a%2fb/att.txt", query="rev=1-a")
    assert response.status == 404
    assert await whole(response) == "\x1f\x8b".encode()
    assert dict(response.headers) == {
        "content-type": "x/y", "content-length": "3", "content-encoding": "gzip", "etag": '"1"', "vary": "a"
    }  # fmt: skip
    assert server.requests[0].target == "/db/a%2fb/att.txt?rev=1-a"


async def test_a_client_cannot_bring_his_own_login(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(200, {})

    server, client, _ = await connect(answer)
    claims = {
        "Authorization": "Basic eDp5", "Cookie": "AuthSession=x", "X-Auth-CouchDB-UserName": "root",
        "x-auth-couchdb-roles": "_admin", "Host": "evil", "Connection": "X-Hop", "X-Hop": "1", "Transfer-Encoding": "x",
        "Content-Length": "99", "If-None-Match": '"1"',
    }  # fmt: skip
    await whole(await client.request("POST", "/_x", headers=claims, body=b"{}"))
    sent = server.requests[0].headers
    assert sent.pop("host") == f"127.0.0.1:{server.port}"
    assert sent.pop("user-agent") == "couch-gateway"
    assert sent == {
        "authorization": "Basic YW5uOnMzY3JldA==", "if-none-match": '"1"', "content-length": "2"
    }  # fmt: skip
    assert server.requests[0].body == b"{}"


async def test_a_redirect_is_passed_on_not_followed(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.text(302, "", Location="/elsewhere")

    server, client, _ = await connect(answer)
    response = await client.request("GET", "/_utils")
    await whole(response)
    assert (response.status, response.headers["location"], len(server.requests)) == (302, "/elsewhere", 1)


async def test_a_body_is_streamed_up_with_or_without_its_length(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(201, {})

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    server, _, database = await connect(answer)
    await whole(await database.request("PUT", "/a/x", headers={"Content-Length": "6"}, body=body()))
    await whole(await database.request("PUT", "/a/x", headers={"Content-Type": "text/plain"}, body=body()))
    assert [request.body for request in server.requests] == [b"abcdef", b"abcdef"]
    assert server.requests[0].headers["content-length"] == "6"
    assert server.requests[1].headers["transfer-encoding"] == "chunked"
    assert server.requests[1].headers["content-type"] == "text/plain"


async def test_a_client_that_hangs_up_while_sending_is_not_the_upstreams_fault(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(201, {})

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ConnectionResetError("the client is gone")

    server, _, database = await connect(answer)
    with pytest.raises(ConnectionResetError, match="the client is gone"):
        await database.request("PUT", "/a/x", headers={"Content-Length": "6"}, body=body())
    await asyncio.wait_for(server.ended.get(), 5)
    assert server.requests == []


async def test_bytes_are_handed_on_before_the_answer_is_complete(connect: Connect) -> None:
    more = asyncio.Event()

    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await out.raw(b"first")
        await more.wait()
        await out.raw(b"second")
        out.close()

    _, client, _ = await connect(answer)
    response = await client.request("GET", "/x")
    assert await anext(response.content) == b"first"
    more.set()
    assert await whole(response) == b"second"


async def test_a_reader_that_is_cancelled_closes_the_upstreams_connection(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await out.raw(b"first")
        await asyncio.Event().wait()

    server, client, _ = await connect(answer)
    response = await client.request("GET", "/x")
    assert await anext(response.content) == b"first"
    reading = asyncio.ensure_future(whole(response))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await asyncio.wait_for(server.ended.get(), 5)


async def test_an_answer_that_is_not_wanted_is_closed_unread(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.head()
        await asyncio.Event().wait()

    server, client, _ = await connect(answer)
    response = await client.request("GET", "/x")
    assert isinstance(response.content, AsyncIterator)
    await response.content.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(server.ended.get(), 5)


async def test_an_answer_that_breaks_is_unreachable(connect: Connect) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        out.abort()

    _, client, _ = await connect(answer)
    with pytest.raises(UpstreamUnreachable):
        await whole(await client.request("GET", "/x"))


async def test_no_answer_is_unreachable(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "UPSTREAM_STREAM_SILENCE_SECONDS", 0.05)

    async def answer(request: Request, out: Out) -> None:
        await asyncio.Event().wait()

    _, client, _ = await connect(answer)
    with pytest.raises(UpstreamUnreachable):
        await client.request("GET", "/x")


@pytest.mark.parametrize("path", ["x", "/a b", "/a\r\nX: y", "/é", "/a?b", "/a#b", "@evil/"])
async def test_a_path_that_is_not_encoded_is_refused(connect: Connect, path: str) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(200, {})

    server, client, database = await connect(answer)
    for target in (client, database):
        with pytest.raises(BadRequest):
            await target.request("GET", path)
    with pytest.raises(BadRequest):
        await client.request("GET", "/x", query="a=\r\n")
    assert server.requests == []


@pytest.mark.parametrize("path", ["/../_users", "/a/%2e%2E/b", "/./x"])
async def test_a_path_cannot_leave_its_database(connect: Connect, path: str) -> None:
    async def answer(request: Request, out: Out) -> None:
        await out.json(200, {})

    server, _, database = await connect(answer)
    with pytest.raises(InvalidDocumentId):
        await database.request("GET", path)
    assert server.requests == []
