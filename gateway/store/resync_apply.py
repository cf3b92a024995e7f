"""The end of a resync: what was computed becomes the routing, in one transaction and by statements over whole tables.

What counts happens at one sequence, the first: access begins and ends, documents enter and leave channels. So no state
in between exists, not even in the past that the index remembers, in which a user with access by one function could read
a document routed by the other. The documents that changed then have their places in feeds at the sequences after it.
"""

from __future__ import annotations

from gateway import limits
from gateway.errors import Conflict
from gateway.store.protocol import Entry
from gateway.store.rows import ids_json
from gateway.store.transaction import Transaction
from gateway.store.versions import set_in_force

# What the winners of the documents that are computed anew grant, and what of the grants that are there goes with that.
_TEMPORARY = """
CREATE TEMP TABLE IF NOT EXISTS resync_given (
    principal INTEGER, kind TEXT, target INTEGER, source TEXT, expires_at REAL,
    PRIMARY KEY (principal, kind, target, source)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS resync_taken (
    principal INTEGER, kind TEXT, target INTEGER, source TEXT,
    PRIMARY KEY (principal, kind, target, source)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS resync_seq (document INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
DELETE FROM resync_given;
DELETE FROM resync_taken;
DELETE FROM resync_seq
"""
# CROSS JOIN: from the documents that are computed anew, which are few, to the tables of all.
_WINNERS = """
    resync_document r CROSS JOIN document d ON d.id = r.document
    CROSS JOIN resync_leaf l ON l.document = d.id AND l.rev = d.winner
"""
_GIVEN = f"""
    INSERT OR REPLACE INTO resync_given
    SELECT json_extract(g.value, '$[0]'), ?, json_extract(g.value, '$[1]'), 'doc:' || d.id,
        json_extract(g.value, '$[2]')
    FROM {_WINNERS} CROSS JOIN json_each(l.{{}}) g
    WHERE r.database = ? AND coalesce(json_extract(g.value, '$[2]') > ?, 1)
"""
_TAKEN = f"""
    INSERT INTO resync_taken
    SELECT g.principal, g.kind, g.target, g.source
    FROM {_WINNERS} CROSS JOIN grants g ON g.source = 'doc:' || d.id
    WHERE r.database = ? AND NOT EXISTS (SELECT 1 FROM resync_given n WHERE n.principal = g.principal
        AND n.kind = g.kind AND n.target = g.target AND n.source = g.source)
"""
# A key that no source has any more is lost; one that none had before is gained. Moved between sources, it is neither.
_ACCESS = """
    INSERT INTO resync_access (database, who, kind, target, gained)
    WITH key(principal, kind, target) AS (
        SELECT principal, kind, target FROM resync_given UNION SELECT principal, kind, target FROM resync_taken
    ), told AS (
        SELECT key.*,
            EXISTS (SELECT 1 FROM resync_given n
                WHERE n.principal = key.principal AND n.kind = key.kind AND n.target = key.target)
            OR EXISTS (SELECT 1 FROM grants g
                WHERE g.principal = key.principal AND g.kind = key.kind AND g.target = key.target
                AND NOT EXISTS (SELECT 1 FROM resync_taken t WHERE t.principal = g.principal AND t.kind = g.kind
                    AND t.target = g.target AND t.source = g.source)) AS after,
            EXISTS (SELECT 1 FROM access a WHERE a.principal = key.principal AND a.kind = key.kind
                AND a.target = key.target AND a.until_seq IS NULL) AS before
        FROM key
    )
    SELECT ?, told.principal, told.kind, told.target, after FROM told
        JOIN principal p ON p.id = told.principal
        LEFT JOIN channel c ON told.kind = 'channel' AND c.id = told.target
        LEFT JOIN principal o ON told.kind = 'role' AND o.id = told.target
    WHERE after <> before ORDER BY p.kind, p.name, told.kind, coalesce(c.name, o.name)
"""
# At a leaf that moved the tombstone rule (`from <= leaf.seq < until`) must not count access that ended before it moved.
_LEAVES = """
    UPDATE leaf SET channels = l.channels, grants = l.grants, roles = l.roles, expiry = l.expiry, refused = l.refused,
        seq = CASE WHEN l.moved THEN ? ELSE leaf.seq END
    FROM resync_document r CROSS JOIN resync_leaf l ON l.document = r.document
    WHERE r.database = ? AND leaf.document = l.document AND leaf.rev = l.rev
"""
# Documents that are alive take sequences, in the order of those they had; of deleted ones nobody has to be told.
_SEQUENCES = """
    INSERT INTO resync_seq
    SELECT d.id, ? + row_number() OVER (ORDER BY d.seq)
    FROM resync_document r CROSS JOIN document d ON d.id = r.document
    WHERE r.database = ? AND r.changed = 1 AND d.winner IS NOT NULL AND d.deleted = 0
"""
# The next moment at which something of what was computed ends by itself.
_ENDS = """
    SELECT min(moment) FROM (
        SELECT min(expires_at) AS moment FROM resync_given
        UNION ALL
        SELECT min(l.expiry) FROM resync_document r CROSS JOIN resync_leaf l ON l.document = r.document
        WHERE r.database = :database
    )
"""
_DOCUMENTS = "UPDATE document SET seq = s.seq FROM resync_seq s WHERE document.id = s.document"
_KEPT = """
    UPDATE channel_entry SET seq = s.seq FROM resync_seq s
    WHERE channel_entry.document = s.document AND channel_entry.removed = 0
"""
_LEFT = """
    UPDATE channel_entry SET removed = 1 FROM resync_seq s CROSS JOIN resync_channel c
        ON c.document = s.document AND c.entered = 0
    WHERE channel_entry.document = c.document AND channel_entry.channel = c.channel
"""
_ENTERED = """
    INSERT INTO channel_entry (document, channel, seq, deleted, removed)
    SELECT c.document, c.channel, s.seq, 0, 0 FROM resync_seq s CROSS JOIN resync_channel c ON c.document = s.document
    WHERE c.entered = 1
    ON CONFLICT (document, channel) DO UPDATE SET seq = excluded.seq, deleted = 0, removed = 0
"""
_CLOSED = """
    UPDATE doc_span SET until_seq = ? FROM resync_seq s CROSS JOIN resync_channel c
        ON c.document = s.document AND c.entered = 0
    WHERE doc_span.document = c.document AND doc_span.channel = c.channel AND doc_span.until_seq IS NULL
"""
_OPENED = """
    INSERT INTO doc_span (document, channel, from_seq)
    SELECT c.document, c.channel, ? FROM resync_seq s CROSS JOIN resync_channel c ON c.document = s.document
    WHERE c.entered = 1
"""
_GRANTS = """
    INSERT INTO grants (principal, kind, target, source, from_seq, expires_at, database)
    SELECT principal, kind, target, source, ?, expires_at, ? FROM resync_given WHERE true
    ON CONFLICT (principal, kind, target, source) DO UPDATE SET expires_at = excluded.expires_at
"""
_LOST = """
    UPDATE access SET until_seq = ? FROM resync_access x
    WHERE x.database = ? AND x.gained = 0 AND access.principal = x.who AND access.kind = x.kind
        AND access.target = x.target AND access.until_seq IS NULL
"""
_GAINED = """
    INSERT INTO access (principal, kind, target, from_seq)
    SELECT who, kind, target, ? FROM resync_access WHERE database = ? AND gained = 1
"""


def find_access(tx: Transaction, now: float) -> None:
    """Write down who gains and who loses what; nothing of it is done. Grants that are over at `now` are none."""
    for statement in _TEMPORARY.split(";"):
        tx.sql(statement)
    for kind, column in (("channel", "grants"), ("role", "roles")):
        tx.sql(_GIVEN.format(column), (kind, tx.database, now))
    tx.sql(_TAKEN, (tx.database,))
    tx.sql("DELETE FROM resync_access WHERE database = ?", (tx.database,))
    tx.sql(_ACCESS, (tx.database,))


def apply(tx: Transaction, version: int, now: float) -> None:
    """Make what was computed the routing, and the version the one in force.

    Everything that is recorded must be computed. Without any difference that a reader could see no sequence is taken.
    Raises Conflict when another version is wanted.
    """
    in_force, wanted = tx.sql("SELECT sync_version, sync_wanted FROM database WHERE id = ?", (tx.database,)).fetchone()
    if version != (wanted or in_force):
        raise Conflict("another version of the sync function is wanted by now")
    find_access(tx, now)
    database = tx.database
    changed = tx.sql("SELECT 1 FROM resync_document WHERE database = ? AND changed = 1 LIMIT 1", (database,)).fetchone()
    ends = tx.sql(_ENDS, {"database": database}).fetchone()[0]
    first = tx.next_seq() if changed or ends is not None else tx.last_seq  # the timers hear of it by a publication
    tx.ends(ends)
    tx.sql(_LEAVES, (first, database))
    if changed:
        tx.sql(_SEQUENCES, (first, database))
        tx.sql(_DOCUMENTS)
        tx.sql(_KEPT)
        tx.sql(_LEFT)
        tx.sql(_ENTERED)
        tx.sql(_CLOSED, (first,))
        tx.sql(_OPENED, (first,))
        tx.sql("DELETE FROM grants WHERE (principal, kind, target, source) IN (SELECT * FROM resync_taken)")
        tx.sql(_GRANTS, (first, database))
        tx.sql(_LOST, (first, database))
        tx.sql(_GAINED, (first, database))
        who = tx.sql("SELECT DISTINCT who FROM resync_access WHERE database = ?", (database,)).fetchall()
        tx.touch_access((row[0] for row in who), first)
        (count,) = tx.sql("SELECT count(*) FROM resync_seq").fetchone()
        tx.last_seq = first + count
        _publish(tx, count)
    set_in_force(tx, version)
    tx.sql(
        "UPDATE resync_job SET state = 'completed', error = NULL, ended_at = ?, cursor = ? WHERE database = ?",
        (now, tx.last_seq, database),
    )


def _publish(tx: Transaction, count: int) -> None:
    if count > limits.RESYNC_PUBLISHED_COUNT:
        tx.entries_left_out = True
        return
    channels: dict[int, tuple[set[int], set[int]]] = {}
    changed = tx.sql(
        "SELECT s.document, s.seq, d.doc, d.winner, d.leaves = 1 AND d.purged_seq IS NULL FROM resync_seq s"
        " CROSS JOIN document d ON d.id = s.document ORDER BY s.seq"
    ).fetchall()
    for document, channel, removed in tx.sql(
        "SELECT document, channel, removed FROM channel_entry WHERE document IN (SELECT value FROM json_each(?))"
        " AND seq = (SELECT seq FROM resync_seq s WHERE s.document = channel_entry.document)",
        (ids_json([row[0] for row in changed]),),
    ):
        channels.setdefault(document, (set(), set()))[removed].add(channel)
    for document, seq, doc, winner, single in changed:
        live, gone = channels[document]
        tx.entries.append(Entry(seq, doc, document, winner, bool(single), frozenset(live), frozenset(gone)))
