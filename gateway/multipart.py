"""Multipart bodies as streams (RFC 2046, RFC 2387): parts as they arrive, and a document with what follows it.

Nothing here holds a part whole.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message

from gateway import limits
from gateway.errors import BadRequest, TooLarge

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")  # RFC 2046, 5.1.1


def boundary() -> str:
    """One that no content holds."""
    return secrets.token_hex(16)


def header_parameters(value: str) -> tuple[str, dict[str, str]]:
    """`'multipart/related; boundary="x"'` → `("multipart/related", {"boundary": "x"})`."""
    message = Message()
    message["content-type"] = value.replace("\r", " ").replace("\n", " ")
    params = message.get_params(failobj=[], header="content-type")
    return params[0][0].lower() if params else "", {name.lower(): text for name, text in params[1:]}


def boundary_of(content_type: str) -> str:
    """The boundary of a multipart content type. Raises BadRequest without a usable one."""
    named = header_parameters(content_type)[1].get("boundary", "")
    if not _BOUNDARY.match(named):
        raise BadRequest("a multipart body needs a boundary in its Content-Type")
    return named


@dataclass(slots=True)
class Part:
    """One part; its content must be read to its end before the next part is asked for."""

    headers: Mapping[str, str]  # lower-case names
    content: AsyncIterator[bytes]

    async def read(self, limit: int, name: str) -> bytes:
        """The whole content. Raises TooLarge (naming `name`)."""
        data = bytearray()
        async for chunk in self.content:
            data += chunk
            if len(data) > limit:
                raise TooLarge(f"a part of the request is larger than {limit} bytes (limit {name})")
        return bytes(data)

    @property
    def filename(self) -> str | None:
        return header_parameters(self.headers.get("content-disposition", ""))[1].get("filename")


class MultipartReader:
    """Parts of a body as they arrive; never more than a few network reads in memory."""

    def __init__(self, boundary: str, body: AsyncIterator[bytes]) -> None:
        self._delimiter = b"\r\n--" + boundary.encode()
        self._body = body
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like the others

    async def _more(self) -> None:
        try:
            self._buffer += await anext(self._body)
        except StopAsyncIteration:
            raise BadRequest("the multipart body ends early") from None

    async def parts(self) -> AsyncIterator[Part]:
        """Every part, in order; what follows the last is read and dropped.

        Raises BadRequest for a body that is not multipart or breaks off, and when there are too many parts.
        """
        async for _ in self._until_delimiter():
            pass  # the preamble
        for _ in range(limits.MULTIPART_PARTS_COUNT + 2):
            while len(self._buffer) < 2:
                await self._more()
            if self._buffer[:2] == b"--":
                async for _ in self._body:
                    pass  # the epilogue
                return
            headers = await self._headers()
            yield Part(headers, self._until_delimiter())
        raise BadRequest(f"more than {limits.MULTIPART_PARTS_COUNT} parts (limit MULTIPART_PARTS_COUNT)")

    async def _headers(self) -> dict[str, str]:
        # The rest of the boundary's line is padding; a part without headers begins with an empty line.
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > limits.MULTIPART_HEADERS_BYTES:
                raise BadRequest("the headers of a multipart part are too long (limit MULTIPART_HEADERS_BYTES)")
            await self._more()
        padding, *lines = bytes(self._buffer[:end]).decode("utf-8", "replace").split("\r\n")
        if padding.strip(" \t"):
            raise BadRequest("a boundary of the multipart body is malformed")
        del self._buffer[: end + 4]
        # An empty part begins with its closing boundary: give that its line break back.
        while len(self._buffer) < len(self._delimiter) and self._delimiter[2:].startswith(self._buffer):
            await self._more()
        if self._buffer.startswith(self._delimiter[2:]):
            self._buffer[:0] = b"\r\n"
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


@dataclass(frozen=True, slots=True)
class Following:
    """An attachment that follows its document, as the document announces it."""

    name: str
    content_type: str
    size: int  # of the bytes as they are sent
    encoding: str | None

    def headers(self) -> bytes:
        """As CouchDB writes them (couch_httpd_multipart)."""
        name = self.name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
        kind = self.content_type.replace("\r", "").replace("\n", "")
        lines = [f'Content-Disposition: attachment; filename="{name}"', f"Content-Type: {kind}"]
        lines.append(f"Content-Length: {self.size}")
        if self.encoding is not None:
            lines.append(f"Content-Encoding: {self.encoding}")
        return "".join(f"\r\n{line}" for line in lines).encode() + b"\r\n\r\n"


class Related:
    """A document and the attachments that follow it, on their way out."""

    def __init__(self, document: bytes, following: Sequence[Following]) -> None:
        """`document` is JSON, whose `_attachments` announce `following` in this order."""
        self._boundary = boundary()
        self._following = following
        separator = b"\r\n--" + self._boundary.encode()
        self._head = separator[2:] + b"\r\nContent-Type: application/json\r\n\r\n" + document + separator
        self._separator = separator

    @property
    def content_type(self) -> str:
        return f'multipart/related; boundary="{self._boundary}"'

    @property
    def size(self) -> int:
        """Of the whole body, in bytes."""
        between = sum(len(one.headers()) + one.size + len(self._separator) for one in self._following)
        return len(self._head) + between + len(b"--")

    async def body(self, contents: AsyncIterator[AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        """The body; `contents` are the bytes of the attachments, in order.

        The last piece holds the last byte of an attachment and all that comes after it: CouchDB stores a document as
        soon as it has the bytes it was promised. Raises BadRequest when an attachment is not as long as announced.
        """
        kept, framing = b"", self._head
        for one in self._following:
            framing += one.headers()
            size = 0
            content = await anext(contents, None)
            if content is None:
                raise BadRequest(f"{len(self._following)} attachments should follow the document, but fewer do")
            async for chunk in content:
                size += len(chunk)
                if size > one.size:
                    raise BadRequest(f"attachment {one.name!r} is longer than the {one.size} bytes announced")
                if kept and chunk:
                    yield kept
                    kept = b""
                if chunk:
                    kept, framing = framing + chunk, b""
            if size < one.size:
                raise BadRequest(f"attachment {one.name!r} has {size} bytes, not the {one.size} announced")
            framing += self._separator
        if await anext(contents, None) is not None:
            raise BadRequest(f"only {len(self._following)} attachments should follow the document, but more do")
        yield kept + framing + b"--"
