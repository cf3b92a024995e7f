"""COPY of a document (https://docs.couchdb.org/en/stable/api/document/common.html#copy--db-docid).

The source is read, and the copy written, as the one who asks: nothing is copied that could not be read and written.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote_plus

from aiohttp import web

from gateway import limits
from gateway.errors import BadRequest, TooLarge
from gateway.http import documents
from gateway.http.call import Call
from gateway.http.params import parse_query, rev_of
from gateway.model.drafts import check_id
from gateway.queries import DocumentQuery

PARAMETERS: Final = frozenset({"rev"})
_ABSOLUTE: Final = re.compile(r"https?://")


async def copy(call: Call) -> web.StreamResponse:
    """Copy a document with its attachments to the id in `Destination`, which may name the revision that it replaces."""
    return await _copy(call, documents.document_id(call))


async def copy_local(call: Call) -> web.StreamResponse:
    """Copy a local document of the caller to the id in `Destination`."""
    return await _copy(call, check_id(f"_local/{call.values['id']}"))


async def _copy(call: Call, source: str) -> web.StreamResponse:
    rev = documents.named_rev(call) if not source.startswith("_local/") else None
    target, replaced = destination(call.header("Destination"))
    if source.startswith("_local/"):
        doc = await call.database.local_get(call.caller, source)
    else:
        doc = await call.database.document(call.caller, source, DocumentQuery(rev=rev))
        if stubs := doc.get("_attachments"):
            doc = await _with_attachments(call, source, str(doc["_rev"]), stubs)
    copied = {name: value for name, value in doc.items() if not name.startswith("_") or name in _KEPT}
    copied["_id"] = target
    if replaced is not None:
        copied["_rev"] = replaced
    return await documents.store(call, copied, new_edits=True)


_KEPT: Final = ("_attachments", "_deleted")


async def _with_attachments(call: Call, source: str, rev: str, stubs: Any) -> dict[str, Any]:
    """The document with the bytes of its attachments, which a stub of another document could not name.

    Raises TooLarge.
    """
    size = sum(stub.get("length", 0) for stub in stubs.values())
    if size > limits.COPY_ATTACHMENTS_BYTES:
        raise TooLarge(
            f"the attachments have {size} bytes; COPY takes along {limits.COPY_ATTACHMENTS_BYTES} "
            "(limit COPY_ATTACHMENTS_BYTES)"
        )
    doc = await call.database.document(call.caller, source, DocumentQuery(rev=rev, attachments=True))
    found = doc.get("_attachments", {})
    doc["_attachments"] = {
        name: {"content_type": one.get("content_type"), "data": one.get("data")} for name, one in found.items()
    }
    return doc


def destination(header: str | None) -> tuple[str, str | None]:
    """Id and revision that a `Destination` names. Raises BadRequest, InvalidDocumentId."""
    if header is None:
        raise BadRequest("Destination header is mandatory for COPY.")
    if _ABSOLUTE.match(header):
        raise BadRequest("Destination URL must be relative.")
    path, mark, query = header.partition("?")
    try:
        target = check_id(unquote_plus(path, errors="strict"))
    except UnicodeDecodeError:
        raise BadRequest("the Destination is not UTF-8") from None
    rev = parse_query(query).get("rev")
    if mark and rev is None:
        raise BadRequest("after the ? of a Destination there must be rev=REVISION")
    return target, None if rev is None else _rev(target, rev)


def _rev(target: str, rev: str) -> str:
    """Revisions of local documents are `0-N`, so they are compared as text."""
    return rev if target.startswith("_local/") else rev_of(rev)
