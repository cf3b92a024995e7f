"""Mango queries (https://docs.couchdb.org/en/stable/api/database/find.html)."""

from __future__ import annotations

import sqlite3
from typing import Any

from gateway import json_text
from gateway.couch.upstream import UpstreamResponse
from gateway.embedded import indexes
from gateway.embedded.find import run
from gateway.embedded.http.message import Request, text
from gateway.mango.query import parse_find
from gateway.mango.selector import predicate

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


async def find(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    query = await request.work(lambda: parse_find(body, planned=True))
    found = await database.reading(lambda connection: run(connection, query), slow=True)
    return text(200, found.removesuffix(b"\n"))  # which is added to every answer


async def explain(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object()
    query = await request.work(lambda: parse_find(body, planned=True))

    def job(connection: sqlite3.Connection) -> bytes:
        predicate(query.node)  # refuses a bad pattern
        index = indexes.plan(indexes.stored(connection), query).index
        return json_text.encode(
            {
                "dbname": database.name,
                "index": indexes.ALL_DOCS if index is None else index.told(),
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
