"""Bringing indexes up to date: one task for each index that is being built, whoever waits for it.

A step reads documents in one snapshot, maps them in the process of their design document, and stores rows and position
in one transaction: a crash loses the step at hand and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import limits
from gateway.embedded.views import index
from gateway.embedded.views.design import Design, parse, validate
from gateway.embedded.views.failures import ViewFailed, failure
from gateway.embedded.views.index import Batch, Emitted, State
from gateway.embedded.views.scripts import Scripts
from gateway.errors import Deleted, GatewayError, NotFound, NotImplementedUpstream, UpstreamUnreachable
from gateway.mango.collation import raw_sort_key, sort_key

if TYPE_CHECKING:
    import sqlite3

    from gateway.embedded.database import EmbeddedDatabase

log = logging.getLogger(__name__)
LANGUAGES = ("javascript",)


class Views:
    """The indexes of one database."""

    def __init__(self, database: EmbeddedDatabase, scripts: Scripts) -> None:
        self._database = database
        self.scripts = scripts
        self._building: dict[str, asyncio.Task[State]] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self._closed = False

    async def design(self, id: str) -> Design:
        """The stored design document. Raises NotFound, Deleted; NotImplementedUpstream for views in other languages."""
        design = await self._database.reading(partial(read_design, id=id))
        if design.language not in LANGUAGES:
            raise NotImplementedUpstream(f"the embedded server runs no views in the language {design.language}")
        return design

    async def check(self, body: dict[str, Any], id: str) -> None:
        """Raise InvalidDesign or CompilationError when CouchDB would not store this design document."""
        validate(body)
        design = parse(id, body)
        if design.maps_count and design.language in LANGUAGES:
            await self.scripts.compile(design)

    def building(self, design: Design) -> bool:
        return design.signature in self._building

    async def updated(self, design: Design, seq: int) -> State:
        """The index, once it reflects the database at `seq` or later. Raises ViewFailed, CompilationError.

        The build goes on when its caller is gone.
        """
        while True:
            task = self.update(design)
            await asyncio.wait([task])
            if task.cancelled():
                raise UpstreamUnreachable("the database was closed or deleted")
            if (found := task.result()).seq >= seq:
                return found

    def update(self, design: Design) -> asyncio.Task[State]:
        """Start an update in the background, unless one runs. Raises UpstreamUnreachable once `close` was called."""
        if self._closed:
            raise UpstreamUnreachable("the database was closed or deleted")
        task = self._building.get(design.signature)
        if task is None:
            task = asyncio.create_task(self._build(design))
            self._building[design.signature] = task
            task.add_done_callback(partial(self._built, design.signature))
        return task

    def _built(self, signature: str, task: asyncio.Task[State]) -> None:
        del self._building[signature]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("%s: an index was not built to its end: %s", self._database.name, error)

    async def _build(self, design: Design) -> State:
        database = self._database
        known = await database.reading(partial(index.state, signature=design.signature))
        if known is None:
            await self.cleanup()  # the design document is new or changed: its old index is of no use
            known = await database.writing(partial(index.create, signature=design.signature))
        if not design.maps_count:
            return State(known.key, database.writer.state.seq)
        target = database.writer.state.seq  # not what is written meanwhile: whoever needs that starts again
        while known.seq < target:
            batch = await database.reading(partial(index.due, design=design, after=known.seq), slow=True)
            batch, rows, error = await self._mapped(design, batch)
            for part, some, weight in _steps(batch, rows):
                stored = await database.writing(
                    partial(index.store, key=known.key, batch=part, rows=some), weight=weight
                )
                if stored is None:
                    raise ViewFailed("ddoc_updated", "the design document changed while its views were built")
                known = stored
            if error is not None:
                raise error
        return known

    async def _mapped(self, design: Design, batch: Batch) -> tuple[Batch, list[list[Emitted]], ViewFailed | None]:
        """What the documents emit; with an error only those before the one that has it."""
        asked = [doc for doc in batch.docs if doc.json is not None]
        lines = await self.scripts.ask(design, [b"map\t%s\n" % doc.json for doc in asked if doc.json is not None])
        answers = await self._database.readers.work(partial(_read_answers, design, lines))
        by_id: dict[str, list[Emitted]] = {}
        failed: ViewFailed | None = None
        for doc, (rows, logs, error) in zip(asked, answers, strict=False):
            for line in logs:
                log.info("%s: %s: %s", self._database.name, design.id, line)
            if error is None:
                by_id[doc.id] = rows
                continue
            log.warning("%s: %s: document %s: %s", self._database.name, design.id, doc.id, error[0])
            failed = failure(error)
            docs = batch.docs[: batch.docs.index(doc)]
            batch = Batch(docs, docs[-1].seq if docs else doc.seq - 1)
        return batch, [by_id.get(doc.id, []) for doc in batch.docs], failed

    async def cleanup(self) -> None:
        """`_view_cleanup`: forget the indexes that no design document has. Their rows go in the background."""
        await self._database.writing(lambda transaction: index.retire(transaction, _signatures(transaction.connection)))
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        try:
            while await self._database.writing(index.sweep, weight=1_000):
                pass
        except GatewayError as error:  # the database was deleted or closed meanwhile
            log.debug("%s: rows of old indexes are left: %s", self._database.name, error.reason)

    async def close(self) -> None:
        """Stop building; what is stored stays."""
        self._closed = True
        tasks: list[asyncio.Task[Any]] = [*self._building.values()]
        if self._sweeping is not None:
            tasks.append(self._sweeping)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _steps(batch: Batch, rows: Sequence[Sequence[Emitted]]) -> Iterator[tuple[Batch, Sequence[Sequence[Emitted]], int]]:
    """The batch in parts that do not keep other writers waiting long, each with its rows and weight."""
    start, weight = 0, 0
    for end, doc in enumerate(batch.docs, 1):
        weight += 1 + len(rows[end - 1])
        if weight >= limits.EMBEDDED_COMMIT_ROWS_COUNT and end < len(batch.docs):
            yield Batch(batch.docs[start:end], doc.seq), rows[start:end], weight
            start, weight = end, 0
    yield Batch(batch.docs[start:], batch.seq), rows[start:], weight


def _read_answers(design: Design, lines: Sequence[bytes]) -> list[tuple[list[Emitted], list[str], list[str] | None]]:
    """(rows, log, error) of each answer. Runs in a thread."""
    found = []
    for line in lines:
        answer = json.loads(line)
        logs = answer.get("logs", [])
        try:
            rows = [
                _emitted(number, design.raw[number], texts[at], texts[at + 1])
                for number, texts in enumerate(answer.get("rows", ()))
                for at in range(0, len(texts), 2)
            ]
        except RecursionError:  # as if the function had thrown
            rows, logs = [], [*logs, "a key is nested too deeply"]
        found.append((rows, logs, answer.get("error")))
    return found


def _emitted(number: int, raw: bool, key: str, value: str) -> Emitted:
    key, value = _storable(key), _storable(value)
    return Emitted(number, (raw_sort_key if raw else sort_key)(json.loads(key)), key, value)


def _storable(text: str) -> str:
    """Half surrogate pairs, which JavaScript allows and JSON in UTF-8 does not, become question marks."""
    if "\\ud" not in text:
        return text
    whole = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    return whole.encode("utf-8", "replace").decode()


def read_winner(connection: sqlite3.Connection, id: str) -> dict[str, Any]:
    """The body of a document as it is stored now. Raises NotFound, Deleted."""
    row = connection.execute(
        "SELECT doc.deleted, body.json FROM doc JOIN body ON body.key = doc.body WHERE doc.id = ?", (id,)
    ).fetchone()
    if row is None:
        raise NotFound
    if row[0]:
        raise Deleted
    body: dict[str, Any] = json.loads(row[1])
    return body


def read_design(connection: sqlite3.Connection, id: str) -> Design:
    """The design document with this id. Raises NotFound, Deleted."""
    return parse(id, read_winner(connection, id))


def _signatures(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute(
        "SELECT doc.id, body.json FROM doc JOIN body ON body.key = doc.body "
        "WHERE doc.deleted = 0 AND doc.id >= '_design/' AND doc.id < '_design0'"
    )
    return {parse(id, json.loads(text)).signature for id, text in rows}
