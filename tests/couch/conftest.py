from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from gateway import limits
from gateway.couch.client import CouchDatabase, CouchDB
from tests.couch.scripted import Handler, ScriptedServer

Connect = Callable[[Handler], Awaitable[tuple[ScriptedServer, CouchDB, CouchDatabase]]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without long pauses."""
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_LAST_SECONDS", 0.01)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """A scripted server, a client of it, and its database "db"."""
    async with AsyncExitStack() as stack:

        async def make(handler: Handler) -> tuple[ScriptedServer, CouchDB, CouchDatabase]:
            server = await stack.enter_async_context(ScriptedServer(handler))
            client = CouchDB(server.url, username="ann", password="s3cret")
            stack.push_async_callback(client.close)
            return server, client, CouchDatabase(client, "db")

        yield make
