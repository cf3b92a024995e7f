"""The session cookie: CouchDB's `AuthSession`, and when a browser's cookie may speak for its user.

A browser adds cookies to requests that any page causes. `SameSite` keeps it from that in most cases; what remains is
refused here: other origins, and POST requests that a page could send without asking (CORS).
"""

from __future__ import annotations

import email.utils
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from aiohttp import web

from gateway.auth.local import same_origin
from gateway.auth.sessions import Session
from gateway.errors import Forbidden
from gateway.http.body import require_json

NAME: Final = "AuthSession"
_VALUE: Final = re.compile(r"[^:]*:[0-9A-F]{8,}:([\w-]+)\Z", re.ASCII)
_NOT_PLAIN: Final = re.compile(r"[^!-9;-~]")  # also the colon
SameSite: TypeAlias = Literal["lax", "strict", "none"]


@dataclass(frozen=True, slots=True)
class CookieForm:
    """How the cookie is set. `secure`: always, else only where a proxy says that the client came by HTTPS."""

    same_site: SameSite = "lax"
    secure: bool = False


def session_token(headers: Mapping[str, str]) -> str | None:
    """The value of the session cookie; None without one, also for the empty one that a logout leaves.

    Of several the first counts: browsers send the one with the longest path first (RFC 6265 section 5.4).
    """
    for pair in headers.get("Cookie", "").split(";"):
        name, _, value = pair.strip(" \t").partition("=")
        if name == NAME:
            return token_of(value.strip('"')) or None
    return None


def token_of(value: str) -> str:
    """The session's token in the value of a cookie; a value of another form is a token itself, as Sync Gateway's is."""
    try:
        decoded = urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode("ascii")
    except (ValueError, UnicodeError):
        return value
    match = _VALUE.match(decoded)
    return value if match is None else match[1]


def _value(session: Session, token: str) -> str:
    """CouchDB's form, base64 of `name:time:…`, for clients that read who is logged in, and since when, from it.

    https://docs.couchdb.org/en/stable/api/server/authn.html#cookie-authentication
    """
    name = urlsafe_b64encode(session.name.encode()).decode() if _NOT_PLAIN.search(session.name) else session.name
    since = int(session.expires_at - session.ttl_s)
    return urlsafe_b64encode(f"{name}:{since:08X}:{token}".encode()).decode().rstrip("=")


def set_cookie(request: web.BaseRequest, form: CookieForm, session: Session, token: str) -> str:
    """The header that gives the client its session, for its whole time from now."""
    return _cookie(request, form, _value(session, token), int(session.ttl_s), session.expires_at)


def clear_cookie(request: web.BaseRequest, form: CookieForm) -> str:
    """The header that takes the cookie away."""
    return _cookie(request, form, "", 0, 0)


def _cookie(request: web.BaseRequest, form: CookieForm, value: str, max_age: int, expires_at: float) -> str:
    # `Version` and `Expires` are CouchDB's; nano goes by `Expires`, CouchDB's replicator by `Max-Age`.
    expires = email.utils.formatdate(expires_at, usegmt=True)
    text = f"{NAME}={value}; Version=1; Expires={expires}; Max-Age={max_age}; Path=/; HttpOnly"
    text += f"; SameSite={form.same_site.capitalize()}"
    by_https = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower() == "https"
    # Browsers take SameSite=None with Secure only.
    return text + "; Secure" if form.secure or by_https or form.same_site == "none" else text


def check_page(request: web.BaseRequest, *, trusted: bool) -> None:
    """Refuse a request that a web page of another origin caused, unless CORS trusts that origin. Raises Forbidden.

    Who is no browser sends neither header. `Sec-Fetch-Site` cannot be written by a page, and is right also behind a
    proxy that changes `Host`; older browsers, and plain HTTP, have `Origin` only. Following a link from elsewhere is
    no harm: it reads, and shows what it reads to the user alone.
    """
    headers = request.headers
    site = headers.get("Sec-Fetch-Site", "").strip().lower()
    if site in ("same-origin", "none") or trusted:
        return
    origin = headers.get("Origin")
    if not site and (origin is None or same_origin(origin, headers.get("Host", ""))):
        return
    link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    if link and origin is None and request.method in ("GET", "HEAD"):
        return
    raise Forbidden("a page of another origin may not use the session cookie; allow its origin, or send Authorization")


def check_cookie_may_count(request: web.BaseRequest, *, trusted: bool) -> None:
    """Raises Forbidden as `check_page`, and UnsupportedMedia for what a form could have posted."""
    check_page(request, trusted=trusted)
    if request.method == "POST":
        require_json(request)
