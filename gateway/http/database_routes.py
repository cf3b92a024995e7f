"""What is answered about one database as a whole."""

from __future__ import annotations

import re
import uuid
from typing import Final

from aiohttp import web

from gateway import limits
from gateway.errors import AlreadyExists, BadRequest, Forbidden, Gone, NotImplementedHere
from gateway.http import answers, documents
from gateway.http.answers import answer, plain
from gateway.http.body import read_json, read_json_object, require_json
from gateway.http.call import Call
from gateway.http.params import rev_of
from gateway.http.passthrough import pass_through
from gateway.mango.query import parse_find

CREATE_PARAMETERS: Final = frozenset({"q", "n", "placement", "engine", "partitioned"})
_POSITIVE: Final = re.compile(r"0*[1-9][0-9]{0,8}\Z")
_PLACEMENT: Final = re.compile(r"[^:,]+:0*[1-9][0-9]{0,8}(,[^:,]+:0*[1-9][0-9]{0,8})*\Z")


async def info(call: Call) -> web.StreamResponse:
    """The database: its sequence and counts, of what the caller may read.

    https://docs.couchdb.org/en/stable/api/database/common.html#get--db
    """
    return answer(200, await call.database.info(call.caller))


async def create(call: Call) -> web.StreamResponse:
    """Make a database, as an administrator. To its users it says that it exists (412), with which replicators go on.

    https://docs.couchdb.org/en/stable/api/database/common.html#put--db
    """
    if not call.caller.is_admin:
        raise AlreadyExists("The database could not be created, the file already exists.")
    name, options = call.values["db"], _shards(call)
    if call.query.get("partitioned") == "true":
        if call.gate.databases.get(name) is not None:
            raise AlreadyExists("The database could not be created, the file already exists.")
        raise NotImplementedHere("partitioned databases are not there")
    quorum = await call.catalogue.create(name, options)
    return answer(201 if quorum else 202, {"ok": True}, {"Location": answers.location(name)})


def _shards(call: Call) -> dict[str, str]:
    """The options that go to the upstream. Raises BadRequest in CouchDB's words."""
    options = {}
    for name in ("n", "q"):
        if (value := call.query.get(name)) is not None:
            if not _POSITIVE.match(value):
                raise BadRequest(f"The `{name}` value should be a positive integer.")
            options[name] = value
    if (placement := call.query.get("placement")) is not None:
        if not _PLACEMENT.match(placement):
            raise BadRequest("The `placement` value should be in a format `zone:n`.")
        options["placement"] = placement
    if call.query.get("engine", "couch") != "couch":
        raise BadRequest("invalid_engine_extension")
    if call.query.get("partitioned", "false") not in ("true", "false"):
        raise BadRequest("Invalid `partitioned` parameter")
    return options


async def delete(call: Call) -> web.StreamResponse:
    """Delete a database that was made by request, as an administrator; those of the config file are removed there.

    https://docs.couchdb.org/en/stable/api/database/common.html#delete--db
    """
    if "rev" in call.query:
        raise BadRequest(
            "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"
        )
    if not call.caller.is_admin:
        raise Forbidden("only administrators may do this")
    await call.catalogue.delete(call.values["db"])
    return answer(200, {"ok": True})


async def post(call: Call) -> web.StreamResponse:
    """Store a document, whose id is made here when it has none.

    https://docs.couchdb.org/en/stable/api/database/common.html#post--db
    """
    doc = await read_json(call.request)
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    if "_id" not in doc:
        doc["_id"] = uuid.uuid4().hex
    return await documents.store(call, doc, new_edits=True, tag=False, batch=call.query.get("batch") == "ok")


async def ensure_full_commit(call: Call) -> web.StreamResponse:
    """Nothing to do, everything is committed; replicators compare the time with that of `GET /{db}`."""
    require_json(call.request)
    found = await call.database.info(call.caller)
    return answer(201, {"ok": True, "instance_start_time": found.get("instance_start_time", "0")})


async def status(call: Call) -> web.StreamResponse:
    """The state of this database."""
    return answer(200, call.database.status())


async def security(call: Call) -> web.StreamResponse:
    """Who is a member: to administrators the whole object, to users what of it concerns them."""
    return answer(200, await call.database.security(call.caller))


async def set_security(call: Call) -> web.StreamResponse:
    """Say who is a member: these users, and users with these roles, gain access to all channels.

    https://docs.couchdb.org/en/stable/api/database/security.html
    """
    value = await read_json(call.request, limits.SECURITY_BYTES, "SECURITY_BYTES", check_type=False)
    if not isinstance(value, dict):
        raise BadRequest("Request body must be a JSON object")
    for part in ("members", "admins"):
        its = value.get(part, {})
        if not isinstance(its, dict):
            raise BadRequest(f"{part} must be a JSON object")
        for kind in ("names", "roles"):
            given = its.get(kind, [])
            if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
                raise BadRequest(f"{kind} must be a JSON list of strings")
    await call.database.set_security(value)
    return answer(200, {"ok": True})


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
    """Documents that match a Mango selector, of those the caller may read. Administrators ask CouchDB itself.

    https://docs.couchdb.org/en/stable/api/database/find.html
    """
    if call.caller.is_admin:
        return await pass_through(call)
    body = await read_json_object(call.request)
    return plain(200, await call.database.find(call.caller, parse_find(body)))


async def temp_view(call: Call) -> web.StreamResponse:
    """410 for everybody, as CouchDB since its version 2 says."""
    raise Gone("Temporary views are not supported in CouchDB")
