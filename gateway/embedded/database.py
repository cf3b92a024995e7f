"""One database of the embedded server: `UpstreamDatabase` on a SQLite file."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gateway import limits
from gateway.couch.upstream import (
    ChangeRow,
    DatabaseInfo,
    Document,
    Identity,
    Idle,
    RevisionRef,
    UpstreamResponse,
    WriteResult,
)
from gateway.embedded import reading
from gateway.embedded.changes import Hub, rows_after
from gateway.embedded.documents import Incoming, check_rev, incoming
from gateway.embedded.edits import Edit
from gateway.embedded.maintenance import Pins
from gateway.embedded.pool import Readers, Threads
from gateway.embedded.reading import DocOptions
from gateway.embedded.schema import open_writer
from gateway.embedded.validation import Validation
from gateway.embedded.views.builder import Views
from gateway.embedded.views.scripts import Scripts
from gateway.embedded.writer import Row, Transaction, Writer, load_state
from gateway.errors import BadRequest, NotFound, UnknownDatabase, UpstreamUnreachable

T = TypeVar("T")
_SINCE = re.compile(r"([0-9]{1,18})(?:-([0-9A-Za-z_-]{1,64}))?\Z")


class Requests(Protocol):
    """How a database passes raw requests to its server."""

    def __call__(
        self,
        method: str,
        path: str,
        *,
        query: str,
        headers: Mapping[str, str] | None,
        body: bytes | AsyncIterator[bytes] | None,
    ) -> Awaitable[UpstreamResponse]: ...


class Silence(Idle):
    """The Idle of a feed that has waited for its heartbeat, as against one that just became caught up."""


_IDLE, _SILENCE = Idle(), Silence()


class EmbeddedDatabase:
    """Implements `UpstreamDatabase`. Made by `EmbeddedServer`, which owns and closes it."""

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        server_uuid: str,
        instance_start_time: str,
        token: str,
        threads: Threads,
        scripts: Scripts,
        requests: Requests,
        successor: Callable[[], Awaitable[EmbeddedDatabase]],
        create: bool,
    ) -> None:
        """Opens the file, creating it if `create`. Blocks: call it in a thread."""
        self.name = name
        self.path = path
        self.instance_start_time = instance_start_time
        self._server_uuid = server_uuid
        self._token = token
        self._requests = requests
        self._successor = successor
        self.hub = Hub()
        self.pins = Pins()
        connection = open_writer(path, create=create)
        self.readers = Readers(path, threads)
        self.content_readers = Readers(path, threads, content=True)
        self.validation = Validation(self, scripts)
        self.writer = Writer(connection, load_state(connection), self._committed, name)
        self.views = Views(self, scripts)
        self.compacting = False
        self.is_deleted = False

    # Threads

    def _committed(self, rows: list[Row]) -> None:
        self.validation.committed(rows)
        self.hub.publish(rows)

    async def reading(self, job: Callable[[sqlite3.Connection], T], *, slow: bool = False) -> T:
        """Run `job` with a reading connection in a thread. Raises NotFound when the database was deleted.

        `slow` says that it may scan everything: such jobs have threads of their own.
        """
        self._check()
        return await self.readers.run(job, slow=slow)

    async def writing(self, job: Callable[[Transaction], T], *, weight: int = 1) -> T:
        """Run `job` in the next transaction; returns once it is on disk."""
        self._check()
        return await self.writer.run(job, weight=weight)

    def _check(self) -> None:
        if self.is_deleted:
            raise UnknownDatabase

    async def _live(self) -> EmbeddedDatabase:
        """This database, or the one created under its name since it was deleted: as with a server, a name is a name.

        Raises UnknownDatabase.
        """
        return await self._successor() if self.is_deleted else self

    @property
    def user_context(self) -> dict[str, Any]:
        """`userCtx` of design functions: everybody here is the administrator, as `GET /_session` says."""
        return {"db": self.name, "name": None, "roles": ["_admin"]}

    # Sequences

    def seq_text(self, seq: int) -> str:
        """CouchDB's opaque form: the number, a dash, and something that another database does not have."""
        return f"{seq}-{self._token}"

    def parse_since(self, text: str) -> int:
        """A sequence that was handed out here, a plain number, or `now`. One of another database counts as 0.

        Raises BadRequest for anything else.
        """
        if text == "now":
            return self.writer.state.seq
        if (match := _SINCE.match(text)) is None:
            raise BadRequest("Malformed sequence supplied in 'since' parameter.")
        if match[2] is not None and match[2] != self._token:
            return 0
        return int(match[1])

    # UpstreamDatabase

    async def identity(self) -> Identity:
        live = await self._live()
        return Identity(live._server_uuid, live.instance_start_time)

    async def info(self) -> DatabaseInfo:
        live = await self._live()
        raw = await live.raw_info()
        return DatabaseInfo(
            raw["doc_count"],
            raw["doc_del_count"],
            raw["update_seq"],
            raw["purge_seq"],
            live.instance_start_time,
            raw,
        )

    async def raw_info(self) -> dict[str, Any]:
        """The answer of `GET /{db}` (https://docs.couchdb.org/en/stable/api/database/common.html#get--db)."""
        file, external = await self.reading(self._sizes)
        state = self.writer.state
        return {
            "instance_start_time": self.instance_start_time,
            "db_name": self.name,
            "purge_seq": self.seq_text(state.purge_seq),
            "update_seq": self.seq_text(state.seq),
            "sizes": {"file": file, "external": external, "active": external},
            "props": {},
            "doc_del_count": state.doc_del_count,
            "doc_count": state.doc_count,
            "disk_format_version": 8,
            "compact_running": self.compacting,
            "cluster": {"q": 1, "n": 1, "w": 1, "r": 1},
        }

    def _sizes(self, connection: sqlite3.Connection) -> tuple[int, int]:
        pages, free = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        return pages * size, (pages - free) * size

    async def write(self, docs: Sequence[Document], *, new_edits: bool) -> list[WriteResult]:
        live = await self._live()
        prepared = await live.readers.work(lambda: [incoming(doc, new_edits=new_edits) for doc in docs])
        return await live.write_incoming(prepared, new_edits=new_edits)

    async def write_incoming(self, docs: Sequence[Incoming], *, new_edits: bool) -> list[WriteResult]:
        """Store documents that are validated already, but for the functions in and of design documents."""
        settled = await self._refused_designs(docs) | await self.validation.results(docs, new_edits=new_edits)
        accepted = [doc for at, doc in enumerate(docs) if at not in settled] if settled else docs

        def job(transaction: Transaction) -> list[WriteResult]:
            return Edit(transaction, [doc.id for doc in accepted]).write(accepted, new_edits=new_edits)

        results = iter(await self.writing(job, weight=len(accepted)))
        return [settled.get(at) or next(results) for at in range(len(docs))]

    async def _refused_designs(self, docs: Sequence[Incoming]) -> dict[int, WriteResult]:
        """By their places in `docs`, the design documents that CouchDB would not store."""
        refused = {}
        for at, doc in enumerate(docs):
            if doc.id.startswith("_design/") and not doc.deleted:
                try:
                    await self.views.check(dict(doc.body), doc.id)
                except BadRequest as error:
                    refused[at] = WriteResult(doc.id, None, error.error, error.reason)
        return refused

    async def read(self, wanted: Sequence[RevisionRef], *, attachments: bool = False) -> list[Document | None]:
        options = DocOptions(revs=True, attachments=attachments)
        live = await self._live()
        found = await live.reading(lambda connection: reading.read(connection, wanted, options))
        return [None if one is None else one.doc for one in found]

    async def leaves(self, ids: Sequence[str]) -> list[list[Document]]:
        live = await self._live()
        return await live.reading(lambda connection: reading.leaves(connection, ids))

    async def revs_diff(self, revs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
        checked = {id: [check_rev(rev) for rev in some] for id, some in revs.items()}
        live = await self._live()
        return await live.reading(lambda connection: reading.revs_diff(connection, checked))

    async def changes(self, since: str) -> AsyncGenerator[ChangeRow | Idle, None]:
        live = await self._live()
        async with aclosing(live.follow(live.parse_since(since), limits.UPSTREAM_HEARTBEAT_SECONDS)) as rows:
            async for row in rows:
                if isinstance(row, Idle):
                    yield row
                else:
                    yield ChangeRow(row.id, row.revs, row.deleted, live.seq_text(row.seq))

    async def has_changes(self, since: str) -> bool:
        live = await self._live()
        return bool(await live.reading(partial(rows_after, since=live.parse_since(since), count=1)))

    async def follow(self, since: int, heartbeat: float | None) -> AsyncGenerator[Row | Idle, None]:
        """Rows past `since` for ever; an Idle whenever there is none left, and every `heartbeat` seconds.

        Raises UpstreamUnreachable when the database is closed or deleted.
        """
        subscription = self.hub.subscribe()
        position = since
        try:
            while True:
                subscription.lagging = False
                count = limits.EMBEDDED_PAGE_ROWS_COUNT
                while count == limits.EMBEDDED_PAGE_ROWS_COUNT:
                    rows = await self.readers.run(
                        partial(rows_after, since=position, count=limits.EMBEDDED_PAGE_ROWS_COUNT)
                    )
                    count = len(rows)
                    for row in rows:
                        position = row.seq
                        yield row
                told = False  # whether the reader knows that it is caught up
                while not subscription.lags():
                    if subscription.closed:
                        raise UpstreamUnreachable("the database was closed or deleted")
                    while subscription.rows:
                        row = subscription.rows.popleft()
                        if row.seq > position:
                            position, told = row.seq, False
                            yield row
                    if subscription.lags():
                        break
                    if not told:
                        told = True
                        yield _IDLE
                        continue  # rows may have come while the reader was busy with the Idle
                    if not await subscription.wait(heartbeat):
                        yield _SILENCE
        finally:
            self.hub.unsubscribe(subscription)

    async def purged(self) -> list[tuple[str, list[str]]]:
        live = await self._live()
        return await live.reading(
            lambda connection: [
                (id, json.loads(revs)) for id, revs in connection.execute("SELECT id, revs FROM purge ORDER BY seq")
            ]
        )

    async def purge(self, revs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """`POST /{db}/_purge`: the leaves that were removed for each id."""
        checked = {id: [check_rev(rev) for rev in some] for id, some in revs.items()}
        found = await self.writing(lambda transaction: Edit(transaction, checked).purge(checked), weight=len(checked))
        self.validation.changed()  # a design document that is gone has no row
        return found

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        return await self._requests(method, path, query=query, headers=headers, body=body)

    # Values that are no documents

    async def setting(self, name: str) -> Any:
        """A JSON value kept with the database, or None."""
        row = await self.reading(
            lambda connection: connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        )
        return None if row is None else json.loads(row[0])

    async def set_setting(self, name: str, value: Any) -> None:
        text = json.dumps(value)
        await self.writing(
            lambda transaction: transaction.connection.execute(
                "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, text)
            )
        )

    async def local(self, id: str) -> Document:
        """A `_local` document. Raises NotFound."""
        row = await self.reading(
            lambda connection: connection.execute("SELECT rev, json FROM local WHERE id = ?", (id,)).fetchone()
        )
        if row is None:
            raise NotFound
        return {"_id": id, "_rev": f"0-{row[0]}", **json.loads(row[1])}

    # The end

    async def close(self, *, deleted: bool = False) -> None:
        """End feeds, finish waiting writes, close the file."""
        self.is_deleted = self.is_deleted or deleted
        await self.views.close()
        self.hub.close()
        self.readers.close()
        self.content_readers.close()
        await asyncio.get_running_loop().run_in_executor(None, self.writer.close)
