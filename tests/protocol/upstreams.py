"""The CouchDB behind a gateway under test: the embedded one inside it, the embedded one as a server, or a real one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from tests.running import client

COUCHDB_URL: Final = os.environ.get("TEST_COUCHDB_URL")
PASSWORD: Final = "p@ss:word"


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """An upstream that listens on a port. `config` is what the gateway's config file says about it."""

    url: str
    username: str | None
    password: str | None
    prefix: str = ""  # of the names of its databases

    @property
    def config(self) -> dict[str, str]:
        credentials = {"username": self.username, "password": self.password}
        return {"url": self.url} | {key: value for key, value in credentials.items() if value is not None}

    def database(self, name: str) -> str:
        return self.prefix + name

    def client(self, database: str | None = None) -> httpx.AsyncClient:
        """A client past the gateway, at the server or at the database that the gateway calls `database`."""
        base = self.url if database is None else f"{self.url}/{self.database(database)}"
        return client(base, self.username, self.password)


class EmbeddedProcess:
    """`python -m gateway.embedded` on a port of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self.server: UpstreamServer | None = None

    async def start(self) -> UpstreamServer:
        """Returns when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway.embedded", "--directory", str(self._directory), "--port", "0"),
            *("--username", "admin"),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "EMBEDDED_PASSWORD": PASSWORD},
        )
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        assert " on http://" in line, f"the embedded server did not start: {line!r}"
        self.server = UpstreamServer(line.split(" on ")[1].strip(), "admin", PASSWORD)
        return self.server

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            await self._process.communicate()


@asynccontextmanager
async def embedded_server(directory: Path) -> AsyncIterator[UpstreamServer]:
    """An embedded server that runs within the block."""
    process = EmbeddedProcess(directory)
    try:
        yield await process.start()
    finally:
        await process.stop()


@asynccontextmanager
async def real_couchdb(url: str, databases: Sequence[str]) -> AsyncIterator[UpstreamServer]:
    """The server named by TEST_COUCHDB_URL, with names of databases that nobody else has; they are deleted."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    where = f"[{host}]" if ":" in host else host
    server = UpstreamServer(
        urlunsplit((parts.scheme, where if parts.port is None else f"{where}:{parts.port}", parts.path, "", "")).rstrip(
            "/"
        ),
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        prefix=f"test_{uuid.uuid4().hex[:12]}_",
    )
    try:
        yield server
    finally:
        async with server.client() as admin:
            for name in databases:
                answer = await admin.delete(f"/{server.database(name)}")
                assert answer.status_code in (200, 202, 404), answer.text


@asynccontextmanager
async def upstream_of_kind(
    kind: str, directory: Path, databases: Sequence[str]
) -> AsyncIterator[UpstreamServer | None]:
    """None for the embedded upstream inside the gateway."""
    if kind == "embedded":
        yield None
    elif kind == "embedded-over-http":
        async with embedded_server(directory / "upstream") as server:
            yield server
    else:
        assert COUCHDB_URL is not None
        async with real_couchdb(COUCHDB_URL, databases) as server:
            yield server


def configured(databases: Mapping[str, Any], server: UpstreamServer | None) -> dict[str, Any]:
    """Arguments of `write_config` for these databases on this upstream."""
    if server is None:
        return {"databases": databases}
    named = {name: {**database, "upstream": server.database(name)} for name, database in databases.items()}
    return {"databases": named, "couchdb": server.config}
