from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import json_text, limits
from gateway.errors import BadJson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(value=VALUES)
def test_what_was_encoded_is_parsed_again(value: object) -> None:
    assert json_text.parse(json_text.encode(value)) == value
    assert json_text.parse(json.dumps(value).encode()) == value
    assert json_text.parse(json_text.canonical(value)) == value


def test_encoded_text_is_compact_utf_8() -> None:
    assert json_text.encode({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()


def test_equal_objects_have_one_canonical_text() -> None:
    assert (
        json_text.canonical({"b": 1, "a": "é"}) == json_text.canonical({"a": "é", "b": 1}) == b'{"a":"\\u00e9","b":1}'
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "line 1 column 1"),
        (b"{", "line 1 column 2"),
        (b'{"a":1,}', "line 1"),
        (b'{"a" 1}', "line 1"),
        (b"{'a':1}", "line 1"),
        (b"[1,\n2", "line 2"),
        (b"{} {}", "line 1 column 4"),
        (b"\xff", "invalid UTF-8 at byte 0"),
        (b'"\xc3"', "invalid UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "invalid UTF-8"),  # half of a surrogate pair in UTF-8
        (b"\xef\xbb\xbf{}", "line 1"),  # a byte order mark
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "out of range"),
        (b"[-1E+999]", "out of range"),
        (b"1" + b"0" * 400 + b".0", "out of range"),
        (b"01", "line 1"),
        (b"+1", "line 1"),
        (b".5", "line 1"),
        (b"0x10", "line 1"),
        (b'"a\nb"', "line 1"),
        (b'"\\x41"', "line 1"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'["\\ud83d", "\\ude42"]', "surrogate"),
        (b"9" * 5_000, "digits"),
        (b"[" * 501 + b"]" * 501, "deeper than 500"),
        (b'{"a":' * 501 + b"1" + b"}" * 501, "deeper than 500"),
        (b"[" * 200_000, "deeper than 500"),
    ],
)
def test_what_couchdb_would_not_store_is_refused_with_its_reason(text: bytes, problem: str) -> None:
    with pytest.raises(BadJson) as refused:
        json_text.parse(text)
    assert problem in refused.value.reason
    assert len(refused.value.reason) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b" 1 ", 1),
        (b"-0", 0),
        (b"1e3", 1000.0),
        (b"1e-999", 0.0),
        (b'"\\ud83d\\ude42"', "🙂"),
        (b'"\\u0000"', "\0"),
        (b"12345678901234567890123", 12345678901234567890123),
        (b"null", None),
    ],
)
def test_all_that_is_json_is_parsed(text: bytes, value: object) -> None:
    assert json_text.parse(text) == value


def test_nesting_is_allowed_up_to_the_limit() -> None:
    depth = limits.JSON_DEPTH
    json_text.parse(b"[" * depth + b"]" * depth)
    json_text.parse(b'{"a":' * depth + b"1" + b"}" * depth)
    assert not json_text.too_deep([[], {}, 1], 2)
    assert json_text.too_deep([[], {}, 1], 1)
    assert not json_text.too_deep("text", 0)
    assert json_text.too_deep([], 0)


@given(value=VALUES, ascii=st.booleans(), width=st.integers(1, 7))
def test_values_are_counted_outside_of_strings_in_pieces_of_any_width(value: object, ascii: bool, width: int) -> None:
    text = json.dumps(value, ensure_ascii=ascii).encode()
    true = _separators(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "_COUNTED_BYTES", width)
        assert not json_text.too_many_values(text, true)
        assert true == 0 or json_text.too_many_values(text, true - 1)


def _separators(value: object) -> int:
    if not isinstance(value, (list, dict)):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(inner) - 1) + sum(map(_separators, inner))
