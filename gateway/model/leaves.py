"""A leaf of a document with its whole routing, and the one rule about who may read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.model.intervals import ChannelId, Intervals

PrincipalId: TypeAlias = int


@dataclass(frozen=True, slots=True)
class LeafRouting:
    """What the sync function said about a revision, with interned names; `refused` when it refused a foreign write."""

    channels: frozenset[ChannelId] = frozenset()
    grants: frozenset[tuple[PrincipalId, ChannelId]] = frozenset()
    roles: frozenset[tuple[PrincipalId, PrincipalId]] = frozenset()  # (user, role)
    expiry: float | None = None
    refused: str | None = None
    # Those of `grants` and `roles` that end, each with its end in unix seconds.
    grant_ends: frozenset[tuple[PrincipalId, ChannelId, float]] = frozenset()
    role_ends: frozenset[tuple[PrincipalId, PrincipalId, float]] = frozenset()
    asked_at: float | None = field(default=None, compare=False)  # what relative times counted from, unix seconds


@dataclass(frozen=True, slots=True)
class Leaf:
    """A recorded leaf. `seq` is the sequence that recorded it, not the document's (routing-rules A7)."""

    rev: str
    deleted: bool
    seq: int
    routing: LeafRouting
    inherited: frozenset[tuple[ChannelId, int]] = frozenset()
    ancestors: tuple[str, ...] = ()  # newest first, at most LEAF_ANCESTORS_COUNT
    superseded_at: float | None = None  # unix seconds; a superseded leaf is readable for a grace time (A19)


@dataclass(frozen=True, slots=True)
class Reason:
    """One path on which a user may read a leaf: through `channel`, had since `since`."""

    channel: ChannelId
    kind: str  # open: has the channel now | was-open: had it when the tombstone came | inherited: could read before
    since: int


def reasons(leaf: Leaf, held: Intervals, opened: Mapping[ChannelId, int], star: ChannelId) -> Iterator[Reason]:
    """Every reason why a user with the intervals `held`, `opened` now, may read this very revision; none: hidden.

    A live leaf only through a channel that is open now (A1). A tombstone also when its channel was held in the state
    after it, or when the user could read what it replaced, the end of access included (A7).
    """
    channels = (*leaf.routing.channels, star)
    for channel in channels:
        if channel in opened:
            yield Reason(channel, "open", opened[channel])
    if not leaf.deleted:
        return
    for channel in channels:
        for start, end in held.get(channel, ()):
            if start <= leaf.seq < end:
                yield Reason(channel, "was-open", start)
    for channel, at in leaf.inherited:
        for start, end in held.get(channel, ()):
            if start < at <= end:
                yield Reason(channel, "inherited", start)


def readable(leaf: Leaf, held: Intervals, opened: Mapping[ChannelId, int], star: ChannelId) -> bool:
    """Whether there is any reason. Every read of every endpoint is decided here."""
    return next(reasons(leaf, held, opened, star), None) is not None


def first_had(spans: Sequence[tuple[ChannelId, int, int]], held: Intervals) -> int | None:
    """The earliest sequence at which the user could read the document alive, over all channels (A5); None: never.

    `spans` are (channel, from, until) of the document.
    """
    starts = [
        max(start, since)
        for channel, since, until in spans
        for start, end in held.get(channel, ())
        if max(start, since) < min(end, until)
    ]
    return min(starts, default=None)
