"""Single documents (https://docs.couchdb.org/en/stable/api/document/common.html) and `_local` documents."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote_plus

from gateway import json_text
from gateway.couch.upstream import Document, RevisionRef, UpstreamResponse, WriteResult
from gateway.embedded import reading
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.documents import (
    DEFAULT_CONTENT_TYPE,
    Incoming,
    IncomingAttachment,
    Inline,
    Stored,
    Stub,
    check_id,
    check_rev,
    incoming,
    local_rev,
)
from gateway.embedded.http import multipart
from gateway.embedded.http.content import Announced, receive
from gateway.embedded.http.message import Missing, Params, Request, answer, raw, stream, text
from gateway.embedded.reading import DocOptions, Found, Revision
from gateway.embedded.tree import NO_BODY
from gateway.embedded.views.failures import ViewFailed
from gateway.errors import (
    BadParameter,
    BadRequest,
    CompilationError,
    Conflict,
    Deleted,
    Forbidden,
    GatewayError,
    InvalidDesign,
    MissingRevision,
    MissingStub,
    NotFound,
    Unauthorized,
)
from gateway.multipart import boundary


def doc_options(params: Params) -> DocOptions:
    """The parameters that add to a document. As in CouchDB any value but `true` is false."""

    def on(name: str) -> bool:
        return params.get(name) == "true"

    since = params.json("atts_since")
    if not isinstance(since, Missing) and not isinstance(since, list):
        raise BadParameter("`atts_since` must be an array of revisions")
    known = None if isinstance(since, Missing) else tuple(check_rev(rev) for rev in since)
    meta = on("meta")
    return DocOptions(
        revs=on("revs"),
        revs_info=on("revs_info") or meta,
        conflicts=on("conflicts") or meta,
        deleted_conflicts=on("deleted_conflicts") or meta,
        local_seq=on("local_seq"),
        attachments=on("attachments") or known is not None,
        atts_since=known,
        att_encoding_info=on("att_encoding_info"),
    )


def result_error(result: WriteResult) -> GatewayError:
    """The exception for one refused document."""
    kinds: dict[str, type[GatewayError]] = {
        "bad_request": BadRequest,
        "conflict": Conflict,
        "missing_stub": MissingStub,
        "invalid_design_doc": InvalidDesign,
        "compilation_error": CompilationError,
        "forbidden": Forbidden,
        "unauthorized": Unauthorized,
    }
    kind = kinds.get(result.error)
    if kind is None or (kind is CompilationError and not result.id.startswith("_design/")):
        return ViewFailed(result.error, result.reason)  # of a validation function: no fault of this document
    return kind(result.reason)


def open_one(connection: sqlite3.Connection, id: str, rev: str | None, options: DocOptions) -> Revision:
    """The winner, or exactly `rev`. Raises NotFound or Deleted."""
    found = reading.find(connection, [id]).get(id)
    if found is None:
        raise NotFound
    if rev is None:
        rev, deleted = found.leaves()[0]
        if deleted:
            raise Deleted
    node = found.tree.nodes.get(rev)
    if node is None or node.body == NO_BODY:
        raise NotFound
    return reading.revision(connection, found, rev, reading.bodies(connection, [node.body])[node.body], options)


def open_to_edit(connection: sqlite3.Connection, id: str, rev: str | None, options: DocOptions) -> Revision:
    """The same for an attachment to be written to it. Raises MissingRevision for an unknown `rev`."""
    try:
        return open_one(connection, id, rev, options)
    except NotFound as error:
        raise error if rev is None else MissingRevision from None


async def get(request: Request) -> UpstreamResponse:
    if request.params.get("open_revs") is not None:
        return await _open_revs(request)
    database = await request.database()
    id = check_id(request.parts[1])
    options = doc_options(request.params)
    beside = options.attachments and request.accepts("multipart/related")
    if beside:
        options = replace(options, follows=True, att_encoding_info=True)
    asked = request.params.get("rev")
    rev = None if asked is None or request.params.get("latest") == "true" else check_rev(asked)
    if rev is not None:  # as in CouchDB, which adds these to the winner only
        options = replace(options, revs_info=False, conflicts=False, deleted_conflicts=False, local_seq=False)

    def job(connection: sqlite3.Connection) -> tuple[Revision, bytes]:
        revision = open_one(connection, id, rev, options)
        return revision, b"" if revision.follows else json_text.encode(revision.doc)

    revision, encoded = await database.reading(job)
    headers = {}
    if not options.has_meta:
        headers["etag"] = f'"{revision.doc["_rev"]}"'
        if _matches(request.header("if-none-match"), headers["etag"]):
            return raw(304, b"", headers)
    if not revision.follows:
        return text(200, encoded, headers)
    response = multipart.related(database, revision)
    response.headers = {"cache-control": "must-revalidate", **headers, **response.headers}
    return response


def _matches(header: str | None, tag: str) -> bool:
    return header is not None and tag in {one.strip().removeprefix("W/") for one in header.split(",")}


def select_revs(
    connection: sqlite3.Connection, found: Found | None, revs: Sequence[str] | None, *, latest: bool
) -> list[str]:
    """The revisions that `open_revs` names: all leaves, or the given ones, `latest` the leaves above them."""
    if revs is None:
        return [rev for rev, _ in found.leaves()] if found is not None else []
    if not latest or found is None:
        return list(dict.fromkeys(revs))
    chosen: dict[str, None] = {}
    for rev in revs:
        above = [leaf for leaf, _ in found.tree.leaves_above(rev)] if rev in found.tree.nodes else []
        chosen.update(dict.fromkeys(above or [rev]))
    return list(chosen)


def open_revs(
    connection: sqlite3.Connection, id: str, revs: Sequence[str] | None, options: DocOptions, *, latest: bool
) -> list[tuple[str, Revision | None]]:
    """(rev, revision or None where it is missing). Empty only for all revisions of an unknown document."""
    found = reading.find(connection, [id]).get(id)
    chosen = select_revs(connection, found, revs, latest=latest)
    return list(zip(chosen, reading.read(connection, [RevisionRef(id, rev) for rev in chosen], options), strict=True))


async def _open_revs(request: Request) -> UpstreamResponse:
    database = await request.database()
    id = check_id(request.parts[1])
    options = doc_options(request.params)
    asked = request.params.get("open_revs")
    revs: list[str] | None = None
    if asked != "all":
        given = request.params.json("open_revs")
        if not isinstance(given, list):
            raise BadParameter("`open_revs` must be `all` or an array of revisions")
        revs = [check_rev(rev) for rev in given]
    latest = request.params.get("latest") == "true"
    mixed = request.accepts("multipart/mixed")
    if mixed:
        options = replace(options, attachments=True, follows=True, att_encoding_info=True)
    found = await database.reading(lambda connection: open_revs(connection, id, revs, options, latest=latest))
    if not found and revs is None:
        raise NotFound
    if not mixed:
        rows = [{"missing": rev} if one is None else {"ok": one.doc} for rev, one in found]
        return text(200, await database.readers.work(lambda: json_text.encode(rows)))
    outer = boundary()
    return stream(200, _mixed(database, found, outer), {"content-type": f'multipart/mixed; boundary="{outer}"'})


async def _mixed(
    database: EmbeddedDatabase, found: Sequence[tuple[str, Revision | None]], outer: str
) -> AsyncIterator[bytes]:
    yield f"--{outer}".encode()
    for rev, one in found:
        if one is None:
            missing = json_text.encode({"missing": rev})
            yield b'\r\nContent-Type: application/json; error="true"\r\n\r\n' + missing
        else:
            part = multipart.related(database, one)
            yield f"\r\nContent-Type: {part.headers['content-type']}\r\n\r\n".encode()
            async for piece in part.content:
                yield piece
        yield f"\r\n--{outer}".encode()
    yield b"--"


async def post(request: Request) -> UpstreamResponse:
    """`POST /{db}`: a document with an id of its own or a new one."""
    database = await request.database()
    doc = await request.json()
    prepared = await request.work(lambda: incoming(doc, new_edits=True))
    return await _store(request, database, prepared, new_edits=True)


async def put(request: Request) -> UpstreamResponse:
    database = await request.database()
    id = check_id(request.parts[1])
    new_edits = request.params.get("new_edits") != "false"
    content_type = request.header("content-type") or ""
    if content_type.lower().startswith("multipart/related"):
        return await _put_related(request, database, id, content_type, new_edits=new_edits)
    doc = await request.json(check_type=False)
    prepared = await _prepare(request, database, id, doc, new_edits=new_edits)
    return await _store(request, database, prepared, new_edits=new_edits)


async def _prepare(
    request: Request,
    database: EmbeddedDatabase,
    id: str,
    doc: Any,
    *,
    new_edits: bool,
    streamed: dict[str, Inline | Stored] | None = None,
) -> Incoming:
    """The document with the id of the path and the revision of body, `?rev=` or `If-Match`, which must agree."""
    if isinstance(doc, dict):
        if "_id" in doc:
            check_id(doc["_id"])
        doc = {**doc, "_id": id}
        if (rev := request.rev()) is not None:
            if "_rev" in doc and check_rev(doc["_rev"]) != rev:
                raise BadRequest("Document rev from request body and query string have different values")
            doc["_rev"] = rev
    return await request.work(lambda: incoming(doc, new_edits=new_edits, streamed=streamed))


async def _put_related(
    request: Request, database: EmbeddedDatabase, id: str, content_type: str, *, new_edits: bool
) -> UpstreamResponse:
    """A document with its attachments behind it, in the order of its `_attachments` or by file name."""
    doc, parts = await multipart.read_related(request.chunks(), content_type)
    entries = doc.get("_attachments")
    follows = [
        name
        for name, entry in (entries.items() if isinstance(entries, dict) else ())
        if isinstance(entry, dict) and entry.get("follows") is True
    ]
    pinned: list[int] = []
    with database.pins.held(pinned):
        streamed: dict[str, Inline | Stored] = {}
        async for part in parts:
            left = [name for name in follows if name not in streamed]
            name = part.filename if part.filename in left else next(iter(left), None)
            if name is None:
                raise BadRequest("more parts than attachments that follow")
            assert isinstance(entries, dict)  # noqa: S101  `follows` came from it
            streamed[name] = await receive(database, part.content, pinned, _announced(entries[name]))
        prepared = await _prepare(request, database, id, doc, new_edits=new_edits, streamed=streamed)
        return await _store(request, database, prepared, new_edits=new_edits)


def _announced(entry: dict[str, Any]) -> Announced:
    encoding, length, digest = entry.get("encoding"), entry.get("length"), entry.get("digest")
    md5 = None
    if isinstance(digest, str) and digest.startswith("md5-"):
        with suppress(ValueError):
            md5 = base64.b64decode(digest.removeprefix("md5-"))
    return Announced(
        str(entry.get("content_type", DEFAULT_CONTENT_TYPE)),
        "gzip" if encoding == "gzip" else None,
        length if type(length) is int and "encoded_length" in entry else None,
        md5,
    )


async def _store(request: Request, database: EmbeddedDatabase, doc: Incoming, *, new_edits: bool) -> UpstreamResponse:
    (result,) = await database.write_incoming([doc], new_edits=new_edits)
    if result.rev is None:
        raise result_error(result)
    return written(request, result, deleted=doc.deleted)


def written(request: Request, result: WriteResult, *, deleted: bool = False) -> UpstreamResponse:
    """The answer to a stored document: 201, for a deletion 200, in batch mode 202 (it is stored all the same)."""
    if request.params.get("batch") == "ok":
        return answer(202, {"ok": True, "id": result.id})
    return answer(
        200 if deleted else 201,
        {"ok": True, "id": result.id, "rev": result.rev},
        {"etag": f'"{result.rev}"', "location": _location(request, result.id)},
    )


def _location(request: Request, id: str) -> str:
    return f"/{quote(request.parts[0], safe='')}/{quote(id, safe='')}"


async def delete(request: Request) -> UpstreamResponse:
    database = await request.database()
    id = check_id(request.parts[1])
    rev = request.rev()
    await database.reading(lambda connection: open_one(connection, id, rev, reading.PLAIN) if rev is None else None)
    doc: Document = {"_id": id, "_deleted": True} | ({} if rev is None else {"_rev": rev})
    return await _store(request, database, incoming(doc, new_edits=True), new_edits=True)


async def copy(request: Request) -> UpstreamResponse:
    """`COPY` to the id in `Destination`, which may carry `?rev=` of the document it replaces."""
    database = await request.database()
    source, rev = check_id(request.parts[1]), request.rev()
    target, target_rev = _destination(request.header("destination"))

    def job(connection: sqlite3.Connection) -> Document:
        return open_one(connection, source, rev, reading.PLAIN).doc

    doc = await database.reading(job)
    doc = {name: value for name, value in doc.items() if name not in ("_rev", "_attachments")} | {"_id": target}
    if target_rev is not None:
        doc["_rev"] = target_rev
    prepared = incoming(doc, new_edits=True)
    stored = await database.reading(lambda connection: _stored_attachments(connection, source, rev))
    return await _store(request, database, replace(prepared, attachments=stored), new_edits=True)


def _destination(header: str | None) -> tuple[str, str | None]:
    if header is None:
        raise BadRequest("Destination header is mandatory for COPY.")
    if "://" in header:
        raise BadRequest("Destination URL must be relative.")
    path, _, query = header.lstrip("/").partition("?")
    rev = Params.parse(query).get("rev")
    return check_id(unquote_plus(path)), None if rev is None else check_rev(rev)


def _stored_attachments(connection: sqlite3.Connection, id: str, rev: str | None) -> dict[str, IncomingAttachment]:
    """The attachments of a revision as sources for another document."""
    options = DocOptions(attachments=True, follows=True)
    return {
        name: IncomingAttachment(one.content_type, Stored(one.blob, one.md5, one.size, one.length, one.encoding))
        for name, one in open_one(connection, id, rev, options).follows.items()
    }


def kept_attachments(revision: Revision) -> dict[str, IncomingAttachment]:
    """Stubs for all that a revision has, to write it again with one change."""
    return {name: IncomingAttachment(one.content_type, Stub()) for name, one in revision.follows.items()}


# Local documents


async def get_local(request: Request) -> UpstreamResponse:
    doc = await (await request.database()).local(request.parts[1])
    # One revision may stand for several bodies (couch_httpd:doc_etag).
    return answer(200, doc, {"etag": f'"{hashlib.md5(json_text.canonical(doc), usedforsecurity=False).hexdigest()}"'})


async def put_local(request: Request) -> UpstreamResponse:
    database = await request.database()
    id = check_id(request.parts[1])
    doc = await request.json(check_type=False)
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    doc = {**doc, "_id": id}
    if (rev := _local_rev(request)) is not None:
        if doc.get("_rev", rev) != rev:
            raise BadRequest("Document rev from request body and query string have different values")
        doc["_rev"] = rev
    prepared = await request.work(lambda: incoming(doc, new_edits=True))
    return await _store(request, database, prepared, new_edits=True)


async def delete_local(request: Request) -> UpstreamResponse:
    database = await request.database()
    _local_rev(request)
    await database.local(request.parts[1])
    prepared = incoming({"_id": request.parts[1], "_deleted": True}, new_edits=True)
    return await _store(request, database, prepared, new_edits=True)


def _local_rev(request: Request) -> str | None:
    """The revision named by `?rev=` or `If-Match`; revisions of local documents are `0-N`."""
    rev, header = request.params.get("rev"), request.header("if-match")
    tag = None if header is None else header.strip().strip('"')
    if rev is not None and tag is not None and rev != tag:
        raise BadRequest("Document rev and etag have different values")
    rev = rev if rev is not None else tag
    return None if rev is None else local_rev(rev)
