"""`_local` documents: checkpoints of replicators, one namespace for each owner, never replicated.

Revisions are `0-N` as CouchDB's (https://docs.couchdb.org/en/stable/api/local.html).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from gateway import limits
from gateway.errors import BadRequest, NotFound, TooManyRequests
from gateway.model.revisions import next_local_rev


def get(connection: sqlite3.Connection, database: int, owner: str, doc: str) -> tuple[str, dict[str, Any]] | None:
    row = connection.execute(
        "SELECT rev, body FROM local_doc WHERE database = ? AND owner = ? AND doc = ?", (database, owner, doc)
    ).fetchone()
    return None if row is None else (f"0-{row[0]}", json.loads(row[1]))


def put(
    connection: sqlite3.Connection, database: int, owner: str, doc: str, rev: str | None, body: Mapping[str, Any]
) -> str:
    try:
        number = next_local_rev(rev)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    if get(connection, database, owner, doc) is None:
        (count,) = connection.execute(
            "SELECT count(*) FROM local_doc WHERE database = ? AND owner = ?", (database, owner)
        ).fetchone()
        if count >= limits.LOCAL_DOCUMENTS_COUNT:
            raise TooManyRequests(f"a user may store {limits.LOCAL_DOCUMENTS_COUNT} local documents")
    connection.execute(
        "INSERT OR REPLACE INTO local_doc (database, owner, doc, rev, body) VALUES (?, ?, ?, ?, ?)",
        (database, owner, doc, number, json.dumps(body)),
    )
    return f"0-{number}"


def delete(connection: sqlite3.Connection, database: int, owner: str, doc: str) -> None:
    if get(connection, database, owner, doc) is None:
        raise NotFound
    connection.execute("DELETE FROM local_doc WHERE database = ? AND owner = ? AND doc = ?", (database, owner, doc))


def revs(connection: sqlite3.Connection, database: int, owner: str) -> list[tuple[str, str]]:
    found = connection.execute(
        "SELECT doc, rev FROM local_doc WHERE database = ? AND owner = ? ORDER BY doc", (database, owner)
    )
    return [(doc, f"0-{rev}") for doc, rev in found]
