"""An explanation as one English sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gateway.model.explain import Facts, Finding, Source, Way
from gateway.model.intervals import ChannelId
from gateway.model.leaves import Leaf, Reason
from gateway.model.moments import moment_text
from gateway.model.names import ALL_CHANNELS, GUEST, PUBLIC_CHANNEL

NAMED = 5  # things of one kind that a sentence names; of more it says how many


def sentence(facts: Facts, finding: Finding, ways: Sequence[Way], names: Mapping[ChannelId, str]) -> str:
    """`ways` lead to the channel of the first reason; `names` are those of all channels in the facts."""
    said = _Said(facts, names)
    return f"{said.subject(finding)}: {said.because(finding, ways)}."


def quoted(text: str) -> str:
    """A name so that nobody takes it for a word of the sentence."""
    return json.dumps(text, ensure_ascii=False)


def enumerated(words: Sequence[str], *, more: bool = False) -> str:
    """`a, b and c`; of many the first, and how many others there are. `more`: `words` are not all."""
    parts = list(words[:NAMED])
    if more:
        parts.append("others")
    elif len(words) > NAMED:
        parts.append(f"{len(words) - NAMED} more")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


class _Said:
    def __init__(self, facts: Facts, names: Mapping[ChannelId, str]) -> None:
        self._facts = facts
        self._names = names
        self._user = "the guest" if facts.user == GUEST else quoted(facts.user)

    def subject(self, finding: Finding) -> str:
        leaf = self._facts.leaf
        which = "" if leaf is None else f" (revision {leaf.rev})"
        gone = "the deletion of " if leaf is not None and leaf.deleted else ""
        can = "can" if finding.can_read else "cannot"
        user = self._user[0].upper() + self._user[1:]
        return f"{user} {can} read {gone}{quoted(self._facts.doc)}{which}"

    def because(self, finding: Finding, ways: Sequence[Way]) -> str:
        facts, leaf = self._facts, self._facts.leaf
        if finding.verdict == "unknown-user":
            return "there is no such user"
        if finding.verdict == "deleted-user":
            return f"the user was deleted at sequence {facts.life[-1][1]}"
        if finding.verdict == "not-routed":
            return "design documents are for administrators, and each user has only local documents of its own"
        if facts.left_out is not None and finding.verdict == "not-imported":
            rev, reason = facts.left_out
            return f"revision {rev} was written straight to CouchDB and not imported ({quoted(reason)})"
        if finding.verdict == "unknown-document":
            return "there is no such document"
        if finding.verdict == "purged":
            return "the document was purged, nothing of it is left"
        if leaf is None:
            return f"{facts.rev} is no current revision of it, and users read current ones only"
        if finding.reasons:
            can = self._can(finding.reasons[0], leaf, ways)
            return f"{self._disabled()}; otherwise it could, for {can}" if facts.disabled else can
        cannot = self._cannot(finding, leaf)
        return f"{self._disabled()}; nor could it otherwise, for {cannot}" if facts.disabled else cannot

    def _disabled(self) -> str:
        return "guests are not let in" if self._facts.user == GUEST else "the user is disabled"

    def _can(self, reason: Reason, leaf: Leaf, ways: Sequence[Way]) -> str:
        name = self._names[reason.channel]
        channel = f"channel {quoted(name)}"
        if reason.kind == "was-open":
            when = f"when it was deleted at sequence {leaf.seq}"
            return f"{self._user} had {channel} (since sequence {reason.since}) {when}"
        if reason.kind == "inherited":
            return f"{self._user} could read it before, through {channel}, which it had since sequence {reason.since}"
        in_it = "was deleted in" if leaf.deleted else "is in"
        if name == PUBLIC_CHANNEL:
            return f"it {in_it} {channel}, which everybody has"
        whence = enumerated([_way(way) for way in ways]) if ways else "from nobody now"
        has = f"since sequence {reason.since} {whence}"
        if name == ALL_CHANNELS:
            return f"{channel} holds every document, and {self._user} has it {has}"
        return f"it {in_it} {channel}{self._entered(reason.channel, leaf)}, which {self._user} has {has}"

    def _entered(self, channel: ChannelId, leaf: Leaf) -> str:
        since = self._facts.entered(channel, leaf)
        return "" if since is None else f" since sequence {since}"

    def _cannot(self, finding: Finding, leaf: Leaf) -> str:
        where, verdict = self._where(leaf), finding.otherwise or finding.verdict
        if verdict == "refused":
            return f"the sync function refused this revision ({quoted(leaf.routing.refused or '')}), and {where}"
        if verdict == "access-lost":
            past = (finding.had or finding.lost)[0]
            channel = f"channel {quoted(self._names[past.channel])}"
            had = f"could read it through {channel}" if finding.had else f"had {channel}"
            return f"{where}; {self._user} {had} until sequence {past.until}"
        if verdict == "left":
            past = (finding.had or finding.left)[0]
            has = "has" if past.channel in self._facts.opened else "had then"
            channel = quoted(self._names[past.channel])
            return f"{where}; at sequence {past.until} it left channel {channel}, which {self._user} {has}"
        if verdict == "role-missing":
            way = self._facts.missing[0]
            gives = f"role {quoted(way.role or '')}, which has channel {quoted(way.channel)}"
            return f"{where}; {self._user} is given {gives}, but there is no such role"
        if verdict == "no-channel":
            return where
        return f"{where}; {self._user} has {self._has()}"

    def _where(self, leaf: Leaf) -> str:
        names = sorted(self._names[channel] for channel in leaf.routing.channels)
        was = "was deleted" if leaf.deleted else "is"
        if not names or names == [ALL_CHANNELS]:
            return f"it {was} in no channel, so only users with all channels ({quoted(ALL_CHANNELS)}) read it"
        return f"it {was} in channel{'s' if len(names) > 1 else ''} {enumerated([quoted(name) for name in names])}"

    def _has(self) -> str:
        names = sorted(self._names[channel] for channel in self._facts.opened)
        others = [quoted(name) for name in names if name != PUBLIC_CHANNEL]
        if not others:
            return f"only the public channel {quoted(PUBLIC_CHANNEL)}"
        return f"channel{'s' if len(others) > 1 else ''} {enumerated(others)}"


def _way(way: Way) -> str:
    if way.role is None:
        return _from(way.sources, way.more)
    member, holder = _from(way.membership, way.more_membership), _from(way.sources, way.more)
    return f"through role {quoted(way.role)} (a member {member}; the role has it {holder})"


def _from(sources: Sequence[Source], more: bool) -> str:
    return enumerated([_source(source) for source in sources], more=more)


def _source(source: Source) -> str:
    return _giver(source) + ("" if source.end is None else f" until {moment_text(source.end)}")


def _giver(source: Source) -> str:
    if source.kind == "document":
        return f"from document {quoted(source.name or '')} (revision {source.rev})"
    if source.kind == "token":
        return f"from a token of {quoted(source.name or '')}"
    return {
        "admin": "from an administrator",
        "config": "from the config file",
        "security": "from the database's _security",
        "server": "from its document in _users",
        "public": "as everybody",
    }[source.kind]
