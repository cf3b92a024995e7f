"""What is answered above the databases: `/`, `/_up`, `/_status`."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from gateway import __version__
from gateway.database import Database
from gateway.http.answers import answer
from gateway.http.call import Call

COUCHDB_VERSION: Final = "3.5.0"  # whose protocol is spoken; clients decide by it what they may ask
VENDOR: Final = {"name": "Couch Gateway", "version": __version__}


async def welcome(call: Call) -> web.StreamResponse:
    """Say who answers, as CouchDB does.

    https://docs.couchdb.org/en/stable/api/server/common.html#get--
    """
    value: dict[str, Any] = {
        "couchdb": "Welcome",
        "version": COUCHDB_VERSION,
        "uuid": call.catalogue.uuid,
        "features": [],
        "vendor": VENDOR,
    }
    if call.gate.name == "admin":
        value["ADMIN"] = True  # Sync Gateway's clients look for it
    return answer(200, value)


async def up(call: Call) -> web.StreamResponse:
    """Whether requests are served: 503 while no database is ready yet, and when shutting down.

    An upstream that cannot be reached is said, but is no 503: what is routed is served all the same.
    """
    states = [str(database.status().get("state")) for database in _databases(call)]
    if call.traffic.draining:
        return _up(503, {"status": "shutting_down"})
    if states and all(state == "starting" for state in states):
        return _up(503, {"status": "starting"})
    value = {"status": "ok", "seeds": {}}
    value["upstream"] = "unreachable" if "upstream_unreachable" in states else "reachable"
    if "failing" in states:
        value["routing"] = "failing"  # the log says why; what is routed is served
    return _up(200, value)


def _up(status: int, value: dict[str, Any]) -> web.Response:
    return answer(status, value, {"Cache-Control": "must-revalidate, no-cache"})


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
