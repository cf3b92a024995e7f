"""Gateways for the protocol tests, once on each kind of upstream.

`embedded` (inside the gateway) and `embedded-over-http` (a server of its own) always; `couchdb` when TEST_COUCHDB_URL
names a server, with its credentials: http://admin:pw@127.0.0.1:5984. One gateway serves all tests that do not stop it:
each has names of its own there, its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.protocol.pouch import Driver
from tests.protocol.site import DATABASES, Place, Site, site_on
from tests.protocol.upstreams import COUCHDB_URL

KINDS = [
    "embedded",
    "embedded-over-http",
    pytest.param("couchdb", marks=pytest.mark.skipif(not COUCHDB_URL, reason="TEST_COUCHDB_URL is not set")),
]


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=KINDS)
async def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """The gateway that tests share."""
    async with site_on(request.param, tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def notes(site: Site) -> AsyncIterator[Place]:
    """A place in a database whose guest is disabled."""
    async with AsyncExitStack() as stack:
        yield Place(site, "notes", stack)


@pytest_asyncio.fixture(loop_scope="session")
async def square(site: Site) -> AsyncIterator[Place]:
    """A place in a database that lets guests into the channel `lobby`."""
    async with AsyncExitStack() as stack:
        yield Place(site, "square", stack)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of upstream, for tests that run a gateway of their own."""
    return str(request.param)


@pytest_asyncio.fixture(loop_scope="session")
async def own(kind: str, tmp_path: Path) -> AsyncIterator[Place]:
    """The database of a gateway of the test's own, which it may stop."""
    async with site_on(kind, tmp_path, {"notes": DATABASES["notes"]}) as running, AsyncExitStack() as stack:
        yield Place(running, "notes", stack)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def driver() -> AsyncIterator[Driver]:
    """The Node process that runs PouchDB; its databases have names of their own in each test."""
    running = Driver()
    await running.start()
    yield running
    await running.stop()
