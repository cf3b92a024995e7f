"""Composition: settings → stores and upstream → databases → listeners; reload, drain."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import web

from gateway.accounts import Accounts
from gateway.auth.admins import Admins
from gateway.auth.credentials import Credentials
from gateway.auth.origins import CorsPolicy
from gateway.auth.passwords import Passwords
from gateway.auth.sessions import Session, Sessions
from gateway.callers import Caller
from gateway.catalogue import Catalogue
from gateway.couch.open import open_upstream
from gateway.couch.revision_cache import RevisionCache
from gateway.couch.upstream import Upstream
from gateway.database import Database
from gateway.descriptors import Complaints, allow_all, connections_of
from gateway.errors import GatewayError, UpstreamError
from gateway.http.call import Gate
from gateway.http.cookies import CookieForm
from gateway.http.cors import Cors
from gateway.http.listener import Listener
from gateway.http.routes import ROUTES
from gateway.http.traffic import Traffic
from gateway.logins import Logins
from gateway.settings.addresses import Address
from gateway.settings.load import load
from gateway.settings.problems import SettingsError
from gateway.settings.values import DatabaseSettings, Settings
from gateway.store.connections import StoreError
from gateway.store.lock import StoreLock
from gateway.store.protocol import SessionStore
from gateway.store.sqlite import SqliteStore

log = logging.getLogger(__name__)


class StartError(Exception):
    """The gateway cannot start; the message is for the operator."""


class OpenDatabases:
    """The databases that are being served, by name; what http/ knows of them as a whole."""

    def __init__(self, credentials: Credentials) -> None:
        self.by_name: dict[str, Database] = {}
        self._credentials = credentials

    def get(self, name: str) -> Database | None:
        return self.by_name.get(name)

    def names(self) -> Sequence[str]:
        return sorted(self.by_name)

    def open_logins(self, store: SessionStore) -> None:
        """Before anybody can log in to the server."""
        self._logins = Logins(store, self.by_name, self.refuse_login)

    async def login(self, name: str, password: str) -> list[tuple[Database, Caller]]:
        """Log in to every database that has this user."""
        return await self._logins.login(name, password)

    def session_ended(self, session: Session) -> None:
        """The feeds that run by this session are to look at it."""
        names = self.by_name if session.admin else session.logins
        for name in names:
            database = self.by_name.get(name)
            if database is not None:
                database.session_ended(None if session.admin else session.name)

    async def refuse_login(self, name: str, password: str) -> None:
        """Take as long as a wrong login at a database that exists."""
        await self._credentials.verify("", name, password, None)


class Server:
    """One gateway process. `start()`, then `serve_until_stopped()`; `stop()` in any case."""

    def __init__(self, settings: Settings, config: Path) -> None:
        self._settings = settings
        self._config = config
        self._passwords = Passwords()
        self._credentials = Credentials(self._passwords)
        self._open = OpenDatabases(self._credentials)
        self._lock: StoreLock | None = None
        self._store: SqliteStore | None = None
        self._sessions: Sessions | None = None
        self._upstream: Upstream | None = None
        self._catalogue: Catalogue | None = None
        self._traffic = Traffic()
        self._drain_s = settings.shutdown.drain_s
        self._cors = Cors()
        self._cors_of_databases: dict[str, CorsPolicy | None] = {}
        self._configure_cors(settings)
        self._runners: dict[str, web.ServerRunner] = {}
        self._addresses: dict[str, Address] = {}
        self._stopping = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._reload_asked = False
        self._serving = False

    @property
    def databases(self) -> Mapping[str, Database]:
        return self._open.by_name

    def address(self, listener: str) -> str:
        """`host:port` where a listener really listens."""
        return str(self._addresses[listener])

    async def start(self) -> bool:
        """Open everything, and the ports last: what cannot work is said before anybody can connect.

        False when SIGTERM or SIGINT came first. Raises StartError.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Complaints())
        descriptors = allow_all()
        self._traffic.connections_count = connections_of(descriptors)
        log.info("up to %d clients (%d open files)", self._traffic.connections_count, descriptors)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._begin_reload)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return False
            starting.result()
            return True
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)

    async def _start(self) -> None:
        try:
            self._lock = await asyncio.to_thread(StoreLock, self._settings.metadata)
            self._store = await asyncio.to_thread(SqliteStore, self._settings.metadata)
            sessions = self._settings.sessions
            self._sessions = Sessions(self._store.sessions, ttl_s=sessions.timeout_s, ended=self._open.session_ended)
            self._sessions.start()
            self._open.open_logins(self._store.sessions)
            self._upstream = await self._connect()
            cache = RevisionCache()
            store, upstream = self._store, self._upstream

            async def open_database(database: DatabaseSettings) -> Database:
                return await Database.open(database, store, upstream, cache, self._passwords, self._credentials)

            for database in self._settings.databases.values():
                self._open.by_name[database.name] = await open_database(database)
            self._catalogue = Catalogue(
                *(
                    self._settings,
                    store,
                    upstream,
                    self._open.by_name,
                    open_database,
                    self._passwords,
                    self._credentials,
                ),
                self._sessions.end_database,
            )
            await self._catalogue.start()
            if self._settings.public.sign_up:
                self._catalogue.open_sign_up(self._store.sessions.databases_of)
            await self._listen(self._sessions, self._catalogue)
        except StoreError as error:
            raise StartError(str(error)) from error
        except UpstreamError as error:
            raise StartError(error.explained) from error
        except GatewayError as error:
            raise StartError(error.reason) from error

    async def _connect(self) -> Upstream:
        given = self._settings.upstream
        password = given.password.get_secret_value() if given.password is not None else None
        try:
            upstream = open_upstream(given.url, given.username, password)
        except ValueError as error:
            raise StartError(str(error)) from error
        self._upstream = upstream
        await upstream.check()
        return upstream

    async def _listen(self, sessions: Sessions, catalogue: Catalogue) -> None:
        listen = self._settings.listen
        cookie = CookieForm(self._settings.sessions.same_site, self._settings.sessions.secure)
        admins = Admins(self._settings.admins, self._credentials)
        for name, address in (("public", listen.public), ("admin", listen.admin), ("metrics", listen.metrics)):
            if address is None:
                continue
            gate = Gate(
                name,
                self._open,
                self._traffic,
                admins=admins,
                admin_names=frozenset(self._settings.admins),
                allow_admins=name == "public" and self._settings.public.allow_admins,
                sessions=sessions,
                cookie_form=cookie,
                catalogue=catalogue,
                cors=self._cors if name == "public" else None,
            )
            runner = Listener(gate, ROUTES).runner()
            await runner.setup()
            self._runners[name] = runner
            try:
                await web.TCPSite(runner, address.host, address.port, backlog=1024).start()
            except OSError as error:
                raise StartError(f"the {name} port cannot listen on {address}: {error.strerror or error}") from error
            port = runner.addresses[0][1]
            self._addresses[name] = Address(address.host, port)
            log.info("%s port: http://%s", name, self._addresses[name])

    async def serve_until_stopped(self) -> None:
        """Until SIGTERM or SIGINT. SIGHUP reads the configuration again."""
        self._serving = True
        if self._reload_asked:
            self._begin_reload()
        await self._stopping.wait()
        log.info("stopping: feeds end, requests under way are finished")

    def _begin_reload(self) -> None:
        self._reload_asked = True
        if not self._serving:
            return  # it would end a process that had no handler yet; it is done once everything is open
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload_as_asked())

    async def _reload_as_asked(self) -> None:
        """Once more when another SIGHUP came meanwhile: the file may have been read before its last change."""
        while self._reload_asked:
            self._reload_asked = False
            try:
                await self._reload()
            except Exception:
                log.exception("the configuration was not reloaded, or not all of it")

    async def _reload(self) -> None:
        """Take over what can be changed while serving: users, roles, the guest, sync functions, CORS, the log level,
        the time to stop.

        A file with problems changes nothing.
        """
        try:
            settings = await asyncio.to_thread(load, self._config, os.environ)
        except SettingsError as error:
            for problem in error.problems:
                log.error("the configuration was not reloaded: %s", problem)
            return
        logging.getLogger().setLevel(settings.logging.level.upper())
        self._drain_s = settings.shutdown.drain_s
        self._configure_cors(settings)
        for name, database in settings.databases.items():
            if name in self._open.by_name and self._store is not None:
                store = await self._store.database(name)
                await Accounts(store, self._passwords).configure(database)
                await store.settle_members()
                await self._open.by_name[name].versions.follow(database)
        if needs_restart(self._settings, settings):
            log.warning("the configuration was reloaded; some of its changes take effect only after a restart")
        else:
            log.info("the configuration was reloaded")

    def _configure_cors(self, settings: Settings) -> None:
        """For the databases that were in the file at the start: a later one is not served yet and must not show in the
        answers, one that is no longer in the file keeps what it had. All others are made by request, or not there."""
        for name in self._settings.databases:
            if name in settings.databases:
                self._cors_of_databases[name] = settings.databases[name].cors
        self._cors.configure(settings.cors, dict(self._cors_of_databases), settings.default_database.cors)

    async def stop(self) -> None:
        """Drain and close, in the order in which things depend on each other; can be called after a failed start."""
        if not await self._traffic.drain(self._drain_s):
            log.warning("%d requests did not end within %s s and are broken off", self._traffic.active, self._drain_s)
        await asyncio.gather(*(runner.cleanup() for runner in self._runners.values()))
        if self._reloading is not None:
            await asyncio.gather(self._reloading, return_exceptions=True)
        if self._catalogue is not None:
            await self._catalogue.close()
        for database in self._open.by_name.values():
            await database.close()
        if self._sessions is not None:
            await self._sessions.close()
        if self._upstream is not None:
            await self._upstream.close()
        if self._store is not None:
            await self._store.close()
        if self._lock is not None:
            self._lock.release()
        await self._credentials.close()
        await self._passwords.close()


def needs_restart(before: Settings, after: Settings) -> bool:
    """Whether something changed that only a restart brings in: ports, upstream, admins, sessions, databases, the
    default database."""

    def fixed(settings: Settings) -> object:
        databases = {
            name: (database.upstream, database.hide_existence, database.imports)
            for name, database in settings.databases.items()
        }
        default = settings.default_database
        return (
            *(settings.listen, settings.metadata, settings.upstream, settings.admins, settings.public, databases),
            settings.sessions,
            *(default.sync_source, default.resync, default.hide_existence, default.guest, default.users, default.roles),
            default.imports,
        )

    return fixed(before) != fixed(after)
