"""The gateway process that all scenarios share, over an embedded CouchDB that can be reached past it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from tests.protocol.site import SYNC, basic
from tests.protocol.upstreams import UpstreamServer, embedded_server
from tests.running import GatewayProcess, running_gateway, write_config

IN_THE_FILE: Final = 8  # databases of the config file, for scenarios that change it
PATIENCE_SECONDS: Final = 30.0


class Served:
    """A running gateway with its upstream, and one HTTP client for both."""

    def __init__(self, gateway: GatewayProcess, upstream: UpstreamServer, http: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.http = http
        self._made = itertools.count(1)
        self._in_the_file = itertools.count(1)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        status: int | tuple[int, ...] = (200, 201),
        body: object = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The JSON of an answer, which must have this status."""
        allowed = (status,) if isinstance(status, int) else status
        async with self.http.request(method, url, json=body, params=params, headers=headers) as response:
            text = await response.text()
            assert response.status in allowed, f"{method} {response.url}: {response.status} {text[:500]}"
            return await response.json()

    async def past_the_gateway(self, method: str, path: str, **more: Any) -> Any:
        """Ask the upstream itself."""
        login = basic(self.upstream.username or "", self.upstream.password or "")
        return await self.ask(method, f"{self.upstream.url}/{path}", headers=login, **more)

    async def new_database(self) -> str:
        """Made by request, so that it has the default sync function of the config file."""
        name = f"made{next(self._made)}"
        await self.ask("PUT", f"{self.gateway.admin}/{name}", status=201)
        return name

    def database_of_the_file(self) -> str:
        """The next one that no scenario has used."""
        number = next(self._in_the_file)
        assert number <= IN_THE_FILE, "more databases are needed in the config file"
        return f"file{number}"

    async def forget(self, name: str) -> None:
        """Delete a database that was made by request: each has a process for its sync function."""
        if name.startswith("made"):
            await self.ask("DELETE", f"{self.gateway.admin}/{name}")

    async def kill(self) -> None:
        await self.gateway.kill()

    async def start(self) -> None:
        """Returns when the gateway serves again, on other ports."""
        await self.gateway.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._is_up():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _is_up(self) -> bool:
        async with self.http.get(f"{self.gateway.admin}/_up") as response:
            return response.status == 200

    async def reload(self, database: str, users: Mapping[str, Any], roles: Mapping[str, Any]) -> None:
        """Let the config file name these users and roles. Returns when that has taken effect."""
        content = yaml.safe_load(self.gateway.config.read_text())
        content["databases"][database].update(users=dict(users), roles=dict(roles))
        self.gateway.config.write_text(yaml.safe_dump(content))
        before = len(self.gateway.printed)
        os.kill(self.gateway.pid, signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any("was reloaded" in line for line in self.gateway.printed[before:]):  # noqa: ASYNC110
                await asyncio.sleep(0.002)


@asynccontextmanager
async def served(directory: Path) -> AsyncIterator[Served]:
    """Until the end of the block."""
    databases = {f"file{number}": {"sync": SYNC} for number in range(1, IN_THE_FILE + 1)}
    async with embedded_server(directory / "upstream") as upstream:
        config = write_config(directory, databases, couchdb=upstream.config, default_database={"sync": SYNC})
        timeout = aiohttp.ClientTimeout(total=None, sock_read=PATIENCE_SECONDS)
        async with (
            running_gateway(config) as gateway,
            aiohttp.ClientSession(
                timeout=timeout,
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json"},
            ) as http,
        ):
            yield Served(gateway, upstream, http)
