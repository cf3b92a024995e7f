"""One listener: from a request to its route, its caller, its handler, its answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aiohttp import web

from gateway import limits
from gateway.callers import Caller
from gateway.errors import (
    Forbidden,
    GatewayError,
    InvalidDocumentId,
    NotFound,
    Unauthorized,
    Unavailable,
    UnknownDatabase,
)
from gateway.http import answers, compression
from gateway.http.call import Call, Gate
from gateway.http.connection import Connection, Server
from gateway.http.dispatch import Dispatcher, segments
from gateway.http.login import admin_database, admit_admin, admit_own, admit_user
from gateway.http.params import parse_query
from gateway.http.route import Route

log = logging.getLogger(__name__)


class Listener:
    """Answers requests by its part of the route table.

    `runner()` gives what aiohttp's sites take: `runner = listener.runner(); await runner.setup();
    await web.TCPSite(runner, host, port).start()`, and in the end, after `traffic.drain()`, `await runner.cleanup()`,
    which breaks off what has not ended.
    """

    def __init__(self, gate: Gate, routes: Iterable[Route]) -> None:
        self.gate = gate
        self._dispatcher = Dispatcher([route for route in routes if gate.name in route.listeners])

    def runner(self) -> web.ServerRunner:
        """Call it inside the event loop."""
        limited_by = self.gate.traffic if self.gate.name == "public" else None
        return web.ServerRunner(Server(self.handle, limited_by), shutdown_timeout=limits.BREAK_OFF_SECONDS)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Every error is an answer; only cancellation is raised."""
        traffic = self.gate.traffic
        if isinstance(request.protocol, Connection):
            request.protocol.asked()
        with traffic.request():
            response: web.StreamResponse | None = self.gate.cors.preflight(request)
            if response is None:
                try:
                    response = await self._answer(request)
                finally:
                    if isinstance(request.protocol, Connection):
                        request.protocol.on_lost = None
            answers.complete_location(request, response)
            if not response.prepared:
                self.gate.cors.add_headers(request, response)
                await compression.compress(request, response, self.gate.cors)
            traffic.answered(self.gate.name, response.status)
            if traffic.draining:
                response.force_close()
            return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        call: Call | None = None
        try:
            parts = segments(request.rel_url.raw_path)
            if request.method == "OPTIONS":
                return answers.empty(204, {"Allow": ", ".join(self._dispatcher.allowed(parts))})
            if self.gate.traffic.draining and parts != ["_up"]:
                raise Unavailable("the gateway is shutting down")
            try:
                match = self._dispatcher.match(request.method, parts)
            except NotFound:
                await self._admit_to_nothing(request, parts)
                raise
            except InvalidDocumentId:
                await self._admit_to_database(request, parts[0])
                raise
            call = Call(request, self.gate, match.values, parse_query(request.rel_url.raw_query_string))
            await self._admit(call, match.row)
            if request.method in ("GET", "HEAD"):
                call.end_with_client()
            response = await match.row.handler(call)
            if call.response is None:
                call.renew_session(response)
            return response
        except GatewayError as error:
            if call is not None and call.response is not None:
                log.warning("%s %s broke off: %s", request.method, request.rel_url.raw_path, error.reason)
                return _broken_off(call, call.response)
            failure = answers.failure(error, request.headers)
            if call is not None:
                call.renew_session(failure)
            return failure
        except ConnectionError as error:
            # Nobody is there to answer, or the client will not take it.
            if call is not None and call.response is not None:
                return _broken_off(call, call.response)
            if request.transport is not None and not request.transport.is_closing():
                log.exception("%s %s failed", request.method, request.rel_url.raw_path)
                return answers.failure(GatewayError(), request.headers)
            log.debug("the client left: %s", error)
            return answers.empty(500, {})
        except Exception:
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            if call is not None and call.response is not None:
                return _broken_off(call, call.response)
            return answers.failure(GatewayError(), request.headers)

    async def _admit(self, call: Call, route: Route) -> None:
        """Settle who asks, by the route's policy; 401, 403 and 404 come from here."""
        if route.policy == "public":
            return
        if route.policy == "server" or (route.policy == "own" and not self._is_open_for_sign_up(call)):
            call.admit(None, await self._admit_server_admin(call))
            return
        if route.policy == "own":
            call.admit(None, await admit_own(self.gate, call.request))
            return
        name = call.values.get("db")
        if self.gate.name == "admin":
            caller = await admit_admin(self.gate, call.request)
            known = name is not None and not (route.unknown and self.gate.databases.get(name) is None)
            call.admit(admin_database(self.gate, call.values["db"]) if known else None, caller)
        elif name is not None:
            try:
                database, caller = await admit_user(self.gate, call.request, name)
            except UnknownDatabase:  # told to administrators only
                if not route.unknown:
                    raise
                call.admit(None, await admit_admin(self.gate, call.request))
                return
            call.admit(database, caller)
            if route.policy == "admin" and not caller.is_admin:
                raise Forbidden("only administrators may do this")
        else:
            if not (self.gate.allow_admins and self.gate.admins):
                raise NotFound
            call.admit(None, await admit_admin(self.gate, call.request))

    async def _admit_to_nothing(self, request: web.BaseRequest, parts: list[str]) -> None:
        """CouchDB tells server admins alone that a path like `/_nothing` is not there. Raises Unauthorized."""
        if self.gate.name != "metrics" and parts and parts[0].startswith("_") and parts[0] != "_utils":
            await self._admit_server_admin(Call(request, self.gate, {}, {}))

    async def _admit_to_database(self, request: web.BaseRequest, name: str) -> None:
        """Who may not use a database does not hear what is wrong with an id. Raises Unauthorized, UnknownDatabase."""
        if self.gate.name == "public":
            await admit_user(self.gate, request, name)
        elif self.gate.name == "admin":
            await admit_admin(self.gate, request)

    def _is_open_for_sign_up(self, call: Call) -> bool:
        return self.gate.name == "public" and call.catalogue.sign_up is not None

    async def _admit_server_admin(self, call: Call) -> Caller:
        """As CouchDB where it asks for a server admin. Raises Unauthorized in its words."""
        try:
            if self.gate.name == "admin" or (self.gate.allow_admins and self.gate.admins):
                return await admit_admin(self.gate, call.request)
        except Unauthorized as error:
            raise type(error)("You are not a server admin.") from None
        raise Unauthorized("You are not a server admin.")


def _broken_off(call: Call, response: web.StreamResponse) -> web.StreamResponse:
    call.break_off()
    return response
