"""Pass-through: one raw request to the upstream, streamed both ways."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from urllib.parse import unquote

import aiohttp
from multidict import CIMultiDict

from gateway.couch.transport import Transport, backoff, is_unsent, reason_of
from gateway.couch.upstream import UpstreamResponse
from gateway.errors import BadRequest, InvalidDocumentId, UpstreamUnreachable

# https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1 and what the connection itself decides
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "host",
    }
)
# The upstream knows the gateway, never the client: neither his login, nor names claimed in headers
# (https://docs.couchdb.org/en/stable/api/server/authn.html#proxy-authentication).
_LOGIN = frozenset({"authorization", "cookie"})
_CLAIMS = "x-auth-couchdb-"
_ANSWERED = _HOP_BY_HOP | {"set-cookie"}  # a session of the gateway's own login must not reach a client

_PATH = re.compile(r"(?:/[!-~]*)?\Z")
_QUERY = re.compile(r"[!-~]*\Z")


class Content:
    """The bytes of an answer. Ending before its end, or a cancelled read, closes the upstream's connection."""

    def __init__(self, transport: Transport, response: aiohttp.ClientResponse) -> None:
        self._reading = transport.reading
        self._response = response
        self._reading.add(response)

    def _end(self, *, close: bool) -> None:
        self._reading.discard(self._response)
        if close:
            self._response.close()
        else:
            self._response.release()

    def __aiter__(self) -> Content:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._end(close=True)
            raise UpstreamUnreachable("the upstream broke off its answer", detail=reason_of(error)) from error
        except BaseException:
            self._end(close=True)
            raise
        if not chunk:
            self._end(close=False)
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._end(close=True)


class _Upload:
    """A client's body on its way up. What he does to it (hanging up) is told from what the upstream does."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.failure: Exception | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                yield chunk
        except Exception as error:
            self.failure = error
            raise


def check_path(path: str, query: str) -> None:
    """Raise unless the path is percent-encoded and stays where it is put: no dot segments, which proxies resolve."""
    if not _PATH.match(path) or not _QUERY.match(query) or "?" in path or "#" in path or "#" in query:
        raise BadRequest("the path or query is not percent-encoded")
    if any(unquote(segment) in {".", ".."} for segment in path.split("/")):
        raise InvalidDocumentId("a path segment must not be . or ..")


def request_headers(headers: Mapping[str, str], *, streamed: bool) -> CIMultiDict[str]:
    """The headers that go up: without hop-by-hop ones and every kind of login."""
    names = {name.strip().lower() for name in _value(headers, "connection").split(",")}
    kept = CIMultiDict[str]()
    for name, value in headers.items():
        low = name.lower()
        if low in _HOP_BY_HOP or low in _LOGIN or low in names or low.startswith(_CLAIMS):
            continue
        if low == "content-length" and not streamed:
            continue  # known from the bytes
        kept.add(name, value)
    return kept


def _value(headers: Mapping[str, str], wanted: str) -> str:
    return next((value for name, value in headers.items() if name.lower() == wanted), "")


def response_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The headers that come down, lower-case; several of one name joined with a comma (RFC 9110, 5.2)."""
    names = {name.strip().lower() for name in response.headers.get("Connection", "").split(",")}
    kept: dict[str, str] = {}
    for name, value in response.headers.items():
        low = name.lower()
        if low not in _ANSWERED and low not in names:
            kept[low] = f"{kept[low]}, {value}" if low in kept else value
    return kept


_FEEDS = ("/_changes", "/_db_updates")


async def pass_through(
    transport: Transport,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str] | None,
    body: bytes | AsyncIterator[bytes] | None,
) -> UpstreamResponse:
    """See UpstreamDatabase.request. Repeated only while no connection can be made.

    Raises BadRequest for a path that is not encoded; what the iterator `body` raises is raised unchanged.
    """
    check_path(path, query)
    upload = _Upload(body) if body is not None and not isinstance(body, bytes) else None
    sent = request_headers(headers or {}, streamed=upload is not None)
    pauses = backoff()
    while True:
        try:
            session = transport.passed_feeds if path.endswith(_FEEDS) else transport.streams
            response = await session.request(
                method,
                transport.address.url(path, query),
                headers=sent,
                data=upload if upload is not None else body,
                allow_redirects=False,
            )
            return UpstreamResponse(response.status, response_headers(response), Content(transport, response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if upload is not None and upload.failure is not None:
                raise upload.failure from None
            pause = next(pauses, None) if is_unsent(error) else None
            if pause is None:
                raise UpstreamUnreachable(
                    "the upstream database server did not answer", detail=reason_of(error)
                ) from error
        await asyncio.sleep(pause)
