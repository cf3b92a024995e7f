"""One document's revision tree: merging, leaves, stemming. Pure; no I/O and no clock.

The rules are CouchDB's (https://docs.couchdb.org/en/stable/replication/conflicts.html): a tree may have several roots
(after stemming, or when unrelated histories are pushed), every path ends in a leaf, and a revision whose body was
never sent (or was compacted away) stays as a node without a body.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.model.revisions import winner_first

NO_BODY = 0


class Merged(Enum):
    """What a merged path did to the tree."""

    LEAF = "its newest revision is a new leaf"
    FILLED = "its newest revision was known without a body and has one now"
    KNOWN = "its newest revision was there already, with its body"


@dataclass(slots=True)
class Node:
    parent: str | None
    deleted: bool
    body: int  # the row of its body, or NO_BODY


class Tree:
    """A mutable revision tree; `nodes` is keyed by revision id."""

    __slots__ = ("nodes",)

    def __init__(self, nodes: dict[str, Node] | None = None) -> None:
        self.nodes: dict[str, Node] = nodes if nodes is not None else {}

    @classmethod
    def decode(cls, text: str) -> Tree:
        """The inverse of `encode`."""
        rows = json.loads(text)
        return cls(
            {rev: Node(None if parent < 0 else rows[parent][0], bool(gone), body) for rev, parent, gone, body in rows}
        )

    def encode(self) -> str:
        """`[[rev, index of the parent or -1, deleted, body], …]` as JSON."""
        index = {rev: at for at, rev in enumerate(self.nodes)}
        return json.dumps(
            [
                [rev, -1 if node.parent is None else index[node.parent], int(node.deleted), node.body]
                for rev, node in self.nodes.items()
            ],
            separators=(",", ":"),
        )

    def leaves(self) -> list[tuple[str, bool]]:
        """(rev, deleted) of every leaf, the winner first."""
        if len(self.nodes) == 1:
            return [(rev, node.deleted) for rev, node in self.nodes.items()]
        parents = {node.parent for node in self.nodes.values()}
        return winner_first((rev, node.deleted) for rev, node in self.nodes.items() if rev not in parents)

    def is_leaf(self, rev: str) -> bool:
        return rev in self.nodes and all(node.parent != rev for node in self.nodes.values())

    def path(self, rev: str) -> list[str]:
        """`rev` and its known ancestors, newest first."""
        found = [rev]
        while (parent := self.nodes[found[-1]].parent) is not None:
            found.append(parent)
        return found

    def leaves_above(self, rev: str) -> list[tuple[str, bool]]:
        """The leaves that descend from `rev` (or are it), the winner first."""
        return [leaf for leaf in self.leaves() if rev in self.path(leaf[0])]

    def merge(self, path: Sequence[str], *, deleted: bool) -> Merged:
        """Graft a history, newest first, onto the tree; the body of `path[0]` is still to be set by the caller.

        A known revision keeps the parent it has; a root of the tree that has a parent in `path` gets it (the tree was
        stemmed more than the sender's). Ancestors that contradict what is known are left out: they would be leaves
        without a body.
        """
        newest = path[0]
        known = self.nodes.get(newest)
        had_body = known is not None and known.body != NO_BODY
        below: str | None = None
        added: list[str] = []  # since the last revision that was known
        for rev in reversed(path):
            node = self.nodes.get(rev)
            if node is None:
                self.nodes[rev] = Node(below, deleted if rev == newest else False, NO_BODY)
                added.append(rev)
            else:
                if node.parent is None and below is not None and not self._reaches(below, rev):
                    node.parent = below
                if node.parent != below:
                    for contradiction in added:
                        del self.nodes[contradiction]
                added = []
            below = rev
        if had_body:
            return Merged.KNOWN
        self.nodes[newest].deleted = deleted
        return Merged.LEAF if known is None else Merged.FILLED

    def _reaches(self, rev: str, ancestor: str) -> bool:
        """Whether `ancestor` is below `rev`: grafting must never close a circle, whatever the sender says."""
        return ancestor in self.path(rev)

    def stem(self, limit: int) -> list[int]:
        """Keep `limit` revisions of each path, counted from its leaf. Returns the bodies that were dropped."""
        if len(self.nodes) <= limit:
            return []
        keep: set[str] = set()
        for leaf, _ in self.leaves():
            keep.update(self.path(leaf)[:limit])
        return self._retain(keep)

    def remove_leaves(self, revs: Collection[str]) -> tuple[list[str], list[int]]:
        """Purge: drop the leaves among `revs` with what only they descend from. Returns (dropped leaves, bodies)."""
        leaves = [leaf for leaf, _ in self.leaves()]
        gone = [leaf for leaf in leaves if leaf in revs]
        if not gone:
            return [], []
        keep: set[str] = set()
        for leaf in leaves:
            if leaf not in revs:
                keep.update(self.path(leaf))
        return gone, self._retain(keep)

    def _retain(self, keep: set[str]) -> list[int]:
        dropped = [node.body for rev, node in self.nodes.items() if rev not in keep and node.body != NO_BODY]
        self.nodes = {rev: node for rev, node in self.nodes.items() if rev in keep}
        for node in self.nodes.values():
            if node.parent is not None and node.parent not in keep:
                node.parent = None
        return dropped

    def forget_interior_bodies(self) -> list[int]:
        """Compaction: the rows of every body that is not a leaf's, which the nodes no longer name."""
        leaves = {leaf for leaf, _ in self.leaves()}
        dropped = []
        for rev, node in self.nodes.items():
            if rev not in leaves and node.body != NO_BODY:
                dropped.append(node.body)
                node.body = NO_BODY
        return dropped

    def missing(self, revs: Iterable[str]) -> list[str]:
        return [rev for rev in revs if rev not in self.nodes]
