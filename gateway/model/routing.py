"""What the sync function says about one revision, who writes it, and the digest that binds the two to a body."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway import json_text
from gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Routing:
    """What the function said about one revision. All names have passed the rules of names.py.

    `channels` is exactly {"*"} when the function named `*`: then only holders of `*` see the revision.
    """

    channels: frozenset[str] = frozenset()
    grants: frozenset[tuple[str, str]] = frozenset()  # (principal, channel); a role is written "role:NAME"
    roles: frozenset[tuple[str, str]] = frozenset()  # (user, role name without "role:")
    expiry: float | None = None  # unix seconds
    # Those of `grants` and `roles` that end, each with its end in unix seconds.
    grant_ends: frozenset[tuple[str, str, float]] = frozenset()
    role_ends: frozenset[tuple[str, str, float]] = frozenset()
    asked_at: float = field(default=0.0, compare=False)  # unix seconds; what relative times counted from


NO_ROUTING = Routing()


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes. `name` None is the guest, for whom every `require…()` counts; for an admin none does."""

    name: str | None
    admin: bool = False
    channels: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()


ADMIN = Writer(None, admin=True)


@dataclass(slots=True, eq=False)
class Runaways:
    """On how many documents of one request the function ran away so far."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation: `doc` and `old_doc` are whole bodies with `_id`; old_doc None: there is nothing it replaces.

    `runaways` are those of the request it belongs to; after too many the function is not asked. None: it always is.
    `asked_at` (unix seconds) is what relative times count from, None: now. Who asks again about a revision that is
    recorded gives the `asked_at` of its routing: then access does not last longer for it.
    """

    doc: Mapping[str, Any]
    old_doc: Mapping[str, Any] | None
    writer: Writer
    meta: Mapping[str, Any] = field(default_factory=dict)
    runaways: Runaways | None = None
    asked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Thrown:
    """What the function threw that is no refusal, and where in its source, from 1; None: the engine does not tell."""

    message: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one call. `error` set: refused, and `routing` is empty. `logs` are for the log, never for users,
    as is `thrown`. `version` is the function's among those of its database, 0 for one that is none of them."""

    routing: Routing = NO_ROUTING
    error: GatewayError | None = None
    logs: tuple[str, ...] = ()
    thrown: Thrown | None = None
    version: int = 0


def body_digest(doc: Mapping[str, Any]) -> str:
    """A digest of all that the sync function can depend on in `doc`, but for its revision id (routing-rules W2).

    Members beginning with `_` do not count, but `_id` and a true `_deleted` do. Equal digests mean equal bodies:
    numbers are compared as they are written out, so 1 and 1.0 differ, which costs a second run and never a wrong route.
    """
    body = {name: value for name, value in doc.items() if not name.startswith("_")}
    bound = [doc.get("_id"), bool(doc.get("_deleted")), body]
    return hashlib.blake2b(json_text.canonical(bound), digest_size=16).hexdigest()
