"""Documents, one at a time (https://docs.couchdb.org/en/stable/api/document/common.html)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote

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
from gateway.http import answers, local, multipart
from gateway.http.answers import answer
from gateway.http.body import parse_json, read_body
from gateway.http.call import Call, close, refusal, relay
from gateway.http.params import MISSING, Options, rev_of
from gateway.model.drafts import check_id
from gateway.queries import DocumentQuery, Outcome, RevisionPart

log = logging.getLogger(__name__)

_UNTOLD: Final = (Conflict, Forbidden, UnauthorizedBySyncFunction)  # refusals that batch mode does not wait for
READ_PARAMETERS = frozenset(
    {
        *("rev", "revs", "revs_info", "conflicts", "deleted_conflicts", "local_seq", "latest", "attachments"),
        *("open_revs", "meta", "atts_since", "att_encoding_info"),
    }
)


async def get(call: Call) -> web.StreamResponse:
    """A document, or with `open_revs` several of its revisions."""
    doc_id = document_id(call)
    if call.caller.is_admin:
        return await _as_upstream(call, doc_id)
    query = document_query(call.options)
    if query.open_revs is not None:
        if answers.accepts(call.request, "multipart/mixed"):
            return await multipart.mixed(call, await call.database.open_revs_parts(call.caller, doc_id, query))
        return answer(200, await call.database.open_revs(call.caller, doc_id, query))
    found: RevisionPart | dict[str, Any]
    if query.with_attachments and answers.accepts(call.request, "multipart/related"):
        found = await call.database.document_related(call.caller, doc_id, query)
    else:
        found = await call.database.document(call.caller, doc_id, query)
    headers: dict[str, str] = {}
    if not query.has_meta:  # as CouchDB: those members change while the revision does not
        headers["ETag"] = f'"{found.rev if isinstance(found, RevisionPart) else found.get("_rev", "")}"'
        if (unchanged := answers.not_modified(call.request, headers["ETag"])) is not None:
            if isinstance(found, RevisionPart):
                await close(found.content)
            return unchanged
    if isinstance(found, RevisionPart):
        return await multipart.related(call, found, headers)
    return answer(200, found, headers)


async def _as_upstream(call: Call, doc_id: str) -> web.StreamResponse:
    """To an administrator a document is what it is upstream, streamed."""
    source = await call.database.upstream_request(
        call.request.method,
        "/" + quote(doc_id, safe=""),
        query=call.request.rel_url.raw_query_string,
        headers={name: value for name in ("accept", "if-none-match") if (value := call.header(name)) is not None},
        body=None,
    )
    if source.status >= 400:
        raise await refusal(source)
    returned = ("content-type", "etag", "cache-control")
    return await relay(call, source, {name: source.headers[name] for name in returned if name in source.headers})


async def put(call: Call) -> web.StreamResponse:
    """Store a document, as a new revision or with `new_edits=false` as a given one."""
    doc_id = document_id(call)
    new_edits = call.options.flag("new_edits", True)
    if multipart.is_related(call.request):
        with call.traffic.upload():
            related = await multipart.read_related(call.request)
            doc = _of_path(call, related.doc, doc_id)
            return await store(call, doc, new_edits=new_edits, following=related.contents)
    doc = _of_path(call, await parse_json(await read_body(call.request)), doc_id)
    return await store(call, doc, new_edits=new_edits, batch=call.query.get("batch") == "ok")


def _of_path(call: Call, doc: Any, doc_id: str) -> dict[str, Any]:
    """The document with the id of the path and the revision that the request names."""
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    if not isinstance(doc.get("_id", ""), str):
        raise InvalidDocumentId("Document id must be a string")
    doc["_id"] = doc_id
    settle_rev(call, doc)
    return doc


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
    call: Call,
    doc: dict[str, Any],
    *,
    new_edits: bool,
    tag: bool = True,
    place: bool = True,
    batch: bool = False,
    following: AsyncIterator[AsyncIterator[bytes]] | None = None,
) -> web.StreamResponse:
    """Write a document with its `_id`, and attachments that follow it, and answer as CouchDB does: with `tag` its ETag,
    with `place` its Location.

    `batch` is CouchDB's batch mode: what becomes of the document is not told.
    """
    doc_id = check_id(doc["_id"])
    headers = {"Location": answers.location(call.database.name, doc_id)} if place else {}
    if doc_id.startswith("_local/"):
        return await local.store(call, doc, tag=tag, place=place)
    try:
        if following is None:
            outcome = await call.database.write(call.caller, doc, new_edits=new_edits)
        else:
            outcome = await call.database.write_related(call.caller, doc, following, new_edits=new_edits)
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
    status = written_status(call, outcome, deleted=doc.get("_deleted") is True)
    return answer(status, {"ok": True, "id": outcome.id, "rev": outcome.rev}, headers)


def written_status(call: Call, outcome: Outcome, *, deleted: bool = False) -> int:
    """200 for a deletion, also by a `PUT` whose document says so (chttpd_db:update_doc)."""
    if not outcome.routed:
        return 202
    return 200 if deleted or call.request.method == "DELETE" else 201


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
        atts_since=revisions(options, "atts_since"),
        att_encoding_info=options.flag("att_encoding_info"),
        open_revs=_parse_open_revs(options),
    )


def _parse_open_revs(options: Options) -> Sequence[str] | Literal["all"] | None:
    if options.raw("open_revs") in ("all", '"all"'):
        return "all"
    return revisions(options, "open_revs", "`all` or an array of revisions")


def revisions(options: Options, name: str, expected: str = "an array of revisions") -> Sequence[str] | None:
    """An option that is an array of revisions; None when it is not given. Raises BadParameter, BadRequest."""
    value = options.json(name)
    if value is MISSING:
        return None
    if not isinstance(value, list):
        raise options.bad(name, expected)
    if len(value) > limits.REVISIONS_COUNT:
        raise BadRequest(f"`{name}` holds more than {limits.REVISIONS_COUNT} revisions (limit REVISIONS_COUNT)")
    return [rev_of(rev) for rev in value]
