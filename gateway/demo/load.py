"""Fill the demo database once."""

from __future__ import annotations

from gateway.callers import administrator
from gateway.database import Database
from gateway.demo.data import documents
from gateway.errors import Conflict, GatewayError, Unavailable

_CHUNK = 500


async def load(database: Database) -> int:
    """Write the demo's documents unless they are there; how many the database has. Can be broken off and begun anew.

    Raises GatewayError when a document is refused.
    """
    admin = administrator("demo")
    if not await database.wait_caught_up(60):
        raise Unavailable("the upstream is not routed yet")
    wanted = list(documents())
    state = await database.info(admin)
    if state["doc_count"] < len(wanted):
        for start in range(0, len(wanted), _CHUNK):
            for outcome in await database.bulk_docs(admin, wanted[start : start + _CHUNK], new_edits=True):
                _check(outcome.error)
    return int((await database.info(admin))["doc_count"])


def _check(error: GatewayError | None) -> None:
    # What an earlier start has written is kept, changed by the visitor or not.
    if error is not None and not isinstance(error, Conflict):
        raise error
