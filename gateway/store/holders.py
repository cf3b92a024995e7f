"""Who has which channel, and from whom: what explain asks, at the cost of the page that is answered."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias

from gateway import limits
from gateway.model.intervals import ChannelId
from gateway.store import rows
from gateway.store.protocol import Account, Held, PrincipalKind

Sql: TypeAlias = Callable[..., sqlite3.Cursor]

# ?1 are the channels. Everywhere: a principal lives if it has properties.
_HELD = """
    held(id) AS (SELECT DISTINCT principal FROM access WHERE kind = 'channel' AND until_seq IS NULL
        AND target IN (SELECT value FROM json_each(?1)))
"""
# The same for one channel, which nobody has twice.
_HELD_ONE = """
    held(id) AS (SELECT principal FROM access WHERE kind = 'channel' AND until_seq IS NULL AND target = ?1)
"""
# CROSS JOIN fixes the order of the loops: then a LIMIT ends them before all that hold the channels were looked at.
_OWN = """
    SELECT held.id FROM held CROSS JOIN principal p ON p.id = held.id AND p.kind = 'user' AND p.properties IS NOT NULL
"""
_THROUGH_ROLES = """
    SELECT DISTINCT m.principal FROM held
        CROSS JOIN principal r ON r.id = held.id AND r.kind = 'role' AND r.properties IS NOT NULL
        CROSS JOIN access m ON m.kind = 'role' AND m.target = r.id AND m.until_seq IS NULL
        CROSS JOIN principal p ON p.id = m.principal AND p.properties IS NOT NULL
"""
_NOW = "kind = 'channel' AND until_seq IS NULL AND target IN (SELECT value FROM json_each(?1))"
_ROLE_HAS = f"EXISTS (SELECT 1 FROM access WHERE principal = p.id AND {_NOW})"
_USER_HAS = f"""
    {_ROLE_HAS} OR EXISTS (SELECT 1 FROM access m JOIN principal r ON r.id = m.target AND r.properties IS NOT NULL
        WHERE m.principal = p.id AND m.kind = 'role' AND m.until_seq IS NULL
        AND EXISTS (SELECT 1 FROM access WHERE principal = r.id AND {_NOW}))
"""


def accounts(sql: Sql, database: int, kind: PrincipalKind, names: Collection[str]) -> dict[str, Account]:
    subquery, bound = rows.texts(names)
    found = sql(
        f"SELECT id, name, properties FROM principal WHERE database = ? AND kind = ? AND name IN ({subquery})",
        (database, kind, bound),
    ).fetchall()
    lives = rows.intervals_by(
        sql(
            "SELECT principal, from_seq, until_seq FROM life WHERE principal IN (SELECT value FROM json_each(?))"
            " ORDER BY from_seq",
            (rows.ids_json([row[0] for row in found]),),
        )
    )
    answer = {}
    for number, name, text in found:
        properties: dict[str, Any] = {} if text is None else json.loads(text)
        disabled = bool(properties.get("disabled"))
        answer[name] = Account(name, lives.get(number, ()), disabled, properties.get("origin"))
    return answer


def account_names(sql: Sql, database: int, kind: PrincipalKind, start: str, limit: int) -> list[str]:
    found = sql(
        "SELECT name FROM principal WHERE database = ? AND kind = ? AND name >= ? ORDER BY name LIMIT ?",
        (database, kind, start, limit),
    )
    return [row[0] for row in found]


def holders(
    sql: Sql, database: int, kind: PrincipalKind, channels: Collection[ChannelId], start: str, limit: int, public: bool
) -> tuple[list[str], str | None]:
    """`public`: every living user has one of `channels`."""
    wanted = rows.ids_json(channels)
    # Roles are few beside users: to look for them among all that have the channels would cost more.
    if kind == "user" and not public:
        few = _few(sql, wanted)
        if few is not None:
            return _sorted(sql, few, start, limit)
    has = "1" if public else _ROLE_HAS if kind == "role" else _USER_HAS
    examined = sql(
        f"SELECT p.name, p.properties IS NOT NULL AND ({has}) FROM principal p"
        " WHERE p.database = ?2 AND p.kind = ?3 AND p.name >= ?4 ORDER BY p.name LIMIT ?5",
        (wanted, database, kind, start, limits.HOLDERS_EXAMINED_COUNT + 1),
    )
    names: list[str] = []
    for at, (name, hit) in enumerate(examined):
        if at == limits.HOLDERS_EXAMINED_COUNT or (hit and len(names) == limit):
            examined.close()
            return names, name
        if hit:
            names.append(name)
    return names, None


def _few(sql: Sql, wanted: str) -> set[int] | None:
    """Ids of all users that have the channels; None when these are more than HOLDERS_SORTED_COUNT."""
    ids: set[int] = set()
    most = limits.HOLDERS_SORTED_COUNT
    for part in (_OWN, _THROUGH_ROLES):
        ids.update(row[0] for row in sql(f"WITH {_HELD} {part} LIMIT ?2", (wanted, most + 1)))
        if len(ids) > most:
            return None
    return ids


def _sorted(sql: Sql, ids: Collection[int], start: str, limit: int) -> tuple[list[str], str | None]:
    found = sql(
        "SELECT name FROM principal WHERE id IN (SELECT value FROM json_each(?)) AND name >= ? ORDER BY name LIMIT ?",
        (rows.ids_json(ids), start, limit + 1),
    ).fetchall()
    names = [row[0] for row in found]
    return names[:limit], names[limit] if len(names) > limit else None


def count_holders(sql: Sql, database: int, channel: ChannelId, cap: int, *, public: bool) -> int:
    if public:
        everybody = "SELECT 1 FROM principal WHERE database = ? AND kind = 'user' AND properties IS NOT NULL LIMIT ?"
        return int(sql(f"SELECT count(*) FROM ({everybody})", (database, cap)).fetchone()[0])
    found: set[int] = set()
    for part in (_OWN, _THROUGH_ROLES):
        found.update(row[0] for row in sql(f"WITH {_HELD_ONE} {part} LIMIT ?2", (channel, cap)))
        if len(found) >= cap:
            return cap
    return len(found)


def held_channels(
    sql: Sql, database: int, kind: PrincipalKind, names: Collection[str], channels: Collection[ChannelId]
) -> list[Held]:
    subquery, bound = rows.texts(names)
    found = sql(
        "SELECT p.id, p.name, a.target, c.name, a.from_seq FROM principal p CROSS JOIN access a ON a.principal = p.id"
        " AND a.kind = 'channel' AND a.until_seq IS NULL JOIN channel c ON c.id = a.target"
        f" WHERE p.database = ? AND p.kind = ? AND p.name IN ({subquery})"
        " AND a.target IN (SELECT value FROM json_each(?)) ORDER BY p.name, c.name",
        (database, kind, bound, rows.ids_json(channels)),
    )
    return _with_sources(sql, "channel", found)


def held_roles(sql: Sql, database: int, users: Collection[str], channels: Collection[ChannelId]) -> list[Held]:
    subquery, bound = rows.texts(users)
    found = sql(
        "SELECT p.id, p.name, m.target, r.name, m.from_seq FROM principal p CROSS JOIN access m ON m.principal = p.id"
        " AND m.kind = 'role' AND m.until_seq IS NULL JOIN principal r ON r.id = m.target"
        f" WHERE p.database = ?2 AND p.kind = 'user' AND p.name IN ({subquery.replace('?', '?3')})"
        f" AND EXISTS (SELECT 1 FROM access WHERE principal = r.id AND {_NOW}) ORDER BY p.name, r.name",
        (rows.ids_json(channels), database, bound),
    )
    return _with_sources(sql, "role", found)


def _with_sources(sql: Sql, kind: str, found: Iterable[tuple[int, str, int, str, int]]) -> list[Held]:
    """Thousands of documents may give the same to the same user: only some of them are read."""
    answer = []
    for principal, name, target, its_name, since in list(found):
        sources: Sequence[tuple[str, int, float | None]] = sql(
            "SELECT source, from_seq, expires_at FROM grants WHERE principal = ? AND kind = ? AND target = ?"
            " ORDER BY source LIMIT ?",
            (principal, kind, target, limits.SOURCES_COUNT + 1),
        ).fetchall()
        some = sources[: limits.SOURCES_COUNT]
        answer.append(Held(name, its_name, since, some, len(sources) > len(some)))
    return answer


def list_channels(sql: Sql, database: int, prefix: str, start: str, limit: int) -> list[tuple[ChannelId, str]]:
    # No name has a byte FF, so this is after every name that begins with the prefix.
    end = prefix.encode() + b"\xff"
    found = sql(
        "SELECT id, name FROM channel WHERE database = ? AND name >= ? AND name < CAST(? AS TEXT)"
        " ORDER BY name LIMIT ?",
        (database, max(prefix, start, key=str.encode), end, limit),
    )
    return found.fetchall()
