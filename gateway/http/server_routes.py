"""What is answered above the databases: `/`, `/_up`, `/_session`, `/_all_dbs`, `/_status`."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from gateway import __version__
from gateway.auth.basic import parse_basic
from gateway.database import Database
from gateway.errors import InvalidLogin, NotFound, Unauthorized
from gateway.http.answers import answer
from gateway.http.call import Call
from gateway.http.login import admin_database, admit_admin, admit_user, is_admin

COUCHDB_VERSION: Final = "3.5.0"  # whose protocol is spoken; clients decide by it what they may ask
VENDOR: Final = {"name": "Couch Gateway", "version": __version__}


async def welcome(call: Call) -> web.StreamResponse:
    """Say who answers, as CouchDB does.

    https://docs.couchdb.org/en/stable/api/server/common.html#get--
    """
    value: dict[str, Any] = {"couchdb": "Welcome", "version": COUCHDB_VERSION, "features": [], "vendor": VENDOR}
    if call.gate.name == "admin":
        value["ADMIN"] = True  # Sync Gateway's clients look for it
    return answer(200, value)


async def up(call: Call) -> web.StreamResponse:
    """Whether requests are served: 503 while no database is ready yet, and when shutting down.

    An upstream that cannot be reached is said, but is no 503: what is routed is served all the same.
    """
    states = [str(database.status().get("state")) for database in _databases(call)]
    if call.traffic.draining:
        status, value = 503, {"status": "shutting_down"}
    elif states and all(state == "starting" for state in states):
        status, value = 503, {"status": "starting"}
    else:
        status, value = 200, {"status": "ok"}
        value["upstream"] = "unreachable" if "upstream_unreachable" in states else "reachable"
    return answer(status, value, {"Cache-Control": "must-revalidate, no-cache"})


async def session(call: Call) -> web.StreamResponse:
    """Who is logged in. Users belong to a database and ask there; here only an administrator is somebody."""
    if call.gate.name == "admin":
        caller = await admit_admin(call.gate, call.request)
        return answer(200, _session(caller.admin if call.gate.admins else None, ["_admin"]))
    credentials = parse_basic(call.header("Authorization"))
    if credentials is None:
        return answer(200, _session(None, []))
    if await is_admin(call.gate, credentials):
        return answer(200, _session(credentials.name, ["_admin"]))
    raise Unauthorized("users log in to a database: ask /{db}/_session")


async def no_sessions(call: Call) -> web.StreamResponse:
    """There are no session cookies. 404 is what makes CouchDB's replicator go on with Basic; 405 is fatal to it."""
    raise NotFound("there are no session cookies; send Authorization: Basic with each request")


async def database_session(call: Call) -> web.StreamResponse:
    """Who is logged in to this database, and with which channels; nobody is no error.

    Without a login, a database that has no guest, and one that does not exist, say the same.
    """
    if call.gate.name == "admin":
        caller = await admit_admin(call.gate, call.request)
        call.admit(admin_database(call.gate, call.values["db"]), caller)
        return answer(200, await call.database.session(call.caller))
    try:
        call.admit(*await admit_user(call.gate, call.request, call.values["db"]))
    except InvalidLogin:
        raise
    except Unauthorized:
        return answer(200, _session(None, []))
    return answer(200, await call.database.session(call.caller))


async def all_dbs(call: Call) -> web.StreamResponse:
    """The names of all databases."""
    return answer(200, list(call.gate.databases.names()))


async def status(call: Call) -> web.StreamResponse:
    """The state of the gateway and of each database."""
    databases = {database.name: database.status() for database in _databases(call)}
    return answer(
        200,
        {
            "version": __version__,
            "vendor": VENDOR,
            "databases": databases,
            "feeds": call.traffic.feeds_open,
            "requests": call.traffic.active,
        },
    )


def _databases(call: Call) -> list[Database]:
    found = (call.gate.databases.get(name) for name in call.gate.databases.names())
    return [database for database in found if database is not None]


def _session(name: str | None, roles: list[str]) -> dict[str, Any]:
    context: dict[str, Any] = {"name": name, "roles": roles}
    if not roles:
        context["channels"] = {}
    info: dict[str, Any] = {"authentication_handlers": ["default"]}
    if name is not None:
        info["authenticated"] = "default"
    return {"ok": True, "userCtx": context, "info": info}
