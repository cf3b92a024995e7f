"""A served embedded database and a plain HTTP client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway.embedded import EmbeddedServer
from gateway.embedded.http.app import serve


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    opened = EmbeddedServer(tmp_path / "data")
    yield opened
    await opened.close()


@pytest.fixture
async def root(server: EmbeddedServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client at the root of a served server, asking for JSON."""
    listener = await serve(server)
    async with httpx.AsyncClient(base_url=listener.url, headers={"accept": "application/json"}, timeout=20) as client:
        yield client
    await server.close()
    await listener.close()


@pytest.fixture
async def http(root: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client at the database `db`."""
    assert (await root.put("/db")).status_code == 201
    async with httpx.AsyncClient(base_url=root.base_url.join("/db/"), headers=root.headers, timeout=20) as client:
        yield client
