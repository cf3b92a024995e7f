"""CouchDB's multipart forms: `multipart/mixed` answers, and documents with attachments as `multipart/related`.

https://docs.couchdb.org/en/stable/api/document/attachments.html, RFC 2046 section 5.1.
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final

from aiohttp import web

from gateway import json_text, limits
from gateway.errors import BadRequest, TooLarge
from gateway.http import answers
from gateway.http.body import parse_json, read_body

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{1,70}\Z")
_PARTS_COUNT: Final = 1_000


def mixed(parts: Iterable[tuple[Any, bool]]) -> web.Response:
    """A `multipart/mixed` answer of JSON parts; True marks a part that is an error."""
    boundary = uuid.uuid4().hex
    pieces = [f"--{boundary}".encode()]
    for value, is_error in parts:
        kind = 'application/json; error="true"' if is_error else "application/json"
        pieces.append(f"\r\nContent-Type: {kind}\r\n\r\n".encode())
        pieces.append(json_text.encode(value))
        pieces.append(f"\r\n--{boundary}".encode())
    pieces.append(b"--\r\n")
    return web.Response(
        body=b"".join(pieces),
        headers={
            "Content-Type": f'multipart/mixed; boundary="{boundary}"',
            "Cache-Control": "must-revalidate",
            "Server": answers.SERVER,
        },
    )


def is_related(request: web.BaseRequest) -> bool:
    return request.headers.get("Content-Type", "").strip().lower().startswith("multipart/related")


async def read_related(request: web.BaseRequest) -> Any:
    """The JSON document of a `multipart/related` body, with the attachments that follow it put into it as `data`.

    Raises BadRequest when the parts and `_attachments` do not agree, TooLarge, BadJson.
    """
    boundary = _header("Content-Type", request.headers["Content-Type"]).get_param("boundary")
    if not isinstance(boundary, str) or not _BOUNDARY.match(boundary):
        raise BadRequest("multipart/related needs a boundary")
    parts = _split(await read_body(request), boundary.encode())
    if not parts or not parts[0].content_type.startswith("application/json"):
        raise BadRequest("the first part of multipart/related must be the document as application/json")
    doc = await parse_json(parts[0].data)
    found = doc.get("_attachments") if isinstance(doc, dict) else None
    attachments: dict[str, Any] = found if isinstance(found, dict) else {}
    following = [
        (name, stub) for name, stub in attachments.items() if isinstance(stub, dict) and stub.get("follows") is True
    ]
    if len(following) != len(parts) - 1:
        raise BadRequest(f"{len(following)} attachments should follow, but {len(parts) - 1} parts do")
    named = {part.file_name: part for part in parts[1:] if part.file_name is not None}
    for (name, stub), in_order in zip(following, parts[1:], strict=True):
        # CouchDB goes by the order; clients whose JSON has another order than their parts name the parts.
        part = named.get(name, in_order) if len(named) == len(following) else in_order
        attachments[name] = await asyncio.to_thread(_inline, name, stub, part.data)
    return doc


def _inline(name: str, stub: dict[str, Any], data: bytes) -> dict[str, Any]:
    encoded = stub.get("encoding") == "gzip"
    expected = stub.get("encoded_length") if encoded else stub.get("length")
    if isinstance(expected, int) and expected != len(data):
        raise BadRequest(f"attachment {name!r} has {len(data)} bytes, not {expected}")
    if encoded:
        data = _gunzip(name, data)
    inline = {key: value for key, value in stub.items() if key in ("content_type", "revpos")}
    return {**inline, "data": base64.b64encode(data).decode("ascii")}


def _gunzip(name: str, data: bytes) -> bytes:
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(data, limits.BODY_BYTES + 1)
    except zlib.error:
        raise BadRequest(f"attachment {name!r} is not gzip, though its encoding says so") from None
    if len(plain) > limits.BODY_BYTES:
        raise TooLarge(f"attachment {name!r} is larger than {limits.BODY_BYTES} bytes (limit BODY_BYTES)")
    if not stream.eof:
        raise BadRequest(f"attachment {name!r} ends in the middle of its gzip data")
    return plain


@dataclass(frozen=True, slots=True)
class _Part:
    content_type: str
    file_name: str | None
    data: bytes


def _split(body: bytes, boundary: bytes) -> list[_Part]:
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, _PARTS_COUNT + 2)
    if len(pieces) > _PARTS_COUNT + 1:
        raise BadRequest(f"a multipart body may have at most {_PARTS_COUNT} parts")
    if len(pieces) < 3 or not pieces[-1].startswith(b"--"):
        raise BadRequest("the multipart body does not end with its boundary")
    parts = []
    for piece in pieces[1:-1]:
        padding, line_end, rest = piece.partition(b"\r\n")
        head, blank, data = (b"\r\n" + rest).partition(b"\r\n\r\n")
        if padding.strip(b" \t") or not line_end or not blank:
            raise BadRequest("a part of the multipart body is malformed")
        parts.append(_part(head, data))
    return parts


def _part(head: bytes, data: bytes) -> _Part:
    content_type, file_name = "text/plain", None
    for line in head.split(b"\r\n"):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if name.strip().lower() == "content-type":
            content_type = value.strip().lower()
        elif name.strip().lower() == "content-disposition":
            file_name = _header("Content-Disposition", value.strip()).get_filename()
    return _Part(content_type, file_name, data)


def _header(name: str, value: str) -> Message:
    message = Message()
    message[name] = value.replace("\r", " ").replace("\n", " ")
    return message
