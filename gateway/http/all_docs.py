"""`_all_docs`, `_design_docs`, `_local_docs`, and several queries of them at once.

https://docs.couchdb.org/en/stable/api/database/bulk-api.html#db-all-docs

For administrators these are CouchDB's own, design documents among them; for users they come from the index.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from aiohttp import web

from gateway import json_text, limits
from gateway.callers import Caller
from gateway.errors import BadParameter, BadRequest, TooLarge
from gateway.http import answers
from gateway.http.body import read_json_object
from gateway.http.call import Call, close
from gateway.http.params import MISSING, Options
from gateway.http.passthrough import pass_through
from gateway.queries import AllDocsQuery, Listing

PARAMETERS = frozenset(
    {
        *("keys", "key", "startkey", "start_key", "endkey", "end_key", "inclusive_end", "descending"),
        *("startkey_docid", "start_key_doc_id", "endkey_docid", "end_key_doc_id", "sorted", "stable", "update"),
        *("skip", "limit", "include_docs", "conflicts", "attachments", "att_encoding_info", "update_seq"),
    }
)
_COLLECTED_BYTES: Final = 65_536
_HEAD_BYTES: Final = 65_536  # within which the head of the upstream's listing is looked for
_FLAGS: Final = (
    *("inclusive_end", "descending", "include_docs", "conflicts", "attachments", "att_encoding_info"),
    *("update_seq", "sorted"),
)

Ask: TypeAlias = Callable[[Caller, AllDocsQuery], Awaitable[Listing]]


async def all_docs(call: Call) -> web.StreamResponse:
    """Documents in the order of their ids, or those with the given keys."""
    if call.caller.is_admin:
        return await pass_through(call)
    return await _one(call, call.database.all_docs)


async def all_docs_queries(call: Call) -> web.StreamResponse:
    """Several queries of `_all_docs` in one answer."""
    if call.caller.is_admin:
        return await pass_through(call)
    return await _several(call, call.database.all_docs)


async def design_docs(call: Call) -> web.StreamResponse:
    """Design documents by their ids; users see none."""
    if call.caller.is_admin:
        return await pass_through(call)
    return await _one(call, call.database.design_docs)


async def design_docs_queries(call: Call) -> web.StreamResponse:
    """Several queries of `_design_docs` in one answer."""
    if call.caller.is_admin:
        return await pass_through(call)
    return await _several(call, call.database.design_docs)


async def local_docs(call: Call) -> web.StreamResponse:
    """The caller's own local documents."""
    return await _one(call, call.database.local_docs)


async def local_docs_queries(call: Call) -> web.StreamResponse:
    """Several queries of `_local_docs` in one answer."""
    return await _several(call, call.database.local_docs)


async def _one(call: Call, listed: Ask) -> web.StreamResponse:
    body: Mapping[str, Any] = {}
    if call.request.method == "POST":
        body = await read_json_object(call.request)
        if body.get("keys") is not None and not isinstance(body["keys"], list):
            raise BadRequest("`keys` body member must be an array.")
    query = parse(Options(call.query, body))
    return await _send(call, _pieces(await listed(call.caller, query)))


async def _several(call: Call, listed: Ask) -> web.StreamResponse:
    body = await read_json_object(call.request)
    asked = body.get("queries")
    if asked is None:
        raise BadRequest("POST body must include `queries` parameter.")
    if not isinstance(asked, list):
        raise BadRequest("`queries` member must be an array.")
    if len(asked) > limits.LISTING_QUERIES_COUNT:
        raise TooLarge(f"`queries` holds more than {limits.LISTING_QUERIES_COUNT} (limit LISTING_QUERIES_COUNT)")
    if not all(isinstance(one, dict) for one in asked):
        raise BadRequest("each of `queries` must be a JSON object")
    # What the query string says holds for each query that does not say otherwise.
    queries = [
        parse(Options({name: text for name, text in call.query.items() if name not in one}, one)) for one in asked
    ]
    return await _send(call, _results(call.caller, listed, queries))


def parse(options: Options) -> AllDocsQuery:
    """The options of `_all_docs`. Raises BadParameter, BadRequest, TooLarge."""
    flags = {name: _flag(options, name) for name in _FLAGS}
    _refuse_what_is_for_views(options)
    keys = options.json("keys")
    if keys is MISSING or keys is None:
        keys = None
    elif not isinstance(keys, list):
        raise BadRequest("`keys` parameter must be an array.")
    elif len(keys) > limits.KEYS_COUNT:
        raise TooLarge(f"`keys` holds more than {limits.KEYS_COUNT} members (limit KEYS_COUNT)")
    given = {name: options.json(options.first(*names)) for name, names in _BOUNDS.items()}
    if keys and any(value is not MISSING for value in given.values()):
        raise BadParameter("`keys` is incompatible with `key`, `start_key` and `end_key`")
    if given["key"] is not MISSING:
        given["start"] = given["end"] = given["key"]
    return AllDocsQuery(
        keys=keys,
        start=_bound(options, given["start"], "start_key_doc_id", "startkey_docid"),
        end=_bound(options, given["end"], "end_key_doc_id", "endkey_docid"),
        inclusive_end=flags["inclusive_end"] is not False,
        descending=bool(flags["descending"]),
        skip=options.integer("skip") or 0,
        limit=options.integer("limit"),
        include_docs=bool(flags["include_docs"]),
        conflicts=bool(flags["conflicts"]),
        attachments=bool(flags["attachments"]),
        att_encoding_info=bool(flags["att_encoding_info"]),
        update_seq=bool(flags["update_seq"]),
    )


_BOUNDS: Final = {"key": ("key",), "start": ("startkey", "start_key"), "end": ("endkey", "end_key")}
_ONE_OF: Final = {"stable": ("true", "false"), "update": ("true", "false", "lazy"), "stale": ("ok", "update_after")}


def _flag(options: Options, name: str) -> bool | None:
    """CouchDB does not mind the case of these values."""
    value = options.raw(name)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value is None or isinstance(value, bool):
        return value
    raise options.bad(name, "true or false")


def _refuse_what_is_for_views(options: Options) -> None:
    if _flag(options, "reduce"):
        raise BadParameter("Reduce is invalid for map-only views.")
    if _flag(options, "group") or options.integer("group_level"):
        raise BadParameter("Invalid use of grouping on a map view.")
    if "partition" in options:
        raise BadParameter("`partition` parameter is not supported in this database.")
    for name, values in _ONE_OF.items():
        value = options.raw(name)
        if value is not None and str(value).lower() not in values:
            raise BadParameter(f"Invalid value for `{name}`.")


def _bound(options: Options, key: Any, *names: str) -> str | None:
    """Every id is a string. CouchDB takes no key of another type for a bound, but the id that stands beside it."""
    return key if isinstance(key, str) else options.text(options.first(*names))


async def _pieces(listing: Listing) -> AsyncIterator[bytes]:
    """A listing as CouchDB writes it."""
    try:
        yield json_text.encode(listing.head)[:-1] + b',"rows":[\r\n'
        between = b""
        async for rows in listing.pages:
            if rows:
                yield between + b",\r\n".join(rows)
                between = b",\r\n"
        yield b"\r\n]}"
    finally:
        await close(listing.pages)


async def _results(caller: Caller, listed: Ask, queries: Sequence[AllDocsQuery]) -> AsyncIterator[bytes]:
    yield b'{"results":['
    between = b"\r\n"
    for query in queries:
        yield between
        pieces = _pieces(await listed(caller, query))
        try:
            async for piece in pieces:
                yield piece
        finally:
            await close(pieces)
        between = b",\r\n"
    yield b"\r\n]}"


async def _send(call: Call, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """What is short in one answer, what is long as it is read. Half an answer breaks off."""
    held = bytearray()
    response: web.StreamResponse | None = None
    try:
        if call.is_head:
            response = answers.stream(200)
            await call.begin(response, compress=True)
            return response
        async for piece in pieces:
            held += piece
            if len(held) >= _COLLECTED_BYTES:
                if response is None:
                    response = answers.stream(200)
                    await call.begin(response, compress=True)
                await call.write(bytes(held))
                held.clear()
        held += b"\n"
        if response is None:
            return answers.plain(200, bytes(held))
        await call.write(bytes(held))
        return response
    finally:
        await close(pieces)
