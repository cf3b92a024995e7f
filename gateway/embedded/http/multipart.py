"""multipart/related in, multipart/related and multipart/mixed out (RFC 2046, RFC 2387), in pieces."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING

from gateway import json_text, limits
from gateway.couch.upstream import Document
from gateway.embedded.attachments import Attachment
from gateway.embedded.http.content import stored_bytes
from gateway.embedded.reading import Revision
from gateway.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase

_HEADERS_BYTES = 16_384


def header_parameters(value: str) -> tuple[str, dict[str, str]]:
    """`'multipart/related; boundary="x"'` → `("multipart/related", {"boundary": "x"})`."""
    message = Message()
    message["content-type"] = value
    params = message.get_params(failobj=[], header="content-type")
    return params[0][0].lower() if params else "", {name.lower(): text for name, text in params[1:]}


@dataclass(slots=True)
class Part:
    """One part; its content must be read to its end before the next part is asked for."""

    headers: Mapping[str, str]
    content: AsyncIterator[bytes]

    async def read(self, limit: int) -> bytes:
        data = bytearray()
        async for chunk in self.content:
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"a part of the request is larger than {limit} bytes")
        return bytes(data)

    @property
    def filename(self) -> str | None:
        _, params = header_parameters(self.headers.get("content-disposition", ""))
        return params.get("filename")


class MultipartReader:
    """Parts of a body as they arrive; never more than a few network reads in memory."""

    def __init__(self, boundary: str, body: AsyncIterator[bytes]) -> None:
        if not boundary or len(boundary) > 200:
            raise BadRequest("multipart without a usable boundary")
        self._delimiter = b"\r\n--" + boundary.encode()
        self._body = body
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like the others

    async def _more(self) -> None:
        try:
            self._buffer += await anext(self._body)
        except StopAsyncIteration:
            raise BadRequest("the multipart body ends early") from None

    async def parts(self) -> AsyncIterator[Part]:
        """Every part, in order. Raises BadRequest for a body that is not multipart or breaks off."""
        async for _ in self._until_delimiter():
            pass  # the preamble
        while True:
            while len(self._buffer) < 2:
                await self._more()
            if self._buffer[:2] == b"--":
                return
            headers = await self._headers()
            yield Part(headers, self._until_delimiter())

    async def _headers(self) -> dict[str, str]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEADERS_BYTES:
                raise BadRequest("the headers of a multipart part are too long")
            await self._more()
        lines = self._buffer[:end].decode("utf-8", "replace").split("\r\n")
        del self._buffer[: end + 4]
        # An empty part begins with its closing boundary: give that its line break back.
        self._buffer[:0] = b"" if not self._buffer.startswith(self._delimiter[2:]) else b"\r\n"
        return {
            name.strip().lower(): value.strip()
            for name, found, value in (line.partition(":") for line in lines)
            if found
        }

    async def _until_delimiter(self) -> AsyncIterator[bytes]:
        while (at := self._buffer.find(self._delimiter)) < 0:
            safe = len(self._buffer) - len(self._delimiter) + 1
            if safe > 0:
                yield bytes(self._buffer[:safe])
                del self._buffer[:safe]
            await self._more()
        if at:
            yield bytes(self._buffer[:at])
        del self._buffer[: at + len(self._delimiter)]


def boundary() -> str:
    return secrets.token_hex(16)


def related_type(revision: Revision, inner: str) -> str:
    """The content type of one document: plain JSON when nothing follows it."""
    return f'multipart/related; boundary="{inner}"' if revision.follows else "application/json"


async def related(database: EmbeddedDatabase, revision: Revision, inner: str) -> AsyncIterator[bytes]:
    """A document and the attachments that follow it."""
    text = json_text.encode(revision.doc)
    if not revision.follows:
        yield text
        return
    yield f"--{inner}\r\nContent-Type: application/json\r\n\r\n".encode() + text + f"\r\n--{inner}".encode()
    for name, attachment in revision.follows.items():
        yield _attachment_headers(name, attachment)
        async for chunk in stored_bytes(database, attachment):
            yield chunk
        yield f"\r\n--{inner}".encode()
    yield b"--"


def _attachment_headers(name: str, attachment: Attachment) -> bytes:
    safe = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
    kind = attachment.content_type.replace("\r", "").replace("\n", "")
    lines = [
        f'\r\nContent-Disposition: attachment; filename="{safe}"',
        f"Content-Type: {kind}",
        f"Content-Length: {attachment.size}",
    ]
    if attachment.encoding is not None:
        lines.append(f"Content-Encoding: {attachment.encoding}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_related(body: AsyncIterator[bytes], content_type: str) -> tuple[Document, AsyncIterator[Part]]:
    """The JSON of the first part and the parts that follow it."""
    _, params = header_parameters(content_type)
    parts = MultipartReader(params.get("boundary", ""), body).parts()
    try:
        first = await anext(parts)
    except StopAsyncIteration:
        raise BadRequest("the multipart body is empty") from None
    doc = json_text.parse(await first.read(limits.BODY_BYTES))
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    return doc, parts
