"""A function that runs away costs its own document, an error within moments, and nothing else."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from gateway import limits
from gateway.errors import NotLookedAt, RefusedBySyncFunction, SyncFunctionFailed, SyncFunctionRanAway
from gateway.model.routing import Runaways
from gateway.syncfn.runtime import EngineLimits
from tests.syncfn.asking import ANN, call
from tests.syncfn.conftest import Make

# Shorter than the real limit, so that the tests are; `test_the_real_limits…` is with the real ones.
QUICK = EngineLimits(seconds=0.2)
PATIENCE_SECONDS = 5.0  # of a busy machine; idle, each takes a tenth of it

RUNAWAYS = {
    "endless loop": "for (;;);",
    "endless loop in a catch": "for (;;) { try { for (;;); } catch (e) {} }",
    "endless loop in a finally": "try { throw 1 } finally { for (;;); }",
    "endless generator": "for (const x of (function* () { for (;;) yield 1 })());",
    "regular expression": "/^(a+)+$/.test('a'.repeat(50) + 'b')",
    "regular expression of the document": "new RegExp(doc.pattern).test('a'.repeat(50) + 'b')",
    "memory": "const a = []; for (;;) a.push('x'.repeat(1000) + a.length)",
    "memory, caught": "const a = []; for (;;) { try { for (;;) a.push('x'.repeat(1000) + a.length) } catch (e) {} }",
    "one huge string": "'x'.repeat(2 ** 29)",
    "a string that doubles": "let s = 'x'; for (;;) s += s",
    "one huge array": "new Array(2 ** 32 - 1).fill(0)",
    "recursion": "(function f() { return f() + 1 })()",
    "recursion through the engine": "(function f() { return [1].map(f) })()",
    "a huge result": "for (let i = 0; ; i++) channel('c' + i)",
    "grants without end": "for (let i = 0; ; i++) access('u' + i, 'c' + i)",
    "an array that claims to be endless": "channel(new Proxy([], { get: (t, n) => n === 'length' ? Infinity : 'c' }))",
    "arrays in the array": "let a = []; for (;;) a = [a, a]; channel(a)",
    "a getter in what is thrown": "throw { get forbidden() { for (;;); } }",
    "a proxy that is thrown": "throw new Proxy({}, { get() { for (;;); } })",
    "toString of what is thrown": "throw Object.assign(new Error(), { toString() { for (;;); } })",
    "toJSON of what is logged": "log({ toJSON() { for (;;); } })",
    "join of an array that claims to be long": "const a = []; a.length = 4294967295; a.join('')",
    "built-ins in a loop": "let s = 'ab'.repeat(1e6); for (;;) s = s.replaceAll('a', 'a')",
    "fill in a loop": "for (;;) new Array(1e6).fill(1)",
    "a typed array sorted in a loop": "for (;;) new Uint8Array(1e7).fill(1).sort()",
    "large numbers": "let x = 3n; for (;;) x = x * x",
    "JSON nested deeply": "JSON.parse('['.repeat(1e6))",
}


@pytest.mark.parametrize("source", RUNAWAYS.values(), ids=RUNAWAYS)
async def test_a_runaway_is_an_error_for_its_document_alone(source: str, make: Make) -> None:
    function = make(f"function (doc) {{ if (doc.bad) {{ {source} }} channel(doc.channels) }}", QUICK)
    good = call({"channels": ["a"]})
    assert (await function.run([good]))[0].routing.channels == {"a"}  # the process is up
    began = time.monotonic()
    before, bad, after = await function.run([good, call({"bad": True, "pattern": "^(a|a)*$"}), good])
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert isinstance(bad.error, SyncFunctionFailed), bad
    assert bad.error.status == 500
    assert bad.routing.channels == frozenset()
    assert before.routing.channels == after.routing.channels == {"a"}
    assert (await function.run([good]))[0].routing.channels == {"a"}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("for (;;);", "the sync function took too long"),
        ("for (;;) new Array(1e5).fill(1)", "the sync function took too long"),
        ("const a = []; for (;;) a.push('x'.repeat(1000) + a.length)", "the sync function used too much memory"),
        ("(function f() { return f() + 1 })()", "the sync function recursed too deeply"),
    ],
)
async def test_the_reason_says_which_limit(source: str, reason: str, make: Make) -> None:
    (verdict,) = await make(f"function () {{ {source} }}", EngineLimits(memory_bytes=16_000_000)).run([call()])
    assert isinstance(verdict.error, SyncFunctionRanAway)
    assert verdict.error.reason == reason


async def test_the_real_limits_hold_a_loop_within_two_seconds(make: Make) -> None:
    function = make("function (doc) { if (doc.bad) for (;;); }")
    await function.run([call()])
    began = time.process_time(), time.monotonic()
    (verdict,) = await function.run([call({"bad": 1})])
    assert isinstance(verdict.error, SyncFunctionRanAway)
    assert time.monotonic() - began[1] < PATIENCE_SECONDS
    assert time.process_time() - began[0] < 0.5  # the event loop waited, it did not work


async def test_several_runaways_in_one_batch_are_each_their_own_error(make: Make) -> None:
    function = make("function (doc) { if (doc.n % 3 === 0) for (;;) new Array(1e6).fill(1); channel('n') }", QUICK)
    verdicts = await function.run([call({"n": n}) for n in range(9)])
    assert [n for n, verdict in enumerate(verdicts) if verdict.error] == [0, 3, 6]


LOOPS = "function (doc) { if (doc.bad) for (;;); channel('a') }"


async def test_after_some_runaways_of_a_request_its_other_documents_are_not_looked_at(make: Make) -> None:
    request = Runaways()
    docs = [{"n": 1}, *[{"bad": 1}] * (limits.SYNC_FUNCTION_RUNAWAYS_COUNT + 5), {"n": 2}]
    verdicts = await make(LOOPS, QUICK).run([replace(call(doc), runaways=request) for doc in docs])
    kinds = [type(verdict.error) for verdict in verdicts]
    ran_away = [SyncFunctionRanAway] * limits.SYNC_FUNCTION_RUNAWAYS_COUNT
    assert kinds == [type(None), *ran_away, *[NotLookedAt] * 6]
    assert all(not verdict.routing.channels for verdict in verdicts[1:])
    assert request.count == limits.SYNC_FUNCTION_RUNAWAYS_COUNT


async def test_runaways_of_one_request_cost_other_requests_of_the_same_batch_nothing(make: Make) -> None:
    request, other = Runaways(), Runaways()
    bad = replace(call({"bad": 1}), runaways=request)
    good = [replace(call({"n": n}), runaways=other) for n in range(20)]
    verdicts = await make(LOOPS, QUICK).run([bad, good[0], *[bad] * 5, *good[1:], call({"n": 21})])
    assert [verdict.routing.channels for verdict in verdicts if verdict.error is None] == [{"a"}] * 21
    assert (request.count, other.count) == (limits.SYNC_FUNCTION_RUNAWAYS_COUNT, 0)


async def test_others_have_their_turn_between_two_runaways_of_a_request(make: Make) -> None:
    function, request = make(LOOPS, QUICK), Runaways()
    await function.run([call()])
    bulk = asyncio.create_task(function.run([replace(call({"bad": 1}), runaways=request)] * 10))
    await asyncio.sleep(0)  # it is under way
    assert (await function.run([call()]))[0].routing.channels == {"a"}
    assert request.count == 1
    verdicts = await bulk
    assert all(verdict.error for verdict in verdicts)


async def test_a_process_that_ends_counts_as_a_runaway(make: Make) -> None:
    function, request = make("function () { for (;;) new Array(1e6).fill(1) }", QUICK), Runaways()
    verdicts = await function.run([replace(call(), runaways=request) for _ in range(10)])
    assert request.count == limits.SYNC_FUNCTION_RUNAWAYS_COUNT
    assert all(isinstance(verdict.error, SyncFunctionRanAway) for verdict in verdicts)


async def test_a_runaway_does_not_hold_up_another_database(make: Make) -> None:
    slow = make("function () { for (;;) new Array(1e6).fill(1) }", EngineLimits(seconds=2.0))
    other = make("function () { channel('a') }")
    await other.run([call()])
    stuck = asyncio.create_task(slow.run([call()]))
    for _ in range(20):
        assert (await other.run([call()]))[0].routing.channels == {"a"}
    assert not stuck.done()
    assert (await stuck)[0].error is not None


async def test_a_refusal_is_not_lost_when_the_function_then_fails(make: Make) -> None:
    source = "function () { try { requireAdmin() } catch (e) { (function f() { return f() + 1 })() } }"
    (verdict,) = await make(source).run([call(writer=ANN)])
    assert isinstance(verdict.error, RefusedBySyncFunction)


async def test_promises_are_refused_since_they_would_never_run(make: Make) -> None:
    function = make("function (doc) { (async () => { await 0; requireAdmin() })(); channel('a') }")
    for verdict in await function.run([call(writer=ANN), call(writer=ANN)]):
        assert isinstance(verdict.error, SyncFunctionFailed)
        assert verdict.logs == ("error: promises and async functions do not work in a sync function",)


async def test_what_recurses_only_in_the_log_is_not_printed_and_costs_nothing_else(make: Make) -> None:
    function = make("function () { log({ toJSON() { return { a: { toJSON: this.toJSON } } } }); channel('a') }")
    (verdict,) = await function.run([call()])
    assert verdict.logs == ("[cannot be printed]",)
    assert verdict.routing.channels == {"a"}
