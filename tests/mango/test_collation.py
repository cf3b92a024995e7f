from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mango.collation import same_text, sort_key

VALUES: list[Any] = [
    *(None, False, True, -1, 0, 0.5, 1, 2, 10**20, "", " ", "_", "-", ",", ";", ":", "!", "?", ".", "'", '"'),
    *("(", ")", "[", "]", "{", "}", "@", "*", "/", "\\", "&", "#", "%", "`", "^", "+", "<", "=", ">", "|", "~", "$"),
    *(
        "0",
        "1",
        "10",
        "2",
        "a",
        "A",
        "á",
        "Á",
        "a b",
        "a_b",
        "a1",
        "aa",
        "ab",
        "äb",
        "abc",
        "b",
        "B",
        "ba",
        "oz",
        "øz",
        "z",
    ),
    *("α", "д", "ש", "あ", "漢"),
    *(
        [],
        [None],
        ["a"],
        ["a", 1],
        ["b"],
        [["a"]],
        {},
        {"a": 1},
        {"a": 2},
        {"a": 2, "b": 1},
        {"b": 1},
        {"b": 2, "a": 1},
    ),
]


@pytest.mark.parametrize(("less", "more"), list(pairwise(VALUES)), ids=repr)
def test_values_are_in_couchdbs_order(less: Any, more: Any) -> None:
    assert sort_key(less) < sort_key(more)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("é", "e\u0301", True),  # the same letter to Unicode
        ("a\u200bb", "ab", True),  # what ICU does not see
        ("ab", "aB", False),
        ("ﬁ", "fi", False),
        ("é", "e", False),
    ],
)
def test_equality_of_strings_is_icus(left: str, right: str, same: bool) -> None:
    assert same_text(left, right) is same
    assert (sort_key(left) == sort_key(right)) is same


def test_numbers_are_equal_by_value_and_nothing_else_is_a_number() -> None:
    assert sort_key(1) == sort_key(1.0)
    assert sort_key(True) != sort_key(1)
    assert sort_key("1") != sort_key(1)


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)


@given(_JSON, _JSON, _JSON)
def test_every_value_has_its_place(one: Any, two: Any, three: Any) -> None:
    ordered = sorted([one, two, three], key=sort_key)
    assert sort_key(ordered[0]) <= sort_key(ordered[1]) <= sort_key(ordered[2])
    assert hash(sort_key(one)) == hash(sort_key(one))


@given(st.text(), st.text())
def test_the_quick_comparison_of_strings_is_the_thorough_one(one: str, two: str) -> None:
    assert same_text(one, two) is (sort_key(one) == sort_key(two))
