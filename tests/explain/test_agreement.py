"""Explain agrees with the read path, and its lists with each other, on random databases, users and documents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import limits
from gateway.explain.explaining import Explaining
from gateway.feeds.viewer import viewer
from gateway.feeds.viewers import Viewers
from gateway.model.names import GUEST
from gateway.store.protocol import IdRange, Index, PrincipalChange
from tests.feeds.conftest import NewTimeline
from tests.feeds.operations import DOCUMENTS, ROLES, USERS, Follow, Operation, Step, Tell, World, operations
from tests.model.oracle import INFINITY
from tests.model.timeline import Timeline

MANY = int(os.environ.get("EXPLAINED", "60"))
PEOPLE = (*USERS, "w", GUEST)
# (users sorted, names examined, readers examined): the same lists by every plan.
PLANS = ((2_000, 10_000, 1_000), (0, 10_000, 1), (0, 1, 2))

Answer = dict[str, Any]


@contextmanager
def plan(sorted_count: int, examined: int, readers: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "HOLDERS_SORTED_COUNT", sorted_count)
        patch.setattr(limits, "HOLDERS_EXAMINED_COUNT", examined)
        patch.setattr(limits, "READERS_EXAMINED_COUNT", readers)
        yield


def paged(ask: Callable[[Any], Answer], rows: str, following: str = "next", start: Any = "") -> list[Answer]:
    """All rows, page by page."""
    found: list[Answer] = []
    places = []
    while start is not None:
        places.append(start)
        answer = ask(start)
        found += answer[rows]
        start = answer[following]
    assert len(places) == len(set(places)), "a page was asked for twice"
    return found


class Reading:
    """What the read path decides, for who may log in; looked at from the side of the reader."""

    def __init__(self, index: Index, disabled: str) -> None:
        rows = index.find(DOCUMENTS)
        leaves = index.leaves([row.document for row in rows.values()])
        self.leaves = {doc: leaves.get(row.document, []) for doc, row in rows.items()}
        self.can_read: dict[tuple[str, str], list[bool]] = {}
        self.lists: dict[str, list[str]] = {}
        self.opened: dict[str, set[str]] = {}
        for user in PEOPLE:
            access = index.access(user)
            if access is None or not access.life or access.life[-1][1] < INFINITY:
                continue
            who = viewer(index, user)
            self.opened[user] = set(index.channel_names(who.opened).values())
            enabled = user != disabled
            self.lists[user] = [row.id for row in index.live_by_id(list(who.opened), IdRange())] if enabled else []
            for doc, its in self.leaves.items():
                self.can_read[user, doc] = [enabled and who.can_read(leaf) for leaf in its]

    def winner(self, user: str, doc: str) -> bool:
        found = self.can_read.get((user, doc))
        return bool(found and found[0])


def check(timeline: Timeline, disabled: str) -> None:
    explaining = Explaining(timeline.store, Viewers())
    reading = timeline.read(lambda index: Reading(index, disabled))
    for user in PEOPLE:
        for doc in (*DOCUMENTS, "unknown", "_design/d"):
            check_pair(timeline, explaining, reading, user, doc)
    for one in PLANS:
        with plan(*one):
            check_lists(timeline, explaining, reading)


def check_pair(timeline: Timeline, explaining: Explaining, reading: Reading, user: str, doc: str) -> None:
    found = timeline.run(explaining.explain(user, doc))
    assert found["can_read"] is reading.winner(user, doc), found
    assert found["sentence"].endswith(".")
    assert ("cannot" in found["sentence"]) is not found["can_read"]
    assert ("paths" in found) is (found["can_read"] or found.get("otherwise") in ("open", "was-open", "inherited"))
    for leaf, readable in zip(reading.leaves.get(doc, ()), reading.can_read.get((user, doc), ()), strict=False):
        told = timeline.run(explaining.explain(user, doc, leaf.rev))
        assert told["can_read"] is readable, told
    for path in found.get("paths", ()):
        if path["kind"] != "open":
            continue
        assert path["ways"], "a channel that is had is had from somebody"
        assert path["channel"] in reading.opened[user]
        for way in path["ways"]:
            assert way["since"] >= path["since"]
            assert way["from"]
            assert way["role"] in ROLES and way["member"] if "role" in way else "member" not in way
    if "nearest" in found:
        once = doc in timeline.first_readable.get(user, {})
        assert bool(found["nearest"]["had"]) is once, found


def check_lists(timeline: Timeline, explaining: Explaining, reading: Reading) -> None:
    last_seq = timeline.state().last_seq
    for doc, leaves in reading.leaves.items():
        if not leaves:
            continue
        readers = paged(lambda start, doc=doc: timeline.run(explaining.readers(doc, start, 1)), "readers")  # type: ignore[misc]
        assert [one["user"] for one in readers] == sorted(user for user in PEOPLE if reading.winner(user, doc))
    for user, listed in reading.lists.items():

        def documents(since: int, user: str = user) -> Answer:
            return timeline.run(explaining.documents(user, start="", since=since, limit=1))

        found = paged(documents, "documents", "next_since", 0)
        assert sorted(one["id"] for one in found) == listed
        assert all(set(one["channels"]) <= reading.opened[user] and one["channels"] for one in found)

        def channels(start: str, user: str = user) -> Answer:
            return timeline.run(explaining.documents(user, start=start, since=last_seq, limit=2))

        assert {one["channel"] for one in paged(channels, "channels")} == reading.opened[user]
    by_name = {
        one["channel"]: one for one in paged(lambda start: timeline.run(explaining.channels("", start, 2)), "channels")
    }
    for name, counts in by_name.items():
        whole = timeline.run(explaining.channel(name, "", 1))
        assert counts == {key: whole[key] for key in ("channel", "documents", "users")}
        holders = paged(lambda start, name=name: timeline.run(explaining.channel(name, start, 1)), "holders")  # type: ignore[misc]
        users = [one["user"] for one in holders if "user" in one]
        assert users == sorted(user for user, opened in reading.opened.items() if name in opened)
        assert counts["users"] == len(users)
        oracle = timeline.oracle.documents.values()
        entries = [document.entries[name] for document in oracle if name in document.entries]
        assert counts["documents"] == sum(not entry.deleted and not entry.removed for entry in entries)
        roles = [one["role"] for one in holders if "role" in one]
        assert roles == [
            role
            for role in ROLES
            if timeline.oracle.exists(f"role:{role}") and timeline.oracle.sources.get((f"role:{role}", "channel", name))
        ]
        assert all(one.get("from") or one.get("ways") for one in holders)


@pytest.mark.timeout(300)
@settings(
    max_examples=MANY,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(steps=st.lists(operations(), min_size=10, max_size=40), disabled=st.sampled_from(("u", "v", GUEST)))
def test_explain_agrees_with_the_read_path_on_random_databases(
    new_timeline: NewTimeline, steps: list[Operation], disabled: str
) -> None:
    timeline = new_timeline()
    world = World.of(timeline)
    timeline.user(GUEST, "A")
    for step in steps:
        if not isinstance(step, Step | Follow):
            step.run(world)
    Tell(False).run(world)
    if timeline.oracle.exists(disabled):
        timeline.run(timeline.store.put_principal("user", disabled, PrincipalChange({"disabled": True})))
    check(timeline, disabled)
