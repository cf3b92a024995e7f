"""Sessions in the metadata store. They belong to no database: one may be a user in several."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping

from gateway import limits
from gateway.errors import Unavailable
from gateway.model.names import GUEST
from gateway.store.connections import Connections
from gateway.store.protocol import StoredSession

_USER = (
    "SELECT p.id FROM principal p JOIN database d ON d.id = p.database"
    " WHERE d.name = ? AND p.kind = 'user' AND p.name = ?"
)


class SqliteSessions:
    """Implements `SessionStore`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def create(self, session: StoredSession, now: float) -> list[bytes]:
        return await self._connections.write(lambda sql: _create(sql, session, now))

    async def find(self, token: bytes) -> StoredSession | None:
        return await self._connections.read(lambda sql: _find(sql, token))

    async def renew(self, until: Mapping[bytes, float]) -> None:
        rows = [(expires_at, token) for token, expires_at in until.items()]
        await self._connections.write(
            lambda sql: sql.executemany("UPDATE session SET expires_at = ? WHERE token = ?", rows)
        )

    async def delete(self, token: bytes) -> None:
        await self._connections.write(lambda sql: _delete(sql, [token]))

    async def end_logins(self, database: str, user: str, token: bytes | None = None) -> list[bytes]:
        return await self._connections.write(lambda sql: _end_logins(sql, database, user, token))

    async def forget_expired(self, before: float, limit: int) -> int:
        def run(sql: sqlite3.Connection) -> int:
            statement = "SELECT token FROM session WHERE expires_at < ? ORDER BY expires_at LIMIT ?"
            expired = [row[0] for row in sql.execute(statement, (before, limit))]
            _delete(sql, expired)
            return len(expired)

        return await self._connections.write(run)

    async def databases_of(self, user: str) -> list[str]:
        statement = (
            "SELECT d.name FROM principal p JOIN database d ON d.id = p.database"
            " WHERE p.name = ? AND p.kind = 'user' AND p.properties IS NOT NULL ORDER BY d.name"
        )
        found = await self._connections.read(lambda sql: sql.execute(statement, (user,)).fetchall())
        return [row[0] for row in found]

    async def most_databases_of_a_user(self) -> int:
        statement = (
            "SELECT coalesce(max(databases), 0) FROM (SELECT count(*) AS databases FROM principal"
            " WHERE kind = 'user' AND properties IS NOT NULL AND name <> ? GROUP BY name)"
        )
        (most,) = await self._connections.read(lambda sql: sql.execute(statement, (GUEST,)).fetchone())
        return int(most)


def _create(sql: sqlite3.Connection, session: StoredSession, now: float) -> list[bytes]:
    (count,) = sql.execute("SELECT count(*) FROM session").fetchone()
    if count >= limits.SESSIONS_COUNT:
        sql.execute("DELETE FROM session_login WHERE session IN (SELECT id FROM session WHERE expires_at < ?)", (now,))
        if not sql.execute("DELETE FROM session WHERE expires_at < ?", (now,)).rowcount:
            raise Unavailable(f"{limits.SESSIONS_COUNT} sessions are open already (limit SESSIONS_COUNT)")
    (number,) = sql.execute(
        "INSERT INTO session (token, name, ttl_s, expires_at) VALUES (?, ?, ?, ?) RETURNING id",
        (session.token, session.name, session.ttl_s, session.expires_at),
    ).fetchone()
    ended: list[bytes] = []
    for database, login_seq in session.logins.items():
        user = sql.execute(_USER, (database, session.name)).fetchone()
        if user is None:
            continue
        ended += _make_room(sql, user[0])
        sql.execute("INSERT INTO session_login VALUES (?, ?, ?)", (number, user[0], login_seq))
    return ended


def _make_room(sql: sqlite3.Connection, user: int) -> list[bytes]:
    """End those of the user's sessions that would end first, so that there is room for one more."""
    (count,) = sql.execute("SELECT count(*) FROM session_login WHERE principal = ?", (user,)).fetchone()
    excess = count + 1 - limits.SESSIONS_OF_USER_COUNT
    if excess <= 0:
        return []
    found = sql.execute(
        "SELECT s.token FROM session_login l JOIN session s ON s.id = l.session WHERE l.principal = ?"
        " ORDER BY s.expires_at, s.id LIMIT ?",
        (user, excess),
    )
    tokens = [row[0] for row in found]
    _delete(sql, tokens)
    return tokens


def _find(sql: sqlite3.Connection, token: bytes) -> StoredSession | None:
    row = sql.execute("SELECT id, name, ttl_s, expires_at FROM session WHERE token = ?", (token,)).fetchone()
    if row is None:
        return None
    logins = sql.execute(
        "SELECT d.name, l.login_seq FROM session_login l JOIN principal p ON p.id = l.principal"
        " JOIN database d ON d.id = p.database WHERE l.session = ?",
        (row[0],),
    )
    return StoredSession(token, row[1], dict(logins.fetchall()), row[2], row[3])


def _delete(sql: sqlite3.Connection, tokens: Collection[bytes]) -> None:
    rows: Iterable[tuple[bytes]] = [(token,) for token in tokens]
    sql.executemany("DELETE FROM session_login WHERE session = (SELECT id FROM session WHERE token = ?)", rows)
    sql.executemany("DELETE FROM session WHERE token = ?", rows)


def _end_logins(sql: sqlite3.Connection, database: str, user: str, token: bytes | None) -> list[bytes]:
    found = sql.execute(
        "SELECT s.id, s.token FROM session_login l JOIN session s ON s.id = l.session"
        f" WHERE l.principal = ({_USER}) AND l.login_seq <> 0",
        (database, user),
    )
    ended = [row for row in found.fetchall() if token is None or row[1] == token]
    sql.executemany(
        f"UPDATE session_login SET login_seq = 0 WHERE session = ? AND principal = ({_USER})",
        [(number, database, user) for number, _ in ended],
    )
    return [one for _, one in ended]
