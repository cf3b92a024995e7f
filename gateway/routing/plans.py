"""What a write replaces and what the sync function must accept: decided from the document's current leaves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import Conflict
from gateway.model.drafts import Draft
from gateway.model.revisions import generation, next_rev, winner_first, wins


@dataclass(frozen=True, slots=True)
class CurrentLeaf:
    """A leaf of the document as it is before the write."""

    rev: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """One write: `base` is the leaf it extends, `old` what the function sees as oldDoc, `also` a winner that it must
    be accepted over, too."""

    draft: Draft
    rev: str | None  # of the new revision; None where only the upstream can tell
    base: CurrentLeaf | None
    old: CurrentLeaf | None
    also: CurrentLeaf | None


class NotALeaf(Conflict):
    """The revision to be replaced is no current leaf, as far as is known here."""


def winner_of(leaves: Sequence[CurrentLeaf]) -> CurrentLeaf | None:
    by_rev = {leaf.rev: leaf for leaf in leaves}
    ordered = winner_first((leaf.rev, leaf.deleted) for leaf in leaves)
    return by_rev[ordered[0][0]] if ordered else None


def plan(draft: Draft, leaves: Sequence[CurrentLeaf]) -> Plan:
    """Raises NotALeaf or Conflict as CouchDB would answer."""
    winner = winner_of(leaves)
    if draft.new_edits:
        base = _edited(draft, leaves, winner)
        rev = (
            None
            if draft.has_attachments
            else next_rev(base.rev if base else None, dict(draft.body), deleted=draft.deleted)
        )
        old = base
    else:
        # A true path through the tree holds at most one leaf. Of an invented one the nearest counts: any other that
        # wins is shown too, below.
        by_rev = {leaf.rev: leaf for leaf in leaves}
        base = next((by_rev[rev] for rev in draft.ancestors if rev in by_rev), None)
        rev = draft.rev
        old = base or winner
    return Plan(draft, rev, base, old, _also(draft, rev, old, winner))


def is_new(rev: str, leaves: Sequence[CurrentLeaf]) -> bool:
    """Whether no revision of this document can have that id: it is of a higher generation than all there are.

    That a leaf is its parent says nothing: CouchDB keeps the same id on two branches when it is told so.
    """
    return all(generation(leaf.rev) < generation(rev) for leaf in leaves)


def _edited(draft: Draft, leaves: Sequence[CurrentLeaf], winner: CurrentLeaf | None) -> CurrentLeaf | None:
    if draft.parent is not None:
        for leaf in leaves:
            if leaf.rev == draft.parent:
                return leaf
        raise NotALeaf
    if winner is not None and not winner.deleted:
        raise NotALeaf
    return winner  # a tombstone is extended, as CouchDB does


def _also(draft: Draft, rev: str | None, old: CurrentLeaf | None, winner: CurrentLeaf | None) -> CurrentLeaf | None:
    """The winner, when the new revision would win over it without descending from it (W5).

    A winner among the ancestors that is not the nearest leaf there is no ancestor really: leaves have no children.
    """
    if winner is None or old is None or winner.rev == old.rev:
        return None
    if rev is None:
        # The digest is not known yet: suppose it is the highest.
        rev = f"{generation(old.rev) + 1}-{'g' * 32}"
    return winner if wins(rev, draft.deleted, winner.rev, winner.deleted) else None
