"""Web pages elsewhere: their origins, and what a server or a database allows them (CORS).

An origin is `scheme://host[:port]` as a browser sends it: lower case, no path, no port that goes without saying
(https://fetch.spec.whatwg.org/#origin-header). Apps in a web view have schemes of their own (`capacitor://localhost`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ANY: Final = "*"

_WRITTEN = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#].*)?\Z",
    re.DOTALL,
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'+.^_`|~-]+\Z")  # a token of RFC 9110, but `*` is no name
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class CorsPolicy:
    """What pages of other origins may do in a browser.

    `origins` holds exact origins, or `ANY`, then without `credentials`: pages that nobody named must not act for who
    is logged in. `headers` are the request headers that are allowed beside the usual ones, in lower case.
    """

    origins: frozenset[str]
    credentials: bool = False
    headers: frozenset[str] = frozenset()
    max_age_seconds: int = 600

    def __post_init__(self) -> None:
        if self.credentials and ANY in self.origins:
            raise ValueError("credentials are for origins that are named")

    def names(self, origin: str) -> bool:
        """Whether this very origin was listed."""
        return origin != ANY and origin in self.origins

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may read answers."""
        return self.names(origin) or (ANY in self.origins and origin.isascii() and origin.isprintable())


def check_origin(text: str) -> str:
    """The origin as given, or `ANY`. Raises ValueError with a sentence for the operator."""
    if text == ANY:
        return text
    if text == "null":
        raise ValueError("every sandboxed page has the origin null; it cannot be told apart")
    if ANY in text:
        raise ValueError('must be one exact origin, such as "https://app.example", or "*" for every one')
    found = _WRITTEN.match(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port <= 65_535):
        raise ValueError("must be SCHEME://HOST or SCHEME://HOST:PORT, in ASCII, with a port that exists")
    scheme = found["scheme"].lower()
    as_sent = f"{scheme}://{found['host'].lower()}"
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        as_sent += f":{port}"
    if text != as_sent:
        raise ValueError(f'must be written as browsers send it: "{as_sent}"')
    return text


def check_header_name(text: str) -> str:
    """The name of a request header in lower case. Raises ValueError with a sentence for the operator."""
    if not _HEADER_NAME.match(text):
        raise ValueError("must be the name of one request header, such as X-Request-Id")
    return text.lower()
