"""Single attachments (https://docs.couchdb.org/en/stable/api/document/attachments.html)."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence

from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.attachments import Attachment
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.documents import (
    DEFAULT_CONTENT_TYPE,
    Incoming,
    IncomingAttachment,
    check_attachment_name,
    check_id,
    check_rev,
)
from gateway.embedded.http.content import Announced, decoded_bytes, receive, stored_bytes
from gateway.embedded.http.document_routes import kept_attachments, open_one, open_to_edit, result_error, written
from gateway.embedded.http.message import Request, answer, raw
from gateway.embedded.reading import DocOptions, Revision
from gateway.errors import NotFound, RangeNotSatisfiable, UnsupportedMedia
from gateway.multipart import boundary

_RANGE = re.compile(r"([0-9]{0,15})-([0-9]{0,15})\Z")
_RANGES_COUNT = 10  # as many CouchDB answers with everything
_ALL = DocOptions(attachments=True, follows=True)


async def get(request: Request) -> UpstreamResponse:
    database = await request.database()
    id, name = check_id(request.parts[1]), "/".join(request.parts[2:])
    asked = request.params.get("rev")
    rev = None if asked is None else check_rev(asked)
    revision = await database.reading(lambda connection: open_one(connection, id, rev, _ALL))
    attachment = revision.follows.get(name)
    if attachment is None:
        raise NotFound("Document is missing attachment")
    tag = f'"{attachment.digest.removeprefix("md5-")}"'
    headers = {
        "etag": tag,
        "cache-control": "must-revalidate",
        "content-type": _plain(attachment.content_type),
        "accept-ranges": "bytes" if attachment.encoding is None else "none",
        "content-security-policy": "sandbox",
    }
    if request.header("if-none-match") == tag:
        return raw(304, b"", headers)
    if attachment.encoding is not None:
        if attachment.encoding in (request.header("accept-encoding") or ""):
            headers |= {"content-encoding": attachment.encoding, "content-length": str(attachment.size)}
            return UpstreamResponse(200, headers, stored_bytes(database, attachment))
        if attachment.length != attachment.size:  # else it came encoded, and nobody knows its true length
            headers["content-length"] = str(attachment.length)
        return UpstreamResponse(200, headers, decoded_bytes(database, attachment))
    ranges = _ranges(request.header("range"), attachment.length)
    if ranges is not None and len(ranges) > 1:
        between = boundary()
        kind = {"content-type": f'multipart/byteranges; boundary="{between}"'}
        return UpstreamResponse(206, kind, _byteranges(database, attachment, ranges, between))
    status, first, last = 200, 0, attachment.length - 1
    if ranges is not None:
        status, (first, last) = 206, ranges[0]
        headers["content-range"] = f"bytes {first}-{last}/{attachment.length}"
    headers["content-length"] = str(last - first + 1)
    return UpstreamResponse(status, headers, stored_bytes(database, attachment, first, last))


def _ranges(header: str | None, length: int) -> list[tuple[int, int]] | None:
    """Ranges of bytes; None for none, and where CouchDB answers with everything (chttpd_db:parse_ranges)."""
    kind, found, listed = (header or "").partition("=")
    if not found or kind.strip() != "bytes":
        return None
    ranges = []
    for one in listed.split(","):
        match = _RANGE.match(one.strip())
        if match is None or one.strip() == "-":
            return None
        first = max(0, length - int(match[2])) if not match[1] else int(match[1])
        last = length - 1 if not match[1] or not match[2] else min(int(match[2]), length - 1)
        if match[1] and not match[2] and first == 0:
            return None
        if last < first:
            raise RangeNotSatisfiable
        ranges.append((first, last))
    return ranges if len(ranges) < _RANGES_COUNT else None


async def _byteranges(
    database: EmbeddedDatabase, attachment: Attachment, ranges: Sequence[tuple[int, int]], between: str
) -> AsyncIterator[bytes]:
    yield f"--{between}".encode()
    for first, last in ranges:
        where = f"bytes {first}-{last}/{attachment.length}"
        yield f"\r\nContent-Type: {_plain(attachment.content_type)}\r\nContent-Range: {where}\r\n\r\n".encode()
        async for chunk in stored_bytes(database, attachment, first, last):
            yield chunk
        yield f"\r\n--{between}".encode()
    yield b"--"


def _plain(value: str) -> str:
    return value.replace("\r", "").replace("\n", "")


async def put(request: Request) -> UpstreamResponse:
    """Adds or replaces one attachment: a new revision of the document, created if it is not there."""
    database = await request.database()
    id, name = check_id(request.parts[1]), check_attachment_name("/".join(request.parts[2:]))
    rev = request.rev()
    encoding = (request.header("content-encoding") or "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMedia("Only gzip and identity content-encodings are supported")
    kind = request.header("content-type") or DEFAULT_CONTENT_TYPE
    announced = Announced(kind, "gzip" if encoding == "gzip" else None)
    pinned: list[int] = []
    with database.pins.held(pinned):
        source = await receive(database, request.chunks(), pinned, announced)
        added = {name: IncomingAttachment(kind, source)}
        if rev is None:
            doc = Incoming(id, None, (), False, {}, b"{}", added)
        else:
            revision = await database.reading(lambda connection: open_to_edit(connection, id, rev, _ALL))
            doc = _again(revision, {**added, **_without(kept_attachments(revision), name)})
        (result,) = await database.write_incoming([doc], new_edits=True)
    if result.rev is None:
        raise result_error(result)
    return written(request, result)


async def delete(request: Request) -> UpstreamResponse:
    database = await request.database()
    id, name = check_id(request.parts[1]), "/".join(request.parts[2:])
    rev = request.rev()

    def job(connection: sqlite3.Connection) -> tuple[Revision, Attachment | None]:
        revision = open_to_edit(connection, id, rev, _ALL)
        return revision, revision.follows.get(name)

    revision, attachment = await database.reading(job)
    if attachment is None:
        raise NotFound("Document is missing attachment")
    doc = _again(revision, _without(kept_attachments(revision), name))
    if rev is None:  # as in CouchDB: the document exists, so a write without its revision is a conflict
        doc = Incoming(id, None, (), False, {}, b"{}", {})
    (result,) = await database.write_incoming([doc], new_edits=True)
    if result.rev is None:
        raise result_error(result)
    return answer(200, {"ok": True, "id": result.id, "rev": result.rev})


def _without(kept: dict[str, IncomingAttachment], name: str) -> dict[str, IncomingAttachment]:
    return {one: attachment for one, attachment in kept.items() if one != name}


def _again(revision: Revision, attachments: dict[str, IncomingAttachment]) -> Incoming:
    """The same revision with other attachments, as a write over it."""
    doc = revision.doc
    body = {name: value for name, value in doc.items() if name not in ("_id", "_rev", "_deleted", "_attachments")}
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Incoming(doc["_id"], doc["_rev"], (doc["_rev"],), bool(doc.get("_deleted")), body, text, attachments)
