"""Endpoints of CouchDB that administrators reach through the gateway: design documents, views, indexes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from aiohttp import web

from gateway.couch.upstream import UpstreamResponse
from gateway.errors import BadRequest, NotFound, UpstreamRefused
from gateway.http import answers
from gateway.http.answers import answer, not_modified
from gateway.http.body import read_body
from gateway.http.call import Call, close, relay
from gateway.http.dispatch import segments

# Neither credentials nor cookies go up, nor do the server's come down.
_SENT: Final = (
    *("accept", "content-type", "if-match", "if-none-match", "destination", "x-couch-full-commit"),
    *("range", "if-range", "accept-encoding"),
)
_RETURNED: Final = (
    *("content-type", "content-encoding", "content-range", "content-md5"),
    *("accept-ranges", "etag", "cache-control", "last-modified", "vary"),
    *("x-couch-update-newrev", "x-couch-id"),
)

# The filter of channel-filtered pulls. CouchDB's replicator reads it only to name its checkpoint, so it never changes:
# a new sync function gives new sequences to what it moves, and nobody has to start over.
_DESIGN_REV: Final = "1-00000000000000000000000000000001"
SYNC_GATEWAY_DESIGN: Final = {
    "_id": "_design/sync_gateway",
    "_rev": _DESIGN_REV,
    "filters": {"bychannel": "channels are filtered by the gateway"},
}


async def pass_through(call: Call) -> web.StreamResponse:
    """Ask the upstream."""
    return await pass_back(call, await ask(call, body=await _body(call)))


async def ask(call: Call, *, body: bytes | None, query: Mapping[str, str] | None = None) -> UpstreamResponse:
    """The upstream's answer to this request, with another body or query string."""
    parts = segments(call.request.rel_url.raw_path)[1:]
    return await _ask(call, call.database.upstream_request, parts, body, query)


async def pass_through_server(call: Call) -> web.StreamResponse:
    """Ask the upstream's server, which is CouchDB; the embedded one says what it has not (501)."""
    parts = segments(call.request.rel_url.raw_path)
    source = await _ask(call, call.catalogue.upstream_request, parts, await _body(call), None)
    return await _pass_back(call, source, parts[0])


async def _body(call: Call) -> bytes | None:
    return await read_body(call.request) if call.request.can_read_body else None


async def _ask(
    call: Call,
    request: Callable[..., Awaitable[UpstreamResponse]],
    parts: list[str],
    body: bytes | None,
    query: Mapping[str, str] | None,
) -> UpstreamResponse:
    if any(part in (".", "..") for part in parts):
        raise BadRequest("the path has a segment that some servers would resolve")
    call.end_with_client()
    return await request(
        call.request.method,
        "".join("/" + quote(part, safe="") for part in parts),
        query=call.request.rel_url.raw_query_string if query is None else urlencode(query),
        headers={name: value for name in _SENT if (value := call.header(name)) is not None},
        body=body,
    )


async def pass_back(call: Call, source: UpstreamResponse) -> web.StreamResponse:
    """Answer what the upstream answered."""
    return await _pass_back(call, source, call.database.upstream_name)


async def _pass_back(call: Call, source: UpstreamResponse, upstream_name: str) -> web.StreamResponse:
    if source.status == 401:
        await close(source.content)
        raise UpstreamRefused("the upstream refuses the gateway's own credentials for this")
    headers = {name: source.headers[name] for name in _RETURNED if name in source.headers}
    if location := _location(source.headers.get("location", ""), upstream_name, call.values.get("db", upstream_name)):
        headers["location"] = location
    return await relay(call, source, headers)


def _location(given: str, upstream_name: str, name: str) -> str:
    """The upstream's `Location` as a path here: there it is another host, and perhaps another name of the database."""
    _, found, rest = urlsplit(given).path.partition(f"{answers.location(upstream_name)}/")
    return f"{answers.location(name)}/{rest}" if found else ""


async def sync_gateway_design(call: Call) -> web.StreamResponse:
    """The design document of `filter=sync_gateway/bychannel`, which is only a name."""
    if call.query.get("rev", _DESIGN_REV) != _DESIGN_REV:
        raise NotFound
    tag = f'"{_DESIGN_REV}"'
    return not_modified(call.request, tag) or answer(200, SYNC_GATEWAY_DESIGN, {"ETag": tag})
