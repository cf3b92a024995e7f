"""Many documents at once (https://docs.couchdb.org/en/stable/api/database/bulk-api.html)."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway import json_text, limits
from gateway.couch.upstream import UpstreamResponse, WriteResult
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.documents import check_id, check_rev, incoming
from gateway.embedded.http import multipart
from gateway.embedded.http.document_routes import doc_options, open_revs
from gateway.embedded.http.message import Request, answer, stream
from gateway.embedded.reading import DocOptions, Revision
from gateway.errors import BadRequest, GatewayError, TooLarge
from gateway.multipart import boundary

_STEP = 50  # documents read at once for one _bulk_get


async def bulk_docs(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    docs, new_edits = body.get("docs"), body.get("new_edits", True)
    if "docs" not in body:
        raise BadRequest("POST body must include `docs` parameter.")
    if not isinstance(docs, list):
        raise BadRequest("`docs` parameter must be an array.")
    if not isinstance(new_edits, bool):
        raise BadRequest("`new_edits` parameter must be a boolean.")
    if len(docs) > limits.BULK_DOCUMENTS_COUNT:
        raise TooLarge(f"more than {limits.BULK_DOCUMENTS_COUNT} documents in one request")
    prepared = await database.readers.work(lambda: [incoming(doc, new_edits=new_edits) for doc in docs])
    results = await database.write_incoming(prepared, new_edits=new_edits)
    if not new_edits:  # about those it took CouchDB says nothing
        rows = [
            {"id": result.id, "rev": doc.rev, "error": result.error, "reason": result.reason}
            for doc, result in zip(prepared, results, strict=True)
            if result.rev is None
        ]
    else:
        rows = [_row(result) for result in results]
    return answer(201, rows)


def _row(result: WriteResult) -> dict[str, Any]:
    if result.rev is None:
        return {"id": result.id, "error": result.error, "reason": result.reason}
    return {"ok": True, "id": result.id, "rev": result.rev}


async def revs_diff(request: Request) -> UpstreamResponse:
    database = await request.database()
    found = await database.revs_diff(_revs(await request.json_object()))
    return answer(200, {id: {name: revs for name, revs in entry.items() if revs} for id, entry in found.items()})


async def missing_revs(request: Request) -> UpstreamResponse:
    database = await request.database()
    found = await database.revs_diff(_revs(await request.json_object()))
    return answer(200, {"missing_revs": {id: entry["missing"] for id, entry in found.items()}})


def _revs(body: dict[str, Any]) -> dict[str, list[str]]:
    for id, revs in body.items():
        if not isinstance(revs, list):
            raise BadRequest(f"Invalid list of revisions for {id}")
    return body


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One entry of a _bulk_get."""

    id: str
    rev: str | None
    atts_since: tuple[str, ...] | None = None
    error: GatewayError | None = None


def _wanted(docs: Any) -> Iterator[_Wanted]:
    if not isinstance(docs, list):
        raise BadRequest("Missing JSON list of 'docs'.")
    if len(docs) > limits.BULK_DOCUMENTS_COUNT:
        raise TooLarge(f"more than {limits.BULK_DOCUMENTS_COUNT} documents in one request")
    for entry in docs:
        if not isinstance(entry, dict):
            raise BadRequest("`docs` must be an array of objects")
        id, rev, since = entry.get("id"), entry.get("rev"), entry.get("atts_since")
        if id is None:
            yield _Wanted("", None, error=BadRequest("document id missed"))
            continue
        try:
            check_id(id)
            checked = None if rev is None else check_rev(rev)
            known = tuple(check_rev(one) for one in since) if isinstance(since, list) else None
        except GatewayError as error:
            yield _Wanted(id if isinstance(id, str) else "", rev if isinstance(rev, str) else None, error=error)
        else:
            yield _Wanted(id, checked, known)


async def bulk_get(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    if "docs" not in body:
        raise BadRequest("Missing JSON list of 'docs'.")
    wanted = list(_wanted(body["docs"]))
    options = doc_options(request.params)
    latest = request.params.get("latest") == "true"
    accept = request.header("accept") or ""
    if accept.startswith(("multipart/mixed", "multipart/related")):
        outer = boundary()
        options = replace(options, attachments=True, follows=True, att_encoding_info=True)
        kind = "mixed" if accept.startswith("multipart/mixed") else "related"
        return stream(
            200,
            _multipart(database, wanted, options, outer, latest=latest),
            {"content-type": f'multipart/{kind}; boundary="{outer}"'},
        )
    if not wanted:
        return answer(200, {"results": []})
    return stream(200, _json(database, wanted, options, latest=latest))


def _read(
    connection: sqlite3.Connection, wanted: list[_Wanted], options: DocOptions, *, latest: bool
) -> list[list[tuple[str | None, Revision | None, GatewayError | None]]]:
    """(rev, revision, error) of each revision of each entry."""
    found: list[list[tuple[str | None, Revision | None, GatewayError | None]]] = []
    for one in wanted:
        if one.error is not None:
            found.append([(one.rev, None, one.error)])
            continue
        asked = None if one.rev is None else [one.rev]
        own = options if one.atts_since is None else replace(options, attachments=True, atts_since=one.atts_since)
        revs = open_revs(connection, one.id, asked, own, latest=latest)
        found.append([(rev, revision, None) for rev, revision in revs] or [(None, None, None)])
    return found


def _error(id: str, rev: str | None, error: GatewayError | None) -> dict[str, Any]:
    name, reason = ("not_found", "missing") if error is None else (error.error, error.reason)
    return {"id": id, "rev": "undefined" if rev is None else rev, "error": name, "reason": reason}


async def _json(
    database: EmbeddedDatabase, wanted: list[_Wanted], options: DocOptions, *, latest: bool
) -> AsyncIterator[bytes]:
    def job(connection: sqlite3.Connection, some: list[_Wanted]) -> bytes:
        rows = []
        for one, revs in zip(some, _read(connection, some, options, latest=latest), strict=True):
            docs = [
                {"ok": revision.doc} if revision is not None else {"error": _error(one.id, rev, error)}
                for rev, revision, error in revs
            ]
            rows.append(json_text.encode({"id": one.id, "docs": docs}))
        return b",".join(rows)

    before = b'{"results":['
    for at in range(0, len(wanted), _STEP):
        some = wanted[at : at + _STEP]
        yield before + await database.reading(partial(job, some=some))
        before = b","
    yield b"]}\n"


async def _multipart(
    database: EmbeddedDatabase, wanted: list[_Wanted], options: DocOptions, outer: str, *, latest: bool
) -> AsyncIterator[bytes]:
    for at in range(0, len(wanted), _STEP):
        some = wanted[at : at + _STEP]
        found = await database.reading(partial(_read, wanted=some, options=options, latest=latest))
        for one, revs in zip(some, found, strict=True):
            for rev, revision, error in revs:
                if revision is None:
                    failure = json_text.encode(_error(one.id, rev, error))
                    yield f'\r\n--{outer}\r\nContent-Type: application/json; error="true"\r\n\r\n'.encode() + failure
                    continue
                part = multipart.related(database, revision)
                named = "" if not revision.follows else f"\r\nX-Doc-Id: {_header(one.id)}\r\nX-Rev-Id: {rev}"
                yield f"\r\n--{outer}{named}\r\nContent-Type: {part.headers['content-type']}\r\n\r\n".encode()
                async for piece in part.content:
                    yield piece
    yield f"\r\n--{outer}--".encode()


def _header(value: str) -> str:
    return "".join(character for character in value if character >= " ")
