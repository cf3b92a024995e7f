"""CORS: what a browser is told about pages of other origins (https://fetch.spec.whatwg.org/#http-cors-protocol).

The answers are those of CouchDB (chttpd_cors): an allowed origin is named back, also where every one is allowed; a page
that is not allowed gets the ordinary answer without a word of CORS, and its browser keeps the answer from it. Nothing
is looked up here but configuration, so a path answers the same whether its database exists or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_plus

from aiohttp import web

from gateway.auth.origins import CorsPolicy
from gateway.http import answers

_METHODS: Final = ("COPY", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT")
_REQUEST_HEADERS: Final = frozenset(
    {
        # CouchDB's own list
        *("accept", "accept-language", "authorization", "content-length", "content-range", "content-type"),
        *("destination", "expires", "if-match", "last-modified", "origin", "pragma", "x-couch-full-commit"),
        *("x-couch-id", "x-couch-persist", "x-couchdb-www-authenticate", "x-http-method-override"),
        *("x-requested-with", "x-couchdb-vhost-path"),
        # What else means something here, or is sent by libraries
        *("cache-control", "content-encoding", "content-language", "if-none-match", "if-range", "last-event-id"),
        *("range", "referer"),
    }
)
# What scripts may read of an answer, beside what the specification always lets them.
_EXPOSED: Final = ", ".join(
    (
        *("accept-ranges", "content-length", "content-md5", "content-range", "content-type", "etag", "location"),
        *("retry-after", "server", "www-authenticate"),
        *("x-couch-request-id", "x-couch-update-newrev", "x-couchdb-body-time"),
    )
)
_NONE: Final[Mapping[str, CorsPolicy | None]] = {}


class Cors:
    """The policies of one listener; a reload of the configuration replaces them."""

    __slots__ = ("_databases", "_others", "_server")

    def __init__(self, server: CorsPolicy | None = None, databases: Mapping[str, CorsPolicy | None] = _NONE) -> None:
        self.configure(server, databases, server)

    def configure(
        self, server: CorsPolicy | None, databases: Mapping[str, CorsPolicy | None], others: CorsPolicy | None
    ) -> None:
        """`databases` have a policy of their own (None: no CORS), `others` is that of the paths of all other databases,
        whether they are there or not, and `server` that of the paths which belong to no database."""
        self._server = server
        self._databases = databases
        self._others = others

    def policy(self, request: web.BaseRequest) -> CorsPolicy | None:
        """What holds for the path of a request, malformed ones too; None: no CORS."""
        name = unquote_plus(request.rel_url.raw_path.lstrip("/").partition("/")[0])
        if not name or name.startswith("_"):
            return self._server
        return self._databases.get(name, self._others)

    def preflight(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a browser that asks whether a page may send a request; None if this is no such question, or
        the request is not allowed."""
        if request.method != "OPTIONS":
            return None
        policy = self.policy(request)
        origin = request.headers.get("Origin")
        method = request.headers.get("Access-Control-Request-Method")
        if policy is None or origin is None or not policy.allows(origin) or method not in _METHODS:
            return None
        asked = request.headers.get("Access-Control-Request-Headers", "")
        names = {name.strip().lower() for name in asked.split(",")} - {""}
        if not asked.isascii() or not names <= _REQUEST_HEADERS | policy.headers:
            return None
        return answers.empty(
            204,
            {
                "Access-Control-Allow-Methods": ", ".join(_METHODS),
                "Access-Control-Allow-Headers": asked,
                "Access-Control-Max-Age": str(policy.max_age_seconds),
                "Vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
            },
        )

    def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Say in an answer that has not begun whether the page that asked may read it."""
        policy = self.policy(request)
        if policy is None:
            return
        # Also without an Origin: what a cache keeps of this answer is not the one for a page.
        answers.vary(response, "Origin")
        origin = request.headers.get("Origin")
        if origin is None or not policy.allows(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        if policy.credentials:
            response.headers["Access-Control-Allow-Credentials"] = "true"
        if "Access-Control-Allow-Methods" not in response.headers:
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED

    def lists(self, request: web.BaseRequest) -> bool:
        """Whether a page of an origin that is listed by name sent this request."""
        policy = self.policy(request)
        return policy is not None and policy.names(request.headers.get("Origin", ""))

    def trusts(self, request: web.BaseRequest) -> bool:
        """Whether, besides, it may act with the login that the browser has, a cookie too."""
        policy = self.policy(request)
        return policy is not None and policy.credentials and self.lists(request)
