"""Why a user can or cannot read a revision, from what the index says. Pure; `reasons` decides, as for every read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias

from gateway.model.intervals import OPEN, ChannelId, Interval, Intervals
from gateway.model.leaves import Leaf, Reason, reasons

SourceKind: TypeAlias = Literal["admin", "config", "document", "security", "server", "token", "public"]
Verdict: TypeAlias = Literal[
    # can read
    "open",  # has a channel of it
    "was-open",  # of a tombstone: had a channel of it when it came
    "inherited",  # of a tombstone: could read what it deleted
    # cannot
    "unknown-user",
    "deleted-user",
    "disabled-user",
    "unknown-document",
    "not-imported",  # written straight to CouchDB, and left out by the rules of import
    "not-routed",  # design documents and local ones are not for users, or are their own
    "purged",
    "no-such-revision",  # users read leaves, and what was one a moment ago
    "refused",  # the sync function refused a foreign write
    "access-lost",  # the user had a channel of it
    "left",  # it was in a channel of the user
    "role-missing",  # a role would give it, and does not exist
    "no-channel",
    "no-common-channel",
]


@dataclass(frozen=True, slots=True)
class Source:
    """Who gives something, since which sequence. `rev` is the granting document's revision now."""

    kind: SourceKind
    since: int
    name: str | None = None  # of a document, its id; of a token, its issuer
    rev: str | None = None
    end: float | None = None  # unix seconds; then it gives nothing more


@dataclass(frozen=True, slots=True)
class Way:
    """How a user has a channel now: by grants of its own, or by those of a role, whose membership has sources too."""

    channel: str
    since: int
    sources: Sequence[Source]
    role: str | None = None
    membership: Sequence[Source] = ()
    more: bool = False  # there are other sources
    more_membership: bool = False

    @property
    def end(self) -> float | None:
        """When it ends by itself (unix seconds); None: never, or nobody can tell."""
        ends = [None if self.more else _last_end(self.sources)]
        if self.role is not None:
            ends.append(None if self.more_membership else _last_end(self.membership))
        return min((end for end in ends if end is not None), default=None)


def _last_end(sources: Sequence[Source]) -> float | None:
    ends = [source.end for source in sources]
    return None if None in ends else max((end for end in ends if end is not None), default=None)


class Past(NamedTuple):
    """A time `[since, until)` in which something was so."""

    channel: ChannelId
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that matters about one user and one document, of one moment."""

    user: str
    life: Sequence[Interval]
    disabled: bool
    held: Intervals
    opened: Mapping[ChannelId, int]
    star: ChannelId
    doc: str
    known: bool  # whether the index has the document
    rev: str | None  # the revision that is asked about; None: the winner
    leaf: Leaf | None  # that revision
    spans: Sequence[tuple[ChannelId, int, int]]  # of the document; only if the revision is the winner
    missing: Sequence[Way] = ()  # through roles that do not exist, to channels of the revision
    left_out: tuple[str, str] | None = None  # the revision asked about, or one where none is recorded, and the reason

    @property
    def lives(self) -> bool:
        return bool(self.life) and self.life[-1][1] == OPEN

    def entered(self, channel: ChannelId, leaf: Leaf) -> int | None:
        """Since when a revision is in one of its channels, with those before it; None for a tombstone."""
        since = (start for where, start, end in self.spans if where == channel and end == OPEN)
        return None if leaf.deleted else next(since, leaf.seq)


@dataclass(frozen=True, slots=True)
class Finding:
    """`reasons` are why the user may read, or might if it were enabled. `had` is when the user could read the document
    alive, the latest first; `lost` are channels of it that the user had, `left` channels of the user that it was in."""

    can_read: bool
    verdict: Verdict
    reasons: Sequence[Reason] = ()
    had: Sequence[Past] = ()
    lost: Sequence[Past] = ()
    left: Sequence[Past] = ()
    otherwise: Verdict | None = None  # the verdict if the user, which is disabled, were not


def find_out(facts: Facts) -> Finding:
    """The answer with its reasons. A disabled user reads nothing."""
    if not facts.lives:
        return Finding(False, "deleted-user" if facts.life else "unknown-user")
    if facts.leaf is None:
        return Finding(False, _nothing_there(facts))
    found = list(reasons(facts.leaf, facts.held, facts.opened, facts.star))
    finding = Finding(True, _verdict_of(found[0]), found) if found else _nearest(facts, facts.leaf)
    if facts.disabled:
        return replace(finding, can_read=False, verdict="disabled-user", otherwise=finding.verdict)
    return finding


def _verdict_of(reason: Reason) -> Verdict:
    if reason.kind == "open":
        return "open"
    return "was-open" if reason.kind == "was-open" else "inherited"


def _nothing_there(facts: Facts) -> Verdict:
    if facts.doc.startswith(("_design/", "_local/")):
        return "not-routed"
    if facts.left_out is not None:
        return "not-imported"
    if not facts.known:
        return "unknown-document"
    return "purged" if facts.rev is None else "no-such-revision"


def _nearest(facts: Facts, leaf: Leaf) -> Finding:
    """What came closest to access. What the user could really read once counts more than what would have fitted."""
    had = _latest(
        Past(channel, max(start, since), min(end, until))
        for channel, since, until in facts.spans
        for start, end in facts.held.get(channel, ())
        if max(start, since) < min(end, until)
    )
    channels = leaf.routing.channels | {facts.star}
    lost = _latest(
        Past(channel, *facts.held[channel][-1])
        for channel in channels
        if channel in facts.held and channel not in facts.opened
    )
    in_now = {channel for channel, _, until in facts.spans if until == OPEN}
    left = _latest(
        Past(channel, since, until)
        for channel, since, until in facts.spans
        if channel in facts.opened and channel not in in_now
    )
    verdict: Verdict
    if leaf.routing.refused is not None:
        verdict = "refused"
    elif had:
        still_in = any(
            channel == had[0].channel and since <= had[0].since and had[0].until < until
            for channel, since, until in facts.spans
        )
        verdict = "access-lost" if still_in else "left"
    elif lost:
        verdict = "access-lost"
    elif facts.missing:
        verdict = "role-missing"
    elif left:
        verdict = "left"
    else:
        verdict = "no-common-channel" if leaf.routing.channels else "no-channel"
    return Finding(False, verdict, (), had, lost, left)


def _latest(found: Iterable[Past]) -> list[Past]:
    """The latest of each channel, the latest first."""
    last: dict[ChannelId, Past] = {}
    for past in found:
        if past.channel not in last or past.until > last[past.channel].until:
            last[past.channel] = past
    return sorted(last.values(), key=lambda past: (-past.until, past.channel))
