"""Attachments (https://docs.couchdb.org/en/stable/api/document/attachments.html)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from aiohttp import web

from gateway import limits
from gateway.errors import BadRequest, GatewayError, TooLarge, UnsupportedMedia
from gateway.http import answers, documents
from gateway.http.answers import answer
from gateway.http.body import pieces
from gateway.http.call import Call, refusal, relay
from gateway.queries import Outcome, UploadedAttachment

_SENT: Final = ("range", "if-range", "if-none-match", "accept-encoding")
_RETURNED: Final = (
    *("content-type", "content-encoding", "content-range", "content-md5"),
    *("accept-ranges", "etag", "cache-control", "last-modified"),
)
_MEDIA_TYPE_CHARACTERS: Final = 1_000
_MD5_TAG: Final = re.compile(r'"([0-9A-Za-z+/]{22}==)"\Z')


async def get(call: Call) -> web.StreamResponse:
    """An attachment of a readable revision, streamed; ranges as the upstream has them."""
    headers = {name: value for name in _SENT if (value := call.header(name)) is not None}
    source = await call.database.attachment(
        call.caller,
        documents.document_id(call),
        call.values["attachment"],
        documents.named_rev(call),
        "HEAD" if call.is_head else "GET",
        headers,
    )
    if source.status >= 400:
        raise await refusal(source, "Document is missing attachment")
    returned = {name: source.headers[name] for name in _RETURNED if name in source.headers}
    if source.status == 200 and (md5 := _md5_of_body(source.headers)) is not None:
        returned["Content-MD5"] = md5
    # Whoever may write documents must not run scripts in the gateway's origin; CouchDB says the same.
    returned["Content-Security-Policy"] = "sandbox"
    returned["X-Content-Type-Options"] = "nosniff"
    return await relay(call, source, returned)


def _md5_of_body(headers: Mapping[str, str]) -> str | None:
    """CouchDB's ETag is the MD5 of what is stored: not of what is sent, where it is unpacked on its way."""
    as_stored = "content-encoding" in headers or headers.get("accept-ranges") == "bytes"
    match = _MD5_TAG.match(headers.get("etag", ""))
    return match[1] if match is not None and as_stored else None


async def put(call: Call) -> web.StreamResponse:
    """Add or replace an attachment: a new revision of its document."""
    doc_id, name = documents.document_id(call), _writable_name(call)
    rev = documents.named_rev(call)
    media_type = call.header("Content-Type") or "application/octet-stream"
    if len(media_type) > _MEDIA_TYPE_CHARACTERS:
        raise BadRequest(f"a Content-Type longer than {_MEDIA_TYPE_CHARACTERS} characters")
    size = call.request.content_length
    if size is None and not call.request.can_read_body:
        size = 0
    if (size or 0) > limits.ATTACHMENT_BYTES:
        raise TooLarge(f"the attachment is larger than {limits.ATTACHMENT_BYTES} bytes (limit ATTACHMENT_BYTES)")
    uploaded = UploadedAttachment(media_type, _encoding(call), size, pieces(call.request))
    try:
        with call.traffic.upload():
            outcome = await call.database.put_attachment(call.caller, doc_id, name, rev, uploaded)
    except GatewayError as error:
        documents.count([Outcome(doc_id, error=error)], call)
        raise
    return _written(call, outcome, {"Location": answers.location(call.database.name, doc_id, name)})


def _encoding(call: Call) -> Literal["gzip"] | None:
    encoding = (call.header("Content-Encoding") or "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise UnsupportedMedia("Only gzip and identity content-encodings are supported")
    return "gzip" if encoding == "gzip" else None


async def delete(call: Call) -> web.StreamResponse:
    """Remove an attachment: a new revision of its document."""
    doc_id, name = documents.document_id(call), _writable_name(call)
    try:
        outcome = await call.database.delete_attachment(call.caller, doc_id, name, documents.named_rev(call))
    except GatewayError as error:
        documents.count([Outcome(doc_id, error=error)], call)
        raise
    return _written(call, outcome, {})


def _written(call: Call, outcome: Outcome, headers: dict[str, str]) -> web.StreamResponse:
    documents.count([outcome], call)
    headers["ETag"] = f'"{outcome.rev}"'
    return answer(documents.written_status(call, outcome), {"ok": True, "id": outcome.id, "rev": outcome.rev}, headers)


def _writable_name(call: Call) -> str:
    name = call.values["attachment"]
    if name.startswith("_"):
        raise BadRequest(f"Attachment name '{name[:100]}' starts with prohibited character '_'")
    return name
