"""Functions of design documents that choose rows of `_changes`: `filter=ddoc/name` and `filter=_view`.

Sources: couch_changes.erl (configure_filter), couch_query_servers.erl (filter_docs, filter_view).
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from gateway import limits
from gateway.couch.upstream import Document
from gateway.embedded import reading
from gateway.embedded.reading import DocOptions, Found
from gateway.embedded.views.builder import LANGUAGES, read_winner
from gateway.embedded.views.design import LANGUAGE
from gateway.embedded.views.failures import named_failure
from gateway.embedded.views.scripts import Script, Scripts
from gateway.embedded.writer import Row
from gateway.errors import BadRequest, NotFound, NotImplementedUpstream

log = logging.getLogger(__name__)
_WINNER = DocOptions(revs=True, conflicts=True)
_LEAF = DocOptions(revs=True)


@dataclass(frozen=True, slots=True)
class FunctionName:
    """`designname/name`: a function and where it is in its design document."""

    design: str
    path: tuple[str, ...]

    @property
    def of_view(self) -> bool:
        return self.path[0] == "views"


def filter_name(given: str, view: str | None) -> FunctionName:
    """What the parameters `filter` and `view` name. Raises BadRequest with CouchDB's reasons."""
    if given == "_view":
        if not view:
            raise BadRequest("`view` filter parameter is not provided.")
        parts = _parts(view)
        if len(parts) != 2:
            raise BadRequest("`view` must be of the form `designname/viewname`")
        return FunctionName(parts[0], ("views", parts[1], "map"))
    if given.startswith("_"):
        raise BadRequest("unknown builtin filter name")
    parts = _parts(given)
    if len(parts) != 2:
        raise BadRequest("`filter` must be of the form `designname/filtername`")
    return FunctionName(parts[0], ("filters", parts[1]))


def _parts(text: str) -> list[str]:
    return [unquote(part) for part in text.split("/") if part]


def read_function(connection: sqlite3.Connection, named: FunctionName) -> Script:
    """The design document, ready to be run. Raises NotFound, Deleted, NotImplementedUpstream for other languages."""
    id = f"_design/{named.design}"
    design = read_winner(connection, id)
    language = design.get("language", LANGUAGE)
    if language not in LANGUAGES:
        raise NotImplementedUpstream(f"the embedded server runs no functions in the language {language}")
    found: Any = design
    for name in named.path:
        if not isinstance(found, dict):
            raise NotFound("json_mismatch")
        if name not in found:
            raise NotFound(f"missing json key: {name}")
        found = found[name]
    return Script.of_designs(id, [(id, {"_id": id, **design})])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row with the documents that its filter is asked about, as JSON in ASCII."""

    row: Row
    docs: tuple[tuple[str, bytes], ...]  # (rev, document)


@dataclass(frozen=True, slots=True)
class Filter:
    """One feed's filter. `before` and `after` stand around a document in a question to viewfn/worker.py."""

    database: str
    scripts: Scripts
    script: Script
    before: bytes
    after: bytes

    @classmethod
    def make(cls, database: str, scripts: Scripts, script: Script, named: FunctionName, request: Document) -> Filter:
        """`request` is what a filter function is given beside the document."""
        path = ascii_json(named.path)
        if named.of_view:
            return cls(database, scripts, script, b"emits\t%s\t" % path, b"\n")
        return cls(database, scripts, script, b"filter\t%s\t" % path, b"\t%s\n" % ascii_json(request))

    async def passed(self, candidates: Sequence[Candidate]) -> dict[int, list[str]]:
        """By sequence the revisions that pass, without rows that have none. Raises ViewFailed."""
        asked = [(one.row.seq, rev, doc) for one in candidates for rev, doc in one.docs]
        lines = await self.scripts.call(self.script, [self.before + doc + self.after for _, _, doc in asked])
        found: dict[int, list[str]] = {}
        for (seq, rev, _), line in zip(asked, lines, strict=False):
            answer = json.loads(line)
            for text in answer.get("logs", ()):
                log.info("%s: %s: %s", self.database, self.script.id, text)
            if "error" in answer:
                log.warning("%s: %s: the filter failed: %s", self.database, self.script.id, answer["error"])
                raise named_failure(answer["error"])
            if answer["passes"]:
                found.setdefault(seq, []).append(rev)
        return found


def candidates(connection: sqlite3.Connection, rows: Iterable[Row], *, all_leaves: bool) -> list[Candidate]:
    """The first of these rows, as many as one batch may hold (one at least), with what the filter is to see of them."""
    rows = list(rows)
    docs = reading.find(connection, (row.id for row in rows))
    found: list[Candidate] = []
    size = 0
    for row in rows:
        if size > limits.EMBEDDED_VIEW_BATCH_BYTES:
            break
        revs = row.revs if all_leaves else row.revs[:1]
        texts = [(rev, _read(connection, docs.get(row.id), rev, _LEAF if all_leaves else _WINNER)) for rev in revs]
        found.append(Candidate(row, tuple((rev, text) for rev, text in texts if text is not None)))
        size += sum(len(text) for _, text in found[-1].docs)
    return found


def _read(connection: sqlite3.Connection, found: Found | None, rev: str, options: DocOptions) -> bytes | None:
    doc = None if found is None else function_doc(connection, found, rev, options)
    return None if doc is None else ascii_json(doc)


def function_doc(connection: sqlite3.Connection, found: Found, rev: str, options: DocOptions) -> Document | None:
    """A stored revision as design functions see it, with the newest of its history; None when it has no body."""
    node = found.tree.nodes.get(rev)
    text = None if node is None else reading.bodies(connection, [node.body]).get(node.body)
    if text is None:
        return None
    doc = reading.revision(connection, found, rev, text, options).doc
    del doc["_revisions"]["ids"][limits.EMBEDDED_FUNCTION_REVISIONS_COUNT :]
    return doc


def ascii_json(value: Any) -> bytes:
    """A text of a question to viewfn/worker.py. In ASCII: no tab and no line end is in it."""
    return json.dumps(value, separators=(",", ":"), check_circular=False).encode("ascii")
