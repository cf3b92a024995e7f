"""Views of design documents (https://docs.couchdb.org/en/stable/api/ddoc/views.html)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway import json_text, limits
from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.database import EmbeddedDatabase
from gateway.embedded.http.message import Request, answer, stream
from gateway.embedded.views import index
from gateway.embedded.views.design import Design, View
from gateway.embedded.views.index import State
from gateway.embedded.views.options import ViewQuery, body_keys, checked, parse
from gateway.embedded.views.reduction import reduced
from gateway.embedded.views.rows import MapRows
from gateway.errors import BadRequest, NotFound, TooLarge
from gateway.mango.collation import VERSION, raw_sort_key, sort_key

_UNBUILT = State(0, 0)  # has no rows
_COLLATOR = f"Couch Gateway {VERSION}"  # where CouchDB names the version of its ICU


@dataclass(frozen=True, slots=True)
class _Asked:
    """One query on one view."""

    database: EmbeddedDatabase
    design: Design
    view: View
    query: ViewQuery


def _view(design: Design, name: str) -> View:
    view = design.views.get(name)
    if view is None:
        raise NotFound("missing_named_view")
    return view


def _sort_key(view: View) -> Any:
    return raw_sort_key if view.raw else sort_key


def _asked(database: EmbeddedDatabase, design: Design, name: str, query: ViewQuery) -> _Asked:
    view = _view(design, name)
    return _Asked(database, design, view, checked(query, view, _sort_key(view)))


async def get(request: Request) -> UpstreamResponse:
    """One query by its query string."""
    return await _one(request, {})


async def post(request: Request) -> UpstreamResponse:
    """The same with options in a JSON body; those of the query string win."""
    body = await request.json_object()
    if "queries" in body:
        raise BadRequest("The `queries` parameter is no longer supported at this endpoint")
    body_keys(body)
    return await _one(request, body)


async def _one(request: Request, body: Mapping[str, Any]) -> UpstreamResponse:
    database = await request.database()
    design = await database.views.design(request.parts[1])
    _, _, _, name = request.parts
    query = parse(body.items(), ViewQuery(), decoded=True)
    query = parse(request.params.values.items(), query, decoded=False)
    content = _answer(_asked(database, design, name, query), b"\n")
    first = await anext(content)  # what can fail does so before the status is sent
    return stream(200, _joined(first, content))


async def queries(request: Request) -> UpstreamResponse:
    """Several queries in one answer."""
    database = await request.database()
    design = await database.views.design(request.parts[1])
    body = await request.json_object()
    given = body.get("queries")
    if given is None:
        raise BadRequest("POST body must include `queries` parameter.")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise BadRequest("`queries` member must be an array.")
    if len(given) > limits.EMBEDDED_VIEW_QUERIES_COUNT:
        raise TooLarge(f"more than {limits.EMBEDDED_VIEW_QUERIES_COUNT} queries")
    common = parse(request.params.values.items(), ViewQuery(), decoded=False)
    name = request.parts[3]
    asked = [_asked(database, design, name, parse(one.items(), common, decoded=True)) for one in given]
    _view(design, name)
    content = _answers(asked)
    first = await anext(content)
    return stream(200, _joined(first, content))


async def _joined(first: bytes, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in content:
        yield piece


async def _answers(asked: Sequence[_Asked]) -> AsyncIterator[bytes]:
    before = b'{"results":[\r\n'
    for one in asked:
        async for piece in _answer(one, b""):
            yield before + piece
            before = b""
        before = b",\r\n"
    yield (b"" if asked else before) + b"\r\n]}\n"


async def _answer(asked: _Asked, ending: bytes) -> AsyncIterator[bytes]:
    """The JSON of one answer. Its first piece comes with the first rows."""
    database, query = asked.database, asked.query
    state = await _state(asked)
    update_seq = {"update_seq": database.seq_text(state.seq)} if query.update_seq else {}
    if query.reducing:
        rows = [] if state is _UNBUILT else await reduced(
            database, asked.design, asked.view, state, query, _sort_key(asked.view)
        )  # fmt: skip
        yield _head(update_seq) + b",\r\n".join(rows) + b"\r\n]}" + ending
        return
    if state is _UNBUILT:
        yield _head({"total_rows": 0, "offset": 0} | update_seq) + b"\r\n]}" + ending
        return
    pages = MapRows(state, asked.view, query, _sort_key(asked.view))
    head, piece = await database.reading(
        lambda connection: (pages.head(connection), pages.next_page(connection)), slow=True
    )
    counts = {"total_rows": head.total, "offset": head.offset} if query.sorted else {}
    piece = _head(counts | update_seq) + piece
    some = not piece.endswith(b"[\r\n")
    while not pages.finished:
        yield piece
        piece = await database.reading(pages.next_page)
        if piece and some:
            piece = b",\r\n" + piece
        some = some or bool(piece)
    yield piece + b"\r\n]}" + ending


def _head(members: Mapping[str, Any]) -> bytes:
    text = json_text.encode(members)[:-1]
    return text + (b"," if members else b"") + b'"rows":[\r\n'


async def _state(asked: _Asked) -> State:
    """The index that the answer is read from, brought up to date if the query wants that."""
    database, views = asked.database, asked.database.views
    if asked.query.update == "true":
        return await views.updated(asked.design, database.writer.state.seq)
    found = await database.reading(partial(index.state, signature=asked.design.signature))
    if asked.query.update == "lazy":
        views.update(asked.design)
    return found or _UNBUILT


async def info(request: Request) -> UpstreamResponse:
    """`_info`: the state of the design document's index."""
    database = await request.database()
    design = await database.views.design(request.parts[1])
    found = await database.reading(partial(index.state, signature=design.signature)) or _UNBUILT
    _, size = await database.reading(partial(index.count, key=found.key), slow=True)
    pending = max(0, database.writer.state.seq - found.seq)
    building = database.views.building(design)
    return answer(
        200,
        {
            "name": request.parts[1].removeprefix("_design/"),
            "view_index": {
                "updates_pending": {"minimum": pending, "preferred": pending, "total": pending},
                "waiting_commit": False,
                "waiting_clients": int(building),
                "updater_running": building,
                "update_seq": found.seq,
                "sizes": {"file": size, "external": size, "active": size},
                "signature": design.signature,
                "purge_seq": database.writer.state.purge_seq,
                "language": design.language,
                "compact_running": False,
                "collator_versions": [_COLLATOR],
            },
        },
    )


async def compact(request: Request) -> UpstreamResponse:
    """`_compact/{design}`: an index has nothing that compaction would remove."""
    await (await request.database()).views.design(f"_design/{request.parts[2]}")
    return answer(202, {"ok": True})


async def cleanup(request: Request) -> UpstreamResponse:
    """`_view_cleanup`."""
    await (await request.database()).views.cleanup()
    return answer(202, {"ok": True})
