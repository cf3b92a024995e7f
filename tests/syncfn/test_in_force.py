"""The holder of the function that decides: it is replaced while calls are under way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from gateway.errors import SyncFunctionUnavailable
from gateway.model.routing import Verdict
from gateway.syncfn.in_force import FunctionInForce
from gateway.syncfn.runtime import SyncFunction
from tests.routing.world import until
from tests.syncfn.asking import call

OLD = "function (doc) { channel('old'); }"
NEW = "function (doc) { channel('new', doc.c); if (doc.bad) doc.no.thing; if (doc.not) throw({forbidden: 'no'}); }"


@pytest.fixture
async def holder() -> AsyncIterator[FunctionInForce]:
    made = FunctionInForce(SyncFunction(OLD), 1)
    yield made
    await made.close()


def said(verdict: Verdict) -> tuple[set[str], int]:
    return set(verdict.routing.channels), verdict.version


async def halted(holder: FunctionInForce) -> int:
    """Stop the process for now, so that questions wait for their answers; its id."""
    await holder.run([call()])
    process = holder._function._runner._process
    assert process is not None
    assert process._transport is not None
    pid = process._transport.get_pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.to_thread(os.waitpid, pid, os.WUNTRACED)  # until it really stands still
    return pid


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_tells_which_version_is_in_force_and_every_verdict_bears_it(holder: FunctionInForce) -> None:
    assert (holder.number, holder.source, holder.digest) == (1, OLD, SyncFunction(OLD, checked=True).digest)
    assert [said(one) for one in await holder.run([call(), call()])] == [({"old"}, 1)] * 2
    holder.replace(SyncFunction(NEW), 7)
    assert (holder.number, holder.source) == (7, NEW)
    verdicts = await holder.run([call(), call({"bad": True}), call({"not": True}), call({"c": "a,b"})])
    assert [verdict.version for verdict in verdicts] == [7] * 4
    assert [verdict.error is None for verdict in verdicts] == [True, False, False, False]


async def test_calls_under_way_are_answered_by_the_function_they_began_with(holder: FunctionInForce) -> None:
    pid = await halted(holder)
    under_way = [asyncio.create_task(holder.run([call()])) for _ in range(2)]
    await until(lambda: len(holder._function._runner._running) == 2)
    holder.replace(SyncFunction(NEW), 2)
    (at_once,) = await holder.run([call()])
    assert said(at_once) == ({"new"}, 2), "nobody waits for the old one"
    assert not under_way[0].done()
    assert alive(pid)
    os.kill(pid, signal.SIGCONT)
    for task in under_way:
        (verdict,) = await task
        assert said(verdict) == ({"old"}, 1)
    await until(lambda: not alive(pid))


async def test_after_the_end_nothing_is_answered_and_no_process_is_left(holder: FunctionInForce) -> None:
    await halted(holder)
    under_way = asyncio.create_task(holder.run([call()]))
    await until(lambda: holder._function._runner.busy)
    old = holder._function
    holder.replace(SyncFunction(NEW), 2)
    await holder.run([call()])
    await holder.close()
    with pytest.raises(SyncFunctionUnavailable):
        await holder.run([call()])
    with pytest.raises(SyncFunctionUnavailable):
        await under_way
    assert old._runner._process is None
    assert holder._function._runner._process is None


async def test_a_source_that_is_known_to_compile_is_not_looked_at_again_and_says_so_when_it_does_not() -> None:
    function = SyncFunction("function (", checked=True)
    with pytest.raises(SyncFunctionUnavailable, match="cannot be run"):
        await function.run([call()])
    await function.close()
