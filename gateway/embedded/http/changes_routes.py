"""`/{db}/_changes` (https://docs.couchdb.org/en/stable/api/database/changes.html)."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway import json_text, limits
from gateway.couch.upstream import Document, Idle, UpstreamResponse
from gateway.embedded import reading
from gateway.embedded.changes import count_after, rows_after
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.filters import Candidate, Filter, FunctionName, candidates, filter_name, read_function
from gateway.embedded.http.document_routes import doc_options
from gateway.embedded.http.message import MISSING, Missing, Params, Request, raw, stream
from gateway.embedded.http.request_object import request_object
from gateway.embedded.reading import DocOptions
from gateway.embedded.writer import Row
from gateway.errors import (
    BadParameter,
    BadRequest,
    GatewayError,
    InvalidQuery,
    TooLarge,
    UnknownDatabase,
    UpstreamUnreachable,
)
from gateway.mango.selector import Predicate, selector

_FEEDS = ("normal", "longpoll", "continuous", "live", "eventsource")
_BUILTIN = ("", "_design", "_doc_ids", "_selector")
_NEWEST = 2**62
_BATCH = 500  # rows encoded at once while following
_BODIES = 100  # rows read at once whose documents are needed


@dataclass(frozen=True, slots=True)
class _Query:
    """The parameters of one feed."""

    since: int
    limit: int | None
    descending: bool
    all_leaves: bool
    include_docs: bool
    options: DocOptions
    heartbeat: float | None  # seconds
    timeout: float  # seconds
    seq_interval: int
    ids: frozenset[str] | None = None
    selector: Any = MISSING
    only_design: bool = False
    function: Filter | None = None

    @property
    def scans(self) -> bool:
        """Whether bodies are read only to be left out."""
        return self.function is not None or not isinstance(self.selector, Missing)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows ready to be sent, and how far the feed was read for them."""

    rows: list[tuple[int, bytes]]  # (sequence, JSON)
    position: int


async def changes(request: Request) -> UpstreamResponse:
    database = await request.database()
    body: dict[str, Any] = {}
    if request.method == "POST":
        data = await request.body()
        request.content = data
        body = await request.json_object() if data.strip() else {}
    feed = request.params.get("feed") or "normal"
    if feed not in _FEEDS:
        raise BadRequest("Supported `feed` types: normal, continuous, live, longpoll, eventsource")
    query = _parse(database, request, body)
    if (named := _function(request.params)) is not None:
        script = await database.reading(partial(read_function, named=named))
        given = await request_object(request, database, body=body if request.content else "undefined")
        query = replace(query, function=Filter.make(database.name, database.views.scripts, script, named, given))
    if not isinstance(query.selector, Missing):
        try:
            await database.readers.work(lambda: selector(query.selector))  # refuse a bad one before the answer begins
        except InvalidQuery as error:
            raise BadRequest(error.reason) from None  # without a name of its own, as CouchDB does here
    if query.descending and feed not in ("normal", "longpoll"):
        raise BadRequest("`descending` is for the feeds normal and longpoll")
    headers: dict[str, str] = {}
    if feed in ("continuous", "live"):
        content = _continuous(database, query)
    elif feed == "eventsource":
        content, headers = _eventsource(database, query), {"content-type": "text/event-stream"}
    elif feed == "longpoll":
        content = _listing(database, query, longpoll=True)
    else:
        headers = {"etag": _tag(database)}
        if request.header("if-none-match") == headers["etag"]:
            return raw(304, b"", headers)
        content = _listing(database, query, longpoll=False)
    if query.function is not None:
        content = await _begun(content)
    return stream(200, content, headers)


def _tag(database: EmbeddedDatabase) -> str:
    """Of the whole database, as CouchDB has it: another one after every write."""
    state = database.writer.state
    text = f"{database.instance_start_time} {database.seq_text(state.seq)} {state.purge_seq}"
    return f'"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"'


async def _begun(content: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same once it has something to say: a filter that fails at its first document is an answer of its own.

    One that fails later ends the answer with its error on a line, as in CouchDB.
    """
    first = await anext(content, b"")

    async def rest() -> AsyncGenerator[bytes, None]:
        async with aclosing(content):
            if first:
                yield first
            try:
                async for piece in content:
                    if piece:
                        yield piece
            except GatewayError as error:
                yield b"\n\n" + json_text.encode({"error": error.body()["error"], "reason": error.reason}) + b"\n"

    return rest()


def _parse(database: EmbeddedDatabase, request: Request, body: dict[str, Any]) -> _Query:
    params = request.params
    since = params.get("last-event-id") or params.get("since") or request.header("last-event-id") or "0"
    style = params.get("style") or "main_only"
    if style not in ("main_only", "all_docs"):
        raise BadParameter("`style` must be main_only or all_docs")
    heartbeat = params.get("heartbeat")
    beat: float | None = None
    if heartbeat == "true":
        beat = limits.HEARTBEAT_DEFAULT_SECONDS
    elif heartbeat not in (None, "false"):
        beat = max(0.001, (params.number("heartbeat") or 0) / 1000)
    timeout = (params.number("timeout", int(limits.FEED_TIMEOUT_DEFAULT_SECONDS * 1000)) or 0) / 1000
    ids, wanted, only_design = _filter(params, body)
    return _Query(
        database.parse_since(since.strip('"')),
        params.number("limit"),
        params.flag("descending"),
        style == "all_docs",
        params.flag("include_docs"),
        doc_options(params),
        beat,
        timeout,
        max(1, params.number("seq_interval", 1) or 1),
        ids,
        wanted,
        only_design,
    )


def _filter(params: Params, body: dict[str, Any]) -> tuple[frozenset[str] | None, Any, bool]:
    """(ids, selector, only design documents) of `filter=`; `doc_ids` and `selector` may come in body or query."""
    name = params.get("filter")
    if name in (None, ""):
        if "doc_ids" in body or "doc_ids" in params.values:
            name = "_doc_ids"
        elif "selector" in body:
            name = "_selector"
        else:
            return None, MISSING, False
    if name == "_design":
        return None, MISSING, True
    if name == "_doc_ids":
        ids = body.get("doc_ids", params.json("doc_ids"))
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise BadRequest("`doc_ids` filter parameter is not a list of doc ids.")
        if len(ids) > limits.KEYS_COUNT:
            raise TooLarge(f"more than {limits.KEYS_COUNT} doc_ids")
        return frozenset(ids), MISSING, False
    if name == "_selector":
        if "selector" not in body:
            raise BadRequest("Selector must be specified in POST payload")
        return None, body["selector"], False
    return None, MISSING, False


def _function(params: Params) -> FunctionName | None:
    """The function that `filter=` names. Raises BadRequest."""
    name = params.get("filter") or ""
    return None if name.strip("/") in _BUILTIN else filter_name(name, params.get("view"))


class _Reader:
    """Turns rows into JSON, with filter and documents."""

    def __init__(self, database: EmbeddedDatabase, query: _Query) -> None:
        self._database = database
        self._query = query
        self._sent = 0

    async def page(self, position: int, count: int) -> _Batch:
        """The next rows from the file after `position` that pass, at most `count`, from one page of it."""
        if self._query.function is None:
            return await self._database.reading(
                partial(self._page, position=position, count=count), slow=self._query.scans
            )

        def job(connection: sqlite3.Connection) -> list[Candidate]:
            rows = rows_after(connection, position, _BODIES, descending=self._query.descending)
            return candidates(connection, rows, all_leaves=self._query.all_leaves)

        return await self._passing(await self._database.reading(job, slow=True), count, position)

    async def follow(self, rows: Sequence[Row], count: int, position: int) -> _Batch:
        """Those of committed rows that pass, at most `count`."""
        if self._query.function is None:
            return await self._database.reading(partial(self._encode, rows=rows, count=count, position=position))
        left, done = list(rows), _Batch([], position)
        while left and len(done.rows) < count:
            some = await self._database.reading(
                partial(candidates, rows=left[:_BODIES], all_leaves=self._query.all_leaves)
            )
            batch = await self._passing(some, count - len(done.rows), done.position)
            done = _Batch(done.rows + batch.rows, batch.position)
            left = left[len(some) :]
        return done

    async def _passing(self, some: Sequence[Candidate], count: int, position: int) -> _Batch:
        assert self._query.function is not None  # noqa: S101  only feeds with a function come here
        passed = await self._query.function.passed(some)
        rows = [one.row for one in some]
        return await self._database.reading(
            partial(self._encode, rows=rows, count=count, position=position, passed=passed)
        )

    def _page(self, connection: sqlite3.Connection, position: int, count: int) -> _Batch:
        if self._query.ids is not None and not self._query.descending:
            return self._page_of_ids(connection, position, count)
        page = limits.EMBEDDED_PAGE_ROWS_COUNT if not self._needs_bodies() else _BODIES
        rows = rows_after(connection, position, min(page, max(count, 50)), descending=self._query.descending)
        return self._encode(connection, rows, count, position)

    def _page_of_ids(self, connection: sqlite3.Connection, position: int, count: int) -> _Batch:
        """Few ids of many documents: look them up instead of walking the whole feed."""
        end = int(connection.execute("SELECT coalesce(max(seq), 0) FROM doc").fetchone()[0])
        seqs: list[int] = []
        for some in reading.slices(sorted(self._query.ids or ())):
            marks = reading.placeholders(some)
            seqs += [
                seq
                for (seq,) in connection.execute(
                    f"SELECT seq FROM doc WHERE id IN ({marks}) AND seq > ?", (*some, position)
                )
            ]
        rows = [row for seq in sorted(seqs)[: min(count, 500)] for row in rows_after(connection, seq - 1, 1)]
        batch = self._encode(connection, rows, count, position)
        return batch if len(rows) < len(seqs) else _Batch(batch.rows, max(end, position))

    def _needs_bodies(self) -> bool:
        return self._query.include_docs or not isinstance(self._query.selector, Missing)

    def _encode(
        self,
        connection: sqlite3.Connection,
        rows: Iterable[Row],
        count: int,
        position: int,
        passed: Mapping[int, list[str]] | None = None,
    ) -> _Batch:
        """`passed` are the revisions that the filter function chose, by sequence."""
        query = self._query
        matches = None if isinstance(query.selector, Missing) else selector(query.selector)
        done: list[tuple[int, bytes]] = []
        for row in rows:
            if len(done) == count:
                break
            position = row.seq
            if query.ids is not None and row.id not in query.ids:
                continue
            if query.only_design and not row.id.startswith("_design/"):
                continue
            chosen = self._revs(row) if passed is None else passed.get(row.seq)
            encoded = None if chosen is None else self._row(connection, row, chosen, matches)
            if encoded is not None:
                done.append((row.seq, encoded))
        return _Batch(done, position)

    def _revs(self, row: Row) -> list[str]:
        return list(row.revs) if self._query.all_leaves else [row.revs[0]]

    def _row(
        self, connection: sqlite3.Connection, row: Row, revs: list[str], matches: Predicate | None
    ) -> bytes | None:
        query = self._query
        found: reading.Found | None = None
        if matches is not None or query.include_docs:
            found = reading.find(connection, [row.id]).get(row.id)
        if matches is not None:
            revs = [rev for rev in revs if found is not None and _passes(connection, found, rev, matches)]
            if not revs:
                return None
        self._sent += 1
        shown = None if self._sent % query.seq_interval else self._database.seq_text(row.seq)
        value: dict[str, Any] = {"seq": shown, "id": row.id, "changes": [{"rev": rev} for rev in revs]}
        if row.deleted:
            value["deleted"] = True
        if query.include_docs:
            value["doc"] = None if found is None else _doc(connection, found, row.revs[0], query.options)
        return json_text.encode(value)


def _doc(connection: sqlite3.Connection, found: reading.Found, rev: str, options: DocOptions) -> Document | None:
    node = found.tree.nodes.get(rev)
    text = None if node is None else reading.bodies(connection, [node.body]).get(node.body)
    return None if text is None else reading.revision(connection, found, rev, text, options).doc


def _passes(connection: sqlite3.Connection, found: reading.Found, rev: str, matches: Predicate) -> bool:
    doc = _doc(connection, found, rev, reading.PLAIN)
    return doc is not None and matches(doc)


async def _beating(query: _Query, work: Awaitable[_Batch]) -> AsyncGenerator[_Batch | None, None]:
    """The batch; before it None for each heartbeat that is due while a filter function works on it."""
    if query.function is None or query.heartbeat is None:
        yield await work
        return
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=query.heartbeat))[0]:
            yield None
        yield task.result()
    finally:
        task.cancel()


async def _listing(database: EmbeddedDatabase, query: _Query, *, longpoll: bool) -> AsyncGenerator[bytes, None]:
    """`{"results": […], "last_seq": …, "pending": …}`; a longpoll waits for its first row."""
    reader = _Reader(database, query)
    left = _NEWEST if query.limit is None else query.limit
    position = _NEWEST if query.descending else query.since
    opening = b'{"results":[\n'
    if query.function is None:
        yield opening
        opening = b""
    first, last = True, query.since
    while left > 0:
        batch = _Batch([], position)
        async with aclosing(_beating(query, reader.page(position, left))) as beats:
            async for beat in beats:
                if beat is None:
                    yield opening + b"\n"
                    opening = b""
                else:
                    batch = beat
        if batch.rows:
            yield opening + (b"" if first else b",\n") + b",\n".join(row for _, row in batch.rows)
            opening, first = b"", False
        left -= len(batch.rows)
        if batch.position == position:
            break
        position = last = batch.position
    if opening:
        yield opening
    if longpoll and first and left > 0 and not query.descending:
        async with aclosing(_live(database, reader, query, position, left)) as batches:
            async for live in batches:
                if live is None:
                    yield b"\n"
                    continue
                last = live.position
                if live.rows:
                    yield b",\n".join(row for _, row in live.rows)
                    break
    pending = 0 if query.descending else await _pending(database, last)
    ending = {"last_seq": database.seq_text(last), "pending": pending}
    yield b"\n],\n" + json_text.encode(ending)[1:] + b"\n"


async def _live(
    database: EmbeddedDatabase, reader: _Reader, query: _Query, position: int, left: int
) -> AsyncGenerator[_Batch | None, None]:
    """Batches as they are committed; None is a heartbeat. Ends when `limit` rows were sent or the timeout passes."""
    loop = asyncio.get_running_loop()
    wait = query.timeout if query.heartbeat is None else query.heartbeat
    waiting: list[Row] = []
    sent_at = loop.time()
    # Rows that do not pass the filter keep the feed from being silent: look at the clock four times per heartbeat.
    async with aclosing(_until_deleted(database, position, max(wait / 4, 0.001))) as rows:
        async for row in rows:
            if not isinstance(row, Idle):
                waiting.append(row)
                if len(waiting) < _BATCH:
                    continue
            if waiting:
                some, waiting = waiting, []
                batch = _Batch([], position)
                async with aclosing(_beating(query, reader.follow(some, left, position))) as beats:
                    async for beat in beats:
                        if beat is None:
                            yield None
                            sent_at = loop.time()
                        else:
                            batch = beat
                position = batch.position
                yield batch
                left -= len(batch.rows)
                if left <= 0:
                    return
                if batch.rows:
                    sent_at = loop.time()
            if loop.time() - sent_at >= wait * 0.999:
                if query.heartbeat is None:
                    return
                yield None
                sent_at = loop.time()


async def _until_deleted(database: EmbeddedDatabase, position: int, seconds: float) -> AsyncGenerator[Row | Idle, None]:
    """What is committed; it ends when the database is deleted, as CouchDB's feeds do (fabric_view_changes)."""
    async with aclosing(database.follow(position, seconds)) as rows:
        try:
            async for row in rows:
                yield row
        except UpstreamUnreachable:
            if not database.is_deleted:
                raise


async def _pending(database: EmbeddedDatabase, position: int) -> int:
    """How many rows are left after a position."""
    try:
        return await database.reading(lambda connection: count_after(connection, position))
    except (UnknownDatabase, UpstreamUnreachable):
        if not database.is_deleted:
            raise
        return 0


async def _rows(database: EmbeddedDatabase, query: _Query, position: list[int]) -> AsyncGenerator[_Batch | None, None]:
    """Everything a continuous feed sends: what is in the file, then what is committed. `position[0]` follows along."""
    reader = _Reader(database, query)
    left = _NEWEST if query.limit is None else query.limit
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    while left > 0:
        at = position[0]
        batch = _Batch([], at)
        async with aclosing(_beating(query, reader.page(at, left))) as beats:
            async for beat in beats:
                if beat is None:
                    yield None
                    sent_at = loop.time()
                else:
                    batch = beat
        if batch.position == at:
            break
        position[0] = batch.position
        if batch.rows:
            yield batch
            left -= len(batch.rows)
            sent_at = loop.time()
        elif query.heartbeat is not None and loop.time() - sent_at >= query.heartbeat:
            yield None
            sent_at = loop.time()
    if left > 0:
        if query.function is not None:
            yield _Batch([], position[0])  # caught up
        async with aclosing(_live(database, reader, query, position[0], left)) as batches:
            async for live in batches:
                if live is not None:
                    position[0] = live.position
                yield live


async def _continuous(database: EmbeddedDatabase, query: _Query) -> AsyncGenerator[bytes, None]:
    """A row on each line, empty lines as heartbeats; at its end the last sequence."""
    position = [query.since]
    async with aclosing(_rows(database, query, position)) as batches:
        async for batch in batches:
            if batch is None:
                yield b"\n"
            elif batch.rows or query.function is not None:  # b"" says that the answer may begin
                yield b"".join(row + b"\n" for _, row in batch.rows)
    pending = await _pending(database, position[0])
    yield json_text.encode({"last_seq": database.seq_text(position[0]), "pending": pending}) + b"\n"


async def _eventsource(database: EmbeddedDatabase, query: _Query) -> AsyncGenerator[bytes, None]:
    """Server-sent events, the sequence as their id (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    async with aclosing(_rows(database, query, [query.since])) as batches:
        async for batch in batches:
            if batch is None:
                yield b"event: heartbeat\ndata: \n\n"
            elif batch.rows or query.function is not None:
                yield b"".join(
                    b"data: " + row + b"\nid: " + database.seq_text(seq).encode() + b"\n\n" for seq, row in batch.rows
                )
