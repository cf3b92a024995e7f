from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.intervals import ALWAYS, OPEN, Access, Interval, Role, intersect, intervals, merge, open_channels

A, B, STAR = 1, 2, 9
SPANS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 10)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=5
)


def points(spans: list[Interval]) -> set[int]:
    return {at for start, end in spans for at in range(start, end)}


@given(left=SPANS, right=SPANS)
def test_an_intersection_holds_what_both_hold(left: list[Interval], right: list[Interval]) -> None:
    found = intersect(left, right)
    assert points(found) == points(left) & points(right)
    assert all(start < end for start, end in found)


@given(spans=SPANS)
def test_a_merge_holds_the_same_in_as_few_intervals_as_possible(spans: list[Interval]) -> None:
    found = merge(spans)
    assert points(found) == points(spans)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


def test_a_point_is_no_access() -> None:
    assert intersect([(3, 20)], [(20, OPEN)]) == []


def test_intervals_that_touch_are_one() -> None:
    assert merge([(6, OPEN), (3, 6)]) == [(3, OPEN)]
    assert merge([(6, OPEN), (3, 5)]) == [(3, 5), (6, OPEN)]


def test_access_through_a_role_needs_the_membership_the_role_and_its_channel() -> None:
    role = Role([(2, 10), (12, OPEN)], [(4, 9), (13, OPEN)], {A: [(1, 7), (8, OPEN)]})
    held = intervals(Access(ALWAYS, {}, [role]), None, STAR)
    assert held == {A: [(4, 7), (8, 9), (13, OPEN)]}
    assert open_channels(held) == {A: 13}


def test_access_begins_and_ends_with_the_life_of_the_user() -> None:
    access = Access([(3, 6), (9, OPEN)], {A: [(1, OPEN)], B: [(4, 5), (6, 9)]})
    held = intervals(access, None, STAR)
    assert held == {A: [(3, 6), (9, OPEN)], B: [(4, 5)]}
    assert open_channels(held) == {A: 9}


def test_a_channel_without_access_is_not_listed() -> None:
    assert intervals(Access([(9, OPEN)], {A: [(1, 5)]}), None, STAR) == {}
    assert intervals(Access((), {A: ALWAYS}), None, STAR) == {}


def test_own_access_and_access_through_a_role_are_joined() -> None:
    role = Role([(5, OPEN)], [(1, OPEN)], {A: [(1, 8)]})
    assert intervals(Access(ALWAYS, {A: [(2, 5)]}, [role]), None, STAR) == {A: [(2, 8)]}


def test_a_filter_gives_a_holder_of_everything_each_of_its_channels() -> None:
    access = Access(ALWAYS, {STAR: [(3, 7)], A: [(5, OPEN)]})
    assert intervals(access, [A, B], STAR) == {A: [(3, OPEN)], B: [(3, 7)]}


def test_a_filter_names_no_channel_without_access() -> None:
    assert intervals(Access(ALWAYS, {A: [(5, OPEN)]}), [B], STAR) == {}
