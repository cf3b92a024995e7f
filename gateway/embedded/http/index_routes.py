"""Mango's indexes, which are views in design documents (https://docs.couchdb.org/en/stable/api/database/find.html).

Sources: mango_httpd.erl, mango_idx.erl, mango_idx_view.erl, mango_error.erl.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from typing import Any, Final

from gateway import json_text
from gateway.couch.upstream import Document, UpstreamResponse
from gateway.embedded import indexes, reading
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.http.message import Request, answer
from gateway.errors import BadParameter, BadRequest, Conflict, InvalidQuery, NotFound, NotImplementedUpstream
from gateway.mango.erlang import term
from gateway.mango.query import parse_sort
from gateway.mango.selector import normalize

_OPTIONS: Final = ("index", "type", "name", "ddoc", "w", "partitioned")
_ATTEMPTS: Final = 5  # of a change to a design document that others change meanwhile


async def listed(request: Request) -> UpstreamResponse:
    """All indexes, or `limit` of them after `skip`."""
    stored = await (await request.database()).reading(indexes.stored)
    told = [indexes.ALL_DOCS, *(index.told() for index in stored)]
    skip, limit = request.params.number("skip") or 0, request.params.number("limit", len(told))
    if not limit:
        raise BadParameter("Index parameter ranges: limit > 0, skip > 0")
    return answer(200, {"total_rows": len(told), "indexes": told[skip : skip + limit]})


async def create(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    definition = await request.work(lambda: _definition(body))
    # As in CouchDB, what names nothing is named by all that was said.
    said = {name: value for name, value in body.items() if name != "w"}
    digest = hashlib.sha1(json_text.canonical(said), usedforsecurity=False).hexdigest()
    ddoc, name = body.get("ddoc", digest), body.get("name", digest)
    if not name or not ddoc.removeprefix("_design/"):
        raise InvalidQuery("invalid_index_name", "Invalid index name: <<>>")
    ddoc = "_design/" + ddoc.removeprefix("_design/")
    view = {"map": definition, "reduce": "_count", "options": {"def": body["index"]}}

    def with_index(design: Document) -> Document:
        language = design.get("language")
        if language != indexes.LANGUAGE:
            shown = "undefined" if language is None else term(language)
            raise InvalidQuery("invalid_ddoc_lang", f"Existing design doc has an invalid language: {shown}")
        return {**design, "views": {**_views(design), name: view}}

    changed = await _change(database, ddoc, with_index)
    return answer(200, {"result": "created" if changed else "exists", "id": ddoc, "name": name})


def _definition(body: dict[str, Any]) -> dict[str, Any]:
    """The checked index as it is stored: `{"fields": {name: direction}, "partial_filter_selector": …}`."""
    if "index" not in body:
        raise InvalidQuery("missing_required_key", "Missing required key: index")
    for option in body:
        if option not in _OPTIONS:
            raise InvalidQuery("invalid_key", f"Invalid key {option[:200]} for this request.")
    for option in ("type", "name", "ddoc"):
        if option in body and not isinstance(body[option], str):
            raise InvalidQuery("invalid_string", f"Invalid string: {term(body[option])}")
    kind = body.get("type", "json")
    if kind in ("text", "nouveau"):
        raise NotImplementedUpstream(f"the embedded server has no indexes of type {kind}")
    if kind != "json":
        raise InvalidQuery("invalid_index", f"Invalid type for index: {kind[:200]}")
    if body.get("partitioned") is True:
        raise NotImplementedUpstream("the embedded server has no partitioned indexes")
    given = body["index"]
    if not isinstance(given, dict):
        raise InvalidQuery("invalid_index", f"JSON indexes must be an object, not: {term(given)}")
    if not isinstance(given.get("fields"), list) or not given["fields"]:
        raise InvalidQuery("invalid_index", "Index must have a non-empty array of fields")
    for option in given:
        if option not in ("fields", "partial_filter_selector"):
            raise InvalidQuery("invalid_key", f"Invalid key {option[:200]} for this request.")
    partial = given.get("partial_filter_selector", {})
    normalize(partial)
    fields = {name: "desc" if descending else "asc" for name, descending in parse_sort(given["fields"])}
    return {"fields": fields, "partial_filter_selector": partial}


async def delete(request: Request) -> UpstreamResponse:
    """`DELETE /{db}/_index/{ddoc}/json/{name}`, the design document with or without its prefix."""
    database = await request.database()
    *_, ddoc, kind, name = request.parts
    stored = await database.reading(indexes.stored)
    ddoc = "_design/" + ddoc.removeprefix("_design/")
    if kind != "json" or not any((index.ddoc, index.name) == (ddoc, name) for index in stored):
        raise NotFound
    await _remove(database, ddoc, name)
    return answer(200, {"ok": True})


async def bulk_delete(request: Request) -> UpstreamResponse:
    """`POST /{db}/_index/_bulk_delete`: the indexes of design documents that have just one."""
    database = await request.database()
    ids = (await request.json_object()).get("docids")
    if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
        raise BadRequest("`docids` must be an array of strings")
    stored = await database.reading(indexes.stored)
    answers: dict[str, list[dict[str, Any]]] = {"success": [], "fail": []}
    for id in ["_design/" + id.removeprefix("_design/") for id in ids]:
        names = [index.name for index in stored if index.ddoc == id]
        try:
            if len(names) != 1:
                raise NotFound
            await _remove(database, id, names[0])
            answers["success"].insert(0, {"id": id, "ok": True})
        except NotFound:
            answers["fail"].insert(0, {"id": id, "error": "not_found"})
    return answer(200, answers)


async def _remove(database: EmbeddedDatabase, ddoc: str, name: str) -> None:
    """Take an index away, and with the last one its design document. Raises NotFound."""

    def without(design: Document) -> Document:
        views = _views(design)
        if name not in views:
            raise NotFound
        left = {**design, "views": {other: view for other, view in views.items() if other != name}}
        if not left["views"]:
            del left["views"]
        empty = left.keys() - {"_id", "_rev"} == {"language"}
        return {"_id": ddoc, "_rev": design.get("_rev"), "_deleted": True} if empty else left

    await _change(database, ddoc, without)


async def _change(database: EmbeddedDatabase, ddoc: str, change: Callable[[Document], Document]) -> bool:
    """Store the design document that `change` makes of the present or a new one; whether it is another.

    Raises Conflict when others always come first, BadRequest for what CouchDB does not store.
    """

    def present(connection: sqlite3.Connection) -> Document:
        found = reading.leaves(connection, [ddoc])[0]
        if not found or found[0].get("_deleted"):
            return {"_id": ddoc, "language": indexes.LANGUAGE}
        return {name: value for name, value in found[0].items() if name != "_revisions"}

    for _ in range(_ATTEMPTS):
        before = await database.reading(present)
        after = change(before)
        if after == before:
            return False
        (result,) = await database.write([after], new_edits=True)
        if result.rev is not None:
            return True
        if result.error != "conflict":
            raise BadRequest(result.reason or result.error)
    raise Conflict


def _views(design: Document) -> dict[str, Any]:
    views = design.get("views")
    return views if isinstance(views, dict) else {}
