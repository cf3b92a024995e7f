"""`_local` documents: checkpoints of replicators, in a namespace of each user (DESIGN.md section 13).

https://docs.couchdb.org/en/stable/api/local.html
"""

from __future__ import annotations

import re
from typing import Any, Final

from aiohttp import web

from gateway import limits
from gateway.errors import BadRequest, InvalidDocumentId
from gateway.http import answers
from gateway.http.answers import answer
from gateway.http.body import read_json
from gateway.http.call import Call
from gateway.model.drafts import check_id

_FORM: Final = re.compile(r"[0-9]+-[0-9a-zA-Z]+\Z")


async def get(call: Call) -> web.StreamResponse:
    """A local document of the caller."""
    doc = await call.database.local_get(call.caller, _id(call))
    tag = answers.content_tag(doc)  # one revision may stand for several bodies
    return answers.not_modified(call.request, tag) or answer(200, doc, {"ETag": tag})


async def put(call: Call) -> web.StreamResponse:
    """Store a local document of the caller."""
    doc_id = _id(call)
    doc: Any = await read_json(call.request, limits.LOCAL_DOCUMENT_BYTES, "LOCAL_DOCUMENT_BYTES", check_type=False)
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    if not isinstance(doc.get("_id", ""), str):
        raise InvalidDocumentId("Document id must be a string")
    doc["_id"] = doc_id
    rev = _rev(call)
    if rev is not None:
        if doc.get("_rev") not in (None, rev):
            raise BadRequest("Document rev from request body and query string have different values")
        doc["_rev"] = rev
    return await store(call, doc, tag=True)


async def store(call: Call, doc: dict[str, Any], *, tag: bool, place: bool = True) -> web.StreamResponse:
    """Store a local document with its `_id` and answer as CouchDB does: with `tag` its ETag, with `place` its
    Location."""
    if doc.get("_rev") is not None and not isinstance(doc["_rev"], str):
        raise BadRequest("Invalid rev format")
    rev = await call.database.local_put(call.caller, doc)
    headers = {"Location": answers.location(call.database.name, doc["_id"])} if place else {}
    if tag:
        headers["ETag"] = f'"{rev}"'
    status = 200 if doc.get("_deleted") is True else 201
    return answer(status, {"ok": True, "id": doc["_id"], "rev": rev}, headers)


async def delete(call: Call) -> web.StreamResponse:
    """Delete a local document of the caller."""
    doc_id = _id(call)
    _rev(call)
    await call.database.local_delete(call.caller, doc_id)
    return answer(200, {"ok": True, "id": doc_id, "rev": "0-0"}, {"ETag": '"0-0"'})


async def no_id(call: Call) -> web.StreamResponse:
    """Refused: `_local` without an id."""
    raise BadRequest("Invalid _local document id.")


async def no_attachments(call: Call) -> web.StreamResponse:
    """Refused: local documents have no attachments."""
    raise BadRequest("_local documents do not accept attachments.")


def _id(call: Call) -> str:
    return check_id(f"_local/{call.values['id']}")


def _rev(call: Call) -> str | None:
    """Revisions of local documents are `0-N`, and those that are named count only for the next number."""
    rev = call.query.get("rev")
    header = call.header("If-Match")
    tag = None if header is None else header.strip().removeprefix("W/").strip('"')
    if rev is not None and tag is not None and rev != tag:
        raise BadRequest("Document rev and etag have different values")
    rev = rev if rev is not None else tag
    if rev is not None and not _FORM.match(rev):
        raise BadRequest("Invalid rev format")
    return rev
