"""The routing index in one SQLite snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from functools import cache

from gateway.model.intervals import OPEN, Access, ChannelId, Role
from gateway.model.leaves import Leaf
from gateway.model.names import PUBLIC_CHANNEL
from gateway.model.revisions import winner_first
from gateway.store import holders, imports, rows
from gateway.store.protocol import (
    Account,
    DocumentEntry,
    DocumentId,
    DocumentRow,
    Held,
    IdRange,
    LiveRow,
    NotImported,
    PrincipalKind,
)

# Up to so many channels are merged by SQLite as one compound query, which reads only the rows it answers. Past it each
# row would pass through too many merges: then all channels are searched together, in growing windows of sequences.
COMPOUND_CHANNELS = 24
FIRST_WINDOW = 512
WINDOW_GROWTH = 8


class SqliteIndex:
    """Implements `Index` over one connection inside a read transaction."""

    def __init__(self, connection: sqlite3.Connection, database: int, star: ChannelId, public: ChannelId) -> None:
        self._connection = connection
        self._sql = connection.execute
        self._database = database
        self.star = star
        self.public = public
        self.state = rows.state(connection, database)

    def access(self, user: str) -> Access | None:
        found = self._sql(
            "SELECT id FROM principal WHERE database = ? AND kind = 'user' AND name = ?", (self._database, user)
        ).fetchone()
        return None if found is None else self.access_of(found[0])

    def access_of(self, principal: int) -> Access:
        """As `access`, for the id of a user or role; `!` is everybody's."""
        channels = self._access(principal, "channel")
        channels.setdefault(self.public, []).insert(0, (0, OPEN))
        roles = [
            Role(membership, self._life(role), self._access(role, "channel"))
            for role, membership in self._access(principal, "role").items()
        ]
        return Access(self._life(principal), channels, roles)

    def _life(self, principal: int) -> list[tuple[int, int]]:
        found = self._sql("SELECT from_seq, until_seq FROM life WHERE principal = ? ORDER BY from_seq", (principal,))
        return [(start, OPEN if end is None else end) for start, end in found]

    def _access(self, principal: int, kind: str) -> dict[int, list[tuple[int, int]]]:
        return rows.intervals_by(
            self._sql(
                "SELECT target, from_seq, until_seq FROM access WHERE principal = ? AND kind = ?"
                " ORDER BY target, from_seq",
                (principal, kind),
            )
        )

    def channel_ids(self, names: Iterable[str]) -> dict[str, ChannelId]:
        subquery, bound = rows.texts(names)
        found = self._sql(
            f"SELECT name, id FROM channel WHERE database = ? AND name IN ({subquery})", (self._database, bound)
        )
        return dict(found.fetchall())

    def channel_names(self, ids: Iterable[ChannelId]) -> dict[ChannelId, str]:
        found = self._sql(
            "SELECT id, name FROM channel WHERE id IN (SELECT value FROM json_each(?))", (rows.ids_json(list(ids)),)
        )
        return dict(found.fetchall())

    def documents(self, ids: Collection[DocumentId]) -> dict[DocumentId, DocumentRow]:
        found = self._sql(
            f"SELECT {rows.DOCUMENT_COLUMNS} FROM document d WHERE d.id IN (SELECT value FROM json_each(?))",
            (rows.ids_json(ids),),
        )
        return {row[0]: rows.document(row) for row in found}

    def find(self, doc_ids: Collection[str]) -> dict[str, DocumentRow]:
        subquery, bound = rows.texts(doc_ids)
        found = self._sql(
            f"SELECT {rows.DOCUMENT_COLUMNS} FROM document d WHERE d.database = ? AND d.doc IN ({subquery})",
            (self._database, bound),
        )
        return {row[1]: rows.document(row) for row in found}

    def leaves(self, ids: Collection[DocumentId], *, superseded: bool = False) -> dict[DocumentId, list[Leaf]]:
        current = "" if superseded else " AND superseded_at IS NULL"
        found: dict[DocumentId, list[Leaf]] = {}
        for document, *row in self._sql(
            f"SELECT document, {rows.LEAF_COLUMNS} FROM leaf"
            f" WHERE document IN (SELECT value FROM json_each(?)){current}",
            (rows.ids_json(ids),),
        ):
            found.setdefault(document, []).append(rows.leaf(tuple(row)))
        for document, leaves in found.items():
            if len(leaves) > 1:
                rank = {
                    rev: at for at, (rev, _) in enumerate(winner_first((leaf.rev, leaf.deleted) for leaf in leaves))
                }
                found[document] = sorted(leaves, key=lambda leaf: (leaf.superseded_at is not None, rank[leaf.rev]))
        return found

    def live(
        self, channels: Collection[ChannelId], after: int, upto: int, limit: int
    ) -> Sequence[tuple[int, DocumentId]]:
        if not channels or after >= upto or limit <= 0:
            return []
        if len(channels) <= COMPOUND_CHANNELS:
            return self._sql(_compound(len(channels)), _bounds(channels, after, upto, limit)).fetchall()
        found: list[tuple[int, DocumentId]] = []
        window, start = FIRST_WINDOW, after
        names = rows.ids_json(channels)
        while start < upto and len(found) < limit:
            end = min(upto, start + window)
            found += self._sql(
                "SELECT DISTINCT seq, document FROM channel_entry WHERE channel IN (SELECT value FROM json_each(?))"
                " AND seq > ? AND seq <= ? AND deleted = 0 AND removed = 0 ORDER BY seq LIMIT ?",
                (names, start, end, limit - len(found)),
            ).fetchall()
            start, window = end, window * WINDOW_GROWTH
        return found

    def live_rows(self, channels: Collection[ChannelId], after: int, upto: int, limit: int) -> Sequence[LiveRow]:
        if not channels or after >= upto or limit <= 0:
            return []
        if len(channels) <= COMPOUND_CHANNELS:
            # The index rows are chosen first and joined then: joining first costs several times as much.
            found = self._sql(
                "SELECT e.seq, d.id, d.doc, d.winner, d.leaves, d.purged_seq IS NOT NULL"
                f" FROM ({_compound(len(channels))}) e CROSS JOIN document d ON d.id = e.document ORDER BY e.seq",
                _bounds(channels, after, upto, limit),
            )
            return list(map(LiveRow._make, found))
        entries = self.live(channels, after, upto, limit)
        documents = self.documents([document for _, document in entries])
        return [
            LiveRow(seq, number, row.id, row.winner or "", row.leaves, int(row.purged))
            for seq, number in entries
            for row in (documents[number],)
        ]

    def count_live(self, channels: Collection[ChannelId], after: int, upto: int, cap: int) -> int:
        if not channels or after >= upto:
            return 0
        # A document has the same sequence in every channel that it is alive in.
        found = self._sql(
            "SELECT count(*) FROM (SELECT DISTINCT seq FROM channel_entry WHERE channel IN"
            " (SELECT value FROM json_each(?)) AND seq > ? AND seq <= ? AND deleted = 0 AND removed = 0 LIMIT ?)",
            (rows.ids_json(channels), after, upto, cap),
        )
        return int(found.fetchone()[0])

    def live_descending(
        self, channels: Collection[ChannelId], before: int, limit: int
    ) -> Sequence[tuple[int, DocumentId]]:
        if not channels:
            return []
        return self._sql(
            "SELECT DISTINCT seq, document FROM channel_entry WHERE channel IN (SELECT value FROM json_each(?))"
            " AND seq < ? AND deleted = 0 AND removed = 0 ORDER BY seq DESC LIMIT ?",
            (rows.ids_json(channels), before, limit),
        ).fetchall()

    def live_by_id(self, channels: Collection[ChannelId], query: IdRange) -> Sequence[DocumentRow]:
        if not channels:
            return []
        source, values = self._live_documents(channels)
        conditions, bounds = _id_conditions(query)
        order = "DESC" if query.descending else "ASC"
        found = self._sql(
            f"SELECT {rows.DOCUMENT_COLUMNS} FROM {source} {conditions} ORDER BY d.doc {order} LIMIT ? OFFSET ?",
            (*values, *bounds, query.limit, query.skip),
        )
        return [rows.document(row) for row in found]

    def count_live_by_id(self, channels: Collection[ChannelId], below: IdRange | None = None) -> int:
        if not channels:
            return 0
        if self.star in channels and below is None:
            return self.state.doc_count
        source, values = self._live_documents(channels)
        if below is not None:
            if below.start is None:
                return 0
            source += f" AND d.doc {'>' if below.descending else '<'} ?"
            values = (*values, below.start)
        return int(self._sql(f"SELECT count(*) FROM {source}", values).fetchone()[0])

    def _live_documents(self, channels: Collection[ChannelId]) -> tuple[str, tuple[object, ...]]:
        """FROM and WHERE that give each document alive in any of `channels` once, at the cost of what they hold; a
        holder of `*` walks the documents in order of their ids instead."""
        if self.star in channels:
            return "document d WHERE d.database = ? AND d.winner IS NOT NULL AND d.deleted = 0", (self._database,)
        return (
            "document d WHERE d.id IN (SELECT document FROM channel_entry WHERE channel IN"
            " (SELECT value FROM json_each(?)) AND deleted = 0 AND removed = 0)",
            (rows.ids_json(channels),),
        )

    def with_gone(self, channels: Collection[ChannelId], after: int, upto: int) -> set[ChannelId]:
        found = self._sql(
            "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM channel_entry WHERE channel = value"
            " AND seq > ? AND seq <= ? AND (deleted = 1 OR removed = 1))",
            (rows.ids_json(channels), after, upto),
        )
        return {row[0] for row in found}

    def gone(
        self, channel: ChannelId, after: int, upto: int, limit: int, *, deleted_only: bool
    ) -> Sequence[tuple[int, DocumentId]]:
        if after >= upto:
            return []
        deleted = "JOIN document d ON d.id = e.document AND d.deleted = 1" if deleted_only else ""
        return self._sql(
            f"SELECT e.seq, e.document FROM channel_entry e {deleted} WHERE e.channel = ? AND e.seq > ? AND e.seq <= ?"
            " AND (e.deleted = 1 OR e.removed = 1) ORDER BY e.seq LIMIT ?",
            (channel, after, upto, limit),
        ).fetchall()

    def entries(self, channel: ChannelId, after: int, limit: int) -> Sequence[tuple[int, DocumentId, bool]]:
        one = "SELECT seq, document, {} FROM channel_entry WHERE channel = ? AND seq > ? AND {}"
        return [
            (seq, document, bool(gone))
            for seq, document, gone in self._sql(
                one.format(0, "deleted = 0 AND removed = 0")
                + " UNION ALL "
                + one.format(1, "(deleted = 1 OR removed = 1)")
                + " ORDER BY seq LIMIT ?",
                (channel, after, channel, after, limit),
            )
        ]

    def entries_of(self, ids: Collection[DocumentId]) -> dict[DocumentId, list[DocumentEntry]]:
        found: dict[DocumentId, list[DocumentEntry]] = {}
        for document, channel, seq, deleted, removed in self._sql(
            "SELECT document, channel, seq, deleted, removed FROM channel_entry"
            " WHERE document IN (SELECT value FROM json_each(?))",
            (rows.ids_json(ids),),
        ):
            found.setdefault(document, []).append(DocumentEntry(channel, seq, bool(deleted), bool(removed)))
        return found

    def channels_of(self, ids: Collection[DocumentId]) -> dict[DocumentId, set[ChannelId]]:
        found: dict[DocumentId, set[ChannelId]] = {}
        for document, channel in self._sql(
            "SELECT document, channel FROM channel_entry WHERE document IN (SELECT value FROM json_each(?))"
            " AND deleted = 0 AND removed = 0",
            (rows.ids_json(ids),),
        ):
            found.setdefault(document, set()).add(channel)
        return found

    def spans(self, ids: Collection[DocumentId]) -> dict[DocumentId, list[tuple[ChannelId, int, int]]]:
        found: dict[DocumentId, list[tuple[ChannelId, int, int]]] = {}
        for document, channel, start, end in self._sql(
            "SELECT document, channel, from_seq, until_seq FROM doc_span"
            " WHERE document IN (SELECT value FROM json_each(?))",
            (rows.ids_json(ids),),
        ):
            found.setdefault(document, []).append((channel, start, OPEN if end is None else end))
        return found

    def not_imported(self, doc: str) -> Sequence[NotImported]:
        return imports.not_imported(self._connection, self._database, doc)

    def accounts(self, kind: PrincipalKind, names: Collection[str]) -> dict[str, Account]:
        return holders.accounts(self._sql, self._database, kind, names)

    def account_names(self, kind: PrincipalKind, start: str, limit: int) -> Sequence[str]:
        return holders.account_names(self._sql, self._database, kind, start, limit)

    def holders(
        self, kind: PrincipalKind, channels: Collection[ChannelId], start: str, limit: int
    ) -> tuple[Sequence[str], str | None]:
        public = kind == "user" and self.public in channels
        return holders.holders(self._sql, self._database, kind, channels, start, limit, public)

    def count_holders(self, channel: ChannelId, cap: int) -> int:
        return holders.count_holders(self._sql, self._database, channel, cap, public=channel == self.public)

    def held_channels(
        self, kind: PrincipalKind, names: Collection[str], channels: Collection[ChannelId]
    ) -> Sequence[Held]:
        return holders.held_channels(self._sql, self._database, kind, names, channels)

    def held_roles(self, users: Collection[str], channels: Collection[ChannelId]) -> Sequence[Held]:
        return holders.held_roles(self._sql, self._database, users, channels)

    def list_channels(self, prefix: str, start: str, limit: int) -> Sequence[tuple[ChannelId, str]]:
        return holders.list_channels(self._sql, self._database, prefix, start, limit)


@cache
def _compound(count: int) -> str:
    """The live entries of so many channels, merged by SQLite from the ends of their index ranges, and no further than
    the limit."""
    terms = " UNION ".join(
        "SELECT seq, document FROM channel_entry WHERE channel = ? AND seq > ? AND seq <= ?"
        " AND deleted = 0 AND removed = 0"
        for _ in range(count)
    )
    return f"{terms} ORDER BY seq LIMIT ?"


def _bounds(channels: Collection[ChannelId], after: int, upto: int, limit: int) -> tuple[int, ...]:
    return (*(value for channel in channels for value in (channel, after, upto)), limit)


def public_and_star(connection: sqlite3.Connection, database: int) -> tuple[ChannelId, ChannelId]:
    """Ids of `!` and `*`, which every database has from its beginning."""
    found = dict(
        connection.execute(
            "SELECT name, id FROM channel WHERE database = ? AND name IN (?, '*')", (database, PUBLIC_CHANNEL)
        ).fetchall()
    )
    return found[PUBLIC_CHANNEL], found["*"]


def _id_conditions(query: IdRange) -> tuple[str, tuple[str, ...]]:
    conditions, values = "", []
    if query.start is not None:
        conditions += f" AND d.doc {'<=' if query.descending else '>='} ?"
        values.append(query.start)
    if query.end is not None:
        operator = (">" if query.descending else "<") + ("=" if query.inclusive_end else "")
        conditions += f" AND d.doc {operator} ?"
        values.append(query.end)
    if query.after is not None:
        conditions += f" AND d.doc {'<' if query.descending else '>'} ?"
        values.append(query.after)
    return conditions, tuple(values)
