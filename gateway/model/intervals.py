"""Access intervals: `[from, until)` of sequences, and what a user had and has of every channel.

An interval without an end ends at OPEN. Point intervals are no access: an intersection exists only if from < until.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

OPEN = 2**62
Interval: TypeAlias = tuple[int, int]
ChannelId: TypeAlias = int
Intervals: TypeAlias = Mapping[ChannelId, Sequence[Interval]]

ALWAYS: Sequence[Interval] = ((0, OPEN),)


def intersect(left: Iterable[Interval], right: Iterable[Interval]) -> list[Interval]:
    """Every overlap of an interval of one side with one of the other."""
    others = list(right)
    return [
        (max(start, other_start), min(end, other_end))
        for start, end in left
        for other_start, other_end in others
        if max(start, other_start) < min(end, other_end)
    ]


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """Sorted, and joined where the next begins no later than the previous ends (routing-rules A10)."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


@dataclass(frozen=True, slots=True)
class Role:
    """A role that a user has or had."""

    membership: Sequence[Interval]
    life: Sequence[Interval]
    channels: Intervals


@dataclass(frozen=True, slots=True)
class Access:
    """All that is recorded about a user's access, exact and never compacted (routing-rules A15)."""

    life: Sequence[Interval]
    channels: Intervals
    roles: Sequence[Role] = field(default_factory=tuple)


def intervals(
    access: Access, filter_channels: Iterable[ChannelId] | None, star: ChannelId
) -> dict[int, list[Interval]]:
    """Per channel, when the user had it: own, and through roles while these lived; all within the user's life.

    With a filter, only those channels, and a holder of `*` has each of them (routing-rules A14).
    """
    raw: dict[ChannelId, list[Interval]] = {channel: list(spans) for channel, spans in access.channels.items()}
    for role in access.roles:
        held = intersect(role.membership, role.life)
        if held:
            for channel, spans in role.channels.items():
                raw.setdefault(channel, []).extend(intersect(held, spans))
    if filter_channels is not None:
        stars = raw.get(star, [])
        raw = {channel: raw.get(channel, []) + stars for channel in filter_channels}
    joined = ((channel, merge(intersect(spans, access.life))) for channel, spans in raw.items())
    return {channel: spans for channel, spans in joined if spans}


def open_channels(held: Intervals) -> dict[ChannelId, int]:
    """The channels that the user has now, each with the sequence since when."""
    return {channel: spans[-1][0] for channel, spans in held.items() if spans[-1][1] == OPEN}
