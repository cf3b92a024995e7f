"""The contract suite of the store protocol runs on every implementation listed here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.store.protocol import DatabaseStore, MetadataStore
from gateway.store.sqlite import SqliteStore


async def _sqlite(folder: Path) -> MetadataStore:
    return SqliteStore(folder / "metadata.db")


IMPLEMENTATIONS: dict[str, Callable[[Path], Awaitable[MetadataStore]]] = {"sqlite": _sqlite}
Opener = Callable[[], Awaitable[MetadataStore]]


@pytest.fixture(params=sorted(IMPLEMENTATIONS))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same store each time; who opens it closes it."""
    return lambda: IMPLEMENTATIONS[request.param](tmp_path)


@pytest.fixture
async def store(open_store: Opener) -> AsyncIterator[MetadataStore]:
    opened = await open_store()
    yield opened
    await opened.close()


@pytest.fixture
async def db(store: MetadataStore) -> DatabaseStore:
    return await store.database("notes")
