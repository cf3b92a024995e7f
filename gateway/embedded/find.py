"""`_find`: a scan of the documents in order of their ids, or a bounded sort of those that match (see `indexes`)."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator

from gateway import limits
from gateway.couch.upstream import Document
from gateway.embedded import indexes, reading
from gateway.embedded.reading import DocOptions
from gateway.errors import BadRequest
from gateway.mango.ids import ids_of
from gateway.mango.query import Find, Found, answer_text
from gateway.mango.rows import rows_of
from gateway.mango.selector import predicate


def run(connection: sqlite3.Connection, given: Find) -> bytes:
    """The JSON answer. Runs in a reading thread, at most EMBEDDED_FIND_SECONDS."""
    started = time.monotonic()
    plan = indexes.plan(indexes.stored(connection), given)
    find = plan.find
    rows = rows_of(find, limits.EMBEDDED_SORT_ROWS_COUNT)
    examined = 0
    if not rows.is_full() and not find.finds_nothing:
        matches = predicate(find.node, limits.EMBEDDED_FIND_SECONDS)
        has_row = predicate(plan.rows, limits.EMBEDDED_FIND_SECONDS)
        for doc in _docs(connection, find):
            examined += 1 if plan.index is None else has_row(doc)
            if time.monotonic() - started > limits.EMBEDDED_FIND_SECONDS:
                raise BadRequest(f"the query took longer than {limits.EMBEDDED_FIND_SECONDS:.0f} s")
            if matches(doc):
                rows.take(doc)
                if rows.is_full():
                    break
    docs = rows.docs()
    if plan.index is not None and len(docs) == find.limit:
        examined = find.skip + len(docs)  # CouchDB goes through the index only so far
    found = Found(docs, rows.bookmark(), examined, (time.monotonic() - started) * 1000)
    named = plan.index is not None and bool(find.use_index) and plan.index.is_named(find.use_index)
    return answer_text(find, found, indexed=plan.index is not None, as_named=named)


def _docs(connection: sqlite3.Connection, find: Find) -> Iterator[Document]:
    """The documents that are no design documents and may match, in order of their ids or against it."""
    options = DocOptions(conflicts=find.conflicts)
    ids = ids_of(find.node)
    after = find.resume_id() if find.by_id else None
    backwards = find.by_id and find.descending
    bounds: list[tuple[str, str]] = []
    if after is not None:
        bounds.append(("<" if backwards else ">", after))
    if ids.low is not None:
        bounds.append((">=", ids.low))
    if ids.high is not None:
        bounds.append(("<=", ids.high))
    where = "".join(f" AND doc.id {operator} ?" for operator, _ in bounds)
    values = [bound for _, bound in bounds]
    if ids.only is not None:
        where += " AND doc.id IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(ids.only))
    cursor = connection.execute(
        "SELECT doc.id, doc.winner, body.json, body.attachments FROM doc JOIN body ON body.key = doc.body"
        f" WHERE doc.deleted = 0{where} ORDER BY doc.id {'DESC' if backwards else 'ASC'}",
        values,
    )
    for id, rev, text, atts in cursor:
        if id.startswith("_design/"):
            continue
        if atts is None and not find.conflicts:
            yield {"_id": id, "_rev": rev} | json.loads(text)
        else:
            found = reading.find(connection, [id])[id]
            yield reading.revision(connection, found, rev, (text, atts), options).doc
