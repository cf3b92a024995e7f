"""Listeners on real ports over a database in memory."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway.auth.admins import Admins
from gateway.auth.credentials import Credentials
from gateway.auth.passwords import Passwords
from gateway.auth.sessions import Sessions
from gateway.callers import Caller
from gateway.catalogue import Catalogue
from gateway.couch.upstream import UpstreamResponse
from gateway.database import Database
from gateway.errors import AlreadyExists, Forbidden, InvalidLogin, NotFound, UnknownDatabase
from gateway.http.call import Gate
from gateway.http.cookies import CookieForm
from gateway.http.cors import Cors
from gateway.http.listener import Listener
from gateway.http.routes import ROUTES
from gateway.http.traffic import Traffic
from gateway.model.names import check_new_database_name
from gateway.sign_up import SignUp
from tests.http.fake import FakeDatabase, upstream_answer
from tests.http.fake_sessions import MemorySessions

ANN = ("ann", "secret")
BOB = ("bob", "secret")
OPS = ("ops", "opensesame")


_TLS = ssl.create_default_context()  # one for all clients: making it takes longer than most tests


class FakeDatabases:
    """The registry; `refused` are the logins that had to look as slow as a wrong one."""

    def __init__(self, *databases: FakeDatabase) -> None:
        self.by_name = {database.name: database for database in databases}
        self.refused: list[tuple[str, str]] = []

    def get(self, name: str) -> Database | None:
        return cast("Database | None", self.by_name.get(name))

    def names(self) -> Sequence[str]:
        return sorted(self.by_name)

    async def login(self, name: str, password: str) -> list[tuple[Database, Caller]]:
        found: list[tuple[Database, Caller]] = []
        for database in self.by_name.values():
            with contextlib.suppress(InvalidLogin):
                found.append((cast("Database", database), await database.login(name, password)))
        return found

    async def refuse_login(self, name: str, password: str) -> None:
        self.refused.append((name, password))


class FakeUsers:
    """Documents of `_users` in memory, without the checks of the real one."""

    def __init__(self) -> None:
        self.docs: dict[str, dict[str, Any]] = {}

    async def get(self, doc_id: str, rev: str | None = None) -> dict[str, Any]:
        if doc_id not in self.docs or rev not in (None, self.docs[doc_id]["_rev"]):
            raise NotFound
        return self.docs[doc_id]

    async def all(self) -> list[dict[str, Any]]:
        return [self.docs[doc_id] for doc_id in sorted(self.docs)]

    async def login(self, name: str, password: str) -> None:
        """Nobody is a user of the server here."""

    async def put(self, doc: Mapping[str, Any]) -> str:
        if not isinstance(doc.get("_id"), str) or doc.get("type", "user") != "user":
            raise Forbidden("doc.type must be user")
        self.docs[str(doc["_id"])] = {**doc, "_rev": "1-a"}
        if doc.get("_deleted"):
            del self.docs[str(doc["_id"])]
        return "1-a"


class FakeCatalogue:
    """What is made and deleted, in the registry; `asked` is what was sent to the server itself."""

    uuid = "4c0f" * 8
    sign_up: SignUp | None = None

    def __init__(self, databases: FakeDatabases) -> None:
        self._databases = databases
        self.options: dict[str, Mapping[str, str]] = {}
        self.quorum = True
        self.asked: list[tuple[str, str, str, Mapping[str, str], bytes | None]] = []
        self.upstream: UpstreamResponse | None = None
        self.users = FakeUsers()

    async def create(self, name: str, options: Mapping[str, str]) -> bool:
        check_new_database_name(name)
        if name in self._databases.by_name:
            raise AlreadyExists("The database could not be created, the file already exists.")
        self._databases.by_name[name] = FakeDatabase(name)
        self.options[name] = options
        return self.quorum

    async def delete(self, name: str) -> None:
        if name not in self._databases.by_name:
            raise UnknownDatabase
        del self._databases.by_name[name]

    async def upstream_request(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        self.asked.append((method, path, query, headers, body))
        return self.upstream if self.upstream is not None else upstream_answer(200, {"from": "server"})


class Ports:
    """Running listeners: `public`, `admin`, `metrics` are clients of theirs, `ports` their numbers."""

    def __init__(self, databases: FakeDatabases, traffic: Traffic, sessions: Sessions) -> None:
        self.databases = databases
        self.sessions = sessions
        self.now = 1_700_000_000.0  # the sessions' clock
        self.db = databases.by_name["notes"]
        self.traffic = traffic
        self.catalogue = FakeCatalogue(databases)
        self.ports: dict[str, int] = {}
        self.clients: dict[str, httpx.AsyncClient] = {}

    @property
    def public(self) -> httpx.AsyncClient:
        """As nobody; give `auth=ANN`."""
        return self.clients["public"]

    @property
    def ann(self) -> httpx.AsyncClient:
        return self.clients["ann"]

    @property
    def admin(self) -> httpx.AsyncClient:
        return self.clients["admin"]

    @property
    def metrics(self) -> httpx.AsyncClient:
        return self.clients["metrics"]

    async def raw(self, request: bytes, *, listener: str = "public", one_answer: bool = False) -> bytes:
        """Send bytes, and read all that comes until the connection ends, or `one_answer` that tells its length."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[listener])
        try:
            writer.write(request)
            await writer.drain()
            if not one_answer:
                return await reader.read()
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def listening(
    *,
    admins: Mapping[str, str] | None = None,
    allow_admins: bool = False,
    feeds_count: int = 100,
    cookie_form: CookieForm = CookieForm(),  # noqa: B008 - a frozen value
    cors: Cors | None = None,
) -> AsyncIterator[Ports]:
    """Start the listeners; `admins` are names and passwords, `cors` is for the public one."""
    passwords = Passwords(memory_kibibytes=8, passes=1)
    credentials = Credentials(passwords)
    given = {name: SecretStr(password) for name, password in (admins or {}).items()}
    databases = FakeDatabases(FakeDatabase())
    traffic = Traffic(feeds_count=feeds_count)
    sessions = Sessions(MemorySessions(), clock=lambda: running.now)
    running = Ports(databases, traffic, sessions)
    runners: list[web.ServerRunner] = []
    async with contextlib.AsyncExitStack() as stack:
        for name in ("public", "admin", "metrics"):
            gate = Gate(
                name,
                databases,
                traffic,
                admins=Admins(given, credentials),
                admin_names=frozenset(given),
                allow_admins=allow_admins,
                sessions=sessions,
                cookie_form=cookie_form,
                catalogue=cast("Catalogue", running.catalogue),
                cors=cors if name == "public" else None,
            )
            runner = Listener(gate, ROUTES).runner()
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            running.ports[name] = runner.addresses[0][1]
            running.clients[name] = await stack.enter_async_context(_client(running.ports[name]))
        running.clients["ann"] = await stack.enter_async_context(_client(running.ports["public"], ANN))
        try:
            yield running
        finally:
            await traffic.drain(5)
            for client in running.clients.values():
                await client.aclose()
            for runner in runners:
                await runner.cleanup()
            await credentials.close()
            await passwords.close()


def _client(port: int, auth: tuple[str, str] | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        auth=auth,
        timeout=30,
        headers={"Accept": "application/json"},
        verify=_TLS,
    )


@pytest.fixture
async def gateway() -> AsyncIterator[Ports]:
    """Without admins: the admin port trusts this machine."""
    async with listening() as running:
        yield running


@pytest.fixture
async def guarded() -> AsyncIterator[Ports]:
    """With the admin `ops`, who is let in at the public port too."""
    async with listening(admins=dict([OPS]), allow_admins=True) as running:
        yield running
