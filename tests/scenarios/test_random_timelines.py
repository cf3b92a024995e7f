"""P1 to P7 of the routing rules over HTTP: random timelines of several users, each with several clients.

Every client stops where it likes, takes pages of any size and has a feed that runs (each kind in turn). Each page, row,
body, refusal and sequence is compared as it happens (http_timeline.py); at the end all clients catch up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.feeds.operations import (
    DOCUMENTS,
    Branch,
    DropRole,
    DropUser,
    Follow,
    Operation,
    Purge,
    PutRole,
    PutUser,
    Step,
    Tell,
    World,
    Write,
    operations,
)
from tests.feeds.test_properties import check_any_place
from tests.scenarios.conftest import Stage
from tests.scenarios.http_timeline import HttpTimeline

FEW = int(os.environ.get("HTTP_TIMELINES", "8"))  # more, or fewer, for once
CHANNELS = ("A", "", "B", "C", "A B", "B C", "!", "*")
GRANTS = ("", "", "", "u:A", "u:B", "v:A", "v:C", "role:r:A", "role:s:B", "u:* v:B", "u:C role:r:C")
ROLE_GRANTS = ("", "", "", "u:r", "v:s", "u:s v:r")
OVER_HTTP = (Write, Branch, Purge, Tell, PutUser, PutRole, DropUser, DropRole, Step, Follow)
QUIETLY = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Edit:
    """An ordinary edit where that is possible, through the gateway or past it."""

    doc: str
    leaf: int
    channels: str
    grants: str
    roles: str
    deleted: bool
    direct: bool

    def run(self, world: World) -> None:
        leaves = world.timeline.tree(self.doc).leaves()
        world.timeline.write(
            self.doc,
            self.channels,
            grants=self.grants,
            roles=self.roles,
            onto=leaves[self.leaf % len(leaves)] if leaves else None,
            deleted=self.deleted and bool(leaves),
            direct=self.direct,
        )
        if self.doc in world.untold:
            world.untold.remove(self.doc)


@dataclass(frozen=True)
class SendAgain:
    """All leaves of a document once more."""

    doc: str

    def run(self, world: World) -> None:
        assert isinstance(world.timeline, HttpTimeline)
        if world.timeline.tree(self.doc).revisions and self.doc not in world.untold:
            world.timeline.send_again(self.doc)


@dataclass(frozen=True)
class Crash:
    """With all that is not told written while the gateway is dead."""

    def run(self, world: World) -> None:
        docs = [doc for doc in world.untold if world.timeline.tree(doc).revisions]
        world.timeline.crash(*docs)
        world.untold.clear()


Move = Operation | Edit | SendAgain | Crash


def steps(*, crashes: bool = False) -> SearchStrategy[Move]:
    one: Callable[..., SearchStrategy[Move]] = st.builds
    doc, sometimes = st.sampled_from(DOCUMENTS), st.sampled_from((False, False, False, True))
    routing = (st.sampled_from(CHANNELS), st.sampled_from(GRANTS), st.sampled_from(ROLE_GRANTS))
    edit = one(Edit, doc, st.integers(0, 3), *routing, sometimes, sometimes)
    others = operations().map(lambda operation: operation if isinstance(operation, OVER_HTTP) else Tell(False))
    more = [one(Crash)] if crashes else []
    return st.one_of(*[edit] * 4, *[others] * 14, one(SendAgain, doc), *more)


def run_timeline(timeline: HttpTimeline, steps: list[Move], *, thoroughly: bool = False) -> None:
    try:
        world = World.of(timeline)
        for step in steps:
            step.run(world)
        Tell(False).run(world)
        if thoroughly:
            check_any_place(timeline)
        for client in world.clients:
            if timeline.oracle.exists(client.user):
                client.follow(limit=2)
                client.check_copy()
        timeline.check_the_end()
    finally:
        timeline.discard()


@pytest.mark.timeout(900)  # a failure is shrunk, which takes minutes
@settings(QUIETLY, max_examples=FEW, derandomize=True)
@given(steps=st.lists(steps(), min_size=20, max_size=30))
def test_clients_hold_what_their_users_can_read_under_any_timeline(stage: Stage, steps: list[Move]) -> None:
    run_timeline(stage.over_http(one_feed_each=True), steps)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(QUIETLY, max_examples=FEW * 20, derandomize=False, print_blob=True)
@given(steps=st.lists(steps(crashes=True), min_size=20, max_size=80))
def test_clients_hold_what_their_users_can_read_under_very_many_timelines(stage: Stage, steps: list[Move]) -> None:
    run_timeline(stage.over_http(one_feed_each=True), steps, thoroughly=True)
