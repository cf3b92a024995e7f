"""Incoming documents: CouchDB's validation, and everything about a write that needs no database.

Runs in a worker thread: it encodes JSON, decodes base64 and hashes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway import json_text, limits
from gateway.couch.upstream import Document
from gateway.embedded.compression import gzip_compressor, is_compressible
from gateway.errors import BadRequest, InvalidDocument, InvalidDocumentId, TooLarge
from gateway.model.revisions import history, parse_rev

DEFAULT_CONTENT_TYPE = "application/octet-stream"
_LOCAL_REV = re.compile(r"[0-9]+-[0-9a-zA-Z]+\Z")
_IGNORED = frozenset(("_revs_info", "_local_seq", "_conflicts", "_deleted_conflicts"))
# CouchDB's replicator writes these into documents of any database, and they are body.
_BODY = frozenset(
    (
        "_replication_state",
        "_replication_state_time",
        "_replication_state_reason",
        "_replication_id",
        "_replication_stats",
    )
)
_ENCODINGS = frozenset((None, "identity", "gzip"))


@dataclass(frozen=True, slots=True)
class Inline:
    """Bytes that came with the document, as they are to be stored; `length` is what CouchDB shows as such."""

    data: bytes
    md5: bytes
    sha256: bytes
    length: int
    encoding: str | None = None  # "gzip" when `data` is


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes that are in the file already: received before their document was complete."""

    blob: int
    md5: bytes
    size: int  # as stored
    length: int  # decoded, where that is known
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Stub:
    """Bytes that an earlier revision of the document has."""


Source: TypeAlias = Inline | Stored | Stub


@dataclass(frozen=True, slots=True)
class IncomingAttachment:
    content_type: str
    source: Source
    revpos: int | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A validated document on its way into the database."""

    id: str
    rev: str | None  # the `_rev` as it was sent
    path: tuple[str, ...]  # its history, newest first; () when nothing was said
    deleted: bool
    body: Mapping[str, Any] = field(repr=False)
    json: bytes = field(repr=False)
    attachments: Mapping[str, IncomingAttachment]


def check_id(id: object) -> str:
    """The document id, or InvalidDocumentId with CouchDB's reason."""
    if not isinstance(id, str):
        raise InvalidDocumentId("Document id must be a string")
    if not id:
        raise InvalidDocumentId("Document id must not be empty")
    if id in ("_design/", "_local/"):
        raise InvalidDocumentId(f"Illegal document id `{id}`")
    try:
        size = len(id.encode())
    except UnicodeEncodeError:
        raise InvalidDocumentId("Document id must be valid UTF-8") from None
    if size > limits.DOCUMENT_ID_BYTES:
        raise InvalidDocumentId(f"Document id is too long: more than {limits.DOCUMENT_ID_BYTES} bytes")
    if id.startswith("_") and not id.startswith(("_design/", "_local/")):
        raise InvalidDocumentId("Only reserved document ids may start with underscore.")
    return id


def check_rev(rev: object) -> str:
    """The revision id, or BadRequest. CouchDB keeps 32 hexadecimal digits as a number, so their case is lost."""
    try:
        _, digest = parse_rev(rev)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    assert isinstance(rev, str)  # noqa: S101  parse_rev raises for everything else
    return rev.lower() if len(digest) == 32 else rev


def local_rev(rev: object) -> str:
    """Counts for the next number alone, so a deletion takes any (couch_db_updater:increment_local_doc_revs)."""
    if not isinstance(rev, str) or not _LOCAL_REV.match(rev):
        raise BadRequest("Invalid rev format")
    return rev


def check_attachment_name(name: str) -> str:
    """The attachment name, or BadRequest (couch_db:validate_attachment_names)."""
    if not name:
        raise BadRequest("Attachment name must not be empty")
    if name.startswith("_"):
        raise BadRequest(f"Attachment name '{name}' starts with prohibited character '_'")
    return name


def incoming(doc: object, *, new_edits: bool, streamed: Mapping[str, Inline | Stored] | None = None) -> Incoming:
    """Validate one document of a write.

    `streamed` are the attachments that came beside it (`"follows": true`). Raises InvalidDocument, InvalidDocumentId,
    BadRequest or TooLarge as CouchDB does.
    """
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    id = check_id(doc["_id"]) if "_id" in doc else uuid.uuid4().hex
    local = id.startswith("_local/")
    body: Document = {}
    rev: str | None = None
    path: tuple[str, ...] = ()
    deleted = False
    attachments: dict[str, IncomingAttachment] = {}
    for name, value in doc.items():
        if not name.startswith("_") or name in _BODY:
            body[name] = value
        elif name == "_rev":
            rev = local_rev(value) if local else check_rev(value)
        elif name == "_revisions":
            path = _path(value)
        elif name == "_deleted" and isinstance(value, bool):
            deleted = value
        elif name == "_attachments":
            attachments = _attachments(value, streamed or {})
        elif name not in _IGNORED and name != "_id":
            raise InvalidDocument(f"Bad special document member: {name}")
    if not new_edits and rev is None and not path and not local:
        raise BadRequest("When `new_edits: false`, the document needs `_rev` or `_revisions` specified")
    if attachments and local:
        raise BadRequest("_local documents do not accept attachments.")
    if not path and rev is not None:
        path = (rev,)
    return Incoming(id, rev or (path[0] if path else None), path, deleted, body, _encode(id, body), attachments)


def _encode(id: str, body: Document) -> bytes:
    try:
        text = json_text.encode(body)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"the document cannot be written as JSON: {error}") from None
    if len(text) > limits.DOCUMENT_BYTES:
        raise TooLarge(f"{id}: the document is larger than {limits.DOCUMENT_BYTES} bytes (max_document_size)")
    return text


def _path(value: object) -> tuple[str, ...]:
    try:
        path = history(value)
    except ValueError as error:
        raise InvalidDocument(str(error)) from None
    if len(path) > limits.REVISIONS_COUNT:
        raise TooLarge(f"_revisions.ids holds more than {limits.REVISIONS_COUNT} ids")
    return tuple(rev.lower() if len(rev.partition("-")[2]) == 32 else rev for rev in path)


def _attachments(value: object, streamed: Mapping[str, Inline | Stored]) -> dict[str, IncomingAttachment]:
    if not isinstance(value, dict):
        raise InvalidDocument("_attachments must be an object")
    found = {}
    for name, entry in value.items():
        check_attachment_name(name)
        if not isinstance(entry, dict):
            raise InvalidDocument(f"_attachments.{name} must be an object")
        found[name] = _attachment(name, entry, streamed)
    return found


def _attachment(name: str, entry: dict[str, Any], streamed: Mapping[str, Inline | Stored]) -> IncomingAttachment:
    kind, revpos = entry.get("content_type", DEFAULT_CONTENT_TYPE), entry.get("revpos")
    encoding = entry.get("encoding")
    if not isinstance(kind, str):
        raise InvalidDocument(f"_attachments.{name}.content_type must be a string")
    if revpos is not None and (isinstance(revpos, bool) or not isinstance(revpos, int) or revpos < 0):
        raise InvalidDocument(f"_attachments.{name}.revpos must be a number")
    if entry.get("stub") is True:
        return IncomingAttachment(kind, Stub(), revpos)
    if encoding not in _ENCODINGS:
        raise InvalidDocument(f"_attachments.{name}.encoding must be identity or gzip")
    if entry.get("follows") is True:
        if name not in streamed:
            raise BadRequest(f"the bytes of attachment {name} do not follow")
        return IncomingAttachment(kind, streamed[name], revpos)
    data = entry.get("data")
    try:
        if not isinstance(data, str):
            raise ValueError
        content = base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise BadRequest(f"Invalid attachment data for {name}") from None
    return IncomingAttachment(kind, inline(content, kind), revpos)


def inline(content: bytes, content_type: str) -> Inline:
    """Bytes as they are to be stored, with their digests."""
    data, encoding = content, None
    if is_compressible(content_type):
        compressor = gzip_compressor()
        data, encoding = compressor.compress(content) + compressor.flush(), "gzip"
    md5 = hashlib.md5(data, usedforsecurity=False).digest()
    return Inline(data, md5, hashlib.sha256(data).digest(), len(content), encoding)
