"""A real gateway process on real ports, for the tests of the protocol and the benchmark."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; without it httpx reads all CA certificates for each client
_PORT = re.compile(r"(public|admin|metrics) port: http://(\S+)")


class DidNotStart(Exception):
    """The process ended before its ports were open. The message is what it printed."""


class GatewayProcess:
    """`couch-gateway serve` with a config file; restartable on the same data."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.printed: list[str] = []
        self._addresses: dict[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._open = asyncio.Event()

    @property
    def public(self) -> str:
        """`http://127.0.0.1:PORT`"""
        return f"http://{self._addresses['public']}"

    @property
    def admin(self) -> str:
        return f"http://{self._addresses['admin']}"

    @property
    def metrics(self) -> str:
        return f"http://{self._addresses['metrics']}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the gateway is not running")
        return self._process.pid

    def url(self, database: str, user: str | None = None, password: str | None = None) -> str:
        """The public URL of a database, with credentials for clients that take them there."""
        login = "" if user is None else f"{user}:{password or user}@"
        return f"http://{login}{self._addresses['public']}/{database}"

    async def start(self, environ: Mapping[str, str] | None = None) -> None:
        """Returns when the ports are open. Raises DidNotStart."""
        self._open.clear()
        self._addresses.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.cli", "serve", "--config", str(self.config),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environ or {})},
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read())
        opened = asyncio.create_task(self._open.wait())
        await asyncio.wait({opened, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        if not self._open.is_set():
            opened.cancel()
            await self._process.wait()
            raise DidNotStart("".join(self.printed))

    async def _read(self) -> None:
        if self._process is None or self._process.stderr is None:
            raise RuntimeError("the gateway is not running")
        async for line in self._process.stderr:
            text = line.decode()
            self.printed.append(text)
            if match := _PORT.search(text):
                self._addresses[match[1]] = match[2]
                if len(self._addresses) == len(self._expected()):
                    self._open.set()

    def _expected(self) -> list[str]:
        listen = yaml.safe_load(self.config.read_text())["listen"]
        return [name for name in ("public", "admin", "metrics") if listen.get(name) != "off"]

    async def kill(self) -> None:
        """kill -9, as a power cut would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        return await self._end(signal.SIGTERM)

    def terminate(self) -> None:
        """SIGTERM; see `ended()`."""
        if self._process is not None:
            self._process.terminate()

    async def _end(self, number: int) -> int:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        """Wait until it has ended; the exit status."""
        if self._process is None:
            return 0
        status = await self._process.wait()
        if self._reading is not None:
            await self._reading
        self._process = None
        return status


def write_config(directory: Path, databases: Mapping[str, Any], **more: Any) -> Path:
    """A config file on the embedded upstream (or the `couchdb` given) with free ports; its path."""
    content = {
        "listen": {"public": "127.0.0.1:0", "admin": "127.0.0.1:0", "metrics": "off"},
        "metadata": "sqlite:./data/metadata.db",
        "couchdb": {"url": "embedded:./data/couch"},
        "databases": dict(databases),
        **more,
    }
    config = directory / "gateway.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


@contextlib.asynccontextmanager
async def running_gateway(config: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway that runs within the block."""
    gateway = GatewayProcess(config)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


def client(base: str, user: str | None = None, password: str | None = None) -> httpx.AsyncClient:
    """An HTTP client for one listener, logged in or not."""
    auth = None if user is None else (user, password or user)
    return httpx.AsyncClient(base_url=base, auth=auth, timeout=60, verify=_TLS)
