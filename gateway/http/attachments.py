"""Attachments (https://docs.couchdb.org/en/stable/api/document/attachments.html)."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway import json_text
from gateway.errors import BadJson, BadRequest, GatewayError, from_status
from gateway.http import answers, documents
from gateway.http.answers import answer
from gateway.http.body import read_body
from gateway.http.call import Call, Source, close, relay
from gateway.queries import Outcome

_SENT: Final = ("range", "if-range", "if-none-match", "accept-encoding")
_RETURNED: Final = (
    *("content-type", "content-encoding", "content-range", "content-md5"),
    *("accept-ranges", "etag", "cache-control", "last-modified"),
)
_MEDIA_TYPE_CHARACTERS: Final = 1_000
_ERROR_BYTES: Final = 65_536


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
    if source.status >= 400 and source.status != 416:
        raise await _refusal(source)
    returned = {name: source.headers[name] for name in _RETURNED if name in source.headers}
    # Whoever may write documents must not run scripts in the gateway's origin; CouchDB says the same.
    returned["Content-Security-Policy"] = "sandbox"
    returned["X-Content-Type-Options"] = "nosniff"
    return await relay(call, source, returned)


async def _refusal(source: Source) -> GatewayError:
    """The upstream's error as one of ours: with its code, and never its 401, which is about the gateway's login."""
    received = bytearray()
    try:
        async for chunk in source.content:
            received += chunk
            if len(received) > _ERROR_BYTES:
                break
        value = json_text.parse(bytes(received))
    except BadJson:
        value = None
    finally:
        await close(source.content)
    said = value if isinstance(value, dict) else {}
    missing = "Document is missing attachment" if source.status == 404 else ""
    return from_status(source.status, str(said.get("error", "")), str(said.get("reason", missing)))


async def put(call: Call) -> web.StreamResponse:
    """Add or replace an attachment: a new revision of its document."""
    doc_id, name = documents.document_id(call), _writable_name(call)
    rev = documents.named_rev(call)
    media_type = call.header("Content-Type") or "application/octet-stream"
    if len(media_type) > _MEDIA_TYPE_CHARACTERS:
        raise BadRequest(f"a Content-Type longer than {_MEDIA_TYPE_CHARACTERS} characters")
    data = await read_body(call.request)
    try:
        outcome = await call.database.put_attachment(call.caller, doc_id, name, rev, media_type, data)
    except GatewayError as error:
        documents.count([Outcome(doc_id, error=error)], call)
        raise
    return _written(call, outcome, {"Location": answers.location(call.database.name, doc_id, name)})


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
