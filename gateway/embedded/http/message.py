"""Requests and answers of the HTTP face, free of any web framework."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from gateway import json_text, limits
from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.documents import check_rev
from gateway.errors import BadJson, BadParameter, BadRequest, TooLarge, UnsupportedMedia

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase
    from gateway.embedded.server import EmbeddedServer

T = TypeVar("T")
_JSON = {"content-type": "application/json", "cache-control": "must-revalidate"}
_IN_THREAD_BYTES = 16_384  # a JSON text longer than this is parsed in a thread


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def raw(status: int, data: bytes, headers: Mapping[str, str]) -> UpstreamResponse:
    return UpstreamResponse(status, {**headers, "content-length": str(len(data))}, _once(data))


def answer(status: int, value: Any, headers: Mapping[str, str] | None = None) -> UpstreamResponse:
    """A JSON answer, with the newline that CouchDB ends it with."""
    return text(status, json_text.encode(value), headers)


def text(status: int, encoded: bytes, headers: Mapping[str, str] | None = None) -> UpstreamResponse:
    """The same for a value that is JSON already."""
    return raw(status, encoded + b"\n", {**_JSON, **(headers or {})})


def stream(status: int, content: AsyncIterator[bytes], headers: Mapping[str, str] | None = None) -> UpstreamResponse:
    """A chunked answer; JSON unless the headers say otherwise."""
    return UpstreamResponse(status, {**_JSON, **(headers or {})}, content)


def _unpack(decoder: zlib._Decompress, chunk: bytes, at_most: int) -> bytes:
    try:
        return decoder.decompress(chunk, at_most)
    except zlib.error:
        raise BadRequest("the body is not gzip, as its encoding says") from None


class Params:
    """Query parameters. The getters raise BadParameter with the name of the parameter."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    @classmethod
    def parse(cls, query: str) -> Params:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=1_000)
        except (ValueError, UnicodeDecodeError):
            raise BadParameter("the query string is malformed") from None
        return cls(dict(pairs))

    def get(self, *names: str) -> str | None:
        """The first of these spellings that is there."""
        return next((self.values[name] for name in names if name in self.values), None)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name)
        if value is None:
            return default
        if value not in ("true", "false"):
            raise BadParameter(f"Invalid value for boolean parameter `{name}`: {value!r}")
        return value == "true"

    def number(self, name: str, default: int | None = None) -> int | None:
        """An integer of 0 or more."""
        value = self.values.get(name)
        if value is None:
            return default
        if not (value.isascii() and value.isdigit() and len(value) <= 15):
            raise BadParameter(f"Invalid value for integer parameter `{name}`: {value!r}")
        return int(value)

    def json(self, *names: str) -> Any:
        """A parameter that is JSON, or `MISSING`."""
        value = self.get(*names)
        if value is None:
            return MISSING
        try:
            return json_text.parse(value.encode())
        except (BadJson, UnicodeEncodeError):
            raise BadParameter(f"Invalid JSON in parameter `{names[0]}`: {value!r}") from None


class BodyFailed(Exception):
    """The body of a request could not be read on, for a reason of who sends it. `error` is what he raised."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Missing:
    """A JSON value that was not given, which null is."""


MISSING = Missing()


@dataclass(slots=True)
class Request:
    """One request. `parts` are the decoded segments of the path."""

    server: EmbeddedServer
    method: str  # HEAD arrives as GET
    parts: tuple[str, ...]
    params: Params
    headers: Mapping[str, str]  # lower-case names
    content: bytes | AsyncIterator[bytes] | None
    head: bool = False
    small: bool = False  # whether the JSON body was
    _database: EmbeddedDatabase | None = field(default=None, repr=False)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    async def database(self) -> EmbeddedDatabase:
        """The database that the first segment names. Raises UnknownDatabase."""
        if self._database is None:
            self._database = await self.server.open(self.parts[0], create=False)
        return self._database

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces. Raises BodyFailed."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        while self.content is not None:
            try:
                chunk = await anext(self.content)
            except StopAsyncIteration:
                return
            except Exception as error:
                raise BodyFailed(error) from error
            yield chunk

    async def body(self, limit: int = limits.BODY_BYTES) -> bytes:
        """The whole body, unpacked when it is gzipped. Raises TooLarge, UnsupportedMedia or BadRequest."""
        said = self.header("content-length") or ""
        if said.isdigit() and int(said) > limit:
            raise TooLarge(f"the request body is larger than {limit} bytes")
        encoding = (self.header("content-encoding") or "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise UnsupportedMedia("Only gzip and identity content-encodings are supported")
        decoder = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        found = bytearray()
        async for chunk in self.chunks():
            found += chunk if decoder is None else _unpack(decoder, chunk, limit + 1 - len(found))
            if len(found) > limit:
                raise TooLarge(f"the request body is larger than {limit} bytes")
        if decoder is not None and not decoder.eof:
            raise BadRequest("the gzipped body ends early")
        return bytes(found)

    async def json(self, *, check_type: bool = True) -> Any:
        """The body as JSON. Raises UnsupportedMedia when the client says that it is something else."""
        if check_type:
            kind = (self.header("content-type") or "application/json").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise UnsupportedMedia("Content-Type must be application/json")
        data = await self.body()
        self.small = len(data) <= _IN_THREAD_BYTES
        return await self.work(lambda: json_text.parse(data))

    async def work(self, job: Callable[[], T]) -> T:
        """Run something whose cost grows with the body: in a thread, unless the body was small."""
        return job() if self.small else await self.server.work(job)

    async def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises BadRequest for other JSON."""
        value = await self.json()
        if not isinstance(value, dict):
            raise BadRequest("Request body must be a JSON object")
        return value

    def accepts(self, kind: str) -> bool:
        """Whether the client named this content type (or everything) in `Accept`; as mochiweb does."""
        accepted = {part.partition(";")[0].strip().lower() for part in (self.header("accept") or "*/*").split(",")}
        return bool(accepted & {kind, "*/*", kind.partition("/")[0] + "/*"})

    def rev(self) -> str | None:
        """The revision named by `?rev=` or `If-Match`. Raises BadRequest when they differ or are malformed."""
        rev = self.params.get("rev")
        if rev is not None:
            rev = check_rev(rev)
        header = self.header("if-match")
        if header is None:
            return rev
        tag = check_rev(header.strip().strip('"'))
        if rev is not None and rev != tag:
            raise BadRequest("Document rev and etag have different values")
        return tag
