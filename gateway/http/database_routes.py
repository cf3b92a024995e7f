"""What is answered about one database as a whole."""

from __future__ import annotations

import uuid

from aiohttp import web

from gateway import limits
from gateway.errors import AlreadyExists, BadRequest, Forbidden, NotImplementedHere
from gateway.http import documents
from gateway.http.answers import answer
from gateway.http.body import read_json_object, require_json
from gateway.http.call import Call
from gateway.http.params import rev_of
from gateway.http.passthrough import pass_through


async def info(call: Call) -> web.StreamResponse:
    """The database: its sequence and counts, of what the caller may read.

    https://docs.couchdb.org/en/stable/api/database/common.html#get--db
    """
    return answer(200, await call.database.info(call.caller))


async def create(call: Call) -> web.StreamResponse:
    """412: it exists. Databases are made by the config file; replicators that would create one go on with the 412."""
    raise AlreadyExists("The database could not be created, the file already exists.")


async def delete(call: Call) -> web.StreamResponse:
    """Refused: databases are removed from the config file."""
    if "rev" in call.query:
        raise BadRequest(
            "You tried to DELETE a database with a ?rev= parameter. Did you mean to DELETE a document instead?"
        )
    if not call.caller.is_admin:
        raise Forbidden("only administrators may do this")
    raise NotImplementedHere("databases are removed from the config file")


async def post(call: Call) -> web.StreamResponse:
    """Store a document, whose id is made here when it has none.

    https://docs.couchdb.org/en/stable/api/database/common.html#post--db
    """
    doc = await read_json_object(call.request)
    if doc.get("_id") in (None, ""):
        doc["_id"] = uuid.uuid4().hex
    return await documents.store(call, doc, new_edits=True, tag=False)


async def ensure_full_commit(call: Call) -> web.StreamResponse:
    """Nothing to do, everything is committed; replicators compare the time with that of `GET /{db}`."""
    require_json(call.request)
    found = await call.database.info(call.caller)
    return answer(201, {"ok": True, "instance_start_time": found.get("instance_start_time", "0")})


async def status(call: Call) -> web.StreamResponse:
    """The state of this database."""
    return answer(200, call.database.status())


async def purge(call: Call) -> web.StreamResponse:
    """Remove revisions for good.

    https://docs.couchdb.org/en/stable/api/database/misc.html#post--db-_purge
    """
    body = await read_json_object(call.request)
    if len(body) > limits.PURGE_DOCUMENTS_COUNT:
        raise BadRequest(
            f"Exceeded maximum number of documents: {limits.PURGE_DOCUMENTS_COUNT} (limit PURGE_DOCUMENTS_COUNT)"
        )
    wanted: dict[str, list[str]] = {}
    for doc_id, revs in body.items():
        if not isinstance(revs, list):
            raise BadRequest(f"the revisions of {doc_id!r} must be an array")
        wanted[doc_id] = [rev_of(rev) for rev in revs]
    if sum(map(len, wanted.values())) > limits.PURGE_REVISIONS_COUNT:
        raise BadRequest(
            f"Exceeded maximum number of revisions: {limits.PURGE_REVISIONS_COUNT} (limit PURGE_REVISIONS_COUNT)"
        )
    return answer(201, await call.database.purge(wanted))


async def find(call: Call) -> web.StreamResponse:
    """Mango queries: for administrators only, so far."""
    if not call.caller.is_admin:
        raise NotImplementedHere("_find is not there for users yet")
    return await pass_through(call)
