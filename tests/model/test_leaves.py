"""Who may read a leaf, at the very edges of the intervals."""

from __future__ import annotations

import pytest

from gateway.model.intervals import OPEN, Intervals, open_channels
from gateway.model.leaves import Leaf, LeafRouting, Reason, first_had, readable, reasons

A, B, STAR = 1, 2, 9


def live(*channels: int) -> Leaf:
    return Leaf("1-a", False, 5, LeafRouting(frozenset(channels)))


def tombstone(*channels: int, inherited: tuple[tuple[int, int], ...] = ()) -> Leaf:
    return Leaf("2-a", True, 5, LeafRouting(frozenset(channels)), frozenset(inherited))


def can_read(leaf: Leaf, held: Intervals) -> bool:
    return readable(leaf, held, open_channels(held), STAR)


def test_a_live_leaf_is_readable_only_through_a_channel_that_is_open_now() -> None:
    assert can_read(live(A, B), {B: [(9, OPEN)]})
    assert can_read(live(), {STAR: [(9, OPEN)]})
    assert not can_read(live(), {A: [(0, OPEN)]})
    assert not can_read(live(A), {A: [(0, 9)], B: [(0, OPEN)], STAR: [(0, 9)]})


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((5, 6), True), ((0, 6), True), ((0, 5), False), ((6, 9), False), ((6, OPEN), True), ((5, 9), True)],
)
def test_a_tombstone_is_readable_for_who_had_its_channel_in_the_state_after_it(
    interval: tuple[int, int], expected: bool
) -> None:
    assert can_read(tombstone(A), {A: [interval]}) is expected
    assert can_read(tombstone(), {STAR: [interval]}) is expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((4, 5), True), ((0, 9), True), ((0, OPEN), True), ((5, 9), False), ((5, OPEN), False), ((0, 4), False)],
)
def test_a_tombstone_is_readable_for_who_could_read_what_it_replaced(interval: tuple[int, int], expected: bool) -> None:
    assert can_read(tombstone(inherited=((A, 5),)), {A: [interval]}) is expected


def test_what_was_replaced_says_nothing_about_a_live_leaf() -> None:
    leaf = Leaf("2-a", False, 5, LeafRouting(), frozenset({(A, 5)}))
    assert not can_read(leaf, {A: [(0, OPEN)]})


def test_every_reason_is_told() -> None:
    held = {A: [(1, 3), (4, OPEN)], B: [(2, 6)], STAR: [(0, OPEN)]}
    found = set(reasons(tombstone(A, B, inherited=((B, 5), (A, 2))), held, open_channels(held), STAR))
    assert found == {
        Reason(A, "open", 4),
        Reason(STAR, "open", 0),
        Reason(A, "was-open", 4),
        Reason(B, "was-open", 2),
        Reason(STAR, "was-open", 0),
        Reason(B, "inherited", 2),
        Reason(A, "inherited", 1),
    }


def test_a_document_was_first_had_at_the_earliest_overlap_over_all_channels() -> None:
    held = {A: [(1, 4), (6, OPEN)], B: [(3, OPEN)]}
    assert first_had([(A, 2, 3)], held) == 2
    assert first_had([(A, 5, OPEN)], held) == 6
    assert first_had([(A, 5, OPEN), (B, 1, 9)], held) == 3
    assert first_had([(A, 4, 6)], held) is None
    assert first_had([(STAR, 0, OPEN)], held) is None
    assert first_had([], held) is None
