from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import InvalidQuery
from gateway.mango.fields import extract, parse_field
from gateway.mango.query import Found, answer_text, parse_find
from gateway.mango.rows import rows_of


@pytest.mark.parametrize(
    ("body", "name", "reason"),
    [
        ({}, "missing_required_key", "Missing required key: selector"),
        ({"selector": {}, "foo": 1}, "invalid_key", "Invalid key foo for this request."),
        ({"selector": 7}, "invalid_selector_json", "Selector must be a JSON object, not: 7"),
        (
            {"selector": {}, "limit": -1},
            "invalid_non_neg_integer",
            "-1 is not an integer greater than or equal to zero",
        ),
        ({"selector": {}, "limit": True}, "invalid_non_neg_integer", None),
        ({"selector": {}, "skip": 1.5}, "invalid_non_neg_integer", None),
        ({"selector": {}, "r": 0}, "invalid_pos_integer", "0 is not an integer greater than zero"),
        ({"selector": {}, "conflicts": "yes"}, "invalid_boolean", "Invalid boolean value: <<121,101,115>>"),
        ({"selector": {}, "execution_stats": 1}, "invalid_boolean", None),
        ({"selector": {}, "stale": "no"}, "invalid_ok_or_false_value", None),
        ({"selector": {}, "sort": 7}, "invalid_sort_json", "Sort must be an array of sort specs, not: 7"),
        ({"selector": {}, "sort": [7]}, "invalid_sort_field", "Invalid sort field: 7"),
        ({"selector": {}, "sort": [{"a": "up"}]}, "invalid_sort_field", 'Invalid sort field: {[{<<"a">>,<<"up">>}]}'),
        ({"selector": {}, "sort": [""]}, "invalid_sort_field", "Invalid sort field: <<>>"),
        ({"selector": {}, "sort": ["a", {"b": "desc"}]}, "unsupported_mixed_sort", None),
        ({"selector": {}, "fields": 7}, "invalid_fields", "Fields must be an array of strings, not: 7"),
        ({"selector": {}, "fields": [7]}, "invalid_field", "Invalid JSON for field spec: 7"),
        ({"selector": {}, "fields": ["a..b"]}, "invalid_field_name", None),
        ({"selector": {}, "bookmark": 7}, "invalid_bookmark", None),
        ({"selector": {}, "bookmark": "zz!"}, "invalid_bookmark", 'Invalid bookmark value: "zz!"'),
        ({"selector": {}, "bookmark": "eyJpZCI6N30="}, "invalid_bookmark", None),  # {"id": 7}
        ({"selector": {}, "bookmark": "W10="}, "invalid_bookmark", None),  # []
        ({"selector": {}, "sort": ["a"], "bookmark": "eyJpZCI6ImEifQ=="}, "invalid_bookmark", None),  # {"id": "a"}
        ({"selector": {}, "use_index": {}}, "invalid_index_name", "Invalid index name: {[]}"),
        ({"selector": {}, "use_index": ["a", "b", "c"]}, "invalid_index_name", None),
        ({"selector": {}, "partition": "x"}, "invalid_partition", None),
    ],
)
def test_a_wrong_option_is_refused_by_couchdbs_name(body: dict[str, Any], name: str, reason: str | None) -> None:
    with pytest.raises(InvalidQuery) as caught:
        parse_find(body)
    answer = caught.value.body()
    assert (caught.value.status, answer["error"], answer["code"]) == (400, name, "CG1040")
    assert reason is None or answer["reason"] == reason


def test_options_have_couchdbs_defaults() -> None:
    find = parse_find({"selector": {}, "bookmark": None, "sort": []})
    assert (find.limit, find.skip, find.fields, find.bookmark, find.by_id) == (25, 0, None, "nil", True)
    assert parse_find({"selector": {}, "bookmark": "nil"}).resume_id() is None


def test_an_answer_is_laid_out_as_couchdbs() -> None:
    find = parse_find({"selector": {"a": 1}, "execution_stats": True})
    text = answer_text(find, Found([b'{"_id":"x"}', b'{"_id":"y"}'], "bm", 2, 1.5))
    assert text.startswith(
        b'{"docs":[\r\n{"_id":"x"},\r\n{"_id":"y"}\r\n],\r\n"bookmark": "bm",\r\n"execution_stats": {'
    )
    assert text.endswith(b',\r\n"warning": "No matching index found, create an index to optimize query time."}\r\n')
    assert json.loads(text)["execution_stats"] == {
        "total_keys_examined": 2,
        "total_docs_examined": 2,
        "total_quorum_docs_examined": 0,
        "results_returned": 2,
        "execution_time_ms": 1.5,
    }
    assert answer_text(parse_find({"selector": {"$or": []}}), Found([], "nil", 0, 0)) == b'{"docs":[\r\n]}\r\n'


def test_a_query_that_looks_at_many_documents_for_few_is_warned() -> None:
    find = parse_find({"selector": {"a": 1}, "use_index": "_design/mine"})
    warned = json.loads(answer_text(find, Found([b"{}"], "bm", 11, 1)))["warning"].split("\n")
    assert [line.partition(" ")[0] for line in warned] == ["_design/mine", "No", "The"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        (["a"], {"a": {"b": 1, "c": 2}}),
        (["a.b", "n"], {"a": {"b": 1}}),
        (["a.b", "a.c"], {"a": {"b": 1, "c": 2}}),
        (["a", "a.b"], {"a": {"b": 1, "c": 2}}),
        (["l.1"], {"l": {"1": "y"}}),
        (["l", "l.1"], {"l": ["x", "y"]}),
        (["d\\.e"], {"d.e": 3}),
        (["l.9", "l.x", "a.b.c"], {}),
    ],
)
def test_fields_cut_a_document_down(fields: list[str], kept: dict[str, Any]) -> None:
    doc = {"a": {"b": 1, "c": 2}, "l": ["x", "y"], "d.e": 3}
    assert extract(doc, [parse_field(field) for field in fields]) == kept
    assert doc == {"a": {"b": 1, "c": 2}, "l": ["x", "y"], "d.e": 3}


def test_a_sort_keeps_only_the_rows_that_are_asked_for_and_goes_on_after_them() -> None:
    docs = [{"_id": f"{n:03}", "k": n % 7} for n in range(1_000)]
    asked = {"selector": {}, "sort": ["k"], "limit": 9}
    expected = [doc["_id"] for doc in sorted(docs, key=lambda doc: (doc["k"], doc["_id"]))]
    seen: list[str] = []
    bookmark = "nil"
    while True:
        rows = rows_of(parse_find({**asked, "bookmark": bookmark}))
        for doc in docs:
            rows.take(doc)
        assert rows.size <= 400 * 30
        if not (some := [json.loads(text)["_id"] for text in rows.docs()]):
            assert rows.bookmark() == bookmark
            break
        seen, bookmark = seen + some, rows.bookmark()
    assert seen == expected
