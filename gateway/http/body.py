"""Request bodies, read under their limits. What claims to be too large is refused before it is read."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from gateway import json_text, limits
from gateway.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedMedia

_PIECE_BYTES = 1_000_000  # decompressed at once
_STREAMED_BYTES = 65_536  # passed on at once; glibc keeps memory for larger pieces, thread by thread
_IN_THREAD_BYTES = 262_144  # a longer JSON text is parsed beside the event loop; a shorter one has few values
_GZIP = 16 + zlib.MAX_WBITS


async def read_body(request: web.BaseRequest, limit: int = limits.BODY_BYTES, name: str = "BODY_BYTES") -> bytes:
    """The whole body, decompressed if it is gzip.

    Raises TooLarge (naming `name` and `limit`; also when only decompressing passes it), UnsupportedMedia for other
    encodings, BadRequest for a broken one, RequestTimeout when nothing more comes.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise UnsupportedMedia("Only gzip and identity content-encodings are supported")
    if (request.content_length or 0) > limit:
        raise _too_large(limit, name)
    if not request.can_read_body:
        return b""
    _continue(request)
    into = _Gunzip(limit, name) if encoding == "gzip" else _Plain(limit, name)
    while chunk := await _next(request):
        await into.feed(chunk)
    return into.end()


async def _next(request: web.BaseRequest, at_most: int = -1) -> bytes:
    """What has come of the body since the last time, or b"" at its end."""
    try:
        async with asyncio.timeout(limits.BODY_SILENCE_SECONDS):
            return await (request.content.readany() if at_most < 0 else request.content.read(at_most))
    except TimeoutError:
        raise RequestTimeout("the rest of the request body did not come") from None
    except web.RequestPayloadError:
        raise BadRequest("the request body is malformed") from None


async def pieces(
    request: web.BaseRequest, limit: int | None = None, name: str = "ATTACHMENT_BYTES"
) -> AsyncIterator[bytes]:
    """The body as it comes, as it is: not decompressed, never held whole. Without `limit`, ATTACHMENT_BYTES at most.

    Raises TooLarge (naming `name` and `limit`) before the first piece when it is said to be larger, else as soon as
    it is; RequestTimeout, BadRequest, and ConnectionError when the client hangs up.
    """
    limit = limits.ATTACHMENT_BYTES if limit is None else limit
    if (request.content_length or 0) > limit:
        raise _too_large(limit, name)
    if not request.can_read_body:
        return
    _continue(request)
    size = 0
    while chunk := await _next(request, _STREAMED_BYTES):
        size += len(chunk)
        if size > limit:
            raise _too_large(limit, name)
        yield chunk


async def read_json(
    request: web.BaseRequest,
    limit: int = limits.BODY_BYTES,
    name: str = "BODY_BYTES",
    *,
    check_type: bool = True,
) -> Any:
    """The body as JSON. Raises BadJson, UnsupportedMedia when it is not said to be JSON, and what read_body raises.

    CouchDB looks at the type of POST only: `check_type=False` for PUT.
    """
    if check_type:
        require_json(request)
    return await parse_json(await read_body(request, limit, name))


async def parse_json(data: bytes) -> Any:
    """JSON text to its value, beside the event loop when it is long. Raises BadJson, TooLarge (JSON_VALUES_COUNT)."""
    if len(data) > _IN_THREAD_BYTES:
        return await asyncio.to_thread(_parse_long, data)
    return json_text.parse(data)


def _parse_long(data: bytes) -> Any:
    if json_text.too_many_values(data):
        raise TooLarge(
            f"the request body holds more than {limits.JSON_VALUES_COUNT} JSON values (limit JSON_VALUES_COUNT): "
            "commas and opening brackets outside of strings"
        )
    return json_text.parse(data)


async def read_json_object(request: web.BaseRequest, *, check_type: bool = True) -> dict[str, Any]:
    """The body as a JSON object; BadRequest for other JSON."""
    value = await read_json(request, check_type=check_type)
    if not isinstance(value, dict):
        raise BadRequest("Request body must be a JSON object")
    return value


def require_json(request: web.BaseRequest) -> None:
    """As CouchDB for POST; it also keeps web pages elsewhere from sending one without asking (CORS)."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia("Content-Type must be application/json")


def _too_large(limit: int, name: str) -> TooLarge:
    return TooLarge(f"the request body is larger than {limit} bytes (limit {name})")


def _continue(request: web.BaseRequest) -> None:
    """Only now, after everything that can be refused without the body, is the client told to send it (RFC 9110)."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


class _Plain:
    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._parts: list[bytes] = []
        self._size = 0

    async def feed(self, chunk: bytes) -> None:
        self._take(chunk)

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise _too_large(self._limit, self._name)
        self._parts.append(data)

    def end(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class _Gunzip(_Plain):
    """Decompresses piece by piece, so that a bomb is noticed after the limit and never blocks for long."""

    def __init__(self, limit: int, name: str) -> None:
        super().__init__(limit, name)
        self._stream = zlib.decompressobj(_GZIP)
        self._begun = False

    async def feed(self, chunk: bytes) -> None:
        try:
            while chunk:
                if self._stream.eof:  # the next member of a file made of several
                    self._stream = zlib.decompressobj(_GZIP)
                self._begun = True
                self._take(self._stream.decompress(chunk, _PIECE_BYTES))
                chunk = self._stream.unconsumed_tail or self._stream.unused_data
                if chunk:
                    await asyncio.sleep(0)
        except zlib.error:
            raise BadRequest("the request body is not gzip, though Content-Encoding says so") from None

    def end(self) -> bytes:
        # Output can be left over even when all input was taken.
        while self._begun and not self._stream.eof:
            piece = self._stream.decompress(b"", _PIECE_BYTES)
            if not piece:
                raise BadRequest("the request body ends in the middle of its gzip data")
            self._take(piece)
        return super().end()
