"""Where a CouchDB is and who we are there; the one place that handles its password."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from yarl import URL


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address. `shown` is for people: it has the user name, never the password."""

    base: str  # scheme, host, port and path prefix, without credentials and without a slash at the end
    shown: str
    username: str | None
    authorization: str | None = field(repr=False)  # the whole header value

    @classmethod
    def parse(cls, url: str, username: str | None = None, password: str | None = None) -> Address:
        """Credentials in the URL are used unless `username` is given. Raises ValueError, without quoting a password."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the CouchDB URL cannot be parsed; its form is http://host:5984") from None
        if parts.scheme not in {"http", "https"}:
            raise ValueError("the CouchDB URL must begin with http:// or https://, or be embedded:DIRECTORY")
        if not host:
            raise ValueError("the CouchDB URL names no host; its form is http://host:5984")
        if parts.query or parts.fragment:
            raise ValueError("the CouchDB URL must end after the path: no ? and no #")
        if username is None and parts.username is not None:
            username, password = unquote(parts.username), unquote(parts.password or "")
        if username is None and password is not None:
            raise ValueError("a CouchDB password is given, but no username")
        if username is not None and ":" in username:
            raise ValueError("a CouchDB username cannot hold a colon: HTTP Basic could not tell it from the password")
        authorization = None
        if username is not None:
            token = base64.b64encode(f"{username}:{password or ''}".encode()).decode("ascii")
            authorization = f"Basic {token}"
        where = f"[{host}]" if ":" in host else host
        if port is not None:
            where = f"{where}:{port}"
        path = parts.path.rstrip("/")
        who = "" if username is None else quote(username, safe="") + "@"
        return cls(
            base=f"{parts.scheme}://{where}{path}",
            shown=f"{parts.scheme}://{who}{where}{path}",
            username=username,
            authorization=authorization,
        )

    def url(self, path: str, query: str = "") -> URL:
        """The address of `path`, which is percent-encoded already and is sent exactly as it is."""
        return URL(f"{self.base}{path}?{query}" if query else f"{self.base}{path}", encoded=True)


def database_path(name: str) -> str:
    """`/name` with everything encoded: a slash belongs to the name, and a bare `+` would be read as a space."""
    return "/" + quote(name, safe="")


def document_path(doc_id: str) -> str:
    """`/id` below a database. The slash after `_design` and `_local` separates, any other belongs to the id."""
    for prefix in ("_design/", "_local/"):
        if doc_id.startswith(prefix):
            return f"/{prefix}{quote(doc_id.removeprefix(prefix), safe='')}"
    return "/" + quote(doc_id, safe="")
