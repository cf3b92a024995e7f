"""APPLY of the routing rules: what changes in the index when a document's leaves are found to be others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway import limits
from gateway.model.intervals import ChannelId
from gateway.model.leaves import Leaf, LeafRouting
from gateway.model.revisions import winner_first


@dataclass(frozen=True, slots=True)
class Found:
    """A leaf that the upstream has now, with all its ancestors, newest first. `routing` is None when it is recorded
    already."""

    rev: str
    deleted: bool
    ancestors: tuple[str, ...]
    routing: LeafRouting | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the index knows of a document: its current leaves, and the channels it has an entry in."""

    leaves: Mapping[str, Leaf] = field(default_factory=dict)
    member: frozenset[ChannelId] = frozenset()  # channels with an entry that is not removed
    spanned: frozenset[ChannelId] = frozenset()  # channels with an open span
    purged_seq: int | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Update:
    """All writes that one document's change makes at sequence `seq`."""

    seq: int
    winner: Leaf | None  # None: every leaf was purged, the document stays as a ghost
    leaves: tuple[Leaf, ...]  # current ones, winner first
    added: tuple[Leaf, ...]
    superseded: tuple[str, ...]
    live: frozenset[ChannelId]  # entries that are now at seq, neither removed nor deleted
    deleted: frozenset[ChannelId]  # entries that are now at seq and deleted, not removed
    removed: frozenset[ChannelId]  # entries that are now at seq and removed
    open_spans: frozenset[ChannelId]
    close_spans: frozenset[ChannelId]


def is_known(found: Sequence[Found], recorded: Recorded) -> bool:
    """Whether the leaves found are the recorded ones: nothing to do (P7)."""
    return {leaf.rev for leaf in found} == recorded.leaves.keys()


def is_stale(found: Sequence[Found], recorded: Recorded) -> bool:
    """Whether a read shows an older state: every leaf found is recorded, or an ancestor of a recorded leaf, and one
    at least is no leaf any more (a lagging shard copy, routing-rules W9). An empty read is a purge, not a lag, and a
    partial purge never makes an ancestor a leaf: CouchDB removes the branch up to where it forks.
    """
    if not found or is_known(found, recorded):
        return False
    ancestors = {rev for leaf in recorded.leaves.values() for rev in leaf.ancestors}
    return all(leaf.rev in recorded.leaves or leaf.rev in ancestors for leaf in found) and any(
        leaf.rev not in recorded.leaves for leaf in found
    )


def apply(found: Sequence[Found], recorded: Recorded, seq: int, star: ChannelId) -> Update:
    """The update that makes `found` the recorded leaves. Each new leaf in `found` has its routing."""
    by_rev = {leaf.rev: leaf for leaf in found}
    added = []
    for leaf in found:
        if leaf.rev in recorded.leaves:
            continue
        if leaf.routing is None:
            raise ValueError(f"the new leaf {leaf.rev} has no routing")
        inherited: set[tuple[ChannelId, int]] = set()
        if leaf.deleted:
            for replaced in recorded.leaves.values():
                if replaced.rev in leaf.ancestors:
                    inherited |= {(channel, seq) for channel in (*replaced.routing.channels, star)}
                    inherited |= replaced.inherited
        kept = leaf.ancestors[: limits.LEAF_ANCESTORS_COUNT]
        added.append(Leaf(leaf.rev, leaf.deleted, seq, leaf.routing, frozenset(inherited), kept))
    known = {rev: leaf for rev, leaf in recorded.leaves.items() if rev in by_rev}
    now = {**known, **{leaf.rev: leaf for leaf in added}}
    ordered = tuple(now[rev] for rev, _ in winner_first((leaf.rev, leaf.deleted) for leaf in now.values()))
    winner = ordered[0] if ordered else None
    member = winner.routing.channels | {star} if winner else frozenset()
    alive = winner is not None and not winner.deleted
    gone = recorded.member - member
    staying = frozenset(member)
    open_now = staying if alive else frozenset()
    return Update(
        seq=seq,
        winner=winner,
        leaves=ordered,
        added=tuple(added),
        superseded=tuple(rev for rev in recorded.leaves if rev not in by_rev),
        live=open_now,
        deleted=frozenset() if alive else staying,
        removed=frozenset(gone),
        open_spans=open_now - recorded.spanned,
        close_spans=recorded.spanned - open_now,
    )
