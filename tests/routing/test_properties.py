"""Random concurrent writers and random feeds over the real parts, held against a fresh routing and a fresh reading."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.callers import Caller
from gateway.database import Database
from gateway.queries import AllDocsQuery
from gateway.settings.values import DatabaseSettings, GuestSettings
from gateway.store.protocol import DatabaseStore, Index, PrincipalChange
from tests.routing.following import Follower, copy_of
from tests.routing.world import ADMIN, SYNC, World, grafted, listed, until, world_in

MANY = int(os.environ.get("ROUTING_EXAMPLES", "6"))
QUIETLY = settings(
    max_examples=MANY, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
DOCS = ("d", "e", "f")
CHANNELS = st.lists(st.sampled_from("abc"), unique=True, max_size=2)
_NOBODY = PrincipalChange({"password": "x"}, [])


@asynccontextmanager
async def fresh_world() -> AsyncIterator[World]:
    with TemporaryDirectory() as directory:
        async with world_in(Path(directory)) as world:
            await world.caught_up()
            yield world


# Writers


@dataclass(frozen=True)
class Act:
    """One write. `how`: edit the winner, or a random leaf, branch, write straight to the upstream, delete."""

    doc: str
    how: str
    channels: list[str]
    grant: str | None
    choice: int


ACTS = st.builds(
    Act,
    st.sampled_from(DOCS),
    st.sampled_from(("edit", "edit", "branch", "branch", "direct", "direct branch", "delete", "twice")),
    CHANNELS,
    st.sampled_from((None, None, "ann", "bob")),
    st.integers(0, 9),
)
# Each writer is a list; the writers go on at the same time.
WRITERS = st.lists(st.lists(ACTS, min_size=2, max_size=6), min_size=2, max_size=5)


class Writer:
    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.count = world, name, 0

    async def run(self, acts: Sequence[Act]) -> None:
        for act in acts:
            self.count += 1
            async with asyncio.timeout(20):
                await self._do(act)

    async def _do(self, act: Act) -> None:
        (leaves,) = await self.world.upstream.inner.leaves([act.doc])
        body: dict[str, Any] = {"channels": act.channels, "by": f"{self.name}{self.count}"}
        if act.grant is not None:
            body |= {"grant": act.grant, "to": f"granted-{act.doc}"}
        base = leaves[act.choice % len(leaves)] if leaves else None
        if act.how in {"edit", "delete", "direct"}:
            deleted = {"_deleted": True} if act.how == "delete" and base is not None else {}
            docs = [{"_id": act.doc, **({"_rev": base["_rev"]} if base else {}), **deleted, **body}]
            new_edits = True
        else:
            older = [] if base is None else _history(base)[act.choice % 3 :]
            generation = int(older[0].partition("-")[0]) + 1 if older else 1
            rev = f"{generation}-{self.name}{self.count}"
            docs = [grafted(act.doc, rev, *older, **body)]
            if act.how == "twice":
                child = f"{generation + 1}-{self.name}{self.count}"
                docs.append(grafted(act.doc, child, rev, *older, **body))
            new_edits = False
        if act.how.startswith("direct"):
            await self.world.upstream.inner.write(docs, new_edits=new_edits)
            return
        for outcome in await self.world.database.bulk_docs(ADMIN, docs, new_edits=new_edits):
            if outcome.error is not None:
                assert outcome.error.error == "conflict", outcome.error
                continue
            assert outcome.routed
            # 201 means routed: what was written is recorded, or something that came after it.
            recorded = await self.world.leaves(act.doc)
            assert outcome.rev is not None
            known = set(recorded).union(*(leaf.ancestors for leaf in recorded.values()))
            assert outcome.rev in known


def _history(leaf: dict[str, Any]) -> list[str]:
    start = leaf["_revisions"]["start"]
    return [f"{start - at}-{digest}" for at, digest in enumerate(leaf["_revisions"]["ids"])]


async def described(store: DatabaseStore) -> dict[str, Any]:
    """What the index says of every document, in names and without sequences."""

    def read(index: Index) -> dict[str, Any]:
        found = {}
        for doc, row in index.find(DOCS).items():
            leaves = index.leaves([row.document]).get(row.document, [])
            live = index.channels_of([row.document]).get(row.document, set())
            found[doc] = {
                "winner": row.winner,
                "deleted": row.deleted,
                "channels": sorted(index.channel_names(live).values()),
                "leaves": sorted(
                    (leaf.rev, leaf.deleted, tuple(sorted(index.channel_names(leaf.routing.channels).values())))
                    for leaf in leaves
                ),
            }
        return found

    return await store.read(read)


async def granted(store: DatabaseStore) -> dict[str, set[str]]:
    found = {}
    for name in ("ann", "bob"):
        principal = await store.principal("user", name)
        found[name] = set() if principal is None else {one for one in principal.channels if one.startswith("granted")}
    return found


@asynccontextmanager
async def routed_afresh(world: World) -> AsyncIterator[tuple[Database, DatabaseStore]]:
    """Another gateway database over the same upstream, which routes it from its beginning."""
    chosen = DatabaseSettings("again", "notes", SYNC, "a test", False, GuestSettings(), {}, {})
    upstream = world.upstream
    store = await world._metadata.database("again")
    for name in ("ann", "bob"):
        await store.put_principal("user", name, _NOBODY)
    database = await Database.open(
        chosen, world._metadata, world.server, world.cache, world._passwords, world._credentials
    )
    world.upstream = upstream
    try:
        assert await database.wait_caught_up(20)
        yield database, store
    finally:
        await database.close()


@QUIETLY
@given(writers=WRITERS)
async def test_after_random_concurrent_writers_the_index_is_what_a_fresh_routing_gives(
    writers: list[list[Act]],
) -> None:
    async with fresh_world() as world:
        for name in ("ann", "bob"):
            await world.store.put_principal("user", name, _NOBODY)
        await asyncio.gather(*(Writer(world, "pqrst"[at]).run(acts) for at, acts in enumerate(writers)))
        await world.routed()
        assert len(world.database._writes._ledger) == 0
        async with routed_afresh(world) as (_, store):
            assert await described(world.store) == await described(store)
            assert await granted(world.store) == await granted(store)


# Feeds


@dataclass(frozen=True)
class Step:
    """`what` happens to `doc` or to a user."""

    what: str
    doc: str
    user: str
    channels: list[str]


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(("put", "put", "put", "delete", "conflict", "give", "grant", "role", "member")),
        st.sampled_from("defg"),
        st.sampled_from(("ann", "bob")),
        CHANNELS,
    ),
    min_size=8,
    max_size=16,
)


@dataclass(frozen=True)
class Watching:
    """A feed that starts after so many steps, from a place that was reached before."""

    user: str
    begin: int
    kind: str
    channels: tuple[str, ...] | None
    limit: int | None


FEEDS = st.lists(
    st.builds(
        Watching,
        st.sampled_from(("ann", "bob")),
        st.integers(0, 6),
        st.sampled_from(("continuous", "continuous", "longpoll")),
        st.sampled_from((None, None, ("a", "b"))),
        st.sampled_from((None, None, 2)),
    ).map(lambda one: replace(one, limit=None) if one.kind == "continuous" else one),
    min_size=3,
    max_size=5,
)


class Doing:
    def __init__(self, world: World) -> None:
        self.world = world

    async def run(self, step: Step) -> None:
        revs = await self.world.listed(ADMIN)
        rev = revs.get(step.doc)
        if step.what == "put":
            await self.world.write(ADMIN, step.doc, rev, channels=step.channels)
        elif step.what == "delete" and rev is not None:
            await self.world.write(ADMIN, step.doc, rev, _deleted=True, channels=step.channels)
        elif step.what == "conflict":
            number = len(await self.world.leaves(step.doc))
            await self.world.graft(ADMIN, step.doc, f"1-{number}{step.user}", channels=step.channels)
        elif step.what == "give":
            await self.world.user(step.user, step.channels, ["r"])
        elif step.what == "grant":
            grant = {"grant": step.user, "to": step.channels}
            await self.world.write(ADMIN, "g", revs.get("g"), channels=["a"], **grant)
        elif step.what == "role":
            await self.world.role("r", step.channels)
        elif step.what == "member":
            await self.world.write(ADMIN, "m", revs.get("m"), member=step.user, roles=["role:r"])


async def check_feed(world: World, follower: Follower, start: str) -> None:
    caller, channels = follower.caller, follower.query.get("channels")
    reference = copy_of(await world.changes(caller, start, style="all_docs", channels=channels))
    try:
        await until(lambda: reference.items() <= follower.copy().items(), 10)
    except TimeoutError:
        raise AssertionError(f"{follower.query} from {start}: {follower.rows} lacks of {reference}") from None
    assert follower.increasing()
    readable = await world.listed(caller)
    for at in range(len(follower.rows) + 1):
        # A client that was cut off after any row, and goes on from there with an ordinary request.
        since = follower.rows[at - 1]["seq"] if at else start
        rest = copy_of(await world.changes(caller, since, style="all_docs", channels=channels))
        copy = follower.copy(at) | rest
        wanted = {doc: value for doc, value in reference.items() if doc in readable}
        assert wanted.items() <= copy.items()


@QUIETLY
@given(steps=STEPS, feeds=FEEDS)
async def test_feeds_that_wait_get_what_a_feed_from_the_same_place_gives_at_the_end(
    steps: list[Step], feeds: list[Watching]
) -> None:
    async with fresh_world() as world:
        doing = Doing(world)
        await world.role("r", ["c"])
        for name in ("ann", "bob"):
            await world.user(name, ["a"], ["r"])
        running: list[tuple[Follower, str]] = []
        try:
            for at, step in enumerate(steps):
                for feed in feeds:
                    if feed.begin == at:
                        start = str(await world.seq() if at % 2 else 0)
                        follower = Follower(
                            world,
                            Caller(feed.user),
                            start,
                            feed=feed.kind,
                            heartbeat_s=600.0,
                            style="all_docs",
                            channels=feed.channels,
                            limit=feed.limit,
                        )
                        running.append((follower, start))
                await doing.run(step)
            for follower, start in running:
                await check_feed(world, follower, start)
                rows = (await listed(await world.database.all_docs(follower.caller, AllDocsQuery())))["rows"]
                assert {row["id"] for row in rows} == set(await world.listed(follower.caller))
        finally:
            for follower, _ in running:
                await follower.stop()
        assert len(world.database._wakes) == 0
