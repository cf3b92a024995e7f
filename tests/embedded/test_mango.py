from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.embedded.mango import InvalidQuery, selector

DOC: dict[str, Any] = {
    "_id": "apple",
    "name": "Apfel",
    "price": 3,
    "none": None,
    "yes": True,
    "tags": ["fruit", "red"],
    "sizes": [{"w": 1, "h": 2}, {"w": 3, "h": 4}],
    "origin": {"country": "at", "farm": {"name": "Huber"}},
    "a.b": 1,
    "empty": [],
    "map": {"de": 1, "en": 2},
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, True),
        ({"name": "Apfel"}, True),
        ({"name": "apfel"}, False),
        ({"name": "Apfel", "price": 4}, False),
        ({"origin.country": "at"}, True),
        ({"origin": {"country": "at"}}, True),
        ({"origin": {"country": {"$ne": "at"}}}, False),
        ({"origin": {"farm": {"name": "Huber"}}}, True),
        ({"origin": {"$eq": {"country": "at", "farm": {"name": "Huber"}}}}, True),
        ({"a\\.b": 1}, True),
        ({"a.b": 1}, False),
        ({"tags.0": "fruit"}, True),
        ({"sizes.1.h": 4}, True),
        ({"price": {"$gt": 2, "$lt": 4}}, True),
        ({"price": {"$gte": 3}}, True),
        ({"price": {"$lte": 2.9}}, False),
        ({"price": 3.0}, True),
        ({"yes": 1}, False),
        ({"yes": {"$gt": None}}, True),  # types are ordered: null, booleans, numbers, strings, arrays, objects
        ({"name": {"$gt": 10**9}}, True),
        ({"tags": {"$gt": "zzz"}}, True),
        ({"missing": {"$ne": 1}}, False),
        ({"missing": {"$exists": False}}, True),
        ({"missing": {"$exists": True}}, False),
        ({"none": {"$exists": True}}, True),
        ({"none": None}, True),
        ({"missing": None}, False),
        ({"$not": {"price": 3}}, False),
        ({"$not": {"price": 4}}, True),
        ({"$not": {"missing": 4}}, False),
        ({"$not": {"missing": {"$exists": True}}}, True),
        ({"price": {"$not": {"$gt": 5}}}, True),
        ({"$not": {"$and": [{"price": 3}, {"name": "x"}]}}, True),
        ({"$not": {"price": 3, "name": "x"}}, True),
        ({"$not": {"$or": [{"price": 4}, {"name": "x"}]}}, True),
        ({"$not": {"$not": {"price": 3}}}, True),
        ({"$nor": [{"price": 4}, {"name": "x"}]}, True),
        ({"$nor": [{"price": 3}, {"name": "x"}]}, False),
        ({"$not": {"$nor": [{"price": 3}]}}, True),
        ({"$and": [{"price": {"$gt": 1}}, {"$or": [{"name": "x"}, {"yes": True}]}]}, True),
        ({"$and": []}, True),
        ({"$or": []}, False),
        ({"price": {"$or": [{"$eq": 3}, {"$eq": 9}]}}, True),
        ({"price": {"$in": [1, 3]}}, True),
        ({"price": {"$nin": [1, 3]}}, False),
        ({"tags": {"$in": ["red", "blue"]}}, True),
        ({"tags": {"$nin": ["blue"]}}, True),
        ({"missing": {"$nin": ["blue"]}}, False),
        ({"tags": {"$all": ["red", "fruit"]}}, True),
        ({"tags": {"$all": ["red", "blue"]}}, False),
        ({"tags": {"$all": [["fruit", "red"]]}}, True),
        ({"tags": {"$size": 2}}, True),
        ({"empty": {"$size": 0}}, True),
        ({"tags": {"$elemMatch": {"$eq": "red"}}}, True),
        ({"tags": {"$elemMatch": {"$gte": "x"}}}, False),
        ({"sizes": {"$elemMatch": {"w": 3, "h": {"$lt": 5}}}}, True),
        ({"sizes": {"$elemMatch": {"w": 3, "h": 2}}}, False),
        ({"sizes": {"$allMatch": {"w": {"$gt": 0}}}}, True),
        ({"empty": {"$allMatch": {"w": 1}}}, False),
        ({"map": {"$keyMapMatch": {"$eq": "de"}}}, True),
        ({"map": {"$keyMapMatch": {"$eq": "fr"}}}, False),
        ({"price": {"$mod": [2, 1]}}, True),
        ({"name": {"$mod": [2, 1]}}, False),
        ({"name": {"$type": "string"}}, True),
        ({"origin": {"$type": "object"}}, True),
        ({"yes": {"$type": "number"}}, False),
        ({"name": {"$regex": "^A.*l$"}}, True),
        ({"name": {"$regex": "(?i)^APF"}}, True),
        ({"name": {"$regex": "^b"}}, False),
        ({"price": {"$regex": "3"}}, False),
        ({"$not": {"name": {"$regex": "^b"}}}, True),
        ({"name": {"$beginsWith": "Ap"}}, True),
        ({"_id": {"$gt": "app"}}, True),
    ],
)
def test_a_selector_matches_as_couchdbs(given: dict[str, Any], expected: bool) -> None:
    assert selector(given)(DOC) is expected


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"a": {"$what": 1}}, "invalid_operator"),
        ({"$and": 1}, "bad_arg"),
        ({"a": {"$in": 1}}, "bad_arg"),
        ({"a": {"$exists": 1}}, "bad_arg"),
        ({"a": {"$mod": [0, 1]}}, "bad_arg"),
        ({"a": {"$mod": [True, 1]}}, "bad_arg"),
        ({"a": {"$size": -1}}, "bad_arg"),
        ({"a": {"$regex": "("}}, "bad_arg"),
        ({"a": {"$regex": 7}}, "bad_arg"),
        ({"a": {"$elemMatch": 1}}, "bad_arg"),
        ({"$not": 1}, "bad_arg"),
        ({"$eq": 1}, "invalid_selector"),
        ({"": 1}, "invalid_selector"),
        ({"a": {"$where": "x"}}, "not_supported"),
        ([], "invalid_selector_json"),
    ],
)
def test_a_malformed_selector_is_refused_by_couchdbs_name(given: Any, name: str) -> None:
    with pytest.raises(InvalidQuery) as caught:
        selector(given)
    assert caught.value.body()["error"] == name


def test_a_selector_nested_too_deeply_is_refused() -> None:
    given: dict[str, Any] = {"a": 1}
    for _ in range(400):
        given = {"$not": given}
    with pytest.raises(InvalidQuery):
        selector(given)


def test_a_runaway_pattern_is_stopped() -> None:
    matches = selector({"name": {"$regex": "^(a+)+$"}})
    started = time.monotonic()
    with pytest.raises(InvalidQuery, match="too long"):
        matches({"name": "a" * 60 + "!"})
    assert time.monotonic() - started < 10
