"""A row of the route table."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.http.call import Handler

Policy: TypeAlias = Literal["public", "user", "admin", "server", "own"]
ListenerName: TypeAlias = Literal["public", "admin", "metrics"]


@dataclass(frozen=True, slots=True)
class Route:
    """An endpoint: which requests, who may make them, where, and what answers.

    `policy`: `public` asks for no login; `user` is a caller of the database `{db}` (the guest too, if enabled);
    `admin` is the admin port, or an admin let in at the public one; `server` is the same, with CouchDB's 401 for all
    others; `own` lets, where sign-up is on, everybody in besides: the handler looks at whose document it is. GET serves
    HEAD, and every path OPTIONS.
    """

    methods: tuple[str, ...]
    path: str
    handler: Handler
    policy: Policy
    listeners: tuple[ListenerName, ...] = ("public", "admin")
    parameters: frozenset[str] = frozenset()  # those of the query string that mean something
    unknown: bool = False  # whether `{db}` of an administrator may be a database that is not served
    refuses: int | None = None  # the status with which every request ends that is let in

    @property
    def summary(self) -> str:
        """The first sentence of the handler's docstring."""
        return (inspect.getdoc(self.handler) or "").partition("\n")[0]
