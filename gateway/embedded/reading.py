"""Reading documents from a connection: the forms in which CouchDB hands them out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import limits
from gateway.couch.upstream import Document, RevisionRef
from gateway.embedded import attachments
from gateway.embedded.attachments import Attachment
from gateway.embedded.tree import NO_BODY, Tree
from gateway.errors import TooLarge
from gateway.model.revisions import generation, revisions_object

_VARIABLES = 500


@dataclass(frozen=True, slots=True)
class DocOptions:
    """What to add to a document (https://docs.couchdb.org/en/stable/api/document/common.html#get--db-docid)."""

    revs: bool = False
    revs_info: bool = False
    conflicts: bool = False
    deleted_conflicts: bool = False
    local_seq: bool = False
    attachments: bool = False
    atts_since: tuple[str, ...] | None = None
    att_encoding_info: bool = False
    follows: bool = False  # attachments beside the document instead of inside it

    @property
    def has_meta(self) -> bool:
        """Whether the answer holds more than the revision, so that its ETag would not."""
        return self.revs_info or self.conflicts or self.deleted_conflicts or self.local_seq


NO_SECURITY: Mapping[str, Any] = {"members": {"roles": ["_admin"]}, "admins": {"roles": ["_admin"]}}
PLAIN = DocOptions()
WITH_REVISIONS = DocOptions(revs=True)


@dataclass(frozen=True, slots=True)
class Found:
    """One stored document: its row, with the tree decoded."""

    id: str
    seq: int
    tree: Tree

    def leaves(self) -> list[tuple[str, bool]]:
        return self.tree.leaves()


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision ready to be answered, with the attachments that go beside it (`follows`)."""

    doc: Document
    follows: Mapping[str, Attachment]


def placeholders(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def slices(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Pieces small enough to be bound in one statement."""
    for at in range(0, len(values), _VARIABLES):
        yield values[at : at + _VARIABLES]


def find(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, Found]:
    """The stored documents among `ids`."""
    found = {}
    for some in slices(list(dict.fromkeys(ids))):
        for id, seq, tree in connection.execute(
            f"SELECT id, seq, tree FROM doc WHERE id IN ({placeholders(some)})", some
        ):
            found[id] = Found(id, seq, Tree.decode(tree))
    return found


def bodies(connection: sqlite3.Connection, keys: Sequence[int]) -> dict[int, tuple[bytes, str | None]]:
    """(JSON, attachments) by body."""
    found = {}
    for some in slices(keys):
        for key, text, atts in connection.execute(
            f"SELECT key, json, attachments FROM body WHERE key IN ({placeholders(some)})", some
        ):
            found[key] = (text, atts)
    return found


def security(connection: sqlite3.Connection) -> Mapping[str, Any]:
    """The answer of `GET /{db}/_security`."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'security'").fetchone()
    return NO_SECURITY if row is None else json.loads(row[0])


class Budget:
    """How many bytes of attachments one answer may still hold in memory."""

    def __init__(self, left: int = limits.EMBEDDED_INLINE_ATTACHMENTS_BYTES) -> None:
        self._left = left

    def read(self, connection: sqlite3.Connection, attachment: Attachment) -> bytes:
        """Raises TooLarge."""
        data = attachments.read_all(connection, attachment, self._left)
        if data is None:
            raise TooLarge(
                f"inline attachments of one answer are limited to {limits.EMBEDDED_INLINE_ATTACHMENTS_BYTES} bytes; "
                "fetch them one by one"
            )
        self._left -= len(data)
        return data


def revision(
    connection: sqlite3.Connection,
    found: Found,
    rev: str,
    body: tuple[bytes, str | None],
    options: DocOptions,
    budget: Budget | None = None,
) -> Revision:
    """The revision in CouchDB's form and order of members."""
    node = found.tree.nodes[rev]
    doc: Document = {"_id": found.id, "_rev": rev}
    doc |= json.loads(body[0])
    if node.deleted:
        doc["_deleted"] = True
    if options.revs:
        doc["_revisions"] = revisions_object(found.tree.path(rev))
    if options.has_meta:
        _add_meta(doc, found, rev, options)
    beside: dict[str, Attachment] = {}
    if body[1] is not None:
        stored = attachments.decode(body[1])
        wanted = _wanted(found, rev, stored, options)
        budget = budget or Budget()
        if options.follows:
            beside = {name: stored[name] for name in stored if name in wanted}
        entries = {}
        for name, attachment in stored.items():
            data = None
            if name in wanted and not options.follows:
                data = budget.read(connection, attachment)
            entries[name] = attachments.entry(
                attachment, data=data, follows=name in beside, encoding_info=options.att_encoding_info
            )
        doc["_attachments"] = entries
    return Revision(doc, beside)


def _wanted(found: Found, rev: str, stored: Mapping[str, Attachment], options: DocOptions) -> set[str]:
    """The attachments whose bytes are asked for; with `atts_since` those newer than the newest known ancestor."""
    if not options.attachments:
        return set()
    if options.atts_since is None:
        return set(stored)
    path = set(found.tree.path(rev))
    since = max((generation(known) for known in options.atts_since if known in path), default=0)
    return {name for name, attachment in stored.items() if attachment.revpos > since}


def _add_meta(doc: Document, found: Found, rev: str, options: DocOptions) -> None:
    leaves = found.leaves()
    if options.revs_info:
        doc["_revs_info"] = [{"rev": one, "status": _status(found, one)} for one in found.tree.path(rev)]
    if options.conflicts and (losing := [one for one, gone in leaves if not gone and one != rev]):
        doc["_conflicts"] = losing
    if options.deleted_conflicts and (losing := [one for one, gone in leaves if gone and one != rev]):
        doc["_deleted_conflicts"] = losing
    if options.local_seq:
        doc["_local_seq"] = found.seq


def _status(found: Found, rev: str) -> str:
    node = found.tree.nodes[rev]
    if node.body == NO_BODY:
        return "missing"
    return "deleted" if node.deleted else "available"


def read(connection: sqlite3.Connection, wanted: Sequence[RevisionRef], options: DocOptions) -> list[Revision | None]:
    """Exactly these revisions, in order; None for one whose body is not stored."""
    docs = find(connection, (ref.id for ref in wanted))
    places: list[tuple[Found, str, int] | None] = []
    for ref in wanted:
        found = docs.get(ref.id)
        node = None if found is None else found.tree.nodes.get(ref.rev)
        if found is None or node is None or node.body == NO_BODY:
            places.append(None)
        else:
            places.append((found, ref.rev, node.body))
    texts = bodies(connection, [place[2] for place in places if place is not None])
    budget = Budget()
    return [
        None
        if place is None or place[2] not in texts
        else revision(connection, place[0], place[1], texts[place[2]], options, budget)
        for place in places
    ]


def leaves(connection: sqlite3.Connection, ids: Sequence[str]) -> list[list[Document]]:
    """Every leaf of each document, the winner first, with `_revisions`; `[]` for an unknown id."""
    docs = find(connection, ids)
    every = [(found, rev) for found in docs.values() for rev, _ in found.leaves()]
    texts = bodies(connection, [found.tree.nodes[rev].body for found, rev in every])
    by_id: dict[str, list[Document]] = {}
    for found, rev in every:
        # a leaf without a body cannot be written, only come from a damaged file
        if (text := texts.get(found.tree.nodes[rev].body)) is not None:
            by_id.setdefault(found.id, []).append(revision(connection, found, rev, text, WITH_REVISIONS).doc)
    return [by_id.get(id, []) for id in ids]


def revs_diff(connection: sqlite3.Connection, revs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    """For ids that miss one: what is `missing`, and the leaves older than the newest of it (couch_db)."""
    docs = find(connection, revs)
    answer: dict[str, dict[str, list[str]]] = {}
    for id, asked in revs.items():
        found = docs.get(id)
        missing = list(asked) if found is None else found.tree.missing(asked)
        if not missing:
            continue
        newest = max(generation(rev) for rev in missing)
        older = [] if found is None else [rev for rev, _ in found.leaves() if generation(rev) < newest]
        answer[id] = {"missing": missing, "possible_ancestors": older}
    return answer
