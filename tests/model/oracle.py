"""Section D of the routing rules written down as plainly as possible: the oracle of the property tests.

No index, no merging, no paging tricks: everything is found by looking at everything. Nothing here is imported from the
gateway but the order of revisions, so that a mistake there cannot repeat itself here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.model.revisions import winner_first

INFINITY = 10**15
Place = tuple[int, int]


@dataclass(frozen=True)
class Said:
    """The routing of one revision."""

    channels: frozenset[str] = frozenset()
    grants: frozenset[tuple[str, str]] = frozenset()  # ("ann" or "role:r", channel)
    roles: frozenset[tuple[str, str]] = frozenset()  # (user, role)
    ends: frozenset[tuple[str, str, str, float]] = frozenset()  # (principal, kind, name, when it is over)


@dataclass(frozen=True)
class OracleLeaf:
    rev: str
    deleted: bool
    said: Said
    seq: int
    inherited: frozenset[tuple[str, int]]


@dataclass
class OracleEntry:
    seq: int
    deleted: bool
    removed: bool


@dataclass
class OracleDocument:
    leaves: dict[str, OracleLeaf] = field(default_factory=dict)
    entries: dict[str, OracleEntry] = field(default_factory=dict)
    spans: list[list[object]] = field(default_factory=list)  # [channel, from, until]
    purged: bool = False

    def winner(self) -> OracleLeaf | None:
        ordered = winner_first((leaf.rev, leaf.deleted) for leaf in self.leaves.values())
        return self.leaves[ordered[0][0]] if ordered else None


@dataclass(frozen=True)
class OracleRow:
    place: Place
    doc: str
    revs: tuple[str, ...]
    kind: str
    reset: bool


class Oracle:
    def __init__(self) -> None:
        self.seq = 0
        self.now = 1000.0
        self.ends: dict[tuple[tuple[str, str, str], str], float] = {}  # (key, source) -> when it is over
        self.documents: dict[str, OracleDocument] = {}
        self.sources: dict[tuple[str, str, str], set[str]] = {}  # (principal, kind, name) -> sources
        self.access: dict[tuple[str, str, str], list[list[int]]] = {}
        self.lives: dict[str, list[list[int]]] = {}

    # Principals. Users are "ann", roles "role:r".

    def set_source(self, source: str, keys: set[tuple[str, str, str]], seq: int) -> None:
        for key in sorted(set(self.sources) | keys):
            had = self.sources.setdefault(key, set())
            before = bool(had)
            if key in keys:
                had.add(source)
            else:
                had.discard(source)
            if had and not before:
                self.access.setdefault(key, []).append([seq, INFINITY])
            elif before and not had:
                self.access[key][-1][1] = seq

    def end_grants(self) -> int:
        """What is over now is taken away, all at one sequence; how many grants."""
        over = [one for one, end in self.ends.items() if end <= self.now]
        if over:
            self.seq += 1
        for key, source in over:
            del self.ends[key, source]
            self.sources[key].discard(source)
            if not self.sources[key]:
                self.access[key][-1][1] = self.seq
        return len(over)

    def put(self, principal: str, channels: set[str], roles: set[str]) -> None:
        lives = self.lives.setdefault(principal, [])
        alive = bool(lives) and lives[-1][1] == INFINITY
        keys = {(principal, "channel", name) for name in channels} | {(principal, "role", name) for name in roles}
        if alive and keys == {key for key, sources in self.sources.items() if f"admin:{principal}" in sources}:
            return
        self.seq += 1
        self.set_source(f"admin:{principal}", keys, self.seq)
        if not alive:
            lives.append([self.seq, INFINITY])

    def delete(self, principal: str) -> None:
        self.seq += 1
        self.set_source(f"admin:{principal}", set(), self.seq)
        self.lives[principal][-1][1] = self.seq

    def exists(self, principal: str) -> bool:
        lives = self.lives.get(principal, [])
        return bool(lives) and lives[-1][1] == INFINITY

    # Documents.

    def apply(self, doc: str, now: dict[str, tuple[bool, Said, tuple[str, ...]]], *, purged: bool = False) -> None:
        """`now`: every leaf that exists: rev -> (deleted, routing, ancestors)."""
        document = self.documents.setdefault(doc, OracleDocument())
        if set(now) == set(document.leaves):
            return
        self.seq += 1
        seq = self.seq
        before = document.leaves
        after = {}
        for rev, (deleted, said, ancestors) in now.items():
            if rev in before:
                after[rev] = before[rev]
                continue
            inherited: set[tuple[str, int]] = set()
            if deleted:
                for leaf in before.values():
                    if leaf.rev in ancestors:
                        inherited |= {(channel, seq) for channel in leaf.said.channels | {"*"}} | leaf.inherited
            after[rev] = OracleLeaf(rev, deleted, said, seq, frozenset(inherited))
        document.leaves = after
        winner = document.winner()
        if winner is None or purged:
            document.purged = True
        member = set(winner.said.channels) | {"*"} if winner else set()
        alive = winner is not None and not winner.deleted
        for channel in member | {name for name, entry in document.entries.items() if not entry.removed}:
            document.entries[channel] = OracleEntry(seq, winner is not None and winner.deleted, channel not in member)
            still_open = [span for span in document.spans if span[0] == channel and span[2] == INFINITY]
            if alive and channel in member:
                if not still_open:
                    document.spans.append([channel, seq, INFINITY])
            elif still_open:
                still_open[0][2] = seq
        said = winner.said if winner else Said()
        keys = {(principal, "channel", channel) for principal, channel in said.grants}
        keys |= {(user, "role", role) for user, role in said.roles}
        ends = {(principal, kind, name): end for principal, kind, name, end in said.ends}
        keys -= {key for key, end in ends.items() if end <= self.now}
        source = f"doc:{doc}"
        self.set_source(source, keys, seq)
        self.ends = {one: end for one, end in self.ends.items() if one[1] != source}
        self.ends |= {(key, source): end for key, end in ends.items() if key in keys}

    def resync(self, says: Callable[[str, str], Said]) -> None:
        """Another function routes every leaf: `says` is given the document and the revision.

        Access begins and ends, and documents enter and leave, at one sequence; then those that changed and are alive
        take one each, in the order of those they had.
        """
        changed = [
            (document.entries["*"].seq, doc)
            for doc, document in self.documents.items()
            if any(leaf.said != says(doc, leaf.rev) for leaf in document.leaves.values())
        ]
        if not changed:
            return
        self.seq += 1
        at = self.seq
        had = {key for key, sources in self.sources.items() if sources}
        for _, doc in sorted(changed):
            document = self.documents[doc]
            for leaf in list(document.leaves.values()):
                if leaf.said != says(doc, leaf.rev):
                    document.leaves[leaf.rev] = replace(leaf, said=says(doc, leaf.rev), seq=at)
            winner = document.winner()
            assert winner is not None
            source = f"doc:{doc}"
            keys = {(principal, "channel", channel) for principal, channel in winner.said.grants}
            keys |= {(user, "role", role) for user, role in winner.said.roles}
            ends = {(principal, kind, name): end for principal, kind, name, end in winner.said.ends}
            for sources in self.sources.values():
                sources.discard(source)
            self.ends = {one: end for one, end in self.ends.items() if one[1] != source}
            for key in keys:
                if key not in ends or ends[key] > self.now:
                    self.sources.setdefault(key, set()).add(source)
                    if key in ends:
                        self.ends[key, source] = ends[key]
            if not winner.deleted:
                self._move(document, set(winner.said.channels) | {"*"}, at)
        has = {key for key, sources in self.sources.items() if sources}
        for key in has - had:
            self.access.setdefault(key, []).append([at, INFINITY])
        for key in had - has:
            self.access[key][-1][1] = at

    def _move(self, document: OracleDocument, member: set[str], at: int) -> None:
        """A document that is alive is in these channels, from `at` on."""
        self.seq += 1
        for name, entry in list(document.entries.items()):
            if not entry.removed:
                document.entries[name] = OracleEntry(self.seq, False, name not in member)
                if name not in member:
                    [span] = [span for span in document.spans if span[0] == name and span[2] == INFINITY]
                    span[2] = at
        for name in member:
            if name not in document.entries or document.entries[name].seq != self.seq:
                document.entries[name] = OracleEntry(self.seq, False, False)
                document.spans.append([name, at, INFINITY])

    # Reading.

    def intervals(self, user: str, channels: set[str] | None = None) -> dict[str, list[list[int]]]:
        raw: dict[str, list[list[int]]] = {"!": [[0, INFINITY]]}
        for (principal, kind, name), spans in self.access.items():
            if principal == user and kind == "channel":
                raw.setdefault(name, []).extend(spans)
            if principal == user and kind == "role":
                role = f"role:{name}"
                for (other, its_kind, channel), its_spans in self.access.items():
                    if other == role and its_kind == "channel":
                        for one in spans:
                            for two in self.lives.get(role, []):
                                for three in its_spans:
                                    both = [max(one[0], two[0], three[0]), min(one[1], two[1], three[1])]
                                    raw.setdefault(channel, []).append(both)
        if channels is not None:
            raw = {name: raw.get(name, []) + raw.get("*", []) for name in channels}
        result = {}
        for name, spans in raw.items():
            within = [
                [max(a[0], b[0]), min(a[1], b[1])] for a in spans for b in self.lives.get(user, []) if a[0] < a[1]
            ]
            merged: list[list[int]] = []
            for start, end in sorted(span for span in within if span[0] < span[1]):
                if merged and start <= merged[-1][1]:
                    merged[-1][1] = max(end, merged[-1][1])
                else:
                    merged.append([start, end])
            if merged:
                result[name] = merged
        return result

    def readable(self, user: str, leaf: OracleLeaf) -> bool:
        return self._readable_through(self.intervals(user), leaf)

    def can_fetch(self, user: str, doc: str, rev: str) -> bool:
        document = self.documents.get(doc)
        return document is not None and rev in document.leaves and self.readable(user, document.leaves[rev])

    def contents(self, user: str) -> dict[str, str]:
        """doc -> winner of everything alive that the user can read."""
        found = {}
        held = self.intervals(user)
        for doc, document in self.documents.items():
            winner = document.winner()
            if winner is not None and not winner.deleted and self._readable_through(held, winner):
                found[doc] = winner.rev
        return found

    def page(
        self, user: str, since: Place, limit: int, *, revocations: bool, channels: set[str] | None = None
    ) -> tuple[list[OracleRow], Place]:
        everything = self.intervals(user)
        held = self.intervals(user, channels)
        opened = {name: spans[-1][0] for name, spans in held.items() if spans[-1][1] == INFINITY}
        candidates: list[tuple[Place, str, OracleRow]] = []
        for doc, document in self.documents.items():
            live = {name: e for name, e in document.entries.items() if not e.removed and not e.deleted}
            revs = self._readable_revs(everything, document)
            hidden = len(revs) < len(document.leaves)
            for name, entry in live.items():
                if name in opened:
                    start = opened[name]
                    place = (entry.seq, INFINITY) if entry.seq >= start else (start, entry.seq)
                    reset = revocations and (hidden or document.purged)
                    candidates.append((place, doc, OracleRow(place, doc, revs, "live", reset)))
            if any(name in opened for name in live):
                continue
            had = self._first_had(document, held)
            if had is None or had > since[0]:
                continue
            for name, spans in held.items():
                if name not in document.entries:
                    continue
                entry = document.entries[name]
                for start, end in spans:
                    if not any(
                        where == name and max(int(str(a)), start) < min(int(str(b)), end)
                        for where, a, b in document.spans
                    ):
                        continue
                    if (entry.removed or entry.deleted) and (end == INFINITY or entry.seq <= end):
                        place = (entry.seq, INFINITY)
                    elif end != INFINITY and revocations:
                        place = (end, entry.seq)
                    else:
                        continue
                    winner = document.winner()
                    if winner is not None and winner.deleted and revs:
                        reset = revocations and (hidden or document.purged)
                        candidates.append((place, doc, OracleRow(place, doc, revs, "deleted", reset)))
                    elif revocations:
                        candidates.append((place, doc, OracleRow(place, doc, (), "loss", False)))
        rows: list[OracleRow] = []
        seen: set[str] = set()
        for place, doc, row in sorted(candidates, key=lambda one: (one[0], one[1])):
            if place <= since or doc in seen:
                continue
            if len(rows) == limit:
                return rows, rows[-1].place
            seen.add(doc)
            rows.append(row)
        return rows, (self.seq, INFINITY)

    def _readable_revs(self, held: dict[str, list[list[int]]], document: OracleDocument) -> tuple[str, ...]:
        ordered = winner_first((leaf.rev, leaf.deleted) for leaf in document.leaves.values())
        return tuple(rev for rev, _ in ordered if self._readable_through(held, document.leaves[rev]))

    @staticmethod
    def _readable_through(held: dict[str, list[list[int]]], leaf: OracleLeaf) -> bool:
        channels = leaf.said.channels | {"*"}
        if any(held[channel][-1][1] == INFINITY for channel in channels if channel in held):
            return True
        if not leaf.deleted:
            return False
        if any(start <= leaf.seq < end for channel in channels for start, end in held.get(channel, [])):
            return True
        return any(start < at <= end for channel, at in leaf.inherited for start, end in held.get(channel, []))

    @staticmethod
    def _first_had(document: OracleDocument, held: dict[str, list[list[int]]]) -> int | None:
        starts = [
            max(int(str(a)), start)
            for where, a, b in document.spans
            for start, end in held.get(str(where), [])
            if max(int(str(a)), start) < min(int(str(b)), end)
        ]
        return min(starts, default=None)
