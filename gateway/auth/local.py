"""Who counts as this machine: loopback addresses, and requests that no foreign web page can have caused.

An admin port without admins trusts everyone who can connect, so it listens on loopback only. A browser on the same
machine can connect too, on behalf of any page it shows: by a cross-site request, or by DNS rebinding (a page's own
host name made to point to 127.0.0.1). `check_local_request` refuses both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from gateway.errors import Forbidden

_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether a host, without port and brackets, can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_local_request(headers: Mapping[str, str]) -> None:
    """Refuse what a foreign web page could have sent to an admin port that asks for no login. Raises Forbidden.

    `headers` is looked up by `Host`, `Origin` and `Sec-Fetch-Site` (so pass a case-insensitive mapping).

    - `Host` must be a loopback address or `localhost`: under DNS rebinding it is the attacker's name.
    - `Origin`, which browsers send with every cross-origin and every writing request, must be that same host and port.
    - `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/) must be `same-origin` or `none`; it is there also for the
      plain GET of an image or a link, which has no `Origin`. `same-site` is another port of this machine, and refused.
    """
    host = _split(headers.get("Host", ""))
    if host is None or not is_loopback(host[0]):
        raise Forbidden("without admins in the config file, this port answers only to localhost and loopback addresses")
    origin = headers.get("Origin")
    if origin is not None and not same_origin(origin, headers.get("Host", "")):
        raise Forbidden("without admins in the config file, this port refuses requests of web pages elsewhere")
    if headers.get("Sec-Fetch-Site", "none").strip().lower() not in {"same-origin", "none"}:
        raise Forbidden("without admins in the config file, this port refuses requests of web pages elsewhere")


def same_origin(origin: str, host: str) -> bool:
    """Whether the values of `Origin` and `Host` name the same host and port."""
    scheme, separator, authority = origin.partition("://")
    default_port = _DEFAULT_PORTS.get(scheme.lower())
    named, asked = _split(authority), _split(host)
    if not separator or default_port is None or named is None or asked is None:
        return False
    return _same(named, asked, default_port)


def _same(one: tuple[str, int | None], other: tuple[str, int | None], default_port: int) -> bool:
    return one[0].lower() == other[0].lower() and (one[1] or default_port) == (other[1] or default_port)


def _split(authority: str) -> tuple[str, int | None] | None:
    """`host`, `host:port`, `[v6]:port` apart; None for anything else (RFC 9110 section 7.2)."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    else:
        host, colon, port = authority.partition(":")
        rest = colon + port
    if not host:
        return None
    if not rest:
        return host, None
    digits = rest[1:]
    if rest[0] != ":" or not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        return None
    return host, int(digits)
