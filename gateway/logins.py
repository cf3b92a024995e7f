"""Logging in to the whole server: users belong to a database, but CouchDB's `/_session` does not name one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from gateway import limits
from gateway.callers import Caller
from gateway.database import Database
from gateway.errors import InvalidLogin
from gateway.model.names import GUEST
from gateway.store.protocol import SessionStore

_COUNTED_SECONDS: Final = 60.0


class Logins:
    """Tries a name and a password in every database that has the name.

    Each try is an argon2 hash, unless the login was verified a moment ago. So that their number tells nothing about the
    name, all logins make as many as the name that is in most databases needs; they come one after the other, so that
    one login never takes more than its place in the queue of hashes.
    """

    def __init__(
        self,
        store: SessionStore,
        databases: Mapping[str, Database],
        refuse: Callable[[str, str], Awaitable[None]],
        *,
        most: int = limits.LOGIN_DATABASES_COUNT,
    ) -> None:
        """`refuse` takes as long as a wrong login."""
        self._store = store
        self._databases = databases
        self._refuse = refuse
        self._most = most
        self._needed = 1
        self._counted_at: float | None = None

    async def login(self, name: str, password: str) -> list[tuple[Database, Caller]]:
        """Every database (of the first `most` that have the name, by their own names) where these are right, and who
        the caller is there. Raises Unavailable when too many passwords are being checked."""
        named = [] if name == GUEST else await self._store.databases_of(name)
        tried = [self._databases[one] for one in named if one in self._databases][: self._most]
        found: list[tuple[Database, Caller]] = []
        for database in tried:
            try:
                found.append((database, await database.login(name, password)))
            except InvalidLogin:
                continue
        for _ in range(await self._hashes() - len(tried)):
            await self._refuse(name, password)
        return found

    async def _hashes(self) -> int:
        now = time.monotonic()
        if self._counted_at is None or now - self._counted_at >= _COUNTED_SECONDS:
            self._counted_at = now
            self._needed = max(1, min(self._most, await self._store.most_databases_of_a_user()))
        return self._needed
