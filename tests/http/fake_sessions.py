"""Sessions in memory, for listeners whose databases are in memory too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.store.protocol import StoredSession


class MemorySessions:
    """A `SessionStore` that counts its reads."""

    def __init__(self) -> None:
        self.stored: dict[bytes, StoredSession] = {}
        self.reads = 0

    async def create(self, session: StoredSession, now: float) -> list[bytes]:
        self.stored[session.token] = session
        return []

    async def find(self, token: bytes) -> StoredSession | None:
        self.reads += 1
        return self.stored.get(token)

    async def renew(self, until: Mapping[bytes, float]) -> None:
        for token, expires_at in until.items():
            if token in self.stored:
                self.stored[token] = replace(self.stored[token], expires_at=expires_at)

    async def delete(self, token: bytes) -> None:
        self.stored.pop(token, None)

    async def end_logins(self, database: str, user: str, token: bytes | None = None) -> list[bytes]:
        ended = [
            key
            for key, session in self.stored.items()
            if token in (None, key) and session.name == user and session.logins.get(database)
        ]
        for key in ended:
            self.stored[key] = replace(self.stored[key], logins={**self.stored[key].logins, database: 0})
        return ended

    async def forget_expired(self, before: float, limit: int) -> int:
        return 0

    async def databases_of(self, user: str) -> list[str]:
        return []

    async def most_databases_of_a_user(self) -> int:
        return 0
