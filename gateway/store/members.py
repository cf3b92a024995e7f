"""Members of a database: whom its `_security` names. They have every channel, and users of the server an account.

What is here is a consequence of two records, `security` and `server_user`. `settle` makes it so, in one transaction
that reads both, so it can be repeated at any time and two at once do not contradict each other.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from gateway.errors import Conflict, IllegalName, TooManyRequests
from gateway.model.names import GUEST, check_principal_name
from gateway.store import principals
from gateway.store.protocol import PrincipalChange, PrincipalKind, ServerUser
from gateway.store.transaction import Transaction

SECURITY = "security"  # source of the grants of `*`, and origin of roles that only `_security` names
SERVER = "server"  # origin of accounts that come from `_users`, and source of their roles


def security(sql: sqlite3.Connection, database: int) -> dict[str, Any] | None:
    row = sql.execute("SELECT value FROM security WHERE database = ?", (database,)).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def set_security(sql: sqlite3.Connection, database: int, value: Mapping[str, Any]) -> None:
    sql.execute("INSERT OR REPLACE INTO security (database, value) VALUES (?, ?)", (database, json.dumps(value)))


def server_user(sql: sqlite3.Connection, name: str) -> ServerUser | None:
    row = sql.execute("SELECT name, rev, deleted, body, password FROM server_user WHERE name = ?", (name,)).fetchone()
    return None if row is None else _user(row)


def server_users(sql: sqlite3.Connection) -> list[ServerUser]:
    found = sql.execute("SELECT name, rev, deleted, body, password FROM server_user WHERE deleted = 0 ORDER BY name")
    return [_user(row) for row in found]


def _user(row: tuple[Any, ...]) -> ServerUser:
    return ServerUser(row[0], row[1], bool(row[2]), json.loads(row[3]), row[4])


def put_server_user(sql: sqlite3.Connection, user: ServerUser, over: str | None, limit: int) -> None:
    found = server_user(sql, user.name)
    if (found.rev if found is not None else None) != over:
        raise Conflict
    if found is None and sql.execute("SELECT count(*) FROM server_user").fetchone()[0] >= limit:
        raise TooManyRequests(f"there are {limit} users of the server already (limit SERVER_USERS_COUNT)")
    sql.execute(
        "INSERT OR REPLACE INTO server_user (name, rev, deleted, body, password) VALUES (?, ?, ?, ?, ?)",
        (user.name, user.rev, user.deleted, json.dumps(user.body), user.password),
    )


def settle(tx: Transaction, sql: sqlite3.Connection, star: int, only: str | None = None) -> None:
    """Make accounts, roles and access what the records say; `only`: of this user of the server alone."""
    named = security(sql, tx.database) or {}
    names, roles = _named(named, "names"), _named(named, "roles")
    if only is None:
        _settle_roles(tx, sql, roles)
        _settle_access(tx, sql, star, names, roles)
    _settle_accounts(tx, sql, names, roles, only)


def _named(value: Mapping[str, Any], kind: str) -> set[str]:
    """Names or roles among members and admins. Those that no principal can have (`_admin` is one) name nobody here."""
    parts = (value.get(part) for part in ("members", "admins"))
    found = (name for part in parts if isinstance(part, dict) for name in part.get(kind, ()))
    return _possible(found) - {GUEST}


def _possible(names: Iterable[Any]) -> set[str]:
    found = set()
    for name in names:
        try:
            if isinstance(name, str) and not name.startswith("_"):
                found.add(check_principal_name(name))
        except IllegalName:
            continue
    return found


def _living(sql: sqlite3.Connection, database: int, kind: PrincipalKind) -> dict[str, Mapping[str, Any]]:
    return dict(principals.names(sql, database, kind))


def _settle_roles(tx: Transaction, sql: sqlite3.Connection, roles: set[str]) -> None:
    living = _living(sql, tx.database, "role")
    for role in sorted(roles - living.keys()):
        principals.put(tx, sql, "role", role, PrincipalChange({"origin": SECURITY}), False)
    for role, properties in living.items():
        if properties.get("origin") == SECURITY and role not in roles:
            principals.delete(tx, sql, "role", role)


def _settle_access(tx: Transaction, sql: sqlite3.Connection, star: int, names: set[str], roles: set[str]) -> None:
    wanted = {tx.principal("user", name) for name in names} | {tx.principal("role", role) for role in roles}
    have = {
        row[0]
        for row in sql.execute(
            "SELECT g.principal FROM grants g JOIN principal p ON p.id = g.principal"
            " WHERE p.database = ? AND g.source = ? AND g.kind = 'channel'",
            (tx.database, SECURITY),
        )
    }
    if wanted == have:
        return
    seq = tx.next_seq()
    for principal in sorted(have - wanted):
        tx.revoke(principal, "channel", star, SECURITY, seq)
    for principal in sorted(wanted - have):
        tx.grant(principal, "channel", star, SECURITY, seq)


def _settle_accounts(
    tx: Transaction, sql: sqlite3.Connection, names: set[str], roles: set[str], only: str | None
) -> None:
    living = _living(sql, tx.database, "user")
    if only is None:
        users = server_users(sql)
    else:
        found = server_user(sql, only)
        users = [found] if found is not None and not found.deleted else []
        living = {name: properties for name, properties in living.items() if name == only}
    members: dict[str, tuple[str, set[str]]] = {}
    for user in users:
        its = _possible(user.body.get("roles", ()))
        if user.password is not None and (user.name in names or its & roles):
            members[user.name] = user.password, its
    for name, properties in living.items():
        if properties.get("origin") == SERVER and name not in members:
            _set_roles(tx, name, set())
            principals.delete(tx, sql, "user", name)
    for name, (password, its) in sorted(members.items()):
        if name in living and living[name].get("origin") != SERVER:
            _set_roles(tx, name, set())
            continue  # the database has a user of this name of its own, with a password of its own
        principals.put(tx, sql, "user", name, PrincipalChange({"origin": SERVER, "password": password}), False)
        _set_roles(tx, name, its)


def _set_roles(tx: Transaction, name: str, roles: set[str]) -> None:
    user, wanted = tx.principal("user", name), {tx.principal("role", role) for role in roles}
    if wanted != tx.targets(user, "role", SERVER):
        tx.set_source(user, "role", wanted, SERVER, tx.next_seq())
