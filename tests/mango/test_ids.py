from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mango.ids import Ids, ids_of
from gateway.mango.selector import normalize, selector


@pytest.mark.parametrize(
    ("given_selector", "ids"),
    [
        ({}, Ids()),
        ({"a": 1}, Ids()),
        ({"_id": "b"}, Ids(only=("b",))),
        ({"_id": {"$in": ["c", "a", 7]}}, Ids(only=("a", "c"))),
        ({"_id": {"$in": ["c", "a"]}, "$and": [{"_id": "c"}]}, Ids(only=("c",))),
        ({"_id": {"$eq": 7}}, Ids(only=())),
        ({"_id": {"$gt": None}}, Ids()),
        ({"_id": {"$gt": "a", "$lte": "f"}, "x": {"$gt": 1}}, Ids(low="a", high="f")),
        ({"$not": {"_id": {"$lt": "b"}}}, Ids(low="b")),
        ({"_id": {"$beginsWith": "note:"}}, Ids(low="note:", high="note;")),
        ({"_id": {"$beginsWith": "\U0010ffff"}}, Ids(low="\U0010ffff")),
        ({"$or": [{"_id": "a"}, {"_id": "b"}]}, Ids()),
        ({"a": {"_id": "b"}}, Ids()),
    ],
)
def test_conditions_on_the_id_bound_the_scan(given_selector: dict[str, Any], ids: Ids) -> None:
    assert ids_of(normalize(given_selector)) == ids


_TEXT = st.text(alphabet="ab\ud7ff\ue000\U0010ffff", max_size=3)
_BOUND = st.fixed_dictionaries({}, optional=dict.fromkeys(("$gt", "$gte", "$lt", "$lte", "$beginsWith", "$ne"), _TEXT))


@given(_BOUND.filter(bool), st.lists(_TEXT.filter(bool), max_size=12))
def test_no_match_lies_outside_the_bounds(conditions: dict[str, str], ids: list[str]) -> None:
    matches = selector({"_id": conditions})
    bounds = ids_of(normalize({"_id": conditions}))
    for one in ids:
        if matches({"_id": one}):
            assert bounds.low is None or one >= bounds.low
            assert bounds.high is None or one <= bounds.high
