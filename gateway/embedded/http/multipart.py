"""multipart/related in, multipart/related and multipart/mixed out (RFC 2046, RFC 2387), in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from gateway import json_text, limits
from gateway.couch.upstream import Document, UpstreamResponse
from gateway.embedded.attachments import Attachment
from gateway.embedded.http.content import stored_bytes
from gateway.embedded.http.message import raw
from gateway.embedded.reading import Revision
from gateway.errors import BadRequest
from gateway.multipart import Following, MultipartReader, Part, Related, boundary_of

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase


def related(database: EmbeddedDatabase, revision: Revision) -> UpstreamResponse:
    """A document and the attachments that follow it: plain JSON when none does."""
    text = json_text.encode(revision.doc)
    if not revision.follows:
        return raw(200, text, {"content-type": "application/json"})
    answer = Related(
        text, [Following(name, a.content_type, a.size, a.encoding) for name, a in revision.follows.items()]
    )
    headers = {"content-type": answer.content_type, "content-length": str(answer.size)}
    contents = _contents(database, list(revision.follows.values()))
    return UpstreamResponse(200, headers, answer.body(contents))


async def _contents(
    database: EmbeddedDatabase, attachments: Sequence[Attachment]
) -> AsyncIterator[AsyncIterator[bytes]]:
    for attachment in attachments:
        yield stored_bytes(database, attachment)


async def read_related(body: AsyncIterator[bytes], content_type: str) -> tuple[Document, AsyncIterator[Part]]:
    """The JSON of the first part and the parts that follow it."""
    parts = MultipartReader(boundary_of(content_type), body).parts()
    try:
        first = await anext(parts)
    except StopAsyncIteration:
        raise BadRequest("the multipart body is empty") from None
    doc = json_text.parse(await first.read(limits.BODY_BYTES, "BODY_BYTES"))
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    return doc, parts
