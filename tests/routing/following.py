"""Clients of running feeds, in a task of their own."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

from gateway.callers import Caller
from gateway.database import Feed, FeedRows, Heartbeat
from gateway.model.positions import parse_since
from tests.routing.world import World, until


class Follower:
    """Reads a continuous feed, or one longpoll after the other, until it is stopped or the feed ends."""

    def __init__(self, world: World, caller: Caller, since: str | int = 0, **query: Any) -> None:
        self.world, self.caller, self.query = world, caller, query
        self.since = str(since)
        self.rows: list[dict[str, Any]] = []
        self.heartbeats = 0
        self.events = 0
        self.feed: Feed
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        again = True
        while again:
            again = self.query.get("feed") == "longpoll"
            self.feed = self.world.feed(self.caller, self.since, **self.query)
            async for event in self.feed.events():
                self.events += 1
                if isinstance(event, FeedRows):
                    self.rows += [json.loads(row) for row in event.rows]
                else:
                    assert isinstance(event, Heartbeat)
                    self.heartbeats += 1
            self.since = self.feed.last_seq

    @property
    def ids(self) -> list[str]:
        return [row["id"] for row in self.rows]

    async def sees(self, *ids: str) -> None:
        """Until exactly these rows came, in order."""
        await until(lambda: self._check() and len(self.rows) >= len(ids))
        assert self.ids == list(ids)

    def _check(self) -> bool:
        if self._task.done():
            self._task.result()
        return True

    async def waits(self) -> None:
        """Until it has read all there is, and waits in memory."""
        wakes = self.world.database._wakes
        await until(lambda: self._check() and any(waiter.upto >= wakes.last_seq for waiter in self._waiters()))

    def _waiters(self) -> list[Any]:
        found = {waiter for some in self.world.database._wakes._by_channel.values() for waiter in some}
        return [waiter for waiter in found if waiter.user == self.caller.user]

    async def end(self) -> None:
        """Until the feed ends by itself; raises what it ended with."""
        async with asyncio.timeout(20):
            await self._task

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def copy(self, upto: int | None = None) -> dict[str, tuple[list[str], bool]]:
        """What a client made of the rows so far: the revisions of each document, and whether it is deleted."""
        return copy_of(self.rows[:upto])

    def increasing(self) -> bool:
        places = [found.position for row in self.rows if (found := parse_since(row["seq"])) is not None]
        return all(before < after for before, after in pairwise(places))


def copy_of(rows: list[dict[str, Any]]) -> dict[str, tuple[list[str], bool]]:
    return {row["id"]: ([change["rev"] for change in row["changes"]], bool(row.get("deleted"))) for row in rows}
