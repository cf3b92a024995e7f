"""Several documents at once: `_bulk_docs`, `_bulk_get`, `_revs_diff`, `_missing_revs`.

https://docs.couchdb.org/en/stable/api/database/bulk-api.html
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from gateway import json_text, limits
from gateway.errors import BadRequest, GatewayError, NotImplementedHere, TooLarge, Unauthorized
from gateway.http import answers, documents, multipart
from gateway.http.answers import answer
from gateway.http.body import read_json_object
from gateway.http.call import Call
from gateway.http.params import Options, rev_of
from gateway.http.passthrough import pass_through
from gateway.model.drafts import check_id, draft
from gateway.model.revisions import history
from gateway.pauses import Pauses
from gateway.queries import BulkGetItem, BulkGetResult, Outcome

BULK_GET_PARAMETERS = frozenset({"revs", "attachments", "att_encoding_info", "latest"})
_REFUSED_BY_BULK_GET = ("open_revs", "new_edits", "w", "rev", "atts_since")
_STREAMED_RESULTS_COUNT = 100  # an answer with more is encoded and sent in pieces


async def bulk_docs(call: Call) -> web.StreamResponse:
    """Store documents; each has its own result. With `new_edits: false` only failures are answered."""
    body = await read_json_object(call.request)
    docs = _list(body, "docs", "POST body must include `docs` parameter.")
    new_edits = body.get("new_edits", True)
    if not isinstance(new_edits, bool):
        raise BadRequest("`new_edits` parameter must be a boolean.")
    for doc in docs:
        if isinstance(doc, dict) and "_id" not in doc:
            doc["_id"] = uuid.uuid4().hex
    if new_edits and body.get("all_or_nothing") is True:
        return answer(417, [_not_atomic(doc) for doc in docs])
    outcomes = await call.database.bulk_docs(call.caller, docs, new_edits=new_edits)
    documents.count(outcomes, call)
    if (error := _of_all(outcomes, new_edits=new_edits)) is not None:
        raise error
    results = [
        _result(doc, outcome, new_edits=new_edits)
        for doc, outcome in zip(docs, outcomes, strict=True)
        if new_edits or outcome.error is not None
    ]
    return answer(201 if all(outcome.routed for outcome in outcomes) else 202, results)


def _of_all(outcomes: Sequence[Outcome], *, new_edits: bool) -> GatewayError | None:
    """The error that answers the whole request: the login is over, or the moment is bad for whoever sends it all again.

    A replicator does (`new_edits: false`), and what is stored already costs it nothing. Others are told of each
    document, as long as there is anything to tell.
    """
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    login = next((error for error in errors if isinstance(error, Unauthorized)), None)
    passing = [error for error in errors if error.passing]
    if login is not None or not passing or (new_edits and len(passing) < len(outcomes)):
        return login
    return passing[0]


def _not_atomic(doc: Any) -> dict[str, Any]:
    """CouchDB's answer for each document where all or none were to be written, which it cannot do either."""
    one = draft(doc, new_edits=True)
    refused = NotImplementedHere("all_or_nothing is not supported")
    return {"id": one.id, "rev": one.parent or "0-", **refused.body()}


def _result(doc: Any, outcome: Outcome, *, new_edits: bool) -> dict[str, Any]:
    if outcome.error is None:
        accepted = {} if outcome.routed else {"accepted": True}
        return {"ok": True, "id": outcome.id, "rev": outcome.rev, **accepted}
    named: dict[str, Any] = {"id": outcome.id}
    if not new_edits and (rev := _sent_rev(doc)) is not None:
        named["rev"] = rev
    return {**named, **outcome.error.body()}


def _sent_rev(doc: Any) -> str | None:
    if not isinstance(doc, dict):
        return None
    if isinstance(doc.get("_rev"), str):
        return str(doc["_rev"])
    try:
        return history(doc.get("_revisions"))[0]
    except ValueError:
        return None


async def bulk_get(call: Call) -> web.StreamResponse:
    """Read revisions of documents; each has its own result."""
    if call.caller.is_admin:
        return await pass_through(call)  # also what is not routed: design documents, revisions that were replaced
    for name in _REFUSED_BY_BULK_GET:
        if name in call.query:
            raise BadRequest(f'"{name}" query parameter is not acceptable')
    as_multipart = not answers.accepts(call.request, "application/json") and (
        answers.accepts(call.request, "multipart/mixed") or answers.accepts(call.request, "multipart/related")
    )
    body = await read_json_object(call.request)
    items = [_item(one) for one in _list(body, "docs", "Missing JSON list of 'docs'.")]
    revs, latest = call.options.flag("revs"), call.options.flag("latest")
    if as_multipart:
        kind = "mixed" if answers.accepts(call.request, "multipart/mixed") else "related"
        parts = await call.database.bulk_get_parts(call.caller, items, revs=revs, latest=latest)
        return await multipart.mixed(call, parts, kind=kind, named=True)
    results = await call.database.bulk_get(
        call.caller,
        items,
        revs=revs,
        attachments=call.options.flag("attachments"),
        latest=latest,
        encoding_info=call.options.flag("att_encoding_info"),
    )
    return await _stream_results(call, results)


def _item(one: Any) -> BulkGetItem:
    if not isinstance(one, dict) or not one:
        return BulkGetItem("", None, BadRequest("document must be a JSON object"))
    doc_id, rev = one.get("id"), one.get("rev")
    try:
        if "id" not in one:
            raise BadRequest("document id missed")
        known_id = check_id(doc_id)
    except GatewayError as error:
        return BulkGetItem(doc_id if isinstance(doc_id, str) else "", None, error)
    try:
        since = documents.revisions(Options({}, one), "atts_since")
        return BulkGetItem(known_id, None if rev is None else rev_of(rev), atts_since=since)
    except GatewayError as error:
        return BulkGetItem(known_id, rev if isinstance(rev, str) else None, error)


async def _stream_results(call: Call, results: Sequence[BulkGetResult]) -> web.StreamResponse:
    if len(results) <= _STREAMED_RESULTS_COUNT:
        return answer(200, {"results": [_shown(result) for result in results]})
    response = answers.stream(200)
    await call.begin(response, compress=True)
    before = b'{"results":['
    for start in range(0, len(results), _STREAMED_RESULTS_COUNT):
        piece = [json_text.encode(_shown(result)) for result in results[start : start + _STREAMED_RESULTS_COUNT]]
        await call.write(before + b",".join(piece))
        before = b","
    await call.write(b"]}\n")
    return response


def _shown(result: BulkGetResult) -> dict[str, Any]:
    return {"id": result.id or None, "docs": list(result.docs)}


async def revs_diff(call: Call) -> web.StreamResponse:
    """Which of these revisions are not known here."""
    return answer(200, await call.database.revs_diff(call.caller, await _revs(call)))


async def missing_revs(call: Call) -> web.StreamResponse:
    """The same, without possible ancestors."""
    found = await call.database.revs_diff(call.caller, await _revs(call))
    return answer(200, {"missing_revs": {doc_id: one["missing"] for doc_id, one in found.items()}})


async def _revs(call: Call) -> Mapping[str, Sequence[str]]:
    body = await read_json_object(call.request)
    if len(body) > limits.KEYS_COUNT:
        raise TooLarge(f"more than {limits.KEYS_COUNT} documents (limit KEYS_COUNT)")
    pauses = Pauses()
    for doc_id, revs in body.items():
        await pauses.when_due()
        if not isinstance(revs, list):
            raise BadRequest(f"the revisions of {doc_id[:100]!r} must be an array")
        if len(revs) > limits.REVISIONS_COUNT:
            raise TooLarge(f"more than {limits.REVISIONS_COUNT} revisions of one document (limit REVISIONS_COUNT)")
        for rev in revs:
            rev_of(rev)
    return body


def _list(body: Mapping[str, Any], name: str, missing: str) -> list[Any]:
    value = body.get(name)
    if value is None:
        raise BadRequest(missing)
    if not isinstance(value, list):
        raise BadRequest(f"`{name}` parameter must be an array.")
    if len(value) > limits.BULK_DOCUMENTS_COUNT:
        raise TooLarge(
            f"`{name}` holds {len(value)} members, more than {limits.BULK_DOCUMENTS_COUNT} (limit BULK_DOCUMENTS_COUNT)"
        )
    return value
