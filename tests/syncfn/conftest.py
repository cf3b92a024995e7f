from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from gateway.syncfn.runtime import EngineLimits, SyncFunction

Make = Callable[..., SyncFunction]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes sync functions that are closed after the test."""
    made: list[SyncFunction] = []

    def start(source: str, engine_limits: EngineLimits | None = None) -> SyncFunction:
        made.append(SyncFunction(source, engine_limits=engine_limits))
        return made[-1]

    yield start
    for function in made:
        await function.close()
