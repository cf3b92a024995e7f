"""`_all_docs` and its kin (https://docs.couchdb.org/en/stable/api/database/bulk-api.html#db-all-docs)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway import json_text, limits
from gateway.couch.upstream import UpstreamResponse
from gateway.embedded import reading
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.http.message import MISSING, Missing, Params, Request, stream
from gateway.embedded.reading import DocOptions
from gateway.errors import BadParameter, BadRequest, TooLarge

_PAGE_BYTES = 4_000_000  # of JSON made at once
_TABLES = {"_all_docs": "doc", "_design_docs": "doc", "_local_docs": "local"}


@dataclass(frozen=True, slots=True)
class Listing:
    """What to list. `low` and `high` bound the ids whatever the direction; None is no bound."""

    kind: str = "_all_docs"
    keys: tuple[Any, ...] | None = None
    low: str | None = None
    low_included: bool = True
    high: str | None = None
    high_included: bool = True
    descending: bool = False
    skip: int = 0
    limit: int | None = None
    include_docs: bool = False
    update_seq: bool = False
    options: DocOptions = reading.PLAIN


class _Options:
    """Parameters from the query string, overridden by members of a body, as CouchDB takes them."""

    def __init__(self, params: Params, body: Mapping[str, Any]) -> None:
        self._params, self._body = params, body

    def value(self, *names: str) -> Any:
        for name in names:
            if name in self._body:
                return self._body[name]
        return self._params.json(*names)

    def text(self, *names: str) -> str | None:
        for name in names:
            value = self._body.get(name, self._params.get(name))
            if isinstance(value, str):
                return value
        return None

    def flag(self, name: str, default: bool = False) -> bool:
        value = self._body.get(name)
        if value is None:
            return self._params.flag(name, default)
        if not isinstance(value, bool):
            raise BadParameter(f"Invalid value for boolean parameter `{name}`: {value!r}")
        return value

    def number(self, name: str) -> int | None:
        value = self._body.get(name)
        if value is None:
            return self._params.number(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadParameter(f"Invalid value for integer parameter `{name}`: {value!r}")
        return value


def parse(kind: str, params: Params, body: Mapping[str, Any]) -> Listing:
    """Raises BadParameter or BadRequest."""
    given = _Options(params, body)
    options = DocOptions(
        conflicts=given.flag("conflicts"),
        attachments=given.flag("attachments"),
        att_encoding_info=given.flag("att_encoding_info"),
    )
    if given.flag("reduce") or given.flag("group") or given.value("group_level") is not MISSING:
        raise BadParameter("Reduce is invalid for map-only views.")
    listing = Listing(
        kind,
        descending=given.flag("descending"),
        skip=given.number("skip") or 0,
        limit=given.number("limit"),
        include_docs=given.flag("include_docs"),
        update_seq=given.flag("update_seq"),
        options=options,
    )
    keys = given.value("keys")
    if not isinstance(keys, Missing) and keys is not None:
        if not isinstance(keys, list):
            raise BadRequest("`keys` parameter must be an array.")
        if len(keys) > limits.KEYS_COUNT:
            raise TooLarge(f"more than {limits.KEYS_COUNT} keys")
        bounds = ("key", "startkey", "start_key", "endkey", "end_key")
        if keys and any(not isinstance(given.value(name), Missing) for name in bounds):
            raise BadParameter("`keys` is incompatible with `key`, `start_key` and `end_key`")
        return replace(listing, keys=tuple(keys))
    return _bounded(listing, given)


def _bounded(listing: Listing, given: _Options) -> Listing:
    start, end = given.value("startkey", "start_key"), given.value("endkey", "end_key")
    included = given.flag("inclusive_end", True)
    if not isinstance(key := given.value("key"), Missing):
        start, end = key, key
    # Every id is a string, and CouchDB takes no key of another type for a bound, but the id that stands beside it.
    first = start if isinstance(start, str) else given.text("startkey_docid", "start_key_doc_id")
    last = end if isinstance(end, str) else given.text("endkey_docid", "end_key_doc_id")
    low, high = (last, first) if listing.descending else (first, last)
    low_included, high_included = (included, True) if listing.descending else (True, included)
    return replace(listing, low=low, low_included=low_included, high=high, high_included=high_included)


async def all_docs(request: Request) -> UpstreamResponse:
    database = await request.database()
    body = await request.json_object() if request.method == "POST" else {}
    return stream(200, listing_json(database, parse(request.parts[1], request.params, body), b"\n"))


local_docs = all_docs


async def queries(request: Request) -> UpstreamResponse:
    """Several listings in one answer."""
    database = await request.database()
    body = await request.json_object()
    given = body.get("queries")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise BadRequest("POST body must include `queries` parameter.")
    listings = [parse(request.parts[1], request.params, one) for one in given]
    return stream(200, _all_listings(database, listings))


async def _all_listings(database: EmbeddedDatabase, listings: list[Listing]) -> AsyncIterator[bytes]:
    yield b'{"results":['
    for at, listing in enumerate(listings):
        yield b",\r\n" if at else b"\r\n"
        async for piece in listing_json(database, listing, b""):
            yield piece
    yield b"\r\n]}\n"


async def listing_json(database: EmbeddedDatabase, listing: Listing, ending: bytes) -> AsyncIterator[bytes]:
    """`{"total_rows", "offset", "rows"}`, read and sent in pages."""
    head: dict[str, Any] = {"total_rows": await database.reading(lambda connection: _total(connection, listing))}
    head["offset"] = None
    if listing.keys is None and listing.kind == "_all_docs":
        before_first = await database.reading(lambda connection: _offset(connection, listing))
        head["offset"] = min(head["total_rows"], before_first)  # as fabric_view_all_docs counts
    if listing.update_seq:
        head["update_seq"] = database.seq_text(database.writer.state.seq)
    yield json_text.encode(head)[:-1] + b',"rows":[\r\n'
    pages = _Keys(listing) if listing.keys is not None else _Range(listing)
    before = b""
    while not pages.finished:
        if piece := await database.reading(pages.next_page):
            yield before + piece
            before = b",\r\n"
    yield b"\r\n]}" + ending


def _total(connection: sqlite3.Connection, listing: Listing) -> int | None:
    if listing.kind == "_local_docs":
        return None
    where = "AND id >= '_design/' AND id < '_design0'" if listing.kind == "_design_docs" else ""
    return int(connection.execute(f"SELECT count(*) FROM doc WHERE deleted = 0 {where}").fetchone()[0])


def _offset(connection: sqlite3.Connection, listing: Listing) -> int:
    """How many rows come before the first one that is sent."""
    bound, included = (
        (listing.high, listing.high_included) if listing.descending else (listing.low, listing.low_included)
    )
    before = 0
    if bound is not None:
        sign = (">" if listing.descending else "<") + ("" if included else "=")
        row = connection.execute(f"SELECT count(*) FROM doc WHERE deleted = 0 AND id {sign} ?", (bound,)).fetchone()
        before = int(row[0])
    return before + listing.skip


class _Range:
    """Pages of a range of ids. `next_page` runs in a reading thread."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._after: str | None = None
        self._skip = listing.skip
        self._left = listing.limit
        self.finished = listing.limit == 0

    def _where(self) -> tuple[str, list[str]]:
        listing, parts, values = self._listing, [], []
        if listing.kind != "_local_docs":
            parts.append("deleted = 0")
        if listing.kind == "_design_docs":
            parts.append("id >= '_design/' AND id < '_design0'")
        if listing.low is not None:
            parts.append("id >= ?" if listing.low_included else "id > ?")
            values.append(listing.low)
        if listing.high is not None:
            parts.append("id <= ?" if listing.high_included else "id < ?")
            values.append(listing.high)
        if self._after is not None:
            parts.append("id < ?" if listing.descending else "id > ?")
            values.append(self._after)
        return ("WHERE " + " AND ".join(parts)) if parts else "", values

    def next_page(self, connection: sqlite3.Connection) -> bytes:
        listing = self._listing
        where, values = self._where()
        count = min(
            limits.EMBEDDED_PAGE_ROWS_COUNT, limits.EMBEDDED_PAGE_ROWS_COUNT if self._left is None else self._left
        )
        columns = "id, rev" if listing.kind == "_local_docs" else "id, winner"
        order = "DESC" if listing.descending else "ASC"
        rows = connection.execute(
            f"SELECT {columns} FROM {_TABLES[listing.kind]} {where} ORDER BY id {order} LIMIT ? OFFSET ?",
            (*values, count, self._skip),
        ).fetchall()
        self._skip = 0
        made, size = [], 0
        for id, rev in rows:
            made.append(_row(connection, listing, id, f"0-{rev}" if listing.kind == "_local_docs" else rev))
            size += len(made[-1])
            self._after = id
            if size > _PAGE_BYTES:
                break
        if self._left is not None:
            self._left -= len(made)
        self.finished = (len(made) == len(rows) < count) or self._left == 0
        return b",\r\n".join(made)


def _row(connection: sqlite3.Connection, listing: Listing, id: str, rev: str) -> bytes:
    row: dict[str, Any] = {"id": id, "key": id, "value": {"rev": rev}}
    if listing.include_docs:
        row["doc"] = _doc(connection, listing, id, rev)
    return json_text.encode(row)


def _doc(connection: sqlite3.Connection, listing: Listing, id: str, rev: str) -> Any:
    if listing.kind == "_local_docs":
        text = connection.execute("SELECT json FROM local WHERE id = ?", (id,)).fetchone()[0]
        return {"_id": id, "_rev": rev} | json.loads(text)
    found = reading.find(connection, [id])[id]
    key = found.tree.nodes[rev].body
    return reading.revision(connection, found, rev, reading.bodies(connection, [key])[key], listing.options).doc


class _Keys:
    """Rows for given keys, in their order, also for those that are missing or deleted."""

    def __init__(self, listing: Listing) -> None:
        keys = list(listing.keys or ())
        if listing.descending:
            keys.reverse()
        end = None if listing.limit is None else listing.skip + listing.limit
        self._listing = listing
        self._keys = keys[listing.skip : end]
        self._at = 0
        self.finished = not self._keys

    def next_page(self, connection: sqlite3.Connection) -> bytes:
        some = self._keys[self._at : self._at + 500]
        names = [key for key in some if isinstance(key, str)]
        if self._listing.kind == "_local_docs":
            query = "SELECT id, '0-' || rev, 0 FROM local"
        else:
            query = "SELECT id, winner, deleted FROM doc"
        known = {
            id: (rev, bool(deleted))
            for id, rev, deleted in connection.execute(f"{query} WHERE id IN ({reading.placeholders(names)})", names)
        }
        if self._listing.kind == "_design_docs":
            known = {id: entry for id, entry in known.items() if id.startswith("_design/")}
        made, size = [], 0
        for key in some:
            made.append(self._one(connection, key, known.get(key) if isinstance(key, str) else None))
            size += len(made[-1])
            self._at += 1
            if size > _PAGE_BYTES:
                break
        self.finished = self._at >= len(self._keys)
        return b",\r\n".join(made)

    def _one(self, connection: sqlite3.Connection, key: Any, known: tuple[str, bool] | None) -> bytes:
        if known is None:
            return json_text.encode({"key": key, "error": "not_found"})
        rev, deleted = known
        if not deleted:
            return _row(connection, self._listing, key, rev)
        row: dict[str, Any] = {"id": key, "key": key, "value": {"rev": rev, "deleted": True}}
        if self._listing.include_docs:
            row["doc"] = None
        return json_text.encode(row)
