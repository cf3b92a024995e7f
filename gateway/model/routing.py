"""What the sync function is asked and what it says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Routing:
    """What the function said about one revision, by name."""

    channels: frozenset[str] = frozenset()
    grants: frozenset[tuple[str, str]] = frozenset()  # (principal, channel); a role is written "role:NAME"
    roles: frozenset[tuple[str, str]] = frozenset()  # (user, role without prefix)
    expiry: float | None = None  # unix seconds


NO_ROUTING = Routing()


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes. `name` None is the guest; for an admin every require* is a no-op."""

    name: str | None
    admin: bool = False
    channels: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()


ADMIN = Writer(None, admin=True)


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation."""

    doc: Mapping[str, Any]
    old_doc: Mapping[str, Any] | None
    writer: Writer
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer; with `error` the write is refused."""

    routing: Routing
    error: GatewayError | None = None
    logs: tuple[str, ...] = ()
