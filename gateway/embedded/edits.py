"""Writing documents inside a transaction: conflicts, revision ids, trees, counters, change rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.couch.upstream import WriteResult
from gateway.embedded import attachments
from gateway.embedded.attachments import Attachment
from gateway.embedded.documents import Incoming, IncomingAttachment, Stub
from gateway.embedded.tree import NO_BODY, Merged, Tree
from gateway.embedded.writer import Row, Transaction
from gateway.errors import BadRequest, Conflict, MissingStub
from gateway.model.revisions import generation, next_local_rev, next_rev

_VARIABLES = 500  # bound in one statement; SQLite's own limit is far higher


@dataclass(slots=True)
class _Doc:
    """A document while a transaction works on it."""

    id: str
    key: int | None
    tree: Tree
    was_deleted: bool


def load(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, _Doc]:
    """The stored documents among `ids`."""
    wanted = list(dict.fromkeys(ids))
    found = {}
    for at in range(0, len(wanted), _VARIABLES):
        some = wanted[at : at + _VARIABLES]
        marks = ",".join("?" * len(some))
        for key, id, deleted, tree in connection.execute(
            f"SELECT key, id, deleted, tree FROM doc WHERE id IN ({marks})", some
        ):
            found[id] = _Doc(id, key, Tree.decode(tree), bool(deleted))
    return found


def stub_of(id: str, name: str, given: IncomingAttachment, before: Mapping[str, Attachment] | None) -> Attachment:
    """The attachment that a stub names among those of the revision before. Raises MissingStub."""
    old = (before or {}).get(name)
    if old is None or given.revpos not in (None, old.revpos):
        raise MissingStub(f"Invalid attachment stub in {id} for {name}")
    return old


def replaced(tree: Tree | None, doc: Incoming) -> str | None:
    """The revision that an interactive write replaces. Raises Conflict (couch_db_updater:merge_rev_tree)."""
    if tree is None or not tree.nodes:
        if doc.rev is not None:
            raise Conflict
        return None
    if doc.rev is not None:
        if not tree.is_leaf(doc.rev):
            raise Conflict
        return doc.rev
    winner, deleted = tree.leaves()[0]
    if not deleted or doc.deleted:
        raise Conflict
    return winner


class Edit:
    """The documents of one bulk write, applied in order, stored together."""

    def __init__(self, transaction: Transaction, ids: Iterable[str]) -> None:
        self._transaction = transaction
        self._docs = load(transaction.connection, (id for id in ids if not id.startswith("_local/")))
        self._order: dict[str, None] = {}  # touched documents, the last touched last
        self._bodies: list[tuple[int, bytes, str | None]] = []
        self._pending: dict[int, str | None] = {}  # attachments of bodies that are not in the file yet
        self._dropped: list[int] = []

    def write(self, docs: Sequence[Incoming], *, new_edits: bool) -> list[WriteResult]:
        """One result for each document. What cannot be stored is a value, not an exception."""
        results = []
        for doc in docs:
            try:
                rev = self._write_one(doc, new_edits=new_edits)
            except (BadRequest, Conflict, MissingStub) as error:
                results.append(WriteResult(doc.id, None, error.error, error.reason))
            else:
                results.append(WriteResult(doc.id, rev))
        self.store()
        return results

    def _write_one(self, doc: Incoming, *, new_edits: bool) -> str:
        if doc.id.startswith("_local/"):
            return write_local(self._transaction.connection, doc)
        if new_edits:
            return self._edit(doc)
        return self._replicate(doc)

    def _edit(self, doc: Incoming) -> str:
        known = self._docs.get(doc.id)
        parent = replaced(None if known is None else known.tree, doc)
        number = 1 if parent is None else generation(parent) + 1
        stored = self._attachments(doc, self._stored_attachments(known, (parent,) if parent else ()), number, False)
        rev = next_rev(
            parent,
            dict(doc.body),
            deleted=doc.deleted,
            attachments=[(name, a.content_type, a.md5) for name, a in stored.items()],
        )
        if known is None:
            known = self._docs[doc.id] = _Doc(doc.id, None, Tree(), True)
        if rev in known.tree.nodes:  # the same content over the same parent
            raise Conflict
        known.tree.merge((rev,) if parent is None else (rev, parent), deleted=doc.deleted)
        self._keep(known, rev, doc, stored)
        return rev

    def _replicate(self, doc: Incoming) -> str:
        rev = doc.path[0]
        known = self._docs.get(doc.id)
        if known is not None and (node := known.tree.nodes.get(rev)) is not None and node.body != NO_BODY:
            return doc.rev or rev  # the first body of a revision stays
        stored = self._attachments(doc, self._stored_attachments(known, doc.path), generation(rev), True)
        if known is None:
            known = self._docs[doc.id] = _Doc(doc.id, None, Tree(), True)
        if known.tree.merge(doc.path, deleted=doc.deleted) is not Merged.KNOWN:
            self._keep(known, rev, doc, stored)
        return doc.rev or rev

    def _keep(self, known: _Doc, rev: str, doc: Incoming, stored: Mapping[str, Attachment]) -> None:
        state = self._transaction.state
        state.body += 1
        text = attachments.encode(stored)
        self._bodies.append((state.body, doc.json, text))
        if text is not None:
            self._pending[state.body] = text
        known.tree.nodes[rev].body = state.body
        self._dropped += known.tree.stem(state.revs_limit)
        self._touch(known)

    def _touch(self, known: _Doc) -> None:
        self._order.pop(known.id, None)
        self._order[known.id] = None

    def _stored_attachments(self, known: _Doc | None, path: Sequence[str]) -> dict[str, Attachment] | None:
        """Those of the newest revision of `path` that has a body; None when there is none."""
        if known is None:
            return None
        for rev in path:
            node = known.tree.nodes.get(rev)
            if node is not None and node.body != NO_BODY:
                return attachments.decode(self._attachments_text(node.body))
        return None

    def _attachments_text(self, body: int) -> str | None:
        if body in self._pending:
            return self._pending[body]
        row = self._transaction.connection.execute("SELECT attachments FROM body WHERE key = ?", (body,)).fetchone()
        return None if row is None else row[0]

    def _attachments(
        self, doc: Incoming, before: Mapping[str, Attachment] | None, number: int, replicated: bool
    ) -> dict[str, Attachment]:
        found = {}
        for name, given in doc.attachments.items():
            if isinstance(given.source, Stub):
                found[name] = stub_of(doc.id, name, given, before)
            else:
                revpos = given.revpos if replicated and given.revpos is not None else number
                found[name] = attachments.store(self._transaction, given, given.source, revpos)
        return found

    def purge(self, revs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Forget leaves for good (https://docs.couchdb.org/en/stable/api/database/misc.html#db-purge).

        Returns the leaves that were removed; revisions that are no leaves are passed over. A document that keeps a
        leaf gets a new sequence, one that is gone has no row.
        """
        connection, state = self._transaction.connection, self._transaction.state
        purged: dict[str, list[str]] = {}
        for id, some in revs.items():
            doc = self._docs.get(id)
            purged[id], bodies = doc.tree.remove_leaves(some) if doc is not None else ([], [])
            if doc is None or not purged[id]:
                continue
            self._dropped += bodies
            state.purge_seq += 1
            connection.execute(
                "INSERT INTO purge (seq, id, revs) VALUES (?, ?, ?)", (state.purge_seq, id, json.dumps(purged[id]))
            )
            if doc.tree.nodes:
                self._touch(doc)
            else:
                connection.execute("DELETE FROM doc WHERE key = ?", (doc.key,))
                connection.execute("DELETE FROM view_row WHERE id = ?", (id,))  # no row will tell the indexes
                if doc.was_deleted:
                    state.doc_del_count -= 1
                else:
                    state.doc_count -= 1
        self.store()
        return purged

    def store(self) -> None:
        """Write what was touched: bodies, documents at their new sequences, counters, rows."""
        connection, state = self._transaction.connection, self._transaction.state
        connection.executemany("INSERT INTO body (key, json, attachments) VALUES (?, ?, ?)", self._bodies)
        created: list[tuple[Any, ...]] = []
        changed: list[tuple[Any, ...]] = []
        for id in self._order:
            doc = self._docs[id]
            leaves = doc.tree.leaves()
            winner, deleted = leaves[0]
            state.seq += 1
            _count(state, doc, deleted)
            row = (
                state.seq,
                deleted,
                winner,
                doc.tree.nodes[winner].body,
                None if len(leaves) == 1 else json.dumps(leaves, separators=(",", ":")),
                doc.tree.encode(),
            )
            if doc.key is None:
                created.append((id, *row))
            else:
                changed.append((*row, doc.key))
            self._transaction.rows.append(Row(state.seq, id, tuple(rev for rev, _ in leaves), deleted))
        if created:
            connection.executemany(
                "INSERT INTO doc (id, seq, deleted, winner, body, leaves, tree) VALUES (?, ?, ?, ?, ?, ?, ?)", created
            )
        if changed:
            connection.executemany(
                "UPDATE doc SET seq = ?, deleted = ?, winner = ?, body = ?, leaves = ?, tree = ? WHERE key = ?", changed
            )
        drop_bodies(connection, self._dropped)


def _count(state: Any, doc: _Doc, deleted: bool) -> None:
    if doc.key is not None:
        if doc.was_deleted:
            state.doc_del_count -= 1
        else:
            state.doc_count -= 1
    if deleted:
        state.doc_del_count += 1
    else:
        state.doc_count += 1


def drop_bodies(connection: sqlite3.Connection, bodies: Sequence[int]) -> None:
    connection.executemany("DELETE FROM body WHERE key = ?", [(body,) for body in bodies])


def write_local(connection: sqlite3.Connection, doc: Incoming) -> str:
    """A `_local` document: no history, no conflicts, its revision one more than the write names (`0-1`, `0-2`, …)."""
    if doc.deleted:
        connection.execute("DELETE FROM local WHERE id = ?", (doc.id,))
        return "0-0"
    try:
        number = next_local_rev(doc.rev)
    except ValueError as error:
        raise BadRequest(str(error)) from None
    connection.execute("INSERT OR REPLACE INTO local (id, rev, json) VALUES (?, ?, ?)", (doc.id, number, doc.json))
    return f"0-{number}"
