"""What CouchDB's server lists: `/_all_dbs`, `/_dbs_info`, `/_uuids`.

https://docs.couchdb.org/en/stable/api/server/common.html
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any, Final

from aiohttp import web

from gateway import json_text, limits
from gateway.callers import administrator
from gateway.errors import BadRequest, NotFound
from gateway.http import all_docs as listing
from gateway.http import answers, users_db
from gateway.http.answers import answer
from gateway.http.body import read_json_object
from gateway.http.call import Call

PARAMETERS: Final = frozenset(
    {"key", "keys", "startkey", "start_key", "endkey", "end_key", "inclusive_end", "descending", "skip", "limit"}
)
UUIDS_PARAMETERS: Final = frozenset({"count"})
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}\Z")
_NEVER_KEPT: Final = {
    "Cache-Control": "no-cache",
    "Expires": "Mon, 01 Jan 1990 00:00:00 GMT",
    "Pragma": "no-cache",
}


async def all_dbs(call: Call) -> web.StreamResponse:
    """The names of all databases."""
    return _tagged(call, _wanted(call))


async def dbs_info(call: Call) -> web.StreamResponse:
    """What `GET /{db}` says of all databases, or of those that a POST names as `keys`."""
    if call.request.method != "POST":
        found = [await _info(call, name) for name in _wanted(call)]
        return answer(200, [one for one in found if "info" in one])
    keys = (await read_json_object(call.request)).get("keys")
    if keys is None:
        raise BadRequest("`keys` member must exist.")
    if not isinstance(keys, list):
        raise BadRequest("`keys` member must be an array.")
    if len(keys) > limits.DBS_INFO_COUNT:
        raise BadRequest("too_many_keys")
    return answer(200, [await _info(call, key) for key in keys])


async def _info(call: Call, name: Any) -> dict[str, Any]:
    if name == users_db.NAME:
        return {"key": name, "info": await users_db.about(call)}
    database = call.gate.databases.get(name) if isinstance(name, str) else None
    try:
        if database is not None:
            return {"key": name, "info": await database.info(administrator())}
    except NotFound:
        pass  # deleted just now
    return {"key": name, "error": "not_found"}


def _wanted(call: Call) -> list[str]:
    """The names that the options choose, which are those of `_all_docs`."""
    names = sorted([*call.gate.databases.names(), users_db.NAME])
    return [name for name in listing.parse(call.options).chosen(names) if name in names]


def _tagged(call: Call, value: Any) -> web.StreamResponse:
    digest = hashlib.md5(json_text.encode(value), usedforsecurity=False).hexdigest()
    tag = f'"{digest}"'
    return answers.not_modified(call.request, tag) or answer(200, value, {"ETag": tag})


async def uuids(call: Call) -> web.StreamResponse:
    """Ids that nothing has yet: 32 random hexadecimal digits, `count` of them."""
    text = call.query.get("count", "1")
    count = int(text) if _INTEGER.match(text) else -1
    if count < 0:
        raise BadRequest("count must be a positive integer")
    if count > limits.UUIDS_COUNT:
        raise BadRequest("count parameter too large")
    made = {"uuids": [uuid.uuid4().hex for _ in range(count)]}
    tag = hashlib.md5(json_text.encode(made), usedforsecurity=False).hexdigest()
    return answer(200, made, {**_NEVER_KEPT, "ETag": f'"{tag}"'})


async def favicon(call: Call) -> web.StreamResponse:
    """There is none: 404, and not the 401 of a database of that name, for which browsers would ask a password."""
    raise NotFound
