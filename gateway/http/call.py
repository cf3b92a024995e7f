"""One request on its way to a handler, and the answer's way back to the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias

from aiohttp import web

from gateway import json_text
from gateway.auth.admins import Admins
from gateway.auth.sessions import Session, Sessions
from gateway.callers import Caller
from gateway.catalogue import Catalogue
from gateway.database import Database
from gateway.errors import BadJson, GatewayError, UpstreamRefused, from_status
from gateway.http import answers, compression
from gateway.http.connection import Connection
from gateway.http.cookies import CookieForm, session_token, set_cookie
from gateway.http.cors import Cors
from gateway.http.params import Options
from gateway.http.traffic import Traffic


class Databases(Protocol):
    """The configured databases; they may come and go while the gateway runs."""

    def get(self, name: str) -> Database | None: ...

    def names(self) -> Sequence[str]:
        """Sorted."""

    async def login(self, name: str, password: str) -> list[tuple[Database, Caller]]:
        """Log in to every database that has this user with this password, up to LOGIN_DATABASES_COUNT; none: a wrong
        login. Time does not tell whether there are any. Raises Unavailable as `Database.login` does.
        """

    async def refuse_login(self, name: str, password: str) -> None:
        """Take as long as a wrong login at a database that exists, so that time does not tell which exist.

        For example `Credentials.verify(…, stored=None)`. The credentials must count nowhere. Raises Unavailable as
        `Database.login` does.
        """


class Gate:
    """Who may come in at one listener, and to what."""

    __slots__ = (
        *("admin_names", "admins", "allow_admins", "catalogue", "cookie_form", "cors", "databases", "name"),
        *("sessions", "traffic"),
    )

    def __init__(
        self,
        name: str,
        databases: Databases,
        traffic: Traffic,
        *,
        admins: Admins,
        admin_names: frozenset[str],
        allow_admins: bool,
        sessions: Sessions,
        catalogue: Catalogue,
        cookie_form: CookieForm = CookieForm(),  # noqa: B008 - a frozen value
        cors: Cors | None = None,
    ) -> None:
        """`admin_names` are those that `admins` knows; a name that is not among them costs no check of a password.

        Without `cors` pages of other origins may read nothing.
        """
        self.name = name
        self.databases = databases
        self.traffic = traffic
        self.admins = admins
        self.admin_names = admin_names
        self.allow_admins = allow_admins
        self.sessions = sessions
        self.cookie_form = cookie_form
        self.catalogue = catalogue
        self.cors = cors if cors is not None else Cors()

    def trusts(self, request: web.BaseRequest) -> bool:
        """Whether a page of the request's `Origin` may use session cookies; pages of the gateway's own may."""
        return self.cors.trusts(request)


class Call:
    """What a handler gets. `database` and `caller` are set when its route's policy asks for them."""

    __slots__ = ("_caller", "_database", "gate", "options", "query", "request", "response", "session", "values")

    def __init__(self, request: web.BaseRequest, gate: Gate, values: Mapping[str, str], query: dict[str, str]) -> None:
        self.request = request
        self.gate = gate
        self.values = values
        self.query = query
        self.options = Options(query)
        self.response: web.StreamResponse | None = None  # once it has begun
        self.session: Session | None = None  # of the cookie, if it was the login
        self._database: Database | None = None
        self._caller: Caller | None = None

    @property
    def database(self) -> Database:
        assert self._database is not None, "the route's policy asks for no database"  # noqa: S101
        return self._database

    @property
    def catalogue(self) -> Catalogue:
        return self.gate.catalogue

    @property
    def caller(self) -> Caller:
        assert self._caller is not None, "the route's policy asks for no login"  # noqa: S101
        return self._caller

    def admit(self, database: Database | None, caller: Caller) -> None:
        self._database, self._caller = database, caller
        self.session = caller.session

    @property
    def traffic(self) -> Traffic:
        return self.gate.traffic

    @property
    def is_head(self) -> bool:
        return self.request.method == "HEAD"

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    def renew_session(self, response: web.StreamResponse) -> None:
        """Give a session in use its whole time again, now and then, and say so in an answer that has not begun."""
        if self.session is None or not self.gate.sessions.renew(self.session):
            return
        token = session_token(self.request.headers)
        if token is not None and "Set-Cookie" not in response.headers:
            cookie = set_cookie(self.request, self.gate.cookie_form, self.session, token)
            response.headers["Set-Cookie"] = cookie

    # Answers that are written piece by piece

    async def begin(self, response: web.StreamResponse, *, compress: bool = False) -> None:
        """Send the head. From now on nothing but this response can be answered.

        `compress` what follows, if the client takes it.
        """
        if self.request.transport is None:
            raise ConnectionResetError("the client left")
        self.renew_session(response)
        answers.complete_location(self.request, response)
        self.gate.cors.add_headers(self.request, response)
        if compress and isinstance(response, answers.Stream):
            compression.compress_stream(self.request, response, self.gate.cors)
        self.response = response
        await response.prepare(self.request)

    async def write(self, data: bytes) -> None:
        """Returns when the client has taken most of it. Raises ConnectionError when it is gone, or was let go since it
        took nothing for CLIENT_WRITE_SECONDS (connection.py)."""
        assert self.response is not None  # noqa: S101
        await self.response.write(data)

    def end_with_client(self) -> None:
        """From now on the request is cancelled when its client leaves: for reads, whose answer nobody else wants."""
        connection, task = self.request.protocol, asyncio.current_task()
        if isinstance(connection, Connection) and task is not None:
            connection.on_lost = task.cancel

    def break_off(self) -> None:
        """End the connection without the end of the answer, so that nobody takes the part for the whole."""
        if self.request.transport is not None:
            self.request.transport.close()


_ERROR_BYTES: Final = 65_536  # of an upstream's answer that is an error
Handler: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]


class Source(Protocol):
    """An answer of the upstream that is passed on: `UpstreamResponse`."""

    status: int
    headers: Mapping[str, str]
    content: AsyncIterator[bytes]


async def relay(call: Call, source: Source, headers: Mapping[str, str]) -> web.StreamResponse:
    """Pass an answer on with these headers as it comes, never held whole."""
    response = web.StreamResponse(status=source.status, headers={"Server": answers.SERVER, **headers})
    length = source.headers.get("content-length")
    try:
        if length is not None and length.isdigit() and source.status not in (204, 304):
            response.content_length = int(length)
        await call.begin(response)
        if not call.is_head and source.status not in (204, 304):
            async for chunk in source.content:
                await call.write(chunk)
        return response
    finally:
        await close(source.content)


async def refusal(source: Source, missing: str = "") -> GatewayError:
    """The upstream's error as one of ours, with its code. Its 401 and 403 are about the gateway's login alone."""
    received = bytearray()
    try:
        async for chunk in source.content:
            received += chunk
            if len(received) > _ERROR_BYTES:
                break
        value = json_text.parse(bytes(received))
    except BadJson:
        value = None
    finally:
        await close(source.content)
    if source.status in (401, 403):
        return UpstreamRefused("the upstream refuses the gateway's own credentials for this")
    said = value if isinstance(value, dict) else {}
    default = missing if source.status == 404 else ""
    return from_status(source.status, str(said.get("error", "")), str(said.get("reason", default)))


async def close(iterator: AsyncIterator[Any]) -> None:
    """Release what an iterator holds that may not have come to its end."""
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        with suppress(RuntimeError):  # it is running: the cancellation that brought us here ends it
            await aclose()
