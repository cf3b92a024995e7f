"""A database as a whole (https://docs.couchdb.org/en/stable/api/database/index.html)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from gateway import limits
from gateway.couch.upstream import UpstreamResponse
from gateway.embedded import reading
from gateway.embedded.http.message import Request, answer
from gateway.embedded.maintenance import compact as run_compaction
from gateway.embedded.writer import Transaction
from gateway.errors import BadRequest, IllegalDatabaseName, IllegalName


async def info(request: Request) -> UpstreamResponse:
    return answer(200, await (await request.database()).raw_info())


async def create(request: Request) -> UpstreamResponse:
    try:
        await request.server.create(request.parts[0])
    except IllegalName as error:
        raise IllegalDatabaseName(error.reason) from None
    return answer(201, {"ok": True}, {"location": "/" + quote(request.parts[0], safe="")})


async def delete(request: Request) -> UpstreamResponse:
    if "rev" in request.params.values:
        raise BadRequest(
            "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"
        )
    await request.server.delete(request.parts[0])
    return answer(200, {"ok": True})


async def security(request: Request) -> UpstreamResponse:
    return answer(200, await (await request.database()).reading(reading.security))


async def set_security(request: Request) -> UpstreamResponse:
    """Kept and answered; who may connect at all is decided before."""
    database = await request.database()
    value = await request.json(check_type=False)
    if not isinstance(value, dict):
        raise BadRequest("Security object must be a JSON object")
    for kind in ("admins", "members"):
        _check_security(kind, value.get(kind, {}))
    await database.set_setting("security", value)
    return answer(200, {"ok": True})


def _check_security(kind: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise BadRequest(f"{kind} must be a JSON object")
    for name in ("names", "roles"):
        given = value.get(name, [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            raise BadRequest(f"{kind}.{name} must be a JSON list of strings")


async def _set_limit(request: Request, name: str, what: str) -> UpstreamResponse:
    database = await request.database()
    value = await request.json(check_type=False)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 10**9:
        raise BadRequest(f"`{what}` must be positive integer")

    def job(transaction: Transaction) -> None:
        setattr(transaction.state, name, value)

    await database.writing(job)
    return answer(200, {"ok": True})


async def revs_limit(request: Request) -> UpstreamResponse:
    return answer(200, (await request.database()).writer.state.revs_limit)


async def set_revs_limit(request: Request) -> UpstreamResponse:
    return await _set_limit(request, "revs_limit", "revs_limit")


async def purged_infos_limit(request: Request) -> UpstreamResponse:
    return answer(200, (await request.database()).writer.state.purged_infos_limit)


async def set_purged_infos_limit(request: Request) -> UpstreamResponse:
    return await _set_limit(request, "purged_infos_limit", "purge_infos_limit")


async def purged_infos(request: Request) -> UpstreamResponse:
    purged = await (await request.database()).purged()
    return answer(200, {"purged_infos": [{"id": id, "revs": revs} for id, revs in purged]})


async def purge(request: Request) -> UpstreamResponse:
    database = await request.database()
    wanted = await request.json_object()
    for id, revs in wanted.items():
        if not isinstance(revs, list):
            raise BadRequest(f"Invalid list of revisions for {id}")
    if len(wanted) > limits.EMBEDDED_PURGE_DOCUMENTS_COUNT:
        raise BadRequest("Exceeded maximum number of documents.")
    if sum(map(len, wanted.values())) > limits.EMBEDDED_PURGE_REVISIONS_COUNT:
        raise BadRequest("Exceeded maximum number of revisions.")
    return answer(201, {"purge_seq": None, "purged": await database.purge(wanted)})


async def compact(request: Request) -> UpstreamResponse:
    """Starts it; `compact_running` in the database's information says when it is over."""
    database = await request.database()
    if not database.compacting:
        database.compacting = True
        request.server.background(asyncio.create_task(run_compaction(database)))
    return answer(202, {"ok": True})


async def ensure_full_commit(request: Request) -> UpstreamResponse:
    """Nothing to do: every answered write is on disk already."""
    database = await request.database()
    return answer(201, {"ok": True, "instance_start_time": database.instance_start_time})
