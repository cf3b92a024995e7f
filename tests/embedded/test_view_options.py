from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from gateway.embedded.views.design import View
from gateway.embedded.views.options import EXACT, UNSET, ViewQuery, checked, parse
from gateway.errors import BadRequest
from gateway.mango.collation import sort_key

MAP = View("m", 0, False, None, None)
REDUCE = View("r", 0, False, "_sum", None)


def asked(text: str, view: View = MAP) -> ViewQuery:
    return checked(parse(parse_qsl(text), ViewQuery(), decoded=False), view, sort_key)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", {"start": UNSET, "end": UNSET, "descending": False, "skip": 0, "limit": None, "update": "true"}),
        ("key=[1]", {"start": [1], "end": [1], "keys": None}),
        ("startkey=null&endkey={}", {"start": None, "end": {}}),
        ('start_key="a"&end_key="b"', {"start": "a", "end": "b"}),
        ("startkey=1&startkey_docid=a&endkey=2&endkey_docid=b", {"start_id": "a", "end_id": "b"}),
        ("start_key_doc_id=a&end_key_doc_id=b", {"start_id": "a", "end_id": "b"}),
        ("endkey=2&key=1", {"start": 1, "end": 1}),
        ("key=1&endkey=2", {"start": 1, "end": 2}),
        ("keys=[1,2]", {"keys": (1, 2)}),
        ("keys=[1]", {"keys": None, "start": 1, "end": 1}),
        ("keys=[]", {"keys": ()}),
        ("descending=TRUE&inclusive_end=False", {"descending": True, "inclusive_end": False}),
        ("stale=ok", {"update": "false"}),
        ("stale=update_after", {"update": "lazy"}),
        ("update=lazy&stable=true&sorted=false", {"update": "lazy", "sorted": False}),
        ("update_seq=true&attachments=true", {"update_seq": True, "attachments": True}),
        ("unknown=7&callback=x", {"limit": None}),
        ("group=false&group_level=0", {"group_level": 0}),
    ],
)  # fmt: skip
def test_options_of_a_map_view(text: str, members: dict[str, Any]) -> None:
    query = asked(text)
    assert {name: getattr(query, name) for name in members} == members
    assert not query.reducing


@pytest.mark.parametrize(
    ("text", "reducing", "level"),
    [
        ("", True, None),
        ("reduce=true", True, None),
        ("reduce=false", False, None),
        ("group=true", True, EXACT),
        ("group_level=2", True, 2),
        ("group=true&group_level=1", True, 1),
        ("keys=[1,2]&group=true", True, EXACT),
        ("keys=[1]", True, None),
        ("reduce=false&include_docs=true&conflicts=true", False, None),
    ],
)
def test_options_of_a_view_with_reduce(text: str, reducing: bool, level: int | None) -> None:
    query = asked(text, REDUCE)
    assert (query.reducing, query.group_level) == (reducing, level)


REVERSED = "No rows can match your key range, reverse your start_key and end_key or set descending="


@pytest.mark.parametrize(
    ("text", "view", "reason"),
    [
        ("reduce=maybe", MAP, 'Invalid boolean parameter: "maybe"'),
        ("descending=1", MAP, 'Invalid boolean parameter: "1"'),
        ("limit=x", MAP, 'Invalid value for integer: "x"'),
        ("limit=-1", MAP, 'Invalid value for positive integer: "-1"'),
        ("skip=1.5", MAP, 'Invalid value for integer: "1.5"'),
        ("group_level=-1", REDUCE, 'Invalid value for positive integer: "-1"'),
        ("stale=maybe", MAP, "Invalid value for `stale`."),
        ("update=maybe", MAP, "Invalid value for `update`."),
        ("stable=maybe", MAP, "Invalid value for `stable`."),
        ("reduce=true", MAP, "Reduce is invalid for map-only views."),
        ("group=true", MAP, "Invalid use of grouping on a map view."),
        ("group_level=1", MAP, "Invalid use of grouping on a map view."),
        ("reduce=false&group=true", REDUCE, "Invalid use of grouping on a map view."),
        ("keys=[1,2]", REDUCE, "Multi-key fetches for reduce views must use `group=true`"),
        ("keys=[1,2]&group_level=1", REDUCE, "Multi-key fetches for reduce views must use `group=true`"),
        ("keys={}", MAP, "`keys` must be an array of strings."),
        ("keys=[1,2]&key=1", MAP, "`keys` is incompatible with `key`, `start_key` and `end_key`"),
        ("keys=[1,2]&startkey=1", MAP, "`keys` is incompatible with `key`, `start_key` and `end_key`"),
        ("include_docs=true", REDUCE, "`include_docs` is invalid for reduce"),
        ("conflicts=true", REDUCE, "`conflicts` is invalid for reduce views."),
        ("group=false&group_level=1", REDUCE, "Can't specify group=false and group_level>0 at the same time"),
        ("startkey=2&endkey=1", MAP, REVERSED + "true"),
        ("startkey=1&endkey=2&descending=true", MAP, REVERSED + "false"),
    ],
)
def test_contradictions_are_refused_in_couchdbs_words(text: str, view: View, reason: str) -> None:
    with pytest.raises(BadRequest) as raised:
        asked(text, view)
    assert (raised.value.error, raised.value.reason) == ("query_parse_error", reason)


def test_a_key_that_is_no_json_is_refused() -> None:
    for text in ("key=a", "startkey=", "keys=[1", "key=NaN"):
        with pytest.raises(BadRequest) as raised:
            parse(parse_qsl(text, keep_blank_values=True), ViewQuery(), decoded=False)
        assert (raised.value.error, raised.value.reason) == ("bad_request", "invalid UTF-8 JSON")


def test_a_body_has_json_values_and_the_query_string_wins_over_it() -> None:
    body = {"startkey": ["a"], "limit": 5, "include_docs": True, "descending": "true", "startkey_docid": "x"}
    query = parse([("limit", "2")], parse(body.items(), ViewQuery(), decoded=True), decoded=False)
    assert (query.start, query.start_id, query.limit, query.descending) == (["a"], "x", 2, True)
    wrong: list[dict[str, Any]] = [
        {"limit": None},
        {"limit": 1.5},
        {"descending": 1},
        {"startkey_docid": 1},
        {"update": 1},
    ]
    for one in [*wrong, {"keys": 1}, {"limit": True}]:
        with pytest.raises(BadRequest):
            parse(one.items(), ViewQuery(), decoded=True)
