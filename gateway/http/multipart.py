"""CouchDB's multipart forms: `multipart/mixed` answers, and documents with attachments as `multipart/related`.

https://docs.couchdb.org/en/stable/api/document/attachments.html, RFC 2046 section 5.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from gateway import limits
from gateway.errors import BadRequest, TooLarge
from gateway.http import answers
from gateway.http.body import parse_json, pieces
from gateway.http.call import Call, close
from gateway.multipart import MultipartReader, Part, boundary, boundary_of
from gateway.queries import RevisionPart

_REORDERED_BYTES: Final = 1_048_576  # of all attachments that follow one document
_RELATED_BYTES: Final = limits.BODY_BYTES + limits.MULTIPART_PARTS_COUNT * limits.ATTACHMENT_BYTES


async def mixed(
    call: Call, parts: AsyncIterator[RevisionPart], *, kind: str = "mixed", named: bool = False
) -> web.StreamResponse:
    """A `multipart/mixed` answer, sent as its parts come; `named` for the form of `_bulk_get`.

    Each part is JSON or, with attachments behind it, multipart/related itself. The two forms are those of
    chttpd_db:send_docs_multipart and send_docs_multipart_bulk_get.
    """
    outer = boundary()
    delimiter = f"--{outer}".encode()
    try:
        part = await anext(parts, None)  # what goes wrong here is an ordinary error
        response = answers.stream(200, {"Content-Type": f'multipart/{kind}; boundary="{outer}"'})
        await call.begin(response)
        before = b"\r\n" + delimiter if named else delimiter
        while part is not None and not call.is_head:
            try:
                await call.write(before + _head(part, named=named))
                async for chunk in part.content:
                    await call.write(chunk)
            finally:
                await close(part.content)
            before = b"\r\n" + delimiter
            part = await anext(parts, None)
        if not call.is_head:
            await call.write(before + b"--")
        return response
    finally:
        await close(parts)


def _head(part: RevisionPart, *, named: bool) -> bytes:
    lines = []
    if named and part.content_type.startswith("multipart/"):
        lines += [f"X-Doc-Id: {_printable(part.id)}", f"X-Rev-Id: {part.rev}"]
    lines.append(f"Content-Type: {part.content_type}" + ('; error="true"' if part.error else ""))
    return "".join(f"\r\n{line}" for line in lines).encode() + b"\r\n\r\n"


def _printable(value: str) -> str:
    return "".join(character for character in value if character >= " ")


async def related(call: Call, part: RevisionPart, headers: Mapping[str, str]) -> web.StreamResponse:
    """A document with its attachments behind it."""
    response = answers.stream(200, {**headers, "Content-Type": part.content_type})
    response.content_length = part.size
    try:
        await call.begin(response)
        if not call.is_head:
            async for chunk in part.content:
                await call.write(chunk)
        return response
    finally:
        await close(part.content)


def is_related(request: web.BaseRequest) -> bool:
    return request.headers.get("Content-Type", "").strip().lower().startswith("multipart/related")


@dataclass(frozen=True, slots=True)
class Related:
    """A `multipart/related` body: the document, and what follows it as it comes, in the order of `_attachments`."""

    doc: Any
    contents: AsyncIterator[AsyncIterator[bytes]]


async def read_related(request: web.BaseRequest) -> Related:
    """The document of a `multipart/related` body. Raises BadRequest, TooLarge, BadJson."""
    named = boundary_of(request.headers["Content-Type"])
    parts = MultipartReader(named, pieces(request, _RELATED_BYTES, "ATTACHMENT_BYTES")).parts()
    first = await anext(parts, None)
    if first is None or not first.headers.get("content-type", "").lower().startswith("application/json"):
        raise BadRequest("the first part of multipart/related must be the document as application/json")
    doc = await parse_json(await first.read(limits.BODY_BYTES, "BODY_BYTES"))
    found = doc.get("_attachments") if isinstance(doc, dict) else None
    attachments: dict[str, Any] = found if isinstance(found, dict) else {}
    return Related(doc, _in_order(parts, {name: _size(stub) for name, stub in attachments.items() if _follows(stub)}))


def _follows(stub: Any) -> bool:
    return isinstance(stub, dict) and stub.get("stub") is not True and stub.get("follows") is True


def _size(stub: dict[str, Any]) -> int:
    size = stub.get("encoded_length", stub.get("length"))
    return size if isinstance(size, int) else _REORDERED_BYTES


async def _in_order(parts: AsyncIterator[Part], sizes: Mapping[str, int]) -> AsyncIterator[AsyncIterator[bytes]]:
    """What follows, in the order in which the document names it.

    CouchDB goes by the order alone. Clients whose JSON has another order than their parts name the parts: small ones
    are put in order here, large ones cannot be.
    """
    if sum(sizes.values()) <= _REORDERED_BYTES:
        try:
            read = [(part.filename, await part.read(_REORDERED_BYTES, "")) async for part in parts]
        except TooLarge:
            raise BadRequest("an attachment that follows is longer than announced") from None
        named = dict(read)
        if len(read) == len(sizes) and named.keys() == sizes.keys():
            read = [(name, named[name]) for name in sizes]
        for _, data in read:
            yield _once(data)
        return
    expected = iter(sizes)
    async for part in parts:
        name = next(expected, None)
        if part.filename in sizes and part.filename != name:
            raise BadRequest("the attachments must follow in the order in which the document names them")
        yield part.content


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
