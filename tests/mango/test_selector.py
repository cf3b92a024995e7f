from __future__ import annotations

import time
from typing import Any

import pytest

from gateway import limits
from gateway.errors import InvalidQuery
from gateway.mango.selector import normalize, predicate, selector

DOC: dict[str, Any] = {
    "_id": "apple",
    "name": "Apfel",
    "price": 3,
    "below": -7,
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
        ({"$or": []}, True),
        ({"$nor": []}, True),
        ({"name": "Apfel", "$or": []}, True),
        ({"$and": [{}]}, False),  # an empty selector inside another is the value {}
        ({"name": {}}, False),
        ({"none": {"$not": {"$exists": True}}}, False),
        ({"name.x": {"$exists": False}}, False),  # a path through a string is no missing field
        ({"tags.9": {"$exists": False}}, False),
        ({"origin.x": {"$exists": False}}, True),
        ({"origin.x.y": {"$exists": False}}, True),
        ({"$and": [{"$eq": 1}]}, False),
        ({"price": 3, "$eq": 1}, False),
        ({"price": {"$or": [{"$eq": 3}, {"$eq": 9}]}}, True),
        ({"price": {"$in": [1, 3]}}, True),
        ({"price": {"$nin": [1, 3]}}, False),
        ({"tags": {"$in": ["red", "blue"]}}, True),
        ({"tags": {"$nin": ["blue"]}}, True),
        ({"missing": {"$nin": ["blue"]}}, False),
        ({"tags": {"$all": ["red", "fruit"]}}, True),
        ({"tags": {"$all": ["red", "blue"]}}, False),
        ({"tags": {"$all": [["fruit", "red"]]}}, True),
        ({"tags": {"$all": []}}, False),
        ({"sizes": {"$all": [{"w": 1, "h": 2}]}}, True),
        ({"sizes": {"$all": [{"w": 1.0, "h": 2}]}}, False),  # Erlang's =:=
        ({"tags": {"$in": []}}, False),
        ({"tags": {"$nin": []}}, True),
        ({"tags": {"$in": [["fruit", "red"]]}}, False),  # of an array the elements count
        ({"price": {"$in": [3.0]}}, True),
        ({"yes": {"$in": [1]}}, False),
        ({"origin": {"$eq": {"farm": {"name": "Huber"}, "country": "at"}}}, False),  # in another order
        ({"tags": {"$size": 2}}, True),
        ({"empty": {"$size": 0}}, True),
        ({"tags": {"$elemMatch": {"$eq": "red"}}}, True),
        ({"tags": {"$elemMatch": {"$gte": "x"}}}, False),
        ({"sizes": {"$elemMatch": {"w": 3, "h": {"$lt": 5}}}}, True),
        ({"sizes": {"$elemMatch": {"w": 3, "h": 2}}}, False),
        ({"sizes": {"$allMatch": {"w": {"$gt": 0}}}}, True),
        ({"empty": {"$allMatch": {"w": 1}}}, False),
        ({"tags": {"$elemMatch": {}}}, False),
        ({"sizes": {"$elemMatch": {"$not": {"x": 1}}}}, True),  # a negation in here is none of the conditions
        ({"sizes": {"$not": {"$elemMatch": {"w": 3}}}}, False),
        ({"missing": {"$not": {"$elemMatch": {"w": 3}}}}, False),
        ({"sizes": {"$elemMatch": {"$or": [{"w": 9}, {"h": 4}]}}}, True),
        ({"sizes": {"$elemMatch": {"$nor": [{"w": 9}]}}}, False),  # CouchDB 3.5 has none in here
        ({"sizes": {"$allMatch": {"$nor": [{"w": 9}]}}}, False),
        ({"map": {"$keyMapMatch": {"$eq": "de"}}}, True),
        ({"map": {"$keyMapMatch": {"$eq": "fr"}}}, False),
        ({"price": {"$mod": [2, 1]}}, True),
        ({"below": {"$mod": [4, -3]}}, True),  # the remainder has the sign of the value
        ({"below": {"$mod": [4, 1]}}, False),
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
        ({"name": {"$beginsWith": ""}}, True),
        ({"price": {"$beginsWith": "3"}}, False),
        ({"_id": {"$gt": "app"}}, True),
        ({"_id": {"$gt": "Zebra"}}, True),  # ids by their bytes
        ({"_id": {"$lt": "Zebra"}}, False),
        ({"name": {"$lt": "äpfel"}}, True),  # other strings by letters, accents, case
        ({"name": {"$gt": "apfel"}}, True),
        ({"name": {"$lt": "b"}}, True),
        ({"name": "Ap\u0001fel"}, True),  # a control character is nothing to the collation
        ({"_id": "app\u0001le"}, False),
        ({"_id": {"$gt": None}}, True),
        ({"_id": {"$gt": {}}}, True),  # Erlang's order: an id comes after everything that is no string
        ({"name": {"$gt": {}}}, False),
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
        ({"a": {"$regex": 7}}, "invalid_operator"),
        ({"a": {"$beginsWith": 7}}, "invalid_operator"),
        ({"a": {"$type": 7}}, "bad_arg"),
        ({"a..b": 1}, "invalid_field_name"),
        ({"a": {"": 1}}, "invalid_field_name"),
        ({"$text": "x"}, "not_supported"),
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


def test_the_reasons_are_couchdbs() -> None:
    with pytest.raises(InvalidQuery) as caught:
        selector({"a": {"$in": "ab"}})
    assert caught.value.reason == "Bad argument for operator $in: <<97,98>>"
    with pytest.raises(InvalidQuery) as caught:
        selector({"a": {"$exists": {"b": [1, None, True]}}})
    assert caught.value.reason == "Bad argument for operator $exists: {[{<<98>>,[1,null,true]}]}"


def test_a_selector_of_too_many_conditions_or_patterns_is_refused() -> None:
    with pytest.raises(InvalidQuery, match="SELECTOR_CONDITIONS_COUNT"):
        selector({"$or": [{"a": n} for n in range(limits.SELECTOR_CONDITIONS_COUNT + 1)]})
    with pytest.raises(InvalidQuery):
        selector({"$or": [{"a": {"$regex": "x"}} for _ in range(limits.SELECTOR_PATTERNS_COUNT + 1)]})


def test_many_values_are_compared_in_no_time() -> None:
    many = list(range(50_000))
    started = time.monotonic()
    assert selector({"a": {"$in": [-1, *many]}})({"a": [str(n) for n in many]}) is False
    assert selector({"a": {"$all": many}})({"a": many}) is True
    assert time.monotonic() - started < 5


def test_the_deepest_document_can_be_compared() -> None:
    deep: list[Any] = []
    for _ in range(limits.JSON_DEPTH - 2):
        deep = [deep]
    assert selector({"a": {"$eq": deep}})({"a": deep}) is True
    assert selector({"a": {"$in": [deep]}})({"a": [deep]}) is True


def test_a_query_that_takes_too_long_is_stopped_within_one_document() -> None:
    matches = predicate(normalize({"a": {"$elemMatch": {"$eq": "x"}}}), seconds=0.0)
    with pytest.raises(InvalidQuery, match="longer than"):
        matches({"a": ["y"] * 1_000})


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
