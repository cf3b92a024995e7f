"""Each scenario twice: on the oracle and a real store, and on these and a running gateway over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path

import pytest

from gateway.store.sqlite import SqliteStore
from tests.feeds.conftest import FAST
from tests.model.timeline import Timeline
from tests.scenarios.http_timeline import HttpTimeline
from tests.scenarios.remote import Remote
from tests.scenarios.running import KINDS
from tests.scenarios.served import Served, served


class Stage:
    """One store for all timelines, and one gateway from the moment that a timeline needs it."""

    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self._folder = folder
        self._runner = runner
        self._store = SqliteStore(folder / "metadata.db")
        self._numbers = itertools.count(1)
        self._context = served(folder)
        self._served: Served | None = None

    def on_the_store(self) -> Timeline:
        return Timeline(self._runner, self._store, f"timeline{next(self._numbers)}")

    def over_http(self, *, in_the_file: bool = False, one_feed_each: bool = False) -> HttpTimeline:
        """With a database of its own. `one_feed_each`: a client has one running feed, else one of each kind."""
        gateway = self._gateway()
        name = gateway.database_of_the_file() if in_the_file else self._runner.run(gateway.new_database())
        shift = next(self._numbers)
        kinds_of = (lambda number: (KINDS[(number + shift) % len(KINDS)],)) if one_feed_each else (lambda _: KINDS)
        return HttpTimeline(self._runner, self._store, gateway, name, kinds_of)

    def on_a_database(self, play: Callable[[Remote], Coroutine[None, None, None]]) -> None:
        """Over HTTP only, for what has no oracle."""
        gateway = self._gateway()
        name = self._runner.run(gateway.new_database())
        try:
            self._runner.run(play(Remote(gateway, name)))
        finally:
            self._runner.run(gateway.forget(name))

    def _gateway(self) -> Served:
        if self._served is None:
            self._served = self._runner.run(self._context.__aenter__())
        return self._served

    def close(self) -> None:
        if self._served is not None:
            self._runner.run(self._context.__aexit__(None, None, None))
        self._runner.run(self._store.close())


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as folder, asyncio.Runner() as runner:
        stage = Stage(Path(folder), runner)
        yield stage
        stage.close()


def _timeline(stage: Stage, where: str, *, in_the_file: bool) -> Iterator[Timeline]:
    if where == "store":
        yield stage.on_the_store()
        return
    timeline = stage.over_http(in_the_file=in_the_file)
    try:
        yield timeline
        timeline.check_the_end()
    finally:
        timeline.discard()


@pytest.fixture(params=["store", "http"])
def t(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Timeline]:
    """A timeline on a database that is made by request, over HTTP."""
    yield from _timeline(stage, request.param, in_the_file=False)


@pytest.fixture(params=["store", "http"])
def in_the_file(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Timeline]:
    """A timeline on a database whose users and roles the config file may name, over HTTP."""
    yield from _timeline(stage, request.param, in_the_file=True)
