"""The digest that binds a verdict to a body."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.routing import body_digest

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)
bodies = st.dictionaries(st.text().filter(lambda name: name[:1] != "_"), values, max_size=4)


@given(bodies)
def test_the_order_of_members_does_not_matter(body: dict[str, Any]) -> None:
    backwards = dict(reversed(body.items()))
    assert body_digest({"_id": "d", **body}) == body_digest({**backwards, "_id": "d"})


@given(bodies, bodies)
def test_another_body_has_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (body_digest(one) == body_digest(other)) == (repr(canonical(one)) == repr(canonical(other)))


def canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, canonical(item)) for name, item in value.items())
    return [canonical(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "same",
    [{"_rev": "2-b"}, {"_revisions": {"start": 1, "ids": ["a"]}}, {"_attachments": {}}, {"_deleted": False}],
)
def test_what_the_function_does_not_see_does_not_count(same: dict[str, Any]) -> None:
    assert body_digest({"_id": "d", "a": 1}) == body_digest({"_id": "d", "a": 1, **same})


@pytest.mark.parametrize("other", [{"_id": "e"}, {"_deleted": True}, {"a": 2}, {"a": "1"}, {"a": 1.0}, {"b": None}])
def test_what_the_function_sees_counts(other: dict[str, Any]) -> None:
    assert body_digest({"_id": "d", "a": 1}) != body_digest({"_id": "d", "a": 1, **other})


def test_a_member_cannot_stand_for_the_id_or_the_deletion() -> None:
    assert body_digest({"_id": "d", "_deleted": True}) != body_digest({"_id": "d", "deleted": True})
    assert body_digest({"_id": "d"}) != body_digest({"id": "d"})
