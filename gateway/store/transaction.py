"""One writing transaction of one database: sequences, interned names, grants and access intervals.

The transaction holds the write lock from its first statement, so what it reads stays true until it commits (W12).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from gateway.errors import UnknownDatabase
from gateway.store.protocol import Entry, PrincipalKind, Publication
from gateway.store.rows import ids_json, texts


class Transaction:
    """Create it inside a write transaction; call `finish` last."""

    def __init__(self, connection: sqlite3.Connection, database: int, name: str) -> None:
        self.sql = connection.execute
        self.many = connection.executemany
        self.database = database
        self._name = name
        row = self.sql("SELECT last_seq, access_seq FROM database WHERE id = ?", (database,)).fetchone()
        if row is None:
            raise UnknownDatabase
        self.last_seq, self._access_seq = row
        self._first_seq = self.last_seq + 1
        self._channels: dict[str, int] = {}
        self._principals: dict[tuple[str, str], int] = {}
        self._touched: set[int] = set()
        self._named: set[str] = set()
        self._next_end: float | None = None
        self.entries: list[Entry] = []
        self.entries_left_out = False  # there are more than it is worth to publish

    def next_seq(self) -> int:
        """The next sequence of this database; nobody sees it before the commit."""
        self.last_seq += 1
        return int(self.last_seq)

    def channels(self, names: Iterable[str]) -> dict[str, int]:
        """Ids of channels by name, interned if new."""
        wanted = set(names)
        if missing := wanted - self._channels.keys():
            self.many(
                "INSERT OR IGNORE INTO channel (database, name) VALUES (?, ?)",
                [(self.database, name) for name in sorted(missing)],
            )
            subquery, bound = texts(missing)
            self._channels.update(
                self.sql(
                    f"SELECT name, id FROM channel WHERE database = ? AND name IN ({subquery})",
                    (self.database, bound),
                ).fetchall()
            )
        return {name: self._channels[name] for name in wanted}

    def principal(self, kind: PrincipalKind, name: str) -> int:
        """The id of a user or role, interned if it was never named before."""
        found = self._principals.get((kind, name))
        if found is None:
            values = (self.database, kind, name)
            row = self.sql("SELECT id FROM principal WHERE database = ? AND kind = ? AND name = ?", values).fetchone()
            if row is None:
                row = self.sql(
                    "INSERT INTO principal (database, kind, name) VALUES (?, ?, ?) RETURNING id", values
                ).fetchone()
            found = self._principals[kind, name] = int(row[0])
        return found

    def grant(
        self, principal: int, kind: str, target: int, source: str, seq: int, expires_at: float | None = None
    ) -> None:
        """Add a source; the first one opens an access interval. At `expires_at` (unix seconds) the source is over."""
        if not self._has_source(principal, kind, target):
            self.sql(
                "INSERT INTO access (principal, kind, target, from_seq) VALUES (?, ?, ?, ?)"
                # Lost and regained by the same sequence: nothing was ever lost.
                " ON CONFLICT (principal, kind, target, from_seq) DO UPDATE SET until_seq = NULL",
                (principal, kind, target, seq),
            )
            self._change_of_access(principal, seq)
        self.sql(
            "INSERT OR IGNORE INTO grants (principal, kind, target, source, from_seq, expires_at, database)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (principal, kind, target, source, seq, expires_at, self.database),
        )
        self.ends(expires_at)

    def set_end(self, principal: int, kind: str, target: int, source: str, expires_at: float | None) -> None:
        """A source that is there lasts until another moment; nobody's access changes by that now."""
        self.sql(
            "UPDATE grants SET expires_at = ? WHERE principal = ? AND kind = ? AND target = ? AND source = ?",
            (expires_at, principal, kind, target, source),
        )
        self.ends(expires_at)

    def ends(self, moment: float | None) -> None:
        """Something that is stored now ends by itself at that moment: the publication tells the timers."""
        if moment is not None and (self._next_end is None or moment < self._next_end):
            self._next_end = moment

    def revoke(self, principal: int, kind: str, target: int, source: str, seq: int) -> None:
        """Take a source away; the last one closes the access interval."""
        self.sql(
            "DELETE FROM grants WHERE principal = ? AND kind = ? AND target = ? AND source = ?",
            (principal, kind, target, source),
        )
        if not self._has_source(principal, kind, target):
            self.sql(
                "UPDATE access SET until_seq = ? WHERE principal = ? AND kind = ? AND target = ? AND until_seq IS NULL",
                (seq, principal, kind, target),
            )
            self._change_of_access(principal, seq)

    def _has_source(self, principal: int, kind: str, target: int) -> bool:
        return (
            self.sql(
                "SELECT 1 FROM grants WHERE principal = ? AND kind = ? AND target = ? LIMIT 1",
                (principal, kind, target),
            ).fetchone()
            is not None
        )

    def set_source(self, principal: int, kind: str, targets: set[int], source: str, seq: int) -> None:
        """Make `targets` exactly what `source` gives to the principal."""
        before = self.targets(principal, kind, source)
        for target in sorted(before - targets):
            self.revoke(principal, kind, target, source, seq)
        for target in sorted(targets - before):
            self.grant(principal, kind, target, source, seq)

    def targets(self, principal: int, kind: str, source: str) -> set[int]:
        found = self.sql(
            "SELECT target FROM grants WHERE principal = ? AND kind = ? AND source = ?", (principal, kind, source)
        )
        return {row[0] for row in found}

    def begin_life(self, principal: int, seq: int) -> None:
        self.sql("INSERT INTO life (principal, from_seq) VALUES (?, ?)", (principal, seq))
        self._change_of_access(principal, seq)

    def end_life(self, principal: int, seq: int) -> None:
        self.sql("UPDATE life SET until_seq = ? WHERE principal = ? AND until_seq IS NULL", (seq, principal))
        self._change_of_access(principal, seq)

    def _change_of_access(self, principal: int, seq: int) -> None:
        self._touched.add(principal)
        self._access_seq = max(self._access_seq, seq)

    def touch_access(self, principals: Iterable[int], seq: int) -> None:
        """The access of these users and roles was changed at this sequence by statements of the caller's own."""
        for principal in principals:
            self._change_of_access(principal, seq)

    def touch_user(self, name: str) -> None:
        """A property of the user changed, not the access."""
        self._named.add(name)

    def finish(self) -> Publication:
        """Write the sequences back and tell what was done."""
        self.sql(
            "UPDATE database SET last_seq = ?, access_seq = ? WHERE id = ?",
            (self.last_seq, self._access_seq, self.database),
        )
        return Publication(
            self._name,
            self._first_seq,
            self.last_seq,
            tuple(self.entries),
            self._touched_users(),
            self._next_end,
            self.entries_left_out,
        )

    def _touched_users(self) -> frozenset[str]:
        """Users whose access changed, with the members of roles whose access changed. (Whose membership ended in this
        very transaction is touched for that; to earlier members the role means nothing any more.)"""
        if not self._touched:
            return frozenset(self._named)
        ids = ids_json(sorted(self._touched))
        found = self.sql(
            "SELECT name FROM principal WHERE kind = 'user' AND id IN (SELECT value FROM json_each(?1))"
            " UNION SELECT p.name FROM access a JOIN principal p ON p.id = a.principal"
            " WHERE a.kind = 'role' AND a.target IN (SELECT value FROM json_each(?1)) AND a.until_seq IS NULL",
            (ids,),
        )
        return frozenset(self._named | {row[0] for row in found})
