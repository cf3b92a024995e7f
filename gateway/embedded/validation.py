"""`validate_doc_update` of the stored design documents, asked about each write of other documents before it.

Source: couch_db.erl (prep_and_validate_updates, prep_and_validate_replicated_updates, validate_doc_update): a write is
judged against the revision that it replaces as it is stored then; the transaction after it refuses what has become a
conflict since. Writes that are conflicts already, `_local` documents and design documents (only administrators write
those) are not asked about.
"""

from __future__ import annotations

import base64
import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway import limits
from gateway.couch.upstream import Document, WriteResult
from gateway.embedded import attachments, reading
from gateway.embedded.attachments import Attachment
from gateway.embedded.documents import Incoming, Inline, Stored, Stub
from gateway.embedded.edits import replaced, stub_of
from gateway.embedded.filters import ascii_json, function_doc
from gateway.embedded.reading import Found
from gateway.embedded.tree import NO_BODY
from gateway.embedded.views.builder import LANGUAGES
from gateway.embedded.views.design import LANGUAGE
from gateway.embedded.views.failures import failure, whole
from gateway.embedded.views.scripts import Script, Scripts
from gateway.embedded.writer import Row
from gateway.errors import Conflict, MissingStub
from gateway.model.revisions import generation, revisions_object

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase

log = logging.getLogger(__name__)
_EXEMPT: Final = ("_design/", "_local/")
_IN_THREAD_BYTES: Final = 16_384  # more of answers is parsed in a thread
_SETTLED: Final = ("forbidden", "unauthorized")


@dataclass(frozen=True, slots=True)
class _Rules:
    """The functions of a database. `foreign` is a language that is not run: nothing can be judged then."""

    script: Script
    foreign: str | None


@dataclass(frozen=True, slots=True)
class _Question:
    """A document that the functions are asked about, and its place in the write."""

    at: int
    line: bytes


@dataclass(slots=True)
class _Prepared:
    """What is known of the first `count` documents of a write before the functions run."""

    count: int
    results: dict[int, WriteResult]  # of those that need no asking
    questions: list[_Question]


class Validation:
    """The validation functions of one database, read again after a design document changed."""

    def __init__(self, database: EmbeddedDatabase, scripts: Scripts) -> None:
        self._database = database
        self._scripts = scripts
        # Each change of a design document makes another version; the rules are those of the version they were read for.
        self._version = object()
        self._known: object | None = None
        self._rules: _Rules | None = None

    def changed(self) -> None:
        """Forget what was read. Any thread may call it."""
        self._version = object()

    def committed(self, rows: Sequence[Row]) -> None:
        """Called in the writing thread before the writes of a commit are answered."""
        for row in rows:
            if row.id.startswith("_design/"):
                self.changed()
                return

    async def results(self, docs: Sequence[Incoming], *, new_edits: bool) -> dict[int, WriteResult]:
        """By their places in `docs`, the results of documents that must not reach the transaction.

        Without a validation function that is none, at the cost of one comparison.
        """
        version = self._version
        if self._known is not version:
            self._rules = await self._database.reading(_read_rules)
            self._known = version
        rules = self._rules
        if rules is None:
            return {}
        places = [at for at, doc in enumerate(docs) if not doc.id.startswith(_EXEMPT)]
        if not places:
            return {}
        if rules.foreign is not None:
            return {at: WriteResult(docs[at].id, None, "unknown_query_language", rules.foreign) for at in places}
        return await self._asked(rules.script, docs, places, new_edits)

    async def _asked(
        self, script: Script, docs: Sequence[Incoming], places: Sequence[int], new_edits: bool
    ) -> dict[int, WriteResult]:
        results: dict[int, WriteResult] = {}
        runaways = done = 0
        while done < len(places):
            prepared = await self._database.reading(
                partial(
                    _prepare, docs=docs, places=places[done:], new_edits=new_edits, user=self._database.user_context
                )
            )
            done += prepared.count
            results |= prepared.results
            left = prepared.questions
            while left:
                lines = await self._scripts.call(script, [one.line for one in left])
                small = sum(map(len, lines)) < _IN_THREAD_BYTES
                answers = _parsed(lines) if small else await self._database.readers.work(partial(_parsed, lines))
                refusal: tuple[str, str] | None = None
                for one, answer in zip(left, answers, strict=False):
                    if (refusal := self._refusal(script, docs[one.at].id, answer)) is not None:
                        results[one.at] = WriteResult(docs[one.at].id, None, *refusal)
                left = left[len(lines) :]
                if not left or refusal is None:
                    continue
                runaways += 1  # the last answer was the error of a document that passed the limits
                if runaways >= limits.EMBEDDED_VALIDATION_FAILURES_COUNT:
                    unasked = [*(one.at for one in left), *places[done:]]
                    return results | {at: WriteResult(docs[at].id, None, *refusal) for at in unasked}
        return results

    def _refusal(self, script: Script, id: str, answer: Document) -> tuple[str, str] | None:
        """(error, reason) of an answer of viewfn/worker.py."""
        for text in answer.get("logs", ()):
            log.info("%s: %s: %s", self._database.name, script.id, text)
        if "refused" in answer:
            return _said(answer["refused"])
        if "failed" in answer:
            name, reason = answer["failed"]
            found = (whole(name), whole(reason))
        elif "error" in answer:
            error = failure(answer["error"])
            found = (error.name, error.reason)
        else:
            return None
        log.warning("%s: validate_doc_update failed for document %s: %s", self._database.name, id, found)
        return found


def _parsed(lines: Sequence[bytes]) -> list[Document]:
    return [json.loads(line) for line in lines]


def _said(thrown: Any) -> tuple[str, str]:
    """(error, reason) of what a function threw (couch_query_servers:validate_doc_update)."""
    if isinstance(thrown, dict):
        for name in _SETTLED:
            if name in thrown:
                return name, _text(thrown[name])
        if len(thrown) == 1:
            return "unknown_error", _text(*thrown.values())
    return "unknown_error", _text(thrown)


def _text(value: Any) -> str:
    return whole(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _read_rules(connection: sqlite3.Connection) -> _Rules | None:
    rows = connection.execute(
        "SELECT doc.id, body.json FROM doc JOIN body ON body.key = doc.body "
        "WHERE doc.deleted = 0 AND doc.id >= '_design/' AND doc.id < '_design0' ORDER BY doc.id"
    )
    designs: list[tuple[str, Mapping[str, Any]]] = []
    foreign: str | None = None
    for id, text in rows:
        design = json.loads(text)
        if design.get("validate_doc_update") is None:
            continue
        language = design.get("language", LANGUAGE)
        if language not in LANGUAGES:
            foreign = str(language)
        designs.append((id, {"_id": id, **design}))
    return _Rules(Script.of_designs("validate_doc_update", designs), foreign) if designs else None


def _prepare(
    connection: sqlite3.Connection, docs: Sequence[Incoming], places: Sequence[int], new_edits: bool, user: Document
) -> _Prepared:
    places = places[: limits.EMBEDDED_VIEW_BATCH_DOCUMENTS_COUNT]
    found = reading.find(connection, (docs[at].id for at in places))
    given = b"\t%s\t%s\n" % (ascii_json(user), ascii_json(reading.security(connection)))
    prepared = _Prepared(0, {}, [])
    size = 0
    for at in places:
        if size > limits.EMBEDDED_VIEW_BATCH_BYTES:
            break
        prepared.count += 1
        doc = docs[at]
        known = found.get(doc.id)
        if not new_edits and known is not None and doc.path[0] in known.tree.nodes:
            prepared.results[at] = WriteResult(doc.id, doc.rev or doc.path[0])  # nothing would be stored
            continue
        try:
            before = _replaced(known, doc) if new_edits else _ancestor(known, doc)
            line = b"validate\t%s\t%s" % (
                ascii_json(_new(connection, doc, known, before, new_edits=new_edits)),
                b"null" if before is None else ascii_json(_old(connection, known, before)),
            )
        except (Conflict, MissingStub) as error:
            prepared.results[at] = WriteResult(doc.id, None, error.error, error.reason)
        else:
            prepared.questions.append(_Question(at, line + given))
            size += len(line)
    return prepared


def _replaced(known: Found | None, doc: Incoming) -> str | None:
    """The revision that is oldDoc of an interactive write; a document written over a deleted one has none."""
    parent = replaced(None if known is None else known.tree, doc)
    return None if doc.rev is None else parent


def _ancestor(known: Found | None, doc: Incoming) -> str | None:
    """The newest revision below a replicated one whose body is stored."""
    return next(iter(_stored_path(known, doc)), None)


def _stored_path(known: Found | None, doc: Incoming) -> Iterator[str]:
    if known is None:
        return
    joint = next((rev for rev in doc.path[1:] if rev in known.tree.nodes), None)
    if joint is not None:
        yield from (rev for rev in known.tree.path(joint) if known.tree.nodes[rev].body != NO_BODY)


def _old(connection: sqlite3.Connection, known: Found | None, rev: str) -> Document | None:
    return None if known is None else function_doc(connection, known, rev, reading.WITH_REVISIONS)


def _new(
    connection: sqlite3.Connection, doc: Incoming, known: Found | None, before: str | None, *, new_edits: bool
) -> Document:
    """The document as it would be answered, with `_revisions`; in an interactive write `_rev` is what it replaces."""
    rev = doc.rev if new_edits else doc.path[0]
    new: Document = {"_id": doc.id} | ({} if rev is None else {"_rev": rev}) | dict(doc.body)
    if doc.deleted:
        new["_deleted"] = True
    if doc.path:
        new["_revisions"] = revisions_object(doc.path)
    if doc.attachments:
        stored = _attachments(connection, known, before)
        number = 1 + (generation(before) if new_edits and before is not None else 0)
        new["_attachments"] = {
            name: attachments.entry(stub_of(doc.id, name, one, stored))
            if isinstance(one.source, Stub)
            else _entry(one.content_type, one.source, one.revpos or (number if new_edits else generation(doc.path[0])))
            for name, one in doc.attachments.items()
        }
    return new


def _attachments(connection: sqlite3.Connection, known: Found | None, rev: str | None) -> dict[str, Attachment]:
    if known is None or rev is None:
        return {}
    body = known.tree.nodes[rev].body
    _, text = reading.bodies(connection, [body]).get(body, (b"", None))
    return attachments.decode(text)


def _entry(content_type: str, source: Inline | Stored, revpos: int) -> Document:
    return {
        "content_type": content_type,
        "revpos": revpos,
        "digest": "md5-" + base64.b64encode(source.md5).decode(),
        "length": source.length,
        "stub": True,
    }
