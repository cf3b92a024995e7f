"""The process that a sync function runs in: batches, order, crashes, cancellation, the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gateway.errors import SyncFunctionRanAway, SyncFunctionUnavailable
from gateway.syncfn.runtime import SyncFunction
from tests.syncfn.asking import ANN, call
from tests.syncfn.conftest import Make

ECHO = "function (doc) { channel('n' + doc.n); if (doc.n % 7 === 6) requireAdmin() }"


def pid_of(function: SyncFunction) -> int:
    assert function._runner._process is not None
    assert function._runner._process._transport is not None
    pid = function._runner._process._transport.get_pid()
    assert pid is not None
    return pid


def environment_of(pid: int) -> bytes:
    environment = Path(f"/proc/{pid}/environ")
    if not environment.exists():
        pytest.skip("this system does not show a process's environment")
    return environment.read_bytes()


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 500, 3000])
async def test_verdicts_are_in_the_order_of_the_calls(count: int, make: Make) -> None:
    verdicts = await make(ECHO).run([call({"n": n}, writer=ANN) for n in range(count)])
    assert [verdict.error is not None for verdict in verdicts] == [n % 7 == 6 for n in range(count)]
    assert all(verdict.error or verdict.routing.channels == {f"n{n}"} for n, verdict in enumerate(verdicts))


async def test_concurrent_callers_each_get_their_own(make: Make) -> None:
    function = make(ECHO)
    batches = await asyncio.gather(*(function.run([call({"n": n}), call({"n": n + 1000})]) for n in range(100)))
    for n, (first, second) in enumerate(batches):
        assert first.routing.channels == {f"n{n}"}
        assert second.routing.channels == {f"n{n + 1000}"}


async def test_large_documents_and_answers_go_through(make: Make) -> None:
    function = make("function (doc) { channel(doc.names.map((n) => 'é'.repeat(200) + n)) }")
    doc = {"names": list(range(1000)), "text": "é" * 1_000_000}
    for verdict in await function.run([call(doc)] * 5):
        assert len(verdict.routing.channels) == 1000


async def test_the_event_loop_goes_on_during_a_batch(make: Make) -> None:
    function = make("function (doc) { for (let i = 0; i < 3000; i++); channel('a') }")
    await function.run([call()])
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await function.run([call({"n": n}) for n in range(1000)])
    turning.cancel()
    assert turns > 20


async def test_a_process_that_is_killed_is_replaced_and_no_call_is_lost(make: Make) -> None:
    function = make(ECHO)
    await function.run([call({"n": 1})])
    first = pid_of(function)
    os.kill(first, signal.SIGKILL)
    assert (await function.run([call({"n": 2})]))[0].routing.channels == {"n2"}
    assert pid_of(function) != first


async def test_a_process_that_is_killed_in_the_middle_of_a_batch_starts_again_where_it_was(make: Make) -> None:
    function = make("function (doc) { for (let i = 0; i < 20000; i++); channel('n' + doc.n) }")
    await function.run([call({"n": 0})])
    batch = asyncio.create_task(function.run([call({"n": n}) for n in range(300)]))
    while not (running := function._runner._process) or not running._answers:  # noqa: ASYNC110  until some are answered
        await asyncio.sleep(0)
    os.kill(pid_of(function), signal.SIGKILL)
    assert [verdict.routing.channels for verdict in await batch] == [{f"n{n}"} for n in range(300)]


async def test_a_document_that_the_engine_does_not_survive_is_an_error_and_the_others_are_not(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No source is known that crashes the engine, so the process is made to crash on a word."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'gateway.syncfn.worker' in ' '.join(sys.orig_argv):\n"
        "    import gateway.syncfn.engine as engine\n"
        "    run = engine.Engine.run\n"
        "    def crash(self, doc, *more):\n"
        "        if 'crash' in doc:\n"
        "            os._exit(9)\n"
        "        return run(self, doc, *more)\n"
        "    engine.Engine.run = crash\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    function = make(ECHO)
    calls = [call({"n": n, "text": "crash" if n in (3, 4, 40) else ""}) for n in range(60)]
    verdicts = await function.run(calls)
    assert [n for n, verdict in enumerate(verdicts) if verdict.error] == [3, 4, 40]
    assert isinstance(verdicts[3].error, SyncFunctionRanAway)
    assert all(verdict.error or verdict.routing.channels == {f"n{n}"} for n, verdict in enumerate(verdicts))


async def test_a_stopped_process_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    function = make(ECHO)
    await function.run([call({"n": 1})])
    monkeypatch.setattr(function._runner, "_silence_seconds", 0.3)
    os.kill(pid_of(function), signal.SIGSTOP)
    assert (await function.run([call({"n": 2})]))[0].routing.channels == {"n2"}


async def test_a_cancelled_caller_does_not_disturb_the_next(make: Make) -> None:
    function = make(ECHO)
    await function.run([call({"n": 0})])
    gone = asyncio.create_task(function.run([call({"n": n}) for n in range(500)]))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert (await function.run([call({"n": 8})]))[0].routing.channels == {"n8"}


async def test_a_body_that_is_not_json_is_the_callers_error_and_harms_no_other(make: Make) -> None:
    function = make(ECHO)
    for wrong in (float("nan"), object(), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            await function.run([call({"n": 1}), call({"n": 2, "wrong": wrong})])
    assert (await function.run([call({"n": 8})]))[0].routing.channels == {"n8"}


async def test_after_closing_nothing_runs() -> None:
    function = SyncFunction(ECHO)
    await function.run([call({"n": 1})])
    pid = pid_of(function)
    await function.close()
    await function.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(SyncFunctionUnavailable):
        await function.run([call()])


async def test_closing_does_not_wait_for_a_runaway() -> None:
    function = SyncFunction("function (doc) { if (doc.bad) for (;;); }")
    await function.run([call()])
    under_way = asyncio.create_task(function.run([call({"bad": 1})] * 100))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await function.close()
    with pytest.raises(SyncFunctionUnavailable):
        await under_way


async def test_a_process_that_cannot_be_started_says_nothing_about_documents(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    function = make(ECHO)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", str(tmp_path / "no-python"))
        with pytest.raises(SyncFunctionUnavailable, match="cannot be started"):
            await function.run([call()])
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/bin/false")
        with pytest.raises(SyncFunctionUnavailable, match="ended as it started"):
            await function.run([call()])
    assert (await function.run([call({"n": 1})]))[0].error is None


async def test_the_process_is_not_told_the_gateways_passwords(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_PASSWORD", "a secret")
    function = make(ECHO)
    await function.run([call({"n": 1})])
    assert b"secret" not in environment_of(pid_of(function))


async def test_the_process_leaves_ctrl_c_to_the_gateway(make: Make) -> None:
    function = make(ECHO)
    await function.run([call({"n": 1})])
    pid = pid_of(function)
    os.kill(pid, signal.SIGINT)
    assert (await function.run([call({"n": 2})]))[0].error is None
    assert pid_of(function) == pid


async def test_a_relative_expiry_counts_from_the_time_that_is_given(make: Make) -> None:
    (verdict,) = await make("function () { expiry(60) }").run([call()], now=1000.0)
    assert verdict.routing.expiry == 1060.0


async def test_the_process_does_not_outlive_a_gateway_that_is_killed() -> None:
    script = (
        "import asyncio\n"
        "from gateway.model.routing import ADMIN, Call\n"
        "from gateway.syncfn.runtime import SyncFunction\n"
        "async def main():\n"
        "    function = SyncFunction('function (doc) { if (doc.bad) for (;;) new Array(1e6).fill(1) }')\n"
        "    await function.run([Call({'_id': 'd'}, None, ADMIN)])\n"
        "    print(function._runner._process._transport.get_pid(), flush=True)\n"
        "    await function.run([Call({'_id': 'd', 'bad': 1}, None, ADMIN)] * 5)\n"
        "asyncio.run(main())\n"
    )
    # The end of standard error is the end of the last process that has it.
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert gateway.stdout is not None
    assert gateway.stderr is not None
    assert int(await gateway.stdout.readline()) > 0
    gateway.kill()
    async with asyncio.timeout(20):
        assert await gateway.stderr.read() == b""
    await gateway.wait()
