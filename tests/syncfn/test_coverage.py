# ruff: noqa: E501 - each source is one line
"""Counters are put before statements without changing what a function does, or not at all."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.routing import Writer
from gateway.syncfn.coverage import CountingEngine, Coverage, NoCoverage, measure
from gateway.syncfn.engine import Engine, EngineLimits, compile_error
from gateway.syncfn.instrument import instrument
from gateway.syncfn.tokens import NotUnderstood
from tests.syncfn.asking import NOW, Quick, body, call

FUNCTIONS = Path(__file__).parents[2] / "sync_functions"

# Each logs what it computes. Numbers are the lines in which statements begin; those after ! never run with {"n": 2}.
SOURCES: dict[str, tuple[str, list[int], list[int]]] = {
    "plain": ("function (doc) {\n  const a = 1;\n  log(a);\n}", [2, 3], []),
    "no semicolons": ("function (doc) {\n  let a = 1\n  a++\n  ++a\n  log(a)\n}", [2, 3, 4, 5], []),
    "continued lines": ("function (doc) {\n  let a = 1\n    + 2\n  log\n    (a)\n}", [2, 4], []),
    "a branch": ("function (doc) {\n  if (doc.n > 5) {\n    log(1);\n  } else {\n    log(2);\n  }\n}", [2, 3, 5], [3]),
    "on one line": ("function (doc) {\n  if (doc.n > 5) log(1);\n  log(2);\n}", [2, 3], [2]),
    "without braces": ("function (doc) {\n  if (doc.n > 5)\n    log(1)\n  else\n    log(2)\n}", [2, 3, 5], [3]),
    "hanging else": ("function (doc) {\n  if (doc.n)\n    if (doc.m) log(1); else log(2);\n}", [2, 3], [3]),
    "loops": (
        "function (doc) {\n  for (let i = 0, k = 5; i < doc.n; i++)\n    log(i);\n  for (const x of [1])\n    log(x);\n"
        "  for (const k in {a: 1}) { log(k) }\n  let j = 0;\n  while (j < 3) j++\n  do j--; while (j) log(j)\n}",
        [2, 3, 4, 5, 6, 7, 8, 9],
        [],
    ),
    "labels": (
        "function (doc) {\n  outer: for (;;) {\n    for (;;) { continue outer2; }\n  }\n}".replace(
            "continue outer2", "break outer"
        ),
        [2, 3],
        [],
    ),
    "switch": (
        "function (doc) {\n  switch (doc.n) {\n    case 1:\n      log(1);\n    case 1 + 1:\n      log(2)\n"
        "      break\n    default:\n      log(3);\n  }\n}",
        [2, 4, 6, 7, 9],
        [4, 9],
    ),
    "try": (
        "function (doc) {\n  try {\n    null.x;\n    log(1);\n  } catch {\n    log(2);\n  } finally {\n    log(3);\n  }\n}",
        [2, 3, 4, 6, 8],
        [4],
    ),
    "regex": ("function (doc) {\n  if (doc.n) /[/\"]{/.test('a');\n  log(4 / 2 / 1, /a/g.flags.length / 1);\n}", [2, 3], []),
    "regex after block": ("function (doc) {\n  {}\n  /}/.test('x') || log('ok');\n  log(1)\n}", [3, 4], []),
    "division after object": ("function (doc) {\n  const o = {a: 1}\n  / 2 / 1;\n  log(o);\n}", [2, 4], []),
    "strings": ("function (doc) {\n  log('} // \\' {', \"/*\", `a ${`}${doc.n}`} { \\` ${'}'}`);\n}", [2], []),
    "comments": ("// {\n/* } */ function /* ( */ (doc) { // }\n  log(1); /* \n */ log(2)\n}\n// end", [3, 4], []),
    "arrows": (
        "function (doc) {\n  const f = (x) =>\n    x + 1;\n  const g = x => ({y: x})\n  const h = (x) => { return x }\n"
        "  log(f(1), [1, 2].map((x, i) => x * i), g(2).y);\n}",
        [2, 3, 4, 5, 6],
        [5],
    ),
    "arrow and a bracket": ("function (doc) {\n  const f = () => {}\n  (0, log)(1)\n}", [2, 3], []),
    "ternaries": ("function (doc) {\n  log(doc.n ? doc.m ? 1 : 2 : 3, doc.n ? (x) => x : 0);\n}", [2], [2]),
    "objects": (
        "function (doc) {\n  const {n, m = 5, ...rest} = doc, [a, , b] = [1, 2, 3];\n"
        "  const o = {n, m, 'x': 1, [a + 'y']: 2, get z() { return 3 }, f(p = {}) { return p }, if: 1, class: 2, 5: 1,};\n"
        "  log(o, o.z, o.class, o?.f?.(4), Object.keys(rest), b);\n}",
        [2, 3, 4],
        [],
    ),
    "directives": ("function (doc) {\n  'use strict'\n  try { undeclared = 1 } catch (e) { log('strict') }\n}", [3], []),
    "functions": (
        "function (doc) {\n  inner(1);\n  function inner(x) {\n    log(x);\n    return;\n  }\n"
        "  function never() {\n    log(0);\n  }\n  (function () { log(this === undefined) })();\n}",
        [2, 4, 5, 8, 10],
        [8],
    ),
    "return": ("function (doc) {\n  const f = (x) => {\n    return\n    x;\n  };\n  log(typeof f(1));\n}", [2, 3, 4, 6], [4]),
    "an arrow itself": ("(doc) => {\n  log(doc.n);\n}", [2], []),
    "only an expression": ("(doc) => log(doc.n)", [1], []),
    "its own name": ("function $ran(doc) {\n  const $ran_ = 5;\n  log($ran_, typeof $ran);\n};", [2, 3], []),
    "exceptions": ("function (doc) {\n  log(1);\n  doc.x.y;\n  log(2);\n}", [2, 3, 4], [4]),
    "refusals": ("function (doc) {\n  requireUser('x');\n  channel('a');\n}", [2, 3], [3]),
    "empty": ("function () {}", [], []),
    "operators": (
        "function (doc) {\n  let a = (-1) ** 0 || 1, b = typeof a\n  a ||= 2\n  b = !a in {} ? void 0 : new Date(0).getTime()\n"
        "  delete doc.n\n  log(a, b, a\n    ++\n    b)\n}".replace("a\n    ++\n    b", "a - -b"),
        [2, 3, 4, 5, 6],
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_lines_and_what_ran_are_told_and_the_answer_stays(name: str) -> None:
    source, lines, missed = SOURCES[name]
    texts = ('{"_id":"d","n":2}', "", "{}", '{"name":"ann","channels":[],"roles":[]}')
    plain, _ = Engine(source, EngineLimits()).run(*texts)
    counting = CountingEngine(source, EngineLimits())
    answer = json.loads(counting.run(*texts)[0])
    ran = answer.pop("ran")
    units = instrument(source).lines
    assert sorted(set(units)) == lines
    assert sorted({line for unit, line in enumerate(units) if unit not in ran}) == missed
    expected = json.loads(plain)
    for said in (answer, expected):
        if said.get("error", [""])[0] == "thrown":
            said["error"][2] = ""
    assert answer == expected


@pytest.mark.parametrize(
    "source",
    [
        "function () { class A { f() {} } }",
        "function (doc) { with (doc) { log(n) } }",
        "function () { function* g() { yield 1 } }",
        "function () { const f = async () => 1 }",
        "function () { block: { break block; } }",
        "function () { var let = 1; let\n  = 5 }",
        "function () { if (1) function f() {} }",
        "function () { const \\u0061 = 1; }",
        "function () { x <!-- comment\n }",
        "function () { log" + "(" * 2_000 + ")" * 2_000 + " }",
    ],
)
def test_what_is_not_understood_is_not_instrumented(source: str) -> None:
    with pytest.raises(NotUnderstood, match=r"in line|too deeply"):
        instrument(source)


@given(st.text(alphabet="(){}[]/'\"`$;:,.?=>+-ab1 \n\\", max_size=40))
@settings(max_examples=300)
def test_any_text_is_instrumented_or_refused(text: str) -> None:
    source = "function () {" + text + "}"
    with suppress(NotUnderstood):
        instrumented = instrument(source)
        if compile_error(source) is None:
            assert compile_error(instrumented.source) is None


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["ann", "order", "north-1", "", "*"])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
_DOCS = st.dictionaries(
    st.sampled_from(["type", "owner", "shop", "shops", "readers", "writers", "members", "room", "name", "channels"]),
    _VALUES,
    max_size=6,
)


@pytest.mark.parametrize("file", sorted(FUNCTIONS.glob("*.js")), ids=lambda file: file.stem)
@given(doc=_DOCS, old=st.none() | _DOCS, deleted=st.booleans())
@settings(max_examples=30)
def test_the_ready_made_functions_answer_the_same_with_counters(
    file: Path, doc: dict[str, Any], old: dict[str, Any] | None, deleted: bool
) -> None:
    plain, counting = _engines(file)
    shown = {**doc, "_deleted": True} if deleted else doc
    for writer in (Writer("ann", channels=frozenset({"!", "shop:north-1"})), Writer(None, admin=True)):
        verdicts = [quick(shown, old, writer=writer) for quick in (plain, counting)]
        assert verdicts[0].routing == verdicts[1].routing
        assert repr(verdicts[0].error) == repr(verdicts[1].error)


_KEPT: dict[Path, tuple[Quick, Quick]] = {}


def _engines(file: Path) -> tuple[Quick, Quick]:
    if file not in _KEPT:
        source = file.read_text("utf-8")
        _KEPT[file] = Quick(source), Quick(source, engine=CountingEngine)
    return _KEPT[file]


async def _measured(source: str, *docs: dict[str, Any]) -> Coverage:
    calls = [call(doc) for doc in docs]
    quick = Quick(source)
    return await measure(source, calls, [quick(doc) for doc in docs], now=NOW)


async def test_coverage_adds_up_over_documents() -> None:
    source = "function (doc) {\n  if (doc.a) log(1);\n  if (doc.b) log(2);\n  if (doc.c) log(3);\n}"
    covered = await _measured(source, {"a": 1}, {"b": 1})
    assert covered == Coverage((2, 3, 4), (4,))
    assert round(covered.percent) == 67


async def test_a_function_that_answers_differently_each_time_is_not_measured() -> None:
    with pytest.raises(NoCoverage, match=r'differently each time.*"d"'):
        await _measured(body("channel('c' + Math.random())"), {})


async def test_a_function_that_runs_away_is_measured_as_far_as_it_is_known() -> None:
    source = "function (doc) {\n  if (doc.a) throw({forbidden: 'x'});\n  log(2);\n  (function f() { f(); })();\n}"
    covered = await _measured(source, {"a": 1}, {})
    assert covered.missed == ()
