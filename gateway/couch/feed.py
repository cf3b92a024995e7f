"""The continuous changes feed: bytes to lines to rows, and the watch for silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from gateway import limits
from gateway.couch.transport import Answer, Transport, error_of, parse, read_bounded, reason_of
from gateway.couch.upstream import ChangeRow, Idle
from gateway.errors import UpstreamError, UpstreamUnreachable

T = TypeVar("T")
_IDLE = Idle()


class Lines:
    """Cuts a stream of bytes at newlines; holds at most one unfinished line of UPSTREAM_ROW_BYTES."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines. Raises UpstreamError for an endless line."""
        first, *more = data.split(b"\n")
        self._parts.append(first)
        self._size += len(first)
        if self._size > limits.UPSTREAM_ROW_BYTES:
            raise UpstreamError(f"the upstream sent a row of more than {limits.UPSTREAM_ROW_BYTES} bytes")
        if not more:
            return []
        lines = [b"".join(self._parts), *more[:-1]]
        self._parts, self._size = [more[-1]], len(more[-1])
        return lines


def seq_text(seq: object) -> str:
    """A sequence as the text that `since` takes: CouchDB 1 and pouchdb-server have numbers, CouchDB 2 and 3 strings,
    their forerunner arrays. "0" for anything else: read from the beginning."""
    if isinstance(seq, str):
        return seq
    if isinstance(seq, int) and not isinstance(seq, bool):
        return str(seq)
    if isinstance(seq, list):
        return json.dumps(seq, separators=(",", ":"))
    return "0"


def parse_row(line: bytes) -> ChangeRow:
    """A line of the feed. Raises UpstreamUnreachable for the line that ends it, UpstreamError for no row."""
    value, _ = parse(line)
    if not isinstance(value, dict):
        raise UpstreamError("the upstream sent a line in its changes feed that is no row")
    if "id" not in value:
        if "last_seq" in value:
            raise UpstreamUnreachable("the upstream ended its changes feed")
        if "error" in value:
            raise UpstreamUnreachable(
                f"the upstream ended its changes feed: {value.get('error')}: {value.get('reason')}"
            )
    doc_id, changes, seq = value.get("id"), value.get("changes"), value.get("seq")
    if not isinstance(doc_id, str) or not isinstance(changes, list):
        raise UpstreamError("the upstream sent a row in its changes feed without id or changes")
    return ChangeRow(
        id=doc_id,
        revs=tuple(_rev(change) for change in changes),
        deleted=value.get("deleted") is True,
        seq=None if seq is None else seq_text(seq),
    )


def _rev(change: Any) -> str:
    rev = change.get("rev") if isinstance(change, dict) else None
    if not isinstance(rev, str):
        raise UpstreamError("the upstream sent a row in its changes feed with a change without rev")
    return rev


async def follow(transport: Transport, url: URL) -> AsyncGenerator[ChangeRow | Idle, None]:
    """Rows of a continuous feed and an Idle whenever all that was received is handed out; see UpstreamDatabase.changes.

    Nothing is read from the connection before everything received is handed out: a slow reader slows the upstream.
    """
    response = await _guarded(transport.feeds.get(url, allow_redirects=False))
    transport.reading.add(response)
    try:
        if response.status != 200:
            body, is_json = parse(await _guarded(read_bounded(response)))
            raise error_of(Answer(response.status, body, is_json, response.content_type, ""))
        lines = Lines()
        while True:
            data = await _guarded(response.content.readany())
            told = False
            while data:
                for line in lines.feed(data):
                    told = True
                    if line.strip():
                        yield parse_row(line)
                # One turn of the loop lets in what arrived meanwhile: fewer, larger batches for the reader.
                await asyncio.sleep(0)
                data = b"" if response.content.exception() else response.content.read_nowait()
            if told:
                yield _IDLE
            elif response.content.at_eof():
                raise UpstreamUnreachable("the upstream closed its changes feed")
    finally:
        transport.reading.discard(response)
        response.close()


async def _guarded(step: Awaitable[T]) -> T:
    """The result of one step on the connection; UpstreamUnreachable when it breaks or is silent too long."""
    try:
        async with asyncio.timeout(limits.UPSTREAM_SILENCE_SECONDS):
            return await step
    except TimeoutError as error:
        raise UpstreamUnreachable(
            f"the upstream's changes feed was silent for {limits.UPSTREAM_SILENCE_SECONDS} seconds"
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamUnreachable("the upstream's changes feed broke", detail=reason_of(error)) from error
