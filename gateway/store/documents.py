"""Writing what documents became: leaves, entries, spans and the grants of documents, a batch in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence

from gateway.model.apply import Found, Recorded, Update, apply, is_known
from gateway.model.intervals import ChannelId
from gateway.model.leaves import LeafRouting
from gateway.model.routing import Routing
from gateway.store import rows
from gateway.store.protocol import Entry, FoundDocument
from gateway.store.rows import ids_json, texts
from gateway.store.transaction import Transaction

ROLE_PREFIX = "role:"


def recorded(connection: sqlite3.Connection, database: int, ids: Collection[str]) -> dict[str, tuple[int, Recorded]]:
    """(document id, what is recorded) for those of `ids` that are known."""
    subquery, bound = texts(ids)
    documents = connection.execute(
        f"SELECT id, doc, purged_seq, seq FROM document WHERE database = ? AND doc IN ({subquery})",
        (database, bound),
    ).fetchall()
    if not documents:
        return {}
    wanted = (ids_json([row[0] for row in documents]),)
    leaves: dict[int, list[tuple[object, ...]]] = {}
    for document, *row in connection.execute(
        f"SELECT document, {rows.LEAF_COLUMNS} FROM leaf"
        " WHERE superseded_at IS NULL AND document IN (SELECT value FROM json_each(?))",
        wanted,
    ):
        leaves.setdefault(document, []).append(tuple(row))
    member = _channels(connection, "channel_entry", "removed = 0", wanted)
    spanned = _channels(connection, "doc_span", "until_seq IS NULL", wanted)
    return {
        doc: (
            document,
            Recorded(
                {str(row[0]): rows.leaf(row) for row in leaves.get(document, ())},
                frozenset(member.get(document, ())),
                frozenset(spanned.get(document, ())),
                purged_seq,
                seq,
            ),
        )
        for document, doc, purged_seq, seq in documents
    }


def _channels(
    connection: sqlite3.Connection, table: str, condition: str, wanted: tuple[str]
) -> dict[int, list[ChannelId]]:
    found: dict[int, list[ChannelId]] = {}
    for document, channel in connection.execute(
        f"SELECT document, channel FROM {table} WHERE {condition} AND document IN (SELECT value FROM json_each(?))",
        wanted,
    ):
        found.setdefault(document, []).append(channel)
    return found


def apply_documents(
    tx: Transaction, connection: sqlite3.Connection, documents: Sequence[FoundDocument], star: ChannelId, now: float
) -> dict[str, frozenset[str]]:
    """Apply each document at a sequence of its own; the leaves then recorded, by id."""
    answer: dict[str, frozenset[str]] = {}
    part: dict[str, FoundDocument] = {}
    for document in documents:
        if document.id in part:  # its second change is read against what the first one made
            answer |= _apply_distinct(tx, connection, list(part.values()), star, now)
            part.clear()
        part[document.id] = document
    return answer | _apply_distinct(tx, connection, list(part.values()), star, now)


def _apply_distinct(
    tx: Transaction, connection: sqlite3.Connection, documents: Sequence[FoundDocument], star: ChannelId, now: float
) -> dict[str, frozenset[str]]:
    known = recorded(connection, tx.database, [document.id for document in documents])
    channels = _intern_channels(tx, documents)
    answer: dict[str, frozenset[str]] = {}
    writes = _Writes(now, tx.database)
    doc_count = doc_del_count = 0
    grants_before = _granting(connection, [document for document, _ in known.values()])
    for found in documents:
        document, before = known.get(found.id, (0, Recorded()))
        leaves = [interned(tx, channels, *leaf) for leaf in found.leaves]
        if is_known(leaves, before):
            answer[found.id] = frozenset(before.leaves)
            continue
        update = apply(leaves, before, tx.next_seq(), star)
        purged_seq = before.purged_seq
        if found.purged or update.winner is None:
            purged_seq = update.seq
        was_alive = any(not leaf.deleted for leaf in before.leaves.values())
        was_dead = bool(before.leaves) and not was_alive
        is_alive = update.winner is not None and not update.winner.deleted
        is_dead = update.winner is not None and update.winner.deleted
        doc_count += is_alive - was_alive
        doc_del_count += is_dead - was_dead
        if document == 0:
            document = _insert_document(tx, found.id, update, purged_seq)
        else:
            writes.documents.append((*_document_values(update, purged_seq), document))
        writes.add(document, update)
        for leaf in update.added:
            if not leaf.deleted:
                tx.ends(leaf.routing.expiry)
        _replace_grants(tx, document, update, document in grants_before, now)
        tx.entries.append(
            Entry(
                update.seq,
                found.id,
                document,
                update.winner.rev if update.winner else None,
                single=len(update.leaves) == 1 and purged_seq is None,
                live=update.live,
                gone=update.deleted | update.removed,
            )
        )
        answer[found.id] = frozenset(leaf.rev for leaf in update.leaves)
    writes.flush(tx)
    if doc_count or doc_del_count:
        tx.sql(
            "UPDATE database SET doc_count = doc_count + ?, doc_del_count = doc_del_count + ? WHERE id = ?",
            (doc_count, doc_del_count, tx.database),
        )
    return answer


def _intern_channels(tx: Transaction, documents: Iterable[FoundDocument]) -> dict[str, int]:
    names = {
        channel
        for document in documents
        for _, routing, _ in document.leaves
        if routing is not None
        for channel in (*routing.channels, *(channel for _, channel in routing.grants))
    }
    return tx.channels(names)


def interned(
    tx: Transaction, channels: dict[str, int], leaf: Found, routing: Routing | None, refused: str | None
) -> Found:
    """The leaf with the routing, if it has one, in numbers: `channels` are those of all names of channels in it."""
    if routing is None:
        return leaf
    interned = LeafRouting(
        frozenset(channels[name] for name in routing.channels),
        frozenset((_principal(tx, name), channels[channel]) for name, channel in routing.grants),
        frozenset((tx.principal("user", user), tx.principal("role", role)) for user, role in routing.roles),
        routing.expiry,
        refused,
        frozenset((_principal(tx, name), channels[channel], end) for name, channel, end in routing.grant_ends),
        frozenset(
            (tx.principal("user", user), tx.principal("role", role), end) for user, role, end in routing.role_ends
        ),
        routing.asked_at or None,
    )
    return Found(leaf.rev, leaf.deleted, leaf.ancestors, interned)


def _principal(tx: Transaction, name: str) -> int:
    if name.startswith(ROLE_PREFIX):
        return tx.principal("role", name.removeprefix(ROLE_PREFIX))
    return tx.principal("user", name)


def _document_values(update: Update, purged_seq: int | None) -> tuple[object, ...]:
    winner = update.winner
    return (
        update.seq,
        winner.rev if winner else None,
        int(winner is not None and winner.deleted),
        len(update.leaves),
        purged_seq,
    )


def _insert_document(tx: Transaction, doc: str, update: Update, purged_seq: int | None) -> int:
    row = tx.sql(
        "INSERT INTO document (seq, winner, deleted, leaves, purged_seq, database, doc)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (*_document_values(update, purged_seq), tx.database, doc),
    ).fetchone()
    return int(row[0])


def _granting(connection: sqlite3.Connection, documents: Collection[int]) -> set[int]:
    """Those of `documents` that are the source of any grant."""
    if not documents:
        return set()
    found = connection.execute(
        "SELECT DISTINCT source FROM grants WHERE source IN (SELECT 'doc:' || value FROM json_each(?))",
        (ids_json(documents),),
    )
    return {int(row[0].removeprefix("doc:")) for row in found}


def _replace_grants(tx: Transaction, document: int, update: Update, had_some: bool, now: float) -> None:
    """Make the winner's grants the document's (routing-rules A13), but for those that are over."""
    after = grants_of(update.winner.routing, now) if update.winner else {}
    if not after and not had_some:
        return
    source = f"doc:{document}"
    before: dict[tuple[int, str, int], float | None] = {
        (principal, kind, target): end
        for principal, kind, target, end in tx.sql(
            "SELECT principal, kind, target, expires_at FROM grants WHERE source = ?", (source,)
        ).fetchall()
    }
    for key in sorted(before.keys() - after.keys()):
        tx.revoke(*key, source, update.seq)
    for key in sorted(after.keys() - before.keys()):
        tx.grant(*key, source, update.seq, after[key])
    for key in sorted(after.keys() & before.keys()):
        if before[key] != after[key]:  # the interval goes on: nobody is told of anything
            tx.set_end(*key, source, after[key])


def grants_of(routing: LeafRouting, now: float) -> dict[tuple[int, str, int], float | None]:
    """(principal, kind, target) → end of what a winner gives at `now`; None: for as long as it is the winner."""
    given: dict[tuple[int, str, int], float | None] = {
        (principal, "channel", channel): None for principal, channel in routing.grants
    }
    given |= {(user, "role", role): None for user, role in routing.roles}
    given |= {(principal, "channel", channel): end for principal, channel, end in routing.grant_ends}
    given |= {(user, "role", role): end for user, role, end in routing.role_ends}
    return {key: end for key, end in given.items() if end is None or end > now}


class _Writes:
    """Rows of a whole batch, written table by table."""

    def __init__(self, now: float, database: int) -> None:
        self._now = now
        self._database = database
        self.documents: list[tuple[object, ...]] = []
        self._leaves: list[tuple[object, ...]] = []
        self._superseded: list[tuple[object, ...]] = []
        self._entries: list[tuple[object, ...]] = []
        self._opened: list[tuple[object, ...]] = []
        self._closed: list[tuple[object, ...]] = []

    def add(self, document: int, update: Update) -> None:
        seq = update.seq
        dead = int(update.winner is not None and update.winner.deleted)
        self._leaves += [(*rows.leaf_values(document, leaf), self._database) for leaf in update.added]
        self._superseded += [(self._now, document, rev) for rev in update.superseded]
        self._entries += [(document, channel, seq, 0, 0) for channel in update.live]
        self._entries += [(document, channel, seq, 1, 0) for channel in update.deleted]
        self._entries += [(document, channel, seq, dead, 1) for channel in update.removed]
        self._opened += [(document, channel, seq) for channel in update.open_spans]
        self._closed += [(seq, document, channel) for channel in update.close_spans]

    def flush(self, tx: Transaction) -> None:
        for statement, values in (
            (
                "UPDATE document SET seq = ?, winner = ?, deleted = ?, leaves = ?, purged_seq = ? WHERE id = ?",
                self.documents,
            ),
            (
                f"INSERT OR REPLACE INTO leaf (document, {rows.LEAF_COLUMNS}, database)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                self._leaves,
            ),
            ("UPDATE leaf SET superseded_at = ? WHERE document = ? AND rev = ?", self._superseded),
            (
                "INSERT INTO channel_entry (document, channel, seq, deleted, removed) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (document, channel) DO UPDATE"
                " SET seq = excluded.seq, deleted = excluded.deleted, removed = excluded.removed",
                self._entries,
            ),
            ("INSERT INTO doc_span (document, channel, from_seq) VALUES (?, ?, ?)", self._opened),
            (
                "UPDATE doc_span SET until_seq = ? WHERE document = ? AND channel = ? AND until_seq IS NULL",
                self._closed,
            ),
        ):
            if values:
                tx.many(statement, values)
