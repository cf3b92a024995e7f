"""The command that serves the embedded server, as a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import httpx


async def start(directory: Path, *arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "gateway.embedded", "--directory", str(directory), "--port", "0"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    return process, line.decode().split()[-1]


async def stop(process: asyncio.subprocess.Process) -> tuple[int, str]:
    process.send_signal(signal.SIGTERM)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, errors.decode()


async def test_a_served_directory_keeps_its_data_and_ends_cleanly_with_feeds_open(tmp_path: Path) -> None:
    process, url = await start(tmp_path)
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        await client.put("/db")
        await client.put("/db/a", json={"n": 1})
        async with client.stream("GET", "/db/_changes", params={"feed": "continuous"}) as feed:
            await anext(feed.aiter_lines())
            code, errors = await stop(process)
    assert code == 0
    assert "Traceback" not in errors
    process, url = await start(tmp_path, "--username", "u", "--password", "p")
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        assert (await client.get("/db/a")).status_code == 401
        assert (await client.get("/db/a", auth=("u", "p"))).json()["n"] == 1
    assert (await stop(process))[0] == 0


async def test_a_directory_in_use_is_an_error_with_a_reason(tmp_path: Path) -> None:
    process, _ = await start(tmp_path)
    second, _ = await start_failing(tmp_path)
    assert "another process" in second
    await stop(process)


async def start_failing(directory: Path) -> tuple[str, int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.embedded", "--directory", str(directory), "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    return errors.decode(), 1
