"""`_users` for administrators: the users of the server as documents of a database.

https://docs.couchdb.org/en/stable/intro/security.html#users-documents
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from gateway import limits
from gateway.errors import AlreadyExists, BadRequest, NotImplementedHere, Unauthorized
from gateway.http import all_docs as listing
from gateway.http import answers, documents
from gateway.http.answers import answer
from gateway.http.body import read_json, read_json_object, require_json
from gateway.http.call import Call
from gateway.http.params import Options

NAME: Final = "_users"
NOT_THERE: Final = ("_bulk_docs", "_bulk_get", "_changes", "_find", "_index", "_revs_diff", "_local_docs")


async def info(call: Call) -> web.StreamResponse:
    """The database of the users of the server: how many there are."""
    return answer(200, await about(call))


async def about(call: Call) -> dict[str, Any]:
    """What `GET /_users` and `_dbs_info` say."""
    users = await call.catalogue.users.all()
    return {"db_name": NAME, "doc_count": len(users), "doc_del_count": 0, "compact_running": False}


async def create(call: Call) -> web.StreamResponse:
    """412: it is always there."""
    raise AlreadyExists("The database could not be created, the file already exists.")


async def post(call: Call) -> web.StreamResponse:
    """Store a user of the server."""
    return await _store(call, await read_json(call.request, *_limit(call)), tag=False)


async def get(call: Call) -> web.StreamResponse:
    """A user of the server, without anything of the password."""
    doc = await _get(call, call.query.get("rev"))
    tag = f'"{doc["_rev"]}"'
    return answers.not_modified(call.request, tag) or answer(200, doc, {"ETag": tag})


async def put(call: Call) -> web.StreamResponse:
    """Store a user of the server: who has an account in each database whose `_security` names it or a role of it."""
    doc = await read_json(call.request, *_limit(call), check_type=False)
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    doc["_id"] = call.values["doc"]
    documents.settle_rev(call, doc)
    return await _store(call, doc)


async def delete(call: Call) -> web.StreamResponse:
    """Delete a user of the server, whose accounts and running feeds end."""
    doc: dict[str, Any] = {"_id": call.values["doc"], "_deleted": True}
    await _get(call, None)  # 404 for what is not there
    documents.settle_rev(call, doc)
    rev = await _put(call, doc)
    return answer(200, {"ok": True, "id": doc["_id"], "rev": rev}, {"ETag": f'"{rev}"'})


async def _store(call: Call, doc: Any, *, tag: bool = True) -> web.StreamResponse:
    if not isinstance(doc, dict):
        raise BadRequest("Document must be a JSON object")
    rev = await _put(call, doc)
    headers = {"Location": answers.location(NAME, doc["_id"])} | ({"ETag": f'"{rev}"'} if tag else {})
    return answer(201, {"ok": True, "id": doc["_id"], "rev": rev}, headers)


def _limit(call: Call) -> tuple[int, str]:
    if call.caller.is_admin:
        return limits.BODY_BYTES, "BODY_BYTES"
    return limits.SIGN_UP_BYTES, "SIGN_UP_BYTES"


async def _get(call: Call, rev: str | None) -> dict[str, Any]:
    """The document of the path; to who is no administrator only his own is there."""
    sign_up, user = call.catalogue.sign_up, call.caller.user
    if user is None:
        return await call.catalogue.users.get(call.values["doc"], rev)
    if sign_up is None or call.caller.is_guest:
        raise Unauthorized("You are not a server admin.")
    return await sign_up.get(user, call.values["doc"], rev)


async def _put(call: Call, doc: dict[str, Any]) -> str:
    sign_up, user = call.catalogue.sign_up, call.caller.user
    if user is None:
        return await call.catalogue.users.put(doc)
    if sign_up is None:
        raise Unauthorized("You are not a server admin.")
    return await sign_up.put(None if call.caller.is_guest else user, doc, call.request.remote)


async def all_docs(call: Call) -> web.StreamResponse:
    """The users of the server, with the options of `_all_docs`."""
    body = await read_json_object(call.request) if call.request.method == "POST" else {}
    query = listing.parse(Options(call.query, body))
    users = {doc["_id"]: doc for doc in await call.catalogue.users.all()}
    rows: list[dict[str, Any]] = []
    for doc_id in query.chosen(sorted(users)):
        if not isinstance(doc_id, str) or doc_id not in users:
            rows.append({"key": doc_id, "error": "not_found"})
            continue
        doc = users[doc_id]
        row = {"id": doc_id, "key": doc_id, "value": {"rev": doc["_rev"]}}
        rows.append({**row, "doc": doc} if query.include_docs else row)
    return answer(200, {"total_rows": len(users), "offset": query.skip, "rows": rows})


async def security(call: Call) -> web.StreamResponse:
    """Who may see all users of the server: administrators, as in CouchDB 3."""
    return answer(200, {part: {"roles": ["_admin"]} for part in ("members", "admins")})


async def set_security(call: Call) -> web.StreamResponse:
    """Refused: the users of the server are for administrators, and with sign-up each for himself."""
    raise NotImplementedHere("who sees the users of the server cannot be changed here")


async def ensure_full_commit(call: Call) -> web.StreamResponse:
    """Nothing to do, everything is committed."""
    require_json(call.request)
    return answer(201, {"ok": True, "instance_start_time": "0"})


async def not_there(call: Call) -> web.StreamResponse:
    """Refused: what else a database has, `_users` has not here."""
    raise NotImplementedHere("_users has documents and _all_docs here, and nothing else")
