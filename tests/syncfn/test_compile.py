"""Which sources are sync functions, and what is said about those that are none."""

from __future__ import annotations

import pytest

from gateway import limits
from gateway.errors import BadSyncFunction
from gateway.syncfn.default import DEFAULT_SYNC_FUNCTION
from gateway.syncfn.runtime import SyncFunction, compile_error
from tests.syncfn.asking import Quick

GOOD = [
    DEFAULT_SYNC_FUNCTION,
    "function (doc) { channel('a') }",
    "function sync(doc, oldDoc, meta) { channel('a') }",
    "(doc) => { channel('a') }",
    "doc => channel('a')",
    "() => channel('a')",
    "(function (doc) { channel('a') })",
    "\n\n// a comment\n/* another\n */ function (doc) { channel('a') } // behind\n",
    "  function (doc) { channel('a') } ;  \n",
    "\tfunction\n(doc)\n{\nchannel('a')\n}\n\n",
    "function (doc) {\r\n  channel('a'); // windows\r\n}\r\n",
    "function (doc) { with ({x: 'a'}) channel(x) }",
    'function (doc) { "use strict"; channel("a") }',
    "function (doc) { channel('a') /* é 漢 😀 \u2028 */ }",
]


@pytest.mark.parametrize("source", GOOD)
def test_these_are_sync_functions(source: str) -> None:
    assert compile_error(source) is None
    assert Quick(source)({"channels": "a"}).routing.channels == {"a"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("function (doc) {\n  channel(;\n}", "SyntaxError: unexpected token in expression: ';' at line 2 column 11"),
        ("function (doc) {\n  if (x {\n}", "at line 2 column 9"),
        ("function (doc) {\n\n  let a; let a;\n}", "at line 3"),
        ("function (doc) {", "SyntaxError"),
        ("function (doc) { channel('a) }", "at line 1"),
        ("// only a comment", "SyntaxError"),
        ("", "is empty"),
        ("  \n", "is empty"),
        ("5", "it must be one function"),
        ("'function () {}'", "it must be one function"),
        ("{}", "it must be one function"),
        ("channel('a')", "works only while the function runs"),
        ("function a() {}, function b() {}", "it must be one function"),
        ("function a() {}\nfunction b() {}", "at line 2"),
        ("const f = 1;", "at line 1"),
        ("function () {}); (function () {}", "SyntaxError"),
        ("function () {}]; [function () {}", "SyntaxError"),
        ("async function (doc) {}", "neither async nor a generator"),
        ("async (doc) => {}", "neither async nor a generator"),
        ("function* (doc) {}", "neither async nor a generator"),
        ("class A {}", "not a class"),
        ("missing", "ReferenceError: missing is not defined"),
        ("\ud800", "not valid UTF-8"),
        ("(function () { for (;;); })()", "interrupted"),
        ("(function f() { return f() + 1 })()", "Maximum call stack"),
    ],
)
def test_these_are_not_and_it_is_said_why_and_where(source: str, problem: str) -> None:
    said = compile_error(source)
    assert said is not None
    assert problem in said


def test_a_source_over_the_limit_is_refused_before_it_is_compiled() -> None:
    said = compile_error("function () {} //" + "x" * limits.SYNC_FUNCTION_SOURCE_BYTES)
    assert said == f"the sync function exceeds {limits.SYNC_FUNCTION_SOURCE_BYTES} bytes"


def test_a_bad_source_makes_no_sync_function() -> None:
    with pytest.raises(BadSyncFunction, match="at line 1 column") as caught:
        SyncFunction("function (doc) { channel(; }")
    assert caught.value.status == 400
    assert caught.value.code == "CG5005"


def test_the_digest_tells_sources_apart() -> None:
    one, same, other = (SyncFunction(f"function () {{ {text} }}") for text in ("", "", " "))
    assert one.digest == same.digest != other.digest
