"""What a sync function sees of the documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from tests.syncfn.asking import Quick, body, call

SHOW = Quick(body("log(JSON.stringify([doc, oldDoc, meta]))"))


def seen(doc: dict[str, Any], old_doc: dict[str, Any] | None = None, meta: dict[str, Any] | None = None) -> Any:
    verdict = SHOW(doc, old_doc, meta=meta)
    assert verdict.error is None, verdict
    return json.loads(verdict.logs[0])


def test_the_document_has_its_id_revision_and_deletion_and_no_other_special_member() -> None:
    doc = {
        "_id": "d",
        "_rev": "2-b",
        "_deleted": True,
        "a": 1,
        "_attachments": {"x": {}},
        "_revisions": {"start": 2, "ids": ["b", "a"]},
        "_unknown": 1,
        "": 0,
    }
    assert seen(doc)[0] == {"_id": "d", "_rev": "2-b", "_deleted": True, "a": 1, "": 0}


def test_a_live_document_is_not_marked_as_deleted() -> None:
    assert "_deleted" not in seen({"_deleted": False})[0]


def test_the_old_document_has_its_id_but_no_revision() -> None:
    old = {"_rev": "1-a", "a": 1, "_attachments": {}}
    assert seen({"_id": "d"}, {**old, "_id": "d"})[1] == {"_id": "d", "a": 1}
    assert seen({"_id": "d"}, old)[1] == {"_id": "d", "a": 1}
    assert seen({"_id": "d"}, {**old, "_deleted": True})[1] == {"_id": "d", "a": 1, "_deleted": True}


def test_nothing_replaced_is_null_and_an_empty_body_is_not() -> None:
    assert seen({})[1] is None
    assert seen({}, {})[1] == {"_id": "d"}


def test_meta_is_handed_on() -> None:
    assert seen({})[2] == {}
    assert seen({}, meta={"xattrs": {"a": 1}})[2] == {"xattrs": {"a": 1}}


@pytest.mark.parametrize("number", [2**53 - 1, -(2**53 - 1), 0, 12345678901234, 1.5, -1e300, 5e-324])
def test_a_number_that_javascript_holds_is_a_number(number: float) -> None:
    assert seen({"n": {"m": [number, True]}})[0]["n"] == {"m": [number, True]}


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**30, 2**63])
def test_an_integer_that_javascript_cannot_hold_is_a_string_of_its_digits(number: int) -> None:
    value = {"m": [number, 1, "x", None, True, 2.5]}
    expected = {"m": [str(number), 1, "x", None, True, 2.5]}
    assert seen({"n": value}, {"n": value}, {"n": value}) == [
        {"_id": "d", "n": expected},
        {"_id": "d", "n": expected},
        {"n": expected},
    ]


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, dict):
        return {name: exact(item) for name, item in value.items()}
    large = isinstance(value, int) and abs(value) > 2**53 - 1
    return str(value) if large else value


WHOLE = Quick(body("channel('as it is'); if (JSON.stringify(doc.v) !== doc.text) throw doc.text"))


@given(values)
def test_any_json_arrives_as_it_is(value: Any) -> None:
    text = json.dumps(exact(value), ensure_ascii=False, separators=(",", ":"))
    assert WHOLE({"v": value, "text": text}).routing.channels == {"as it is"}


def test_changing_the_document_changes_nothing_outside() -> None:
    doc = {"_id": "d", "list": [1], "inner": {"a": 1}}
    old = {"_id": "d", "a": 1}
    verdict = Quick(body("doc.list.push(2); doc.inner.a = 2; delete doc._id; oldDoc.a = 3; doc = null"))(doc, old)
    assert verdict.error is None
    assert doc == {"_id": "d", "list": [1], "inner": {"a": 1}}
    assert old == {"_id": "d", "a": 1}


def test_hostile_member_names_are_just_members() -> None:
    inner = {"__proto__": {"channels": ["stolen"]}, "constructor": 1, "toString": 2, "hasOwnProperty": 3, "length": 4}
    verdict = Quick(body("channel(doc.channels, doc.i.channels); log(Object.keys(doc.i).sort().join())"))(
        {**inner, "i": inner}
    )
    assert verdict.routing.channels == frozenset()
    assert verdict.logs == ("__proto__,constructor,hasOwnProperty,length,toString",)


def nested(depth: int) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("leaf", [1, 2**60])
def test_a_function_can_recurse_through_the_deepest_document_that_is_allowed(leaf: int) -> None:
    walk = "const depth = (v) => Array.isArray(v) ? 1 + Math.max.apply(null, v.map((i) => depth(i))) : 0; "
    verdict = Quick(body(walk + "channel('depth-' + depth(doc.v))"))({"n": leaf, "v": nested(limits.JSON_DEPTH - 1)})
    assert verdict.routing.channels == {f"depth-{limits.JSON_DEPTH - 1}"}


@pytest.mark.parametrize(
    "large",
    ["x" * 7_900_000, [[]] * 1_000_000, [{"a": 1}] * 300_000, ["é" * 100] * 39_000],
    ids=["one string", "empty arrays", "small objects", "text"],
)
def test_the_largest_document_is_looked_at_whatever_it_is_made_of(large: Any) -> None:
    verdict = Quick(body("channel('length-' + doc.large.length)"))({"large": large}, {"large": large})
    assert verdict.error is None, verdict
    assert verdict.routing.channels == {f"length-{len(large)}"}


def test_a_call_is_a_value() -> None:
    assert call({"a": 1}) == call({"a": 1})
