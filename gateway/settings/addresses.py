"""Listen addresses: `127.0.0.1:4984`, `[::1]:4984`, `localhost:4984`, or `off`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from gateway.auth.local import is_loopback

_ADDRESS = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})\Z")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?\Z")


class Address(NamedTuple):
    """Where a listener binds. Port 0 means any free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    def collides_with(self, other: Address) -> bool:
        """Whether both cannot be listened on at once."""
        if self.port != other.port or self.port == 0:
            return False
        mine, others = _normal(self.host), _normal(other.host)
        return mine == others or {mine, others} & {"0.0.0.0", "::"} != set()  # noqa: S104 (compared, not bound)


def parse_address(text: str) -> Address | None:
    """The address, None for `off`. Raises ValueError with a sentence for the operator."""
    if text == "off":
        return None
    match = _ADDRESS.match(text)
    if not match:
        raise ValueError('must be HOST:PORT such as "127.0.0.1:4984", or "off"')
    port = int(match["port"])
    if port > 65_535:
        raise ValueError(f"port {port} does not exist; the highest is 65535")
    if match["v6"] is not None:
        try:
            return Address(str(ipaddress.IPv6Address(match["v6"])), port)
        except ValueError:
            raise ValueError(f'"{match["v6"]}" is no IPv6 address') from None
    host = match["host"]
    if not host or host == "*":
        raise ValueError(f'names no host; use "0.0.0.0:{port}" for every network, "127.0.0.1:{port}" for this machine')
    if re.fullmatch(r"[0-9.]+", host):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise ValueError(f'"{host}" is no IPv4 address') from None
    elif not _HOST_NAME.match(host):
        raise ValueError(f'"{host}" is no host name')
    return Address(host, port)


def _normal(host: str) -> str:
    return "127.0.0.1" if host.lower() == "localhost" else host.lower()
