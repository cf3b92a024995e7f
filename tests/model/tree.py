"""A document of the simulated upstream: its revision tree, grown and purged as CouchDB does."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from gateway.model.revisions import generation, winner_first
from tests.model.oracle import Said


@dataclass(frozen=True)
class Revision:
    rev: str
    parent: str | None
    deleted: bool
    said: Said


@dataclass
class Tree:
    """`purged` until the purge was told to the index."""

    doc: str
    revisions: dict[str, Revision] = field(default_factory=dict)
    purged: bool = False
    made: int = 0

    def leaves(self) -> list[str]:
        parents = {revision.parent for revision in self.revisions.values()}
        return sorted(rev for rev in self.revisions if rev not in parents)

    def path(self, rev: str) -> list[str]:
        """The revision and its ancestors, newest first."""
        found = []
        at: str | None = rev
        while at is not None:
            found.append(at)
            at = self.revisions[at].parent
        return found

    def replaced(self, onto: str | None, branch: bool) -> str | None:
        """What a new revision goes over: `onto`, else the winner; with `branch` and no `onto` nothing."""
        if onto is not None or branch or not self.revisions:
            return onto
        return winner_first((rev, self.revisions[rev].deleted) for rev in self.leaves())[0][0]

    def grow(self, parent: str | None, said: Said, *, deleted: bool = False, digest: str | None = None) -> str:
        """A new revision over `parent`. Digests look random, so that any of two conflicting leaves may win."""
        number = 1 if parent is None else generation(parent) + 1
        rev = None if digest is None else f"{number}-{digest}"
        while rev is None or rev in self.revisions:
            self.made += 1
            rev = f"{number}-{hashlib.sha256(f'{self.doc}/{self.made}'.encode()).hexdigest()[:6]}"
        self.revisions[rev] = Revision(rev, parent, deleted, said)
        return rev

    def purge(self, leaf: str) -> None:
        """Remove a leaf and its branch up to where it forks."""
        at: str | None = leaf
        while at is not None and all(revision.parent != at for revision in self.revisions.values()):
            at = self.revisions.pop(at).parent
        self.purged = True
