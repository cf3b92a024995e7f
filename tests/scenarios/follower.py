"""A replicating client that goes its own way over HTTP, while others write: what a device with a local copy does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.feeds.page import Row
from gateway.model.positions import START, Position
from gateway.model.revisions import winner_first
from tests.scenarios.remote import Remote
from tests.scenarios.running import RunningFeed

Copy = dict[str, tuple[str | None, bool]]  # rev -> (parent, deleted)


class Follower:
    """On a loss it forgets, on a reset it forgets and then takes; what is missing it asks for again."""

    def __init__(self, remote: Remote, user: str, limit: int) -> None:
        self._remote = remote
        self.user = user
        self._limit = limit
        self.since = START
        self.copies: dict[str, Copy] = {}
        self.taken = 0  # rows

    async def page(self) -> bool:
        """One page, fetched; whether rows came."""
        page = await self._remote.page_once(self.user, self.since, self._limit)
        if await self._take(page.rows):
            self.since = page.last
        return bool(page.rows)

    async def feed(self, kind: str, ended: asyncio.Event) -> None:
        """Rows of a running feed until it is to end; it begins again where a revision was missing."""
        while not ended.is_set():
            running = await self._remote.follow(self.user, kind, self.since, revocations=True, channels=None)
            try:
                await self._listen(running, ended)
            finally:
                running.close()

    async def _listen(self, running: RunningFeed, ended: asyncio.Event) -> None:
        ending = asyncio.ensure_future(ended.wait())
        try:
            while True:
                row = asyncio.ensure_future(running.take(1))
                await asyncio.wait({row, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not row.done():
                    row.cancel()
                    await asyncio.gather(row, return_exceptions=True)
                    return
                if not await self._take(self._remote.rows(row.result())):
                    return
        finally:
            ending.cancel()

    async def _take(self, rows: Sequence[Row]) -> bool:
        """Whether nothing was missing; the position is behind what was taken."""
        for row in rows:
            revs = await self._remote.fetch_once(self.user, row.id, row.revs) if row.revs else []
            if None in revs:
                return False
            if row.kind == "loss" or row.reset:
                self.copies.pop(row.id, None)
            for body in revs:
                assert body is not None
                digests = body["_revisions"]["ids"]
                path = [f"{body['_revisions']['start'] - at}-{digest}" for at, digest in enumerate(digests)]
                copy = self.copies.setdefault(row.id, {})
                for at, rev in enumerate(path):
                    parent = path[at + 1] if at + 1 < len(path) else None
                    copy[rev] = (parent, bool(body.get("_deleted")) if at == 0 else copy.get(rev, (None, False))[1])
            assert row.position > self.since, "P4: positions do not increase"
            self.since = row.position
            self.taken += 1
        return True

    def contents(self) -> dict[str, str]:
        """document -> winner of everything alive in the local copy."""
        found = {}
        for doc, copy in self.copies.items():
            parents = {parent for parent, _ in copy.values()}
            leaves = winner_first((rev, deleted) for rev, (_, deleted) in copy.items() if rev not in parents)
            if leaves and not leaves[0][1]:
                found[doc] = leaves[0][0]
        return found

    def caught_up(self, last_seq: int) -> bool:
        return self.since >= Position(last_seq)
