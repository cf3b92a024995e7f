"""One revision with the bytes of its attachments, read from the upstream: as JSON, or as it is sent, in a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from gateway import limits
from gateway.couch.address import document_path
from gateway.couch.transport import parse
from gateway.couch.upstream import Document, RevisionRef, UpstreamDatabase, UpstreamResponse
from gateway.errors import UnreadableDocument, UpstreamError, from_status

_ERROR_BYTES = 65_536
_IN_THREAD_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class AttachmentOptions:
    """What is wanted of a revision's attachments beside their stubs."""

    data: bool = False
    since: Sequence[str] | None = None  # the bytes of those that these ancestors have not
    encoding_info: bool = False


async def open_revision(
    database: UpstreamDatabase, ref: RevisionRef, options: AttachmentOptions, *, revs: bool, accept: str
) -> UpstreamResponse | None:
    """The upstream's answer for exactly this revision; None when it is not there (any more). Raises UpstreamError."""
    query = [f"rev={quote(ref.rev, safe='')}"]
    if revs:
        query.append("revs=true")
    if options.data:
        query.append("attachments=true")
    if options.since is not None:
        query.append(f"atts_since={quote(json.dumps(list(options.since)), safe='')}")
    if options.encoding_info:
        query.append("att_encoding_info=true")
    response = await database.request("GET", document_path(ref.id), query="&".join(query), headers={"accept": accept})
    if response.status == 200:
        return response
    value, _ = parse(await _read(response.content, _ERROR_BYTES) or b"")
    if response.status == 404:
        return None
    told = value if isinstance(value, dict) else {}
    error, reason = str(told.get("error", "")), str(told.get("reason", ""))
    if 400 <= response.status < 500 and response.status != 401:
        raise from_status(response.status, error, reason)
    raise UpstreamError(f"the upstream answered a read with {response.status} {error}")


async def read_revision(
    database: UpstreamDatabase, ref: RevisionRef, options: AttachmentOptions, *, revs: bool
) -> Document | None:
    """The revision with attachments inside it. Raises UnreadableDocument when it is too large for that."""
    response = await open_revision(database, ref, options, revs=revs, accept="application/json")
    if response is None:
        return None
    return await document_of(ref, response)


async def document_of(ref: RevisionRef, response: UpstreamResponse) -> Document:
    """The document in an answer that is JSON. Raises UnreadableDocument."""
    data = await _read(response.content, limits.UPSTREAM_ANSWER_BYTES)
    if data is None:
        raise UnreadableDocument(
            f"document {ref.id!r}: larger than {limits.UPSTREAM_ANSWER_BYTES} bytes with its attachments inside it; "
            "ask for multipart/related, or for one attachment after the other"
        )
    value, _ = await asyncio.to_thread(parse, data) if len(data) > _IN_THREAD_BYTES else parse(data)
    if not isinstance(value, dict):
        raise UpstreamError("the upstream answered a read with no document")
    return value


async def _read(content: AsyncIterator[bytes], at_most: int) -> bytes | None:
    """The whole content, or None past `at_most`."""
    data = bytearray()
    try:
        async for chunk in content:
            data += chunk
            if len(data) > at_most:
                return None
        return bytes(data)
    finally:
        if (aclose := getattr(content, "aclose", None)) is not None:
            await aclose()
