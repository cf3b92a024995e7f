"""`/{db}/_config/sync`: the sync function of a database, its versions, and the change of it. Sync Gateway's paths."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from gateway import limits
from gateway.errors import BadRequest
from gateway.http.answers import SERVER, answer
from gateway.http.body import parse_json, read_body
from gateway.http.call import Call
from gateway.http.params import only

GET_PARAMETERS: Final = frozenset({"version", "versions"})
PUT_PARAMETERS: Final = frozenset({"version"})
JAVASCRIPT: Final = "application/javascript; charset=utf-8"


async def get(call: Call) -> web.StreamResponse:
    """The source of the sync function in force, or of another version; as JSON which versions there are."""
    versions, number = call.database.versions, call.options.integer("version", least=1)
    headers = {"ETag": versions.tag, "X-Sync-In-Force": str(versions.in_force)}
    if versions.wanted is not None:
        headers["X-Sync-Wanted"] = str(versions.wanted)
    if call.options.flag("versions", number is None and _names_json(call)):
        return answer(200, await versions.overview(), headers)
    found = await versions.version(number)
    headers |= {"X-Sync-Version": str(found.number), "Content-Type": JAVASCRIPT, "Cache-Control": "must-revalidate"}
    return web.Response(body=found.source.encode(), headers={"Server": SERVER, **headers})


async def put(call: Call) -> web.StreamResponse:
    """Change the sync function, or go back to an earlier version of it; it is wanted until a resync."""
    number = call.options.integer("version", least=1)
    body = await read_body(call.request, limits.SYNC_FUNCTION_SOURCE_BYTES, "SYNC_FUNCTION_SOURCE_BYTES")
    if number is None:
        version = await call.database.versions.put(await _source(call, body), call.header("If-Match"))
    elif body.strip():
        raise BadRequest("with a version there is no source in the body")
    else:
        version = await call.database.versions.go_back(number, call.header("If-Match"))
    return _changed(call, version.number)


async def delete(call: Call) -> web.StreamResponse:
    """Change the sync function to the default one, `channel(doc.channels)`."""
    only(call.query, ())  # `?version=2` does not delete a version
    version = await call.database.versions.reset(call.header("If-Match"))
    return _changed(call, version.number)


def _changed(call: Call, number: int) -> web.StreamResponse:
    versions = call.database.versions
    told = {"in_force": versions.in_force, "wanted": versions.wanted, "routing_outdated": versions.outdated}
    return answer(200, {"ok": True, "version": number, **told}, {"ETag": versions.tag})


def _names_json(call: Call) -> bool:
    return "application/json" in (call.header("Accept") or "").lower()


async def _source(call: Call, body: bytes) -> str:
    """The body is the function itself, or a JSON string of it where it is said to be JSON."""
    kind = (call.header("Content-Type") or "").partition(";")[0].strip().lower()
    if kind == "application/json":
        value = await parse_json(body)
        if not isinstance(value, str):
            raise BadRequest("as JSON the sync function is a string; send its source as application/javascript")
        return value
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest("the sync function is not UTF-8 text") from None
