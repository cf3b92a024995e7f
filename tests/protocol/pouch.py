"""PouchDB and nano in a Node process, moved by tests in Python (`tests/js/driver.mjs`)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.node import CLIENTS, command, environment

PATIENCE_SECONDS: Final = 30.0
_LINE_BYTES: Final = 64_000_000


class ClientError(Exception):
    """What PouchDB or nano rejected a promise with."""

    def __init__(self, value: Mapping[str, Any]) -> None:
        super().__init__(str(value.get("reason") or value.get("message")))
        self.status = value.get("status")
        self.name = value.get("name")
        self.reason = value.get("reason")


class Process:
    """Replication or changes feed: the events that came, and waiting for more."""

    def __init__(self, driver: Driver, number: int) -> None:
        self._driver = driver
        self._number = number
        self.events: list[tuple[str, Any]] = []
        self._came = asyncio.Event()

    def came(self, event: str, value: Any) -> None:
        self.events.append((event, value))
        self._came.set()

    def seen(self, event: str) -> list[Any]:
        """The values of all events of this name so far."""
        return [value for name, value in self.events if name == event]

    async def event(self, event: str, count: int = 1) -> Any:
        """The value of the `count`th event of this name. Fails the test when another end comes first."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(values := self.seen(event)) < count:
                ended = [one for one in ("complete", "error") if one != event and self.seen(one)]
                assert not ended, f"{ended} instead of {event}: {self.events}"
                self._came.clear()
                await self._came.wait()
        return values[count - 1]

    async def cancel(self) -> None:
        await self._driver.ask("cancel", of=self._number)


class LocalDatabase:
    """A PouchDB database on one device, or with a URL a remote one."""

    def __init__(self, driver: Driver, key: str) -> None:
        self._driver = driver
        self.key = key

    async def call(self, method: str, *args: Any) -> Any:
        """Any method of PouchDB. Raises ClientError."""
        return await self._driver.ask("call", db=self.key, method=method, args=args)

    async def put(self, id: str, **body: Any) -> str:
        return str((await self.call("put", {"_id": id, **body}))["rev"])

    async def change(self, id: str, **members: Any) -> str:
        """Replace members of the document."""
        return str((await self.call("put", {**await self.call("get", id), **members}))["rev"])

    async def remove(self, id: str) -> str:
        return str((await self.call("remove", await self.call("get", id)))["rev"])

    async def ids(self) -> list[str]:
        return [row["id"] for row in (await self.call("allDocs"))["rows"]]

    async def holds(self, *ids: str) -> list[dict[str, Any]]:
        """Wait until exactly these documents are alive; they in the order of their ids."""
        return await self._until(docs={id: {} for id in ids}, among=False)

    async def has(self, id: str, **members: Any) -> dict[str, Any]:
        """Wait until the document is there with these members, whatever else is."""
        found = await self._until(docs={id: members}, among=True)
        return next(doc for doc in found if doc["_id"] == id)

    async def lacks(self, id: str) -> None:
        """Wait until the document is not there."""
        await self._until(docs={id: None}, among=True)

    async def _until(self, **condition: Any) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return list(await self._driver.ask("until", db=self.key, **condition))
        except TimeoutError:
            raise AssertionError(f"not {condition}; there are {await self.ids()}") from None

    async def sync(self, remote: LocalDatabase, **options: Any) -> Process:
        """Live both ways, trying again when the connection breaks, unless the options say otherwise."""
        return await self._driver.begin(
            "sync", db=self.key, options={"live": True, "retry": True, **options}, **{"with": remote.key}
        )

    async def push(self, remote: LocalDatabase, **options: Any) -> Process:
        return await self._driver.begin("push", db=self.key, options=options, **{"with": remote.key})

    async def pull(self, remote: LocalDatabase, **options: Any) -> Process:
        return await self._driver.begin("pull", db=self.key, options=options, **{"with": remote.key})

    async def pulled(self, remote: LocalDatabase, **options: Any) -> dict[str, Any]:
        """Pull once to the end; PouchDB's result."""
        return dict(await (await self.pull(remote, **options)).event("complete"))

    async def pushed(self, remote: LocalDatabase, **options: Any) -> dict[str, Any]:
        return dict(await (await self.push(remote, **options)).event("complete"))

    async def changes(self, **options: Any) -> Process:
        return await self._driver.begin("changes", db=self.key, options=options)

    async def close(self) -> None:
        await self._driver.ask("close", db=self.key)


class Driver:
    """A Node process with PouchDB and nano."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._running: dict[int, Process] = {}
        self._number = 0

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *command(CLIENTS / "driver.mjs"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
            limit=_LINE_BYTES,
        )
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._process is None or self._process.stdin is None or self._reading is None:
            return
        self._process.stdin.close()
        await self._reading
        await self._process.wait()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self._running[said["of"]].came(said["event"], said.get("value"))
                continue
            waiting = self._answers.pop(said["n"])
            if waiting.done():
                continue
            if "error" in said:
                waiting.set_exception(ClientError(said["error"]))
            else:
                waiting.set_result(said["value"])
        for waiting in self._answers.values():
            waiting.set_exception(RuntimeError("Node ended"))

    async def ask(self, do: str, *, number: int | None = None, **arguments: Any) -> Any:
        """Do it and wait for its answer. Raises ClientError."""
        assert self._process is not None
        assert self._process.stdin is not None
        if number is None:
            number = self._next()
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"n": number, "do": do, **arguments}, default=_binary)
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        return await waiting

    async def begin(self, do: str, **arguments: Any) -> Process:
        number = self._next()
        self._running[number] = Process(self, number)
        await self.ask(do, number=number, **arguments)
        return self._running[number]

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def device(self, name: str, directory: Path | None = None) -> LocalDatabase:
        """An empty database in memory; with a directory one on disk, which may be there already."""
        key = f"{name} {self._next()}"
        where, options = (key, {"adapter": "memory"}) if directory is None else (str(directory / name), {})
        await self.ask("open", db=key, name=where, options=options)
        return LocalDatabase(self, key)

    async def remote(self, url: str, **options: Any) -> LocalDatabase:
        """The database behind a URL, which may hold credentials."""
        key = f"{url} {self._next()}"
        await self.ask("open", db=key, name=url, options=options)
        return LocalDatabase(self, key)

    async def nano(self, url: str, method: str, *args: Any, use: str | None = None, client: str | None = None) -> Any:
        """A method of nano's server, or of its database `use`. One with the name `client` keeps its cookies."""
        return await self.ask("nano", url=url, use=use, method=method, args=args, client=client)

    async def fetch(self, url: str, **options: Any) -> Any:
        """A request by PouchDB's fetch: `{"status", "body"}`. All remote databases share its cookies."""
        return await self.ask("fetch", url=url, options=options)


def _binary(value: object) -> Any:
    if isinstance(value, bytes):
        return {"$base64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value)} in a command")


def binary(value: Mapping[str, str]) -> bytes:
    """The bytes of a Buffer in an answer."""
    return base64.b64decode(value["$base64"])
