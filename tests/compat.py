"""`make test-compat`: the protocol tests against npm's pouchdb-server, an independent look-alike of CouchDB.

Starts it in memory on a free port of 127.0.0.1, names it in TEST_COUCHDB_URL, and runs pytest with the arguments given.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.node import COMPATIBLE_SERVER, environment, node

START_SECONDS: Final = 60.0


@contextmanager
def pouchdb_server() -> Iterator[str]:
    """The URL of a fresh, empty server. Raises RuntimeError when it is not installed or does not start."""
    program = COMPATIBLE_SERVER / "node_modules/pouchdb-server/bin/pouchdb-server"
    if not program.exists():
        raise RuntimeError("pouchdb-server is not installed: run `make test-compat`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "output.txt").open("w+") as output:
        arguments = ["--in-memory", "--host", "127.0.0.1", "--port", str(port), "--no-stdout-logs"]
        server = subprocess.Popen(
            [node(), str(program), *arguments],
            cwd=directory,  # where it writes its log and config
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _answers(url, server):
                output.seek(0)
                raise RuntimeError(f"pouchdb-server does not start:\n{output.read()}")
            yield url
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            if httpx.get(url, timeout=5).is_success:
                return True
        except httpx.TransportError:
            time.sleep(0.05)  # until the port is open
    return False


def main(arguments: Sequence[str]) -> int:
    try:
        with pouchdb_server() as url:
            sys.stdout.write(f"pouchdb-server at {url}\n")
            sys.stdout.flush()
            environ = {**os.environ, "TEST_COUCHDB_URL": url}
            return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environ, check=False).returncode
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
