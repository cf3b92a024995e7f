"""A world for each test; waits are shortened where a test would have to sit them out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import limits
from tests.routing.world import World, world_in


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(limits, "UPSTREAM_RETRY_LAST_SECONDS", 0.02)
    async with world_in(tmp_path) as opened:
        await opened.caught_up()
        yield opened
