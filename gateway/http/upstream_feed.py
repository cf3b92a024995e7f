"""An administrator's `_changes`: CouchDB's own, with design documents, tombstones and CouchDB's sequences.

It is passed on as it comes, but in whole lines, so that a gateway that stops ends a feed after a row, not within one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiohttp import web

from gateway.http import answers
from gateway.http.call import Call, close
from gateway.http.passthrough import ask, pass_back
from gateway.http.streaming import fail_feed, running_feed

_KEPT: Final = ("content-type", "cache-control")
_BY_LINES: Final = ("continuous", "live", "eventsource")
# What only the gateway's own feed knows, whose sequences are others.
_OURS: Final = ("channels", "active_only", "revocations")


def is_ours(given: Mapping[str, str], body: Mapping[str, Any]) -> bool:
    """Whether an administrator asks for the feed that users have. `given` has lower-case names."""
    if given.get("feed", body.get("feed")) == "websocket":
        return True
    if given.get("filter", body.get("filter")) == "sync_gateway/bychannel":
        return True
    return any(name in given or name in body for name in _OURS)


async def upstream_changes(call: Call, kind: str, body: bytes | None) -> web.StreamResponse:
    """Ask the upstream for a feed of this kind, and pass its answer on. Raises Unavailable when there are too many."""
    source = await ask(call, body=body)
    if kind == "normal" or source.status != 200 or call.is_head:
        return await pass_back(call, source)
    content = call.database.passed_on(call.caller, source.content)
    try:
        with running_feed(call) as running:
            response = answers.stream(200, {name: source.headers[name] for name in _KEPT if name in source.headers})
            await call.begin(response)
            pieces = _whole_lines(content) if kind in _BY_LINES else content
            try:
                while (piece := await running.next(pieces)) is not None:
                    await call.write(piece)
            except ConnectionError:
                raise
            except Exception as error:
                return await fail_feed(call, response, "continuous" if kind == "live" else kind, error)
            if kind not in _BY_LINES and running.stopped:
                call.break_off()  # half a JSON object must not look whole
            return response
    finally:
        await close(content)
        await close(source.content)


async def _whole_lines(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, cut after line ends only."""
    held = b""
    async for chunk in content:
        whole, newline, rest = chunk.rpartition(b"\n")
        if newline:
            yield held + whole + newline
            held = rest
        else:
            held += rest
    if held:
        yield held
