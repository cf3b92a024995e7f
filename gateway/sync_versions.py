"""The sync function of one database as administrators see and change it: the version in force, and the one wanted.

One version decides about writes and routes. Another can only be wanted until every document is routed by it: of a mix,
documents routed by one function and grants made by another, a user may read what neither function lets him read.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, TypeVar

from gateway.errors import BadSyncFunction, PreconditionFailed
from gateway.settings.values import DatabaseSettings
from gateway.store.protocol import DatabaseState, DatabaseStore, SyncVersion
from gateway.syncfn.default import DEFAULT_SYNC_FUNCTION
from gateway.syncfn.in_force import FunctionInForce
from gateway.syncfn.runtime import SyncFunction, compile_error

log = logging.getLogger(__name__)
T = TypeVar("T")
AtRest: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


async def function_in_force(store: DatabaseStore, settings: DatabaseSettings) -> FunctionInForce:
    """The function that decides in a database which is being opened: for a new one the config file's."""
    state = await store.state()
    if not state.sync_version:
        await store.follow_sync_file(settings.sync_source, time.time())
        state = await store.state()
    version = await store.sync_version(state.sync_version)
    return FunctionInForce(_function(settings.name, version), version.number)


def _function(database: str, version: SyncVersion) -> SyncFunction:
    return SyncFunction(version.source, name=f"sync function of {database}", checked=True)


class SyncVersions:
    """For administrators only. `open` it before the router starts, `watch` it once that runs, `close` it at the end."""

    def __init__(self, name: str, store: DatabaseStore, function: FunctionInForce, at_rest: AtRest) -> None:
        """`at_rest()`: nothing is routed meanwhile. A function is replaced only then, so that what one has said of a
        document is not recorded after another came in force."""
        self._name = name
        self._store = store
        self._function = function
        self._at_rest = at_rest
        self._watcher: Callable[[], None] = lambda: None
        self._file = ""  # digest of the config file's function
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self.automatic = False
        self.wanted: int | None = None

    @property
    def in_force(self) -> int:
        return self._function.number

    @property
    def outdated(self) -> bool:
        """Whether the routing is not that of the function that is wanted."""
        return self.wanted is not None

    @property
    def tag(self) -> str:
        """The ETag: another one after every change."""
        return f'"{self.in_force}"' if self.wanted is None else f'"{self.in_force}-{self.wanted}"'

    def status(self) -> dict[str, Any]:
        """What the status of the database says of it."""
        return {"sync_version": self.in_force, "sync_wanted": self.wanted, "routing_outdated": self.outdated}

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` whenever another version is wanted than before, or none, or the setting `resync` changed; now
        if one is wanted. It must not wait."""
        self._watcher = watcher
        if self.outdated:
            watcher()

    async def close(self) -> None:
        """Wait for changes under way."""
        await asyncio.gather(*self._changes, return_exceptions=True)

    # The config file

    async def follow(self, settings: DatabaseSettings) -> None:
        """Take over what the config file says, as it was just read: its function is wanted if it is another one than
        when the file was read before. Else what the admin API made of it stays."""
        self._file = hashlib.sha256(settings.sync_source.encode()).hexdigest()

        async def followed() -> None:
            automatic = settings.resync == "automatic"
            changed, self.automatic = automatic != self.automatic, automatic
            await self._recorded(lambda: self._store.follow_sync_file(settings.sync_source, time.time()), changed)

        await self._change(followed())
        if self._function.digest != self._file:
            log.warning(
                "database %s: version %d of the sync function is in force, which is not the config file's (%s)",
                *(self._name, self.in_force, settings.sync_place),
            )

    # The admin API

    async def put(self, source: str, only_if: str | None = None) -> SyncVersion:
        """Make this source the wanted version; in force at once where nothing was routed yet.

        `only_if` is a tag. Raises BadSyncFunction, PreconditionFailed when the tag is another one meanwhile.
        """
        if problem := await asyncio.to_thread(compile_error, source):
            raise BadSyncFunction(problem)
        return await self._change(self._want(source, only_if))

    async def go_back(self, number: int, only_if: str | None = None) -> SyncVersion:
        """As `put`, with a version that there was. Raises NotFound."""
        return await self.put((await self._store.sync_version(number)).source, only_if)

    async def reset(self, only_if: str | None = None) -> SyncVersion:
        """As `put`, with the function of a database that is given none."""
        return await self.put(DEFAULT_SYNC_FUNCTION, only_if)

    async def version(self, number: int | None = None) -> SyncVersion:
        """The version of this number, or the one in force. Raises NotFound."""
        return await self._store.sync_version(self.in_force if number is None else number)

    async def overview(self) -> dict[str, Any]:
        """All versions without their sources, and which of them is in force, wanted and the config file's."""
        kept = await self._store.sync_versions()
        return {
            "in_force": self.in_force,
            "wanted": self.wanted,
            "routing_outdated": self.outdated,
            "resync": "automatic" if self.automatic else "manual",
            "config_file": next((one.number for one in kept if one.digest == self._file), None),
            "versions": [
                {"number": one.number, "digest": one.digest, "made_at": one.made_at, "origin": one.origin}
                for one in kept
            ],
        }

    # Changes

    def taken(self, function: SyncFunction, number: int) -> None:
        """The store has just brought this version in force, while nothing was routed. Never waits.

        It is not wanted any more; another one that is wanted since stays so. The function is closed here at the end.
        """
        self._function.replace(function, number)
        log.info("database %s: version %d of the sync function is in force", self._name, number)
        self._note(None if self.wanted == number else self.wanted)

    async def _want(self, source: str, only_if: str | None) -> SyncVersion:
        if only_if not in (None, "*", self.tag):
            raise PreconditionFailed("the sync function was changed meanwhile")
        return await self._recorded(lambda: self._store.want_sync(source, "api", time.time()))

    async def _recorded(self, record: Callable[[], Awaitable[T]], changed: bool = False) -> T:
        """What `record` answers, once what it did to the store holds here too."""
        state = await self._store.state()
        if state.doc_count or state.doc_del_count:
            answer = await record()
            self._note((await self._settled()).sync_wanted, changed)
            return answer
        async with self._at_rest():  # perhaps it is in force at once
            answer = await record()
            state = await self._store.state()
            if state.sync_version != self.in_force:
                version = await self._store.sync_version(state.sync_version)
                self.taken(_function(self._name, version), version.number)
            self._note(state.sync_wanted, changed)
        return answer

    async def _settled(self) -> DatabaseState:
        """What the store says, and not from before a version was `taken`."""
        while True:
            before = self.in_force
            state = await self._store.state()
            if self.in_force == before:
                return state

    def _note(self, wanted: int | None, changed: bool = False) -> None:
        before, self.wanted = self.wanted, wanted
        if wanted is not None and wanted != before:
            log.warning(
                "database %s: its routing is outdated: version %d of the sync function is wanted, version %d decides"
                " until POST /%s/_resync brings the other one in force",
                *(self._name, wanted, self.in_force, self._name),
            )
        if wanted != before or changed:
            self._watcher()

    async def _change(self, change: Coroutine[Any, Any, T]) -> T:
        """One change at a time, and to its end whatever becomes of the client that wanted it."""

        async def run() -> T:
            async with self._lock:
                return await change

        task = asyncio.create_task(run())
        self._changes.add(task)
        task.add_done_callback(self._changed)
        return await asyncio.shield(task)

    def _changed(self, task: asyncio.Task[Any]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # who asked, if still there, has it too
