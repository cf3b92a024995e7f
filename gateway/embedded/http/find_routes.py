"""Mango queries (https://docs.couchdb.org/en/stable/api/database/find.html).

Indexes are records: they permit a sort as CouchDB's would, and every query is a scan all the same.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any

from gateway import json_text
from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.find import run
from gateway.embedded.http.message import Request, answer, text
from gateway.embedded.writer import Transaction
from gateway.errors import InvalidQuery, NotFound, NotImplementedUpstream
from gateway.mango.erlang import term
from gateway.mango.query import Find, parse_find, parse_sort
from gateway.mango.selector import predicate

_INDEX_OPTIONS = ("index", "type", "name", "ddoc", "w", "partitioned")
_ALL_DOCS = {"ddoc": None, "name": "_all_docs", "type": "special", "def": {"fields": [{"_id": "asc"}]}}

# What CouchDB tells of the options that a query does not name.
_OPTS: dict[str, Any] = {
    "use_index": [],
    "bookmark": "nil",
    "limit": 25,
    "skip": 0,
    "sort": {},
    "fields": "all_fields",
    "partition": "",
    "r": [49],
    "conflicts": False,
    "stale": False,
    "update": True,
    "stable": False,
    "execution_stats": False,
    "allow_fallback": True,
}


def _stored_indexes(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    return [
        {"ddoc": ddoc, "name": name, "type": type_, "partitioned": False, "def": json.loads(definition)}
        for ddoc, name, type_, definition in connection.execute(
            "SELECT ddoc, name, type, def FROM mango_index ORDER BY ddoc, name"
        )
    ]


def _fields(index: dict[str, Any]) -> list[str]:
    return [next(iter(field)) for field in index["def"]["fields"]]


def _usable(indexes: list[dict[str, Any]], find: Find) -> dict[str, Any] | None:
    """The index that CouchDB could serve the sort or the selector with. Raises InvalidQuery when a sort has none."""
    sort = [name for name, _ in find.sort]
    if sort and sort != ["_id"]:
        for index in indexes:
            if _sorts(_fields(index), sort, find.given["selector"]):
                return index
        raise InvalidQuery("no_usable_index", "No index exists for this sort, try indexing by the sort fields.")
    return next((index for index in indexes if set(_fields(index)) <= find.given["selector"].keys()), None)


def _sorts(columns: list[str], sort: list[str], selector: dict[str, Any]) -> bool:
    """Whether an index gives this order: fields that the selector holds constant may stand before those of the sort."""
    while columns and columns[0] != sort[0] and _is_constant(selector.get(columns[0], {})):
        columns = columns[1:]
    return columns[: len(sort)] == sort


def _is_constant(condition: Any) -> bool:
    return not isinstance(condition, dict) or condition.keys() == {"$eq"}


async def find(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    query = await request.work(lambda: parse_find(body))

    def job(connection: sqlite3.Connection) -> bytes:
        return run(connection, query, indexed=_usable(_stored_indexes(connection), query) is not None)

    found = await database.reading(job, slow=True)
    return text(200, found.removesuffix(b"\n"))  # which is added to every answer


async def explain(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    query = await request.work(lambda: parse_find(body))

    def job(connection: sqlite3.Connection) -> bytes:
        predicate(query.node)  # refuses a bad pattern
        index = _usable(_stored_indexes(connection), query) or _ALL_DOCS
        return json_text.encode(
            {
                "dbname": database.name,
                "index": index,
                "partitioned": False,
                "selector": query.given["selector"],
                "opts": _OPTS | {name: value for name, value in body.items() if name != "selector"},
                "limit": query.limit,
                "skip": query.skip,
                "fields": body.get("fields") or [],
                "mrargs": {"include_docs": True, "view_type": "map"},
            }
        )

    return text(200, await database.reading(job, slow=True))


async def indexes(request: Request) -> UpstreamResponse:
    stored = await (await request.database()).reading(_stored_indexes)
    return answer(200, {"total_rows": len(stored) + 1, "indexes": [_ALL_DOCS, *stored]})


async def create_index(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    if "index" not in body:
        raise InvalidQuery("missing_required_key", "Missing required key: index")
    for option in body:
        if option not in _INDEX_OPTIONS:
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
    if "partial_filter_selector" in given:
        raise NotImplementedUpstream("the embedded server has no partial indexes (partial_filter_selector)")
    fields = [{name: "desc" if descending else "asc"} for name, descending in parse_sort(given["fields"])]
    definition = json.dumps({**given, "fields": fields})
    digest = hashlib.sha1(definition.encode(), usedforsecurity=False).hexdigest()
    ddoc, name = body.get("ddoc", digest), body.get("name", digest)
    if not ddoc or not name:
        raise InvalidQuery("invalid_index_name", "Invalid index name: <<>>")
    ddoc = "_design/" + ddoc.removeprefix("_design/")

    def job(transaction: Transaction) -> bool:
        key = (ddoc, name)
        known = transaction.connection.execute(
            "SELECT def FROM mango_index WHERE ddoc = ? AND name = ?", key
        ).fetchone()
        transaction.connection.execute(
            "INSERT OR REPLACE INTO mango_index (ddoc, name, type, def) VALUES (?, ?, 'json', ?)", (*key, definition)
        )
        return known is not None and known[0] == definition

    known = await database.writing(job)
    return answer(200, {"result": "exists" if known else "created", "id": ddoc, "name": name})


async def delete_index(request: Request) -> UpstreamResponse:
    """`DELETE /{db}/_index/{ddoc}/json/{name}`, the design document with or without its prefix."""
    database = await request.database()
    *_, ddoc, kind, name = request.parts
    if kind != "json":
        raise NotFound
    key = ("_design/" + ddoc.removeprefix("_design/"), name)

    def job(transaction: Transaction) -> int:
        return transaction.connection.execute("DELETE FROM mango_index WHERE ddoc = ? AND name = ?", key).rowcount

    if not await database.writing(job):
        raise NotFound
    return answer(200, {"ok": True})
