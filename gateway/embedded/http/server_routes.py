"""What the server itself answers (https://docs.couchdb.org/en/stable/api/server/index.html)."""

from __future__ import annotations

import uuid
from typing import Any

from gateway.couch.upstream import UpstreamResponse
from gateway.embedded.http.message import MISSING, Request, answer
from gateway.errors import BadParameter, BadRequest, UnknownDatabase

_UUIDS = 1_000
_VERSION = "3.5.0"  # the release whose behaviour is followed


async def welcome(request: Request) -> UpstreamResponse:
    await request.server.check()
    return answer(
        200,
        {
            "couchdb": "Welcome",
            "version": _VERSION,
            "uuid": request.server.uuid,
            "features": [],
            "vendor": {"name": "Couch Gateway, embedded server"},
        },
    )


async def all_dbs(request: Request) -> UpstreamResponse:
    """Keys are names; the options are those of a view."""
    params = request.params
    start, end = params.json("startkey", "start_key"), params.json("endkey", "end_key")
    names = await request.server.all_dbs()
    if params.flag("descending"):
        names.reverse()
        start, end = end, start
    if isinstance(start, str):
        names = [name for name in names if name >= start]
    if isinstance(end, str):
        names = [name for name in names if name <= end]
    skip, limit = params.number("skip", 0), params.number("limit")
    return answer(200, names[skip:][:limit])


async def dbs_info(request: Request) -> UpstreamResponse:
    if request.method == "POST":
        keys = (await request.json_object()).get("keys", MISSING)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise BadRequest("`keys` member must exist and be an array of names")
        if len(keys) > 100:
            raise BadRequest("`keys` member must have at most 100 items")
    else:
        keys = await request.server.all_dbs()
    rows: list[dict[str, Any]] = []
    for name in keys:
        try:
            database = await request.server.open(name, create=False)
            rows.append({"key": name, "info": await database.raw_info()})
        except UnknownDatabase:
            rows.append({"key": name, "error": "not_found"})
    return answer(200, rows)


async def uuids(request: Request) -> UpstreamResponse:
    count = request.params.number("count", 1) or 0
    if count > _UUIDS:
        raise BadParameter(f"count parameter too large, the maximum is {_UUIDS}")
    return answer(
        200, {"uuids": [uuid.uuid4().hex for _ in range(count)]}, {"cache-control": "must-revalidate, no-cache"}
    )


async def up(request: Request) -> UpstreamResponse:
    await request.server.check()
    return answer(200, {"status": "ok", "seeds": {}})


async def session(request: Request) -> UpstreamResponse:
    """Whoever reaches a handler is the administrator: the port's own password was checked before."""
    return answer(
        200,
        {
            "ok": True,
            "userCtx": {"name": None, "roles": ["_admin"]},
            "info": {"authentication_handlers": ["default"], "authenticated": "default"},
        },
    )


async def login(request: Request) -> UpstreamResponse:
    return answer(200, {"ok": True, "name": None, "roles": ["_admin"]})


async def logout(request: Request) -> UpstreamResponse:
    return answer(200, {"ok": True})


async def active_tasks(request: Request) -> UpstreamResponse:
    return answer(200, [])


async def membership(request: Request) -> UpstreamResponse:
    return answer(200, {"all_nodes": ["nonode@nohost"], "cluster_nodes": ["nonode@nohost"]})
