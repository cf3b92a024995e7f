"""Documents, one at a time (https://docs.couchdb.org/en/stable/api/document/common.html)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, Literal

from aiohttp import web

from gateway import limits
from gateway.errors import (
    BadRequest,
    Conflict,
    Deleted,
    Forbidden,
    GatewayError,
    InvalidDocumentId,
    NotFound,
    UnauthorizedBySyncFunction,
)
from gateway.http import answers, multipart
from gateway.http.answers import answer
from gateway.http.body import parse_json, read_body
from gateway.http.call import Call
from gateway.http.params import MISSING, Options, rev_of
from gateway.model.drafts import check_id
from gateway.queries import DocumentQuery, Outcome

log = logging.getLogger(__name__)

_UNTOLD: Final = (Conflict, Forbidden, UnauthorizedBySyncFunction)  # refusals that batch mode does not wait for
READ_PARAMETERS = frozenset(
    {
        *("rev", "revs", "revs_info", "conflicts", "deleted_conflicts", "local_seq", "latest", "attachments"),
        *("open_revs", "meta"),
    }
)


async def get(call: Call) -> web.StreamResponse:
    """A document, or with `open_revs` several of its revisions."""
    doc_id = document_id(call)
    query = document_query(call.options)
    if query.open_revs is not None:
        return await _open_revs(call, doc_id, query)
    doc = await call.database.document(call.caller, doc_id, query)
    if query.revs_info or query.conflicts or query.deleted_conflicts or query.local_seq:
        return answer(200, doc)  # without ETag, as CouchDB: these members change while the revision does not
    tag = f'"{doc.get("_rev", "")}"'
    return answers.not_modified(call.request, tag) or answer(200, doc, {"ETag": tag})


async def _open_revs(call: Call, doc_id: str, query: DocumentQuery) -> web.StreamResponse:
    if not answers.accepts(call.request, "multipart/mixed"):
        return answer(200, await call.database.open_revs(call.caller, doc_id, query))
    # Attachments always come along in this form, whatever was asked: CouchDB's replicator relies on it.
    with_attachments = DocumentQuery(
        revs=query.revs, latest=query.latest, attachments=True, open_revs=query.open_revs, rev=query.rev
    )
    found = await call.database.open_revs(call.caller, doc_id, with_attachments)
    return multipart.mixed([(one["ok"], False) if "ok" in one else (one, True) for one in found])


async def put(call: Call) -> web.StreamResponse:
    """Store a document, as a new revision or with `new_edits=false` as a given one."""
    doc_id = document_id(call)
    new_edits = call.options.flag("new_edits", True)
    if multipart.is_related(call.request):
        doc: Any = await multipart.read_related(call.request)
    else:
        data = await read_body(call.request)
        doc = await parse_json(data)
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    if not isinstance(doc.get("_id", ""), str):
        raise InvalidDocumentId("Document id must be a string")
    doc["_id"] = doc_id
    settle_rev(call, doc)
    batch = call.query.get("batch") == "ok" and not multipart.is_related(call.request)
    return await store(call, doc, new_edits=new_edits, batch=batch)


async def delete(call: Call) -> web.StreamResponse:
    """Delete a document: its revision is `rev` or If-Match."""
    doc_id = document_id(call)
    doc: dict[str, Any] = {"_id": doc_id, "_deleted": True}
    settle_rev(call, doc)
    # CouchDB never makes a tombstone of nothing here: 404 for what is not there.
    missing: NotFound | None = None
    try:
        await call.database.document(call.caller, doc_id, DocumentQuery())
    except Forbidden:
        pass  # who may not read may still write; the sync function decides below
    except NotFound as error:
        if "_rev" not in doc or call.caller.is_admin or isinstance(error, Deleted):
            raise
        missing = error  # or there, and hidden
    else:
        if "_rev" not in doc:
            raise Conflict
    try:
        return await store(call, doc, new_edits=True, place=False)
    except Conflict:
        if missing is not None:
            raise missing from None
        raise


async def store(
    call: Call, doc: dict[str, Any], *, new_edits: bool, tag: bool = True, place: bool = True, batch: bool = False
) -> web.StreamResponse:
    """Write a document with its `_id` and answer as CouchDB does: with `tag` its ETag, with `place` its Location.

    `batch` is CouchDB's batch mode: what becomes of the document is not told.
    """
    doc_id = check_id(doc["_id"])
    headers = {"Location": answers.location(call.database.name, doc_id)} if place else {}
    if doc_id.startswith("_local/"):
        rev = await call.database.local_put(call.caller, doc)
        return answer(201, {"ok": True, "id": doc_id, "rev": rev}, headers)
    try:
        outcome = await call.database.write(call.caller, doc, new_edits=new_edits)
    except GatewayError as error:
        count([Outcome(doc_id, error=error)], call)
        if batch and isinstance(error, _UNTOLD):
            log.info("%s: a document written with batch=ok was not stored: %s", call.database.name, error.reason)
            return answer(202, {"ok": True, "id": doc_id})
        raise
    count([outcome], call)
    if batch:
        return answer(202, {"ok": True, "id": outcome.id})
    if tag:
        headers["ETag"] = f'"{outcome.rev}"'
    return answer(written_status(call, outcome), {"ok": True, "id": outcome.id, "rev": outcome.rev}, headers)


def written_status(call: Call, outcome: Outcome) -> int:
    if not outcome.routed:
        return 202
    return 200 if call.request.method == "DELETE" else 201


def count(outcomes: Sequence[Outcome], call: Call) -> None:
    """For the metrics."""
    refused = sum(outcome.error is not None for outcome in outcomes)
    call.traffic.documents_refused += refused
    call.traffic.documents_written += len(outcomes) - refused


def document_id(call: Call) -> str:
    """The id in the path. Raises InvalidDocumentId."""
    return check_id(call.values["doc"])


def settle_rev(call: Call, doc: dict[str, Any]) -> None:
    """Set `_rev` from `rev` or If-Match where the body has none. Raises BadRequest when they say different things."""
    said: list[tuple[str, str]] = []
    if doc.get("_rev") is not None:
        said.append(("request body", rev_of(doc["_rev"])))
    if (rev := named_rev(call)) is not None:
        said.append(("query string or If-Match", rev))
    if len({rev for _, rev in said}) > 1:
        raise BadRequest("Document rev from request body and query string have different values")
    if said:
        doc["_rev"] = said[0][1]
    else:
        doc.pop("_rev", None)


def named_rev(call: Call) -> str | None:
    """The revision named by `rev` or If-Match. Raises BadRequest when they differ or are malformed."""
    rev = rev_of(call.query["rev"]) if "rev" in call.query else None
    header = call.header("If-Match")
    if header is None:
        return rev
    tag = rev_of(header.strip().removeprefix("W/").strip('"'))
    if rev is not None and rev != tag:
        raise BadRequest("Document rev and etag have different values")
    return tag


def document_query(options: Options) -> DocumentQuery:
    """The options of reading a document. Raises BadParameter, BadRequest."""
    meta = options.flag("meta")
    rev = options.text("rev")
    return DocumentQuery(
        rev=None if rev is None else rev_of(rev),
        revs=options.flag("revs"),
        revs_info=options.flag("revs_info") or meta,
        conflicts=options.flag("conflicts") or meta,
        deleted_conflicts=options.flag("deleted_conflicts") or meta,
        local_seq=options.flag("local_seq"),
        latest=options.flag("latest"),
        attachments=options.flag("attachments"),
        open_revs=_parse_open_revs(options),
    )


def _parse_open_revs(options: Options) -> Sequence[str] | Literal["all"] | None:
    if options.raw("open_revs") in ("all", '"all"'):
        return "all"
    value = options.json("open_revs")
    if value is MISSING:
        return None
    if not isinstance(value, list):
        raise options.bad("open_revs", "`all` or an array of revisions")
    if len(value) > limits.REVISIONS_COUNT:
        raise BadRequest(f"`open_revs` holds more than {limits.REVISIONS_COUNT} revisions (limit REVISIONS_COUNT)")
    return [rev_of(rev) for rev in value]
