"""`_all_docs` (https://docs.couchdb.org/en/stable/api/database/bulk-api.html#db-all-docs)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway import json_text, limits
from gateway.errors import BadParameter, BadRequest, TooLarge
from gateway.http import answers
from gateway.http.answers import answer
from gateway.http.body import read_json_object
from gateway.http.call import Call
from gateway.http.params import MISSING, Options
from gateway.queries import AllDocsQuery

PARAMETERS = frozenset(
    {
        *("keys", "key", "startkey", "start_key", "endkey", "end_key", "inclusive_end", "descending"),
        *("skip", "limit", "include_docs", "conflicts", "attachments", "update_seq"),
    }
)
_ONLY_FOR_VIEWS = ("reduce", "group", "group_level")
_STREAMED_ROWS_COUNT = 500


async def all_docs(call: Call) -> web.StreamResponse:
    """Documents in the order of their ids, or those with the given keys."""
    body: Mapping[str, Any] = {}
    if call.request.method == "POST":
        body = await read_json_object(call.request)
        if body.get("keys") is not None and not isinstance(body["keys"], list):
            raise BadRequest("`keys` body member must be an array.")
        if "queries" in body:
            raise BadRequest("several `queries` at once are not there; ask one after the other")
    found = await call.database.all_docs(call.caller, parse(Options(call.query, body)))
    return await _send(call, found)


async def local_docs(call: Call) -> web.StreamResponse:
    """The caller's own local documents."""
    return answer(200, await call.database.local_docs(call.caller))


def parse(options: Options) -> AllDocsQuery:
    """The options of `_all_docs`. Raises BadParameter, BadRequest, TooLarge."""
    for name in _ONLY_FOR_VIEWS:
        if name in options and options.raw(name) not in ("false", False):
            raise BadParameter(f"`{name}` is invalid for _all_docs.")
    keys = options.json("keys")
    if keys is MISSING:
        keys = None
    elif not isinstance(keys, list):
        raise BadRequest("`keys` parameter must be an array.")
    elif len(keys) > limits.KEYS_COUNT:
        raise TooLarge(f"`keys` holds more than {limits.KEYS_COUNT} members (limit KEYS_COUNT)")
    key = _key(options, "key")
    start = _key(options, "startkey", "start_key")
    end = _key(options, "endkey", "end_key")
    if keys is not None and (key is not None or start is not None or end is not None):
        raise BadParameter("`keys` is incompatible with `key`, `start_key` and `end_key`")
    if key is not None:
        start = end = key
    return AllDocsQuery(
        keys=keys,
        start=start,
        end=end,
        inclusive_end=options.flag("inclusive_end", True) or key is not None,
        descending=options.flag("descending"),
        skip=options.integer("skip") or 0,
        limit=options.integer("limit"),
        include_docs=options.flag("include_docs"),
        conflicts=options.flag("conflicts"),
        attachments=options.flag("attachments"),
        update_seq=options.flag("update_seq"),
    )


def _key(options: Options, *names: str) -> str | None:
    name = options.first(*names)
    value = options.json(name)
    if value is MISSING or value is None:
        return None
    if not isinstance(value, str):
        raise options.bad(name, "a JSON string")
    return value


async def _send(call: Call, found: Mapping[str, Any]) -> web.StreamResponse:
    rows = found["rows"]
    if len(rows) <= _STREAMED_ROWS_COUNT:
        return answer(200, found)
    head = {name: value for name, value in found.items() if name != "rows"}
    response = answers.stream(200)
    await call.begin(response, compress=True)
    if call.is_head:
        return response
    before = json_text.encode(head)[:-1] + (b"," if head else b"") + b'"rows":[\r\n'
    for start in range(0, len(rows), _STREAMED_ROWS_COUNT):
        piece = [json_text.encode(row) for row in rows[start : start + _STREAMED_ROWS_COUNT]]
        await call.write(before + b",\r\n".join(piece))
        before = b",\r\n"
    await call.write(b"\r\n]}\n")
    return response
