"""P1 to P7 of the routing rules for the real store and feed code, under random timelines, with the oracle beside them.

Each page, publication, sequence and fetch is compared as it happens (tests/model/timeline.py); here at the end of each
timeline all clients catch up, and the whole index is held against the oracle.
"""

from __future__ import annotations

import os
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.feeds.page import Wanted
from gateway.feeds.viewer import viewer
from gateway.model.intervals import OPEN
from gateway.model.positions import Position
from gateway.store.protocol import IdRange, Index
from tests.feeds.conftest import NewTimeline
from tests.feeds.operations import DOCUMENTS, Operation, Tell, World, operations
from tests.model.oracle import INFINITY
from tests.model.timeline import Timeline

MANY = int(os.environ.get("TIMELINES", "300"))  # more, or fewer, for once
TIMELINES = st.lists(operations(), min_size=20, max_size=60)
QUIETLY = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def run_timeline(timeline: Timeline, steps: list[Operation]) -> None:
    world = World.of(timeline)
    for step in steps:
        step.run(world)
    Tell(False).run(world)
    check_index(timeline)
    check_any_place(timeline)
    for client in world.clients:
        if timeline.oracle.exists(client.user):
            client.follow(limit=2)
            client.check_copy()


def check_index(timeline: Timeline) -> None:
    """The whole index says what the oracle says."""
    oracle = timeline.oracle
    state = timeline.state()
    winners = [document.winner() for document in oracle.documents.values()]
    assert state.last_seq == oracle.seq
    assert state.doc_count == sum(winner is not None and not winner.deleted for winner in winners)
    assert state.doc_del_count == sum(winner is not None and winner.deleted for winner in winners)
    timeline.read(lambda index: _check_documents(index, timeline))
    for user in timeline.users():
        timeline.read(partial(_check_user, timeline=timeline, user=user))


def _check_documents(index: Index, timeline: Timeline) -> None:
    rows = index.find(DOCUMENTS)
    numbers = [row.document for row in rows.values()]
    leaves, entries, spans = index.leaves(numbers), index.entries_of(numbers), index.spans(numbers)
    members = index.channels_of(numbers)
    names = index.channel_names(index.channel_ids(["A", "B", "C", "!", "*"]).values())
    assert index.documents(numbers) == {row.document: row for row in rows.values()}
    for doc, document in timeline.oracle.documents.items():
        if doc not in rows:
            assert not document.entries
            continue
        row, winner = rows[doc], document.winner()
        number = row.document
        assert (row.winner, row.deleted) == ((winner.rev, winner.deleted) if winner else (None, False))
        assert (row.leaves, row.purged) == (len(document.leaves), document.purged)
        found = {
            leaf.rev: (
                leaf.deleted,
                leaf.seq,
                {names[channel] for channel in leaf.routing.channels},
                {(names[channel], at) for channel, at in leaf.inherited},
            )
            for leaf in leaves.get(number, [])
        }
        assert found == {
            leaf.rev: (leaf.deleted, leaf.seq, set(leaf.said.channels), set(leaf.inherited))
            for leaf in document.leaves.values()
        }
        assert {names[e.channel]: (e.seq, e.deleted, e.removed) for e in entries[number]} == {
            name: (entry.seq, entry.deleted, entry.removed) for name, entry in document.entries.items()
        }
        assert {names[channel] for channel in members.get(number, ())} == {
            name for name, entry in document.entries.items() if not entry.deleted and not entry.removed
        }
        real = {(names[c], start, INFINITY if end == OPEN else end) for c, start, end in spans.get(number, [])}
        assert real == {tuple(span) for span in document.spans}
        assert len(real) == len(document.spans)


def _check_user(index: Index, timeline: Timeline, user: str) -> None:
    oracle = timeline.oracle
    who = viewer(index, user)
    names = index.channel_names(who.held)
    real = {
        names[channel]: [[start, INFINITY if end == OPEN else end] for start, end in spans]
        for channel, spans in who.held.items()
    }
    assert real == oracle.intervals(user)
    rows = index.find(DOCUMENTS)
    leaves = index.leaves([row.document for row in rows.values()])
    for doc, row in rows.items():
        for leaf in leaves.get(row.document, []):
            assert who.can_read(leaf) == oracle.can_fetch(user, doc, leaf.rev)
    contents = sorted(oracle.contents(user).items())
    opened = list(who.opened)
    assert [(row.id, row.winner) for row in index.live_by_id(opened, IdRange())] == contents
    assert index.count_live_by_id(opened) == len(contents)
    assert [(row.id, row.winner) for row in index.live_by_id(opened, IdRange("f", "e", descending=True))] == [
        pair for pair in reversed(contents) if "e" <= pair[0] <= "f"
    ]
    assert [row.id for row in index.live_by_id(opened, IdRange("d", "f", inclusive_end=False, skip=1, limit=1))] == [
        doc for doc, _ in contents if "d" <= doc < "f"
    ][1:2]
    assert index.count_live_by_id(opened, IdRange("f")) == sum(doc < "f" for doc, _ in contents)
    assert index.count_live_by_id(opened, IdRange("e", descending=True)) == sum(doc > "e" for doc, _ in contents)
    by_place = sorted((rows[doc].seq, rows[doc].document) for doc, _ in contents)
    assert index.live(opened, 0, oracle.seq, 100) == by_place
    assert index.live_rows(opened, 0, oracle.seq, 100) == [
        (row.seq, row.document, row.id, row.winner, row.leaves, row.purged)
        for row in sorted((rows[doc] for doc, _ in contents), key=lambda row: row.seq)
    ]
    assert index.count_live(opened, 0, oracle.seq, 3) == min(3, len(contents))
    assert index.live_descending(opened, oracle.seq + 1, 2) == by_place[::-1][:2]


def check_any_place(timeline: Timeline) -> None:
    """Pages from everywhere, also from places that no client was ever at, and every form of the question."""
    last = timeline.oracle.seq
    for user in timeline.users():
        for since in sorted({0, 1, last // 3, last // 2, max(last - 2, 0), last}):
            timeline.page(user, Position(since))
            timeline.page(user, Position(since, since // 2), channels=("A", "C"))
            timeline.page(user, Position(since, since + 1), revocations=False)
        timeline.page(user, Position(last // 2, 0), channels=("!", "nothing"))
        for since in (0, last // 2):
            timeline.page(user, Position(since), 1, doc_ids=["d", "f", "unknown"])
            timeline.page(user, Position(since, since // 2), doc_ids=["e"], revocations=False)
            (page, *_) = timeline.pages(user, Position(since), Wanted(100, active_only=True))
            rows = timeline.oracle_rows(user, Position(since), revocations=False)
            assert [(row.id, row.revs) for row in page.rows] == [(r.doc, r.revs) for r in rows if r.kind == "live"]


@pytest.mark.timeout(900)  # a failure is shrunk, which takes minutes
@settings(QUIETLY, max_examples=MANY, derandomize=True)
@given(steps=TIMELINES)
def test_clients_hold_what_their_users_can_read_under_any_timeline(
    new_timeline: NewTimeline, steps: list[Operation]
) -> None:
    run_timeline(new_timeline(), steps)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(QUIETLY, max_examples=MANY * 10, derandomize=False, print_blob=True)
@given(steps=st.lists(operations(), min_size=20, max_size=120))
def test_clients_hold_what_their_users_can_read_under_very_many_timelines(
    new_timeline: NewTimeline, steps: list[Operation]
) -> None:
    run_timeline(new_timeline(), steps)
