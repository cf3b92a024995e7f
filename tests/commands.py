"""The command `couch-gateway` as an operator runs it: a process with arguments, its exit status and what it said."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    status: int
    output: str
    errors: str

    @property
    def complaint(self) -> str:
        """The one line that says why it could not start. AssertionError if there is a traceback, or more or less."""
        lines = [line for line in self.errors.splitlines() if line.startswith("couch-gateway: ")]
        if "Traceback" in self.errors or len(lines) != 1:
            raise AssertionError(f"not one clear line but:\n{self.errors}")
        return lines[0].removeprefix("couch-gateway: ")


async def couch_gateway(
    *arguments: str, environ: Mapping[str, str] | None = None, directory: Path | None = None, seconds: float = 60
) -> Ended:
    """Run the command until it ends by itself; it is killed, and the test fails, after `seconds`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        cwd=directory,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        output, errors = await process.communicate()
        raise AssertionError(f"it did not end; it said:\n{output.decode()}{errors.decode()}") from None
    return Ended(process.returncode or 0, output.decode(), errors.decode())
