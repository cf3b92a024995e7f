"""Catalogue: the databases that are served, made and deleted while the gateway runs. What http/ calls above databases.

A database that an administrator makes with `PUT /{db}` is one upstream and one here, with the settings of the config
file's `default_database`. How far that came is in the metadata store, so that a crash anywhere leaves what the next
start, or the same request once more, finishes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from gateway import limits
from gateway.auth.credentials import Credentials
from gateway.auth.passwords import Passwords
from gateway.couch.upstream import Upstream, UpstreamResponse
from gateway.database import Database
from gateway.errors import (
    AlreadyExists,
    BadJson,
    Forbidden,
    GatewayError,
    TooManyRequests,
    UnknownDatabase,
    UpstreamError,
    UpstreamUnreachable,
    from_status,
)
from gateway.json_text import parse
from gateway.model.names import check_new_database_name
from gateway.server_users import ServerUsers
from gateway.settings.values import DatabaseSettings, Settings
from gateway.sign_up import SignUp
from gateway.store.protocol import MetadataStore

log = logging.getLogger(__name__)
T = TypeVar("T")

_EXISTS: Final = "The database could not be created, the file already exists."
_ANSWER_BYTES: Final = 65_536


class Catalogue:
    """Made by the server, which calls `start()` first and `close()` last."""

    def __init__(
        self,
        settings: Settings,
        store: MetadataStore,
        upstream: Upstream,
        serving: MutableMapping[str, Database],
        open_database: Callable[[DatabaseSettings], Awaitable[Database]],
        passwords: Passwords,
        credentials: Credentials,
        dropped: Callable[[str], None],
    ) -> None:
        """`serving` are the databases by name, to which those made here are added.

        `dropped` is called when one is gone, before another can have its name.
        """
        self._settings = settings
        self._store = store
        self._upstream = upstream
        self._serving = serving
        self._open = open_database
        self._dropped = dropped
        # Upstream databases that belong to the config file: nothing here may make, adopt or delete them.
        self._configured = {name: database.upstream for name, database in settings.databases.items()}
        self._lock = asyncio.Lock()
        self._changing: set[asyncio.Task[Any]] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self.uuid = ""
        self.users = ServerUsers(store, passwords, credentials, serving)
        self.sign_up: SignUp | None = None

    async def start(self) -> None:
        """Open what was made by request, and finish what was interrupted. Raises GatewayError."""
        self.uuid = await self._store.uuid()
        for name, state in (await self._store.created()).items():
            if self._is_configured(name):
                log.warning(
                    "database %s: the config file has it now; what it was when it was made by request rests", name
                )
            elif state == "deleting":
                await self._finish_deletion(name)
            elif state == "serving" or await self._is_upstream(name):
                await self._serve(name)
            else:
                await self._store.note_created(name, None)
        self._begin_sweeping()

    def open_sign_up(self, databases_of: Callable[[str], Awaitable[Sequence[str]]]) -> None:
        """From now on anybody may make a user of the server. `databases_of` a user name."""

        async def is_taken(name: str) -> bool:
            return bool(await databases_of(name))

        self.sign_up = SignUp(self.users, admins=frozenset(self._settings.admins), is_taken=is_taken)

    async def close(self) -> None:
        """Wait for what is being made or deleted."""
        await asyncio.gather(*self._changing, return_exceptions=True)
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)

    def _is_configured(self, name: str) -> bool:
        return name in self._configured or name in self._configured.values()

    # Making

    async def create(self, name: str, options: Mapping[str, str]) -> bool:
        """Make a database; False if CouchDB has only accepted it (202). `options` are CouchDB's of `PUT /{db}`.

        Raises AlreadyExists also for an upstream database that is not served: it belongs to somebody else, and would be
        laid open. Raises IllegalDatabaseName, TooManyRequests, and what the upstream refuses.
        """
        check_new_database_name(name)
        return await self._change(self._create(name, options))

    async def _create(self, name: str, options: Mapping[str, str]) -> bool:
        if name in self._serving or self._is_configured(name):
            raise AlreadyExists(_EXISTS)
        made = await self._store.created()
        state = made.get(name)
        if state == "deleting":
            await self._finish_deletion(name)
            state = None
        if state is None and len(made) >= limits.CREATED_DATABASES_COUNT:
            raise TooManyRequests(
                f"{limits.CREATED_DATABASES_COUNT} databases were made already (limit CREATED_DATABASES_COUNT)"
            )
        exists = await self._is_upstream(name)
        if exists and state is None:
            log.info("database %s was not made: CouchDB has one, which this gateway does not serve", name)
            raise AlreadyExists(_EXISTS)
        quorum = exists or await self._create_upstream(name, options)
        await self._serve(name)
        return quorum

    async def _create_upstream(self, name: str, options: Mapping[str, str]) -> bool:
        """Whether on as many nodes as wanted. Without an answer, what was begun stays noted."""
        await self._store.note_created(name, "creating")
        response = await self._upstream.request("PUT", _path(name), query=urlencode(options))
        received = bytearray()
        async for chunk in response.content:
            received += chunk[:_ANSWER_BYTES]
        if response.status in (201, 202):
            return response.status == 201
        error = _refusal(response.status, bytes(received))
        if not isinstance(error, UpstreamUnreachable):
            await self._store.note_created(name, None)
        raise error

    async def _serve(self, name: str) -> None:
        self._serving[name] = await self._open(self._settings.created(name))
        await self._store.note_created(name, "serving")
        log.info("database %s: made by request, served", name)

    async def _is_upstream(self, name: str) -> bool:
        try:
            await self._upstream.open(name, create=False)
        except UnknownDatabase:
            return False
        return True

    # Deleting

    async def delete(self, name: str) -> None:
        """Delete a database that was made by request, here and upstream.

        Raises Forbidden for one of the config file, UnknownDatabase. When the upstream does not answer, the database is
        gone here, and the same request once more, or the next start, deletes it there.
        """
        await self._change(self._delete(name))

    async def _delete(self, name: str) -> None:
        if name in self._configured:
            raise Forbidden(f"the database {name} is in the config file: take it out there, and delete it in CouchDB")
        if name not in await self._store.created() or self._is_configured(name):
            raise UnknownDatabase
        await self._store.note_created(name, "deleting")
        database = self._serving.pop(name, None)
        try:
            if database is not None:
                await database.retire(self._store)
            await self._finish_deletion(name)
        finally:
            if database is not None:  # who has deleted it is told first, then its feeds end
                asyncio.get_running_loop().call_later(limits.DELETED_FEED_PAUSE_SECONDS, database.deleted.set)
        self._begin_sweeping()

    async def _finish_deletion(self, name: str) -> None:
        try:
            await self._upstream.delete(name)
        except UnknownDatabase:
            log.info("database %s was deleted in CouchDB already", name)
        await self._store.drop(name)
        self._dropped(name)
        log.info("database %s: deleted by request", name)

    def _begin_sweeping(self) -> None:
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """Remove what deleted databases left in the metadata store, in pieces between which others write."""
        try:
            while await self._store.sweep():  # noqa: ASYNC110 - it waits for nothing, it lets others in
                await asyncio.sleep(0)
        except Exception:
            log.exception("what deleted databases left behind was not removed; the next start tries again")

    async def _change(self, change: Coroutine[Any, Any, T]) -> T:
        """One change at a time, and to its end whatever becomes of the client that wanted it."""

        async def run() -> T:
            async with self._lock:
                return await change

        task = asyncio.create_task(run())
        self._changing.add(task)
        task.add_done_callback(self._changed)
        return await asyncio.shield(task)

    def _changed(self, task: asyncio.Task[Any]) -> None:
        self._changing.discard(task)
        if not task.cancelled():
            task.exception()  # who asked, if still there, has it too

    # The rest of the server

    async def upstream_request(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        """Pass-through to the upstream's server, for administrators only. `path` must not be that of a database."""
        return await self._upstream.request(method, path, query=query, headers=headers, body=body)


def _path(name: str) -> str:
    return "/" + quote(name, safe="")


def _refusal(status: int, data: bytes) -> GatewayError:
    """The error for the upstream's answer to `PUT /{db}`."""
    try:
        told = parse(data)
    except BadJson:
        told = None
    error, reason = (told.get("error"), told.get("reason")) if isinstance(told, dict) else (None, None)
    if status in (401, 403):
        return UpstreamError(f"the upstream does not let the gateway create databases: {reason}")
    if status in (502, 503, 504):
        return UpstreamUnreachable(f"the upstream is not ready: {reason}")
    return from_status(status, str(error or ""), str(reason or f"the upstream answered {status}"))
