"""Several clients follow while several writers change documents, grants, roles and users at once (P1, P4 and P6).

What is written when is left to the machine; what must hold at the end does not depend on it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.model.timeline import said
from tests.scenarios.conftest import Stage
from tests.scenarios.follower import Follower
from tests.scenarios.remote import Remote, body_of
from tests.scenarios.running import KINDS

DOCUMENTS = [f"d{number}" for number in range(8)]
GRANTING = ("g", "h", "i")
CHANNELS = ("A", "B", "C", "A B", "", "!", "B C")
GRANTS = ("", "u:A", "u:B v:A", "v:C role:r:B", "u:*", "role:r:A role:s:C")
ROLES = ("", "u:r", "v:r u:s", "v:s")
USERS = ("u", "v")


class Writers:
    """Each is a task with random steps of its own."""

    def __init__(self, remote: Remote, seed: int, steps: int) -> None:
        self._remote = remote
        self._seed = seed
        self._steps = steps

    async def run(self) -> None:
        kinds: list[Callable[[random.Random], Awaitable[None]]] = [self._document, self._document, self._access]
        await asyncio.gather(*(self._write(number, kind) for number, kind in enumerate(kinds)))

    async def _write(self, number: int, step: Callable[[random.Random], Awaitable[None]]) -> None:
        choose = random.Random(f"{self._seed}/{number}")
        for _ in range(self._steps):
            await step(choose)

    async def _document(self, choose: random.Random) -> None:
        doc = choose.choice([*DOCUMENTS, *GRANTING])
        grants, roles = (choose.choice(GRANTS), choose.choice(ROLES)) if doc in GRANTING else ("", "")
        body = body_of(said(choose.choice(CHANNELS), grants, roles))
        direct = choose.random() < 0.3
        chance = choose.random()
        if chance < 0.1:
            await self._remote.purge_all(doc)
        elif chance < 0.25:
            digest = f"{choose.randrange(16**8):08x}"
            await self._remote.replicate(doc, [([f"{choose.randint(1, 3)}-{digest}"], said("A"), False)], direct=direct)
        else:
            await self._remote.overwrite(doc, body | ({"_deleted": True} if chance < 0.4 else {}), direct=direct)

    async def _access(self, choose: random.Random) -> None:
        if choose.random() < 0.6:
            roles = choose.choice(("", "r", "s", "r s"))
            await self._remote.put(
                "user", choose.choice(USERS), choose.choice(CHANNELS).split(), roles.split(), file=False
            )
        else:
            name = choose.choice(("r", "s"))
            if not await self._remote.drop_if_there("role", name):
                await self._remote.put("role", name, choose.choice(CHANNELS).split(), (), file=False)


async def page_until(client: Follower, ended: asyncio.Event) -> None:
    while not ended.is_set():
        if not await client.page():
            await asyncio.sleep(0.005)  # caught up: a moment for the others


async def storm(remote: Remote, seed: int, steps: int) -> None:
    await remote.begin()
    for user in USERS:
        await remote.put("user", user, ["A"], ["r"], file=False)
    clients = [Follower(remote, user, limit) for user in USERS for limit in (1, 3, 1_000)]
    listening = [Follower(remote, user, 1_000) for user in USERS for _ in KINDS]
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(page_until(client, ended))
        for client, kind in zip(listening, KINDS * len(USERS), strict=True):
            tasks.create_task(client.feed(kind, ended))
        await Writers(remote, seed, steps).run()
        await remote.wait_until_quiet()
        ended.set()
    last = await remote.last_seq()
    for client in clients + listening:
        while await client.page() or not client.caught_up(last):
            pass
        assert client.contents() == await remote.contents(client.user), "P1"
        assert client.taken


@pytest.mark.parametrize("seed", range(2))
def test_clients_that_follow_a_storm_hold_what_their_users_can_read(stage: Stage, seed: int) -> None:
    stage.on_a_database(lambda remote: storm(remote, seed, steps=25))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 110))
def test_clients_that_follow_a_long_storm_hold_what_their_users_can_read(stage: Stage, seed: int) -> None:
    stage.on_a_database(lambda remote: storm(remote, seed, steps=150))
