"""A real store for many timelines: one file, a database for each timeline."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.store.sqlite import SqliteStore
from tests.model.timeline import Timeline

# A file in memory is a file all the same; what is tested here is not the disk.
FAST = Path("/dev/shm")  # noqa: S108

NewTimeline = Callable[[], Timeline]


@pytest.fixture(scope="module")
def new_timeline() -> Iterator[NewTimeline]:
    """Call it for a timeline on a database of its own."""
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder, asyncio.Runner() as runner:
        store = SqliteStore(Path(folder) / "metadata.db")
        numbers = itertools.count(1)
        yield lambda: Timeline(runner, store, f"timeline{next(numbers)}")
        runner.run(store.close())


@pytest.fixture
def t(new_timeline: NewTimeline) -> Timeline:
    return new_timeline()
