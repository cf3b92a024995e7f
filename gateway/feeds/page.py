"""PAGE of the routing rules: one page of one user's feed, from one snapshot of the index.

Candidates come in the order of their places by merging index ranges, so a page costs its own rows. Between two
triggers (a channel granted, or with revocations lost) all places are plain; at a trigger T come the places `T:S`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from gateway import limits
from gateway.feeds.viewer import Viewer
from gateway.model.intervals import OPEN, ChannelId
from gateway.model.leaves import Leaf, first_had
from gateway.model.positions import ENDLESS, Position
from gateway.store.protocol import DocumentId, DocumentRow, Index, LiveRow

CHUNK = 1_001
T = TypeVar("T", tuple[int, DocumentId], tuple[int, DocumentId, bool], LiveRow)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a page is asked for."""

    limit: int
    revocations: bool = False
    active_only: bool = False
    pending: bool = False
    doc_ids: Collection[str] | None = None


class Row(NamedTuple):
    """`revs` are the readable leaves, the winner first; none for a loss, which names no revision (A18)."""

    position: Position
    id: str
    revs: tuple[str, ...]
    kind: Literal["live", "deleted", "loss"]
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    rows: Sequence[Row]
    last: Position
    pending: int  # rows that would follow without the limit; exact up to PENDING_COUNT, then a lower bound


# (the sequence to merge by, the document, its row of the index or the row made for what is gone)
Placed: TypeAlias = tuple[int, DocumentId, "LiveRow | Row"]


class _Candidate(NamedTuple):
    position: Position
    document: DocumentId
    row: Row | None  # of what is gone
    live: LiveRow | None


def page(index: Index, viewer: Viewer, since: Position, wanted: Wanted) -> Page:
    """Rows after `since`, full unless caught up; then `last` is the database's last sequence."""
    source = _Candidates(index, viewer, since, wanted)
    candidates = source.of(wanted.doc_ids) if wanted.doc_ids is not None else source.all()
    chosen: list[_Candidate] = []
    seen: set[DocumentId] = set()
    more = False
    for candidate in candidates:
        if candidate.document in seen:
            continue  # a document once, at its first place (A2)
        if len(chosen) >= wanted.limit:
            more = True
            break
        seen.add(candidate.document)
        chosen.append(candidate)
    rows = _rows(index, viewer, chosen, wanted)
    if not more:
        return Page(rows, Position(index.state.last_seq), 0)
    last = rows[-1].position if rows else since
    pending = 0
    if wanted.pending:
        simple = source.count_simple(last) if wanted.doc_ids is None else None
        pending = _pending(candidate, candidates, seen) if simple is None else simple
    return Page(rows, last, pending)


def _pending(first: _Candidate, others: Iterator[_Candidate], seen: set[DocumentId]) -> int:
    """How many documents follow, `first` being one of them; counted no further than one past PENDING_COUNT."""
    waiting = {first.document}
    for candidate in others:
        if len(waiting) > limits.PENDING_COUNT:
            break
        if candidate.document not in seen:
            waiting.add(candidate.document)
    return len(waiting)


def _rows(index: Index, viewer: Viewer, chosen: Sequence[_Candidate], wanted: Wanted) -> list[Row]:
    # The winner of a live document is readable, for its channel is open: only other leaves have to be looked at.
    several = [one.document for one in chosen if one.live is not None and one.live.leaves > 1]
    leaves = index.leaves(several) if several else {}
    rows = []
    for candidate in chosen:
        live = candidate.live
        if live is None:
            if candidate.row is not None:
                rows.append(candidate.row)
            continue
        revs: tuple[str, ...] = (live.winner,)
        hidden = False
        if live.leaves > 1:
            found = viewer.readable(leaves[live.document])
            revs = tuple(leaf.rev for leaf in found)
            hidden = len(found) < live.leaves
        reset = wanted.revocations and (hidden or bool(live.purged))
        rows.append(Row(candidate.position, live.id, revs, "live", reset))
    return rows


class _Candidates:
    """Candidates after one position, in order of their places."""

    def __init__(self, index: Index, viewer: Viewer, since: Position, wanted: Wanted) -> None:
        self._index = index
        self._viewer = viewer
        self._since = since
        self._wanted = wanted
        self._chunk = min(CHUNK, wanted.limit + 1)
        # Past intervals whose ends the client has seen can have no place any more.
        self._intervals = [
            (channel, start, end)
            for channel, spans in viewer.held.items()
            for start, end in spans
            # first_had is at least 1, so from 0 nothing gone can be due.
            if not wanted.active_only and since.major > 0 and (end, ENDLESS) > (since.major, since.minor)
        ]
        ends = {end for _, _, end in self._intervals if end != OPEN} if wanted.revocations else set()
        self._with_gone: set[ChannelId] | None = None
        self._triggers = sorted(
            trigger
            for trigger in {*viewer.opened.values(), *ends}
            if trigger > since.major or (trigger == since.major and since.minor != ENDLESS)
        )

    def all(self) -> Iterator[_Candidate]:
        at = self._since.major if self._since.minor == ENDLESS else self._since.major - 1
        for trigger in self._triggers:
            yield from self._plain(at, trigger - 1)
            after = self._since.minor if trigger == self._since.major else -1
            yield from self._triggered(trigger, after)
            at = trigger - 1
        yield from self._plain(at, self._index.state.last_seq)

    def _plain(self, after: int, upto: int) -> Iterator[_Candidate]:
        """Places (seq, ∞) with after < seq <= upto. No trigger lies between, so every channel opened by `after` + 1
        counts, and no other."""
        if after >= upto:
            return
        channels = [channel for channel, start in self._viewer.opened.items() if start <= after + 1]
        sources = [self._live(channels, after, upto)] if channels else []
        for channel, start, end in self._intervals:
            low, high = max(after, start), min(upto, end)
            if low < high and channel in self._channels_with_gone():
                sources.append(self._gone(channel, start, end, low, high, None))
        yield from self._merged(sources, None)

    def _triggered(self, trigger: int, after: int) -> Iterator[_Candidate]:
        """Places (trigger, seq) with seq > after: backfill of what was granted, then told what was lost."""
        index = self._index
        granted = [channel for channel, start in self._viewer.opened.items() if start == trigger]
        sources = [self._live(granted, after, trigger - 1)] if granted else []
        if self._wanted.revocations:
            for channel, start, end in self._intervals:
                if end == trigger and channel in self._viewer.opened:
                    # Open again: what is alive there is readable, so only what went after the loss is to be told.
                    low = max(after, end)
                    sources.append(self._gone(channel, start, end, low, index.state.last_seq, trigger))
                elif end == trigger:
                    sources.append(self._lost(channel, start, end, after))
        yield from self._merged(sources, trigger)

    def _live(self, channels: Sequence[ChannelId], after: int, upto: int) -> Iterator[Placed]:
        for chunk in self._chunks(lambda at, count: self._index.live_rows(channels, at, upto, count), after):
            for row in chunk:
                yield row.seq, row.document, row

    def _channels_with_gone(self) -> set[ChannelId]:
        """Those of the intervals' channels from which anything went after the client's position: most often none."""
        if self._with_gone is None:
            channels = {channel for channel, _, _ in self._intervals}
            self._with_gone = self._index.with_gone(channels, self._since.major - 1, self._index.state.last_seq)
        return self._with_gone

    def count_simple(self, last: Position) -> int | None:
        """How many documents follow `last`, up to one past PENDING_COUNT, where only live entries can: no trigger
        comes, and nothing went. None where that is not so."""
        if last.minor != ENDLESS or any(trigger > last.major for trigger in self._triggers):
            return None
        if self._intervals and self._channels_with_gone():
            return None
        channels = self._viewer.opened.keys()
        return self._index.count_live(channels, last.major, self._index.state.last_seq, limits.PENDING_COUNT + 1)

    def _chunks(self, fetch: Callable[[int, int], Sequence[T]], after: int) -> Iterator[Sequence[T]]:
        """Chunk after chunk of entries, whose first member is their sequence; read only as far as they are taken."""
        while True:
            found = fetch(after, self._chunk)
            yield found
            if len(found) < self._chunk:
                return
            after = found[-1][0]

    def _merged(self, sources: list[Iterator[Placed]], trigger: int | None) -> Iterator[_Candidate]:
        merged = sources[0] if len(sources) == 1 else heapq.merge(*sources, key=itemgetter(0))
        for seq, document, found in merged:
            place = Position(seq) if trigger is None else Position(trigger, seq)
            if isinstance(found, LiveRow):
                yield _Candidate(place, document, None, found)
            else:
                yield _Candidate(place, document, found, None)

    def _gone(
        self, channel: ChannelId, start: int, end: int, after: int, upto: int, trigger: int | None
    ) -> Iterator[Placed]:
        deleted_only = not self._wanted.revocations
        found = self._chunks(
            lambda at, count: self._index.gone(channel, at, upto, count, deleted_only=deleted_only), after
        )
        for chunk in found:
            yield from self._told(chunk, channel, start, end, trigger)

    def _lost(self, channel: ChannelId, start: int, end: int, after: int) -> Iterator[Placed]:
        """All documents of a channel that was lost, but those that went before: these have their own place."""
        found = self._chunks(lambda at, count: self._index.entries(channel, at, count), after)
        for chunk in found:
            due = [(seq, document) for seq, document, gone in chunk if not gone or seq > end]
            yield from self._told(due, channel, start, end, end)

    def _told(
        self, found: Sequence[tuple[int, DocumentId]], channel: ChannelId, start: int, end: int, trigger: int | None
    ) -> Iterator[Placed]:
        """Of documents gone from one interval of a channel, those that must be told, with their rows."""
        if not found:
            return
        numbers = [document for _, document in found]
        alive_in = self._index.channels_of(numbers)
        spans = self._index.spans(numbers)
        opened = self._viewer.opened.keys()
        due = []
        for seq, document in found:
            if not opened.isdisjoint(alive_in.get(document, ())):
                continue  # it is readable now, and listed for that
            mine = spans.get(document, [])
            if not any(where == channel and max(low, start) < min(high, end) for where, low, high in mine):
                continue
            had = first_had(mine, self._viewer.held)
            if had is not None and had <= self._since.major:
                due.append((seq, document))
        if not due:
            return
        documents = self._index.documents([document for _, document in due])
        leaves = self._index.leaves(list(documents))
        for seq, number in due:
            position = Position(seq) if trigger is None else Position(trigger, seq)
            row = self._gone_row(position, documents[number], leaves.get(number, []))
            if row is not None:
                yield seq, number, row

    def _gone_row(self, position: Position, document: DocumentRow, leaves: Sequence[Leaf]) -> Row | None:
        readable = tuple(leaf.rev for leaf in self._viewer.readable(leaves))
        asked = self._wanted.revocations
        if document.deleted and readable:
            reset = asked and (len(readable) < len(leaves) or document.purged)
            return Row(position, document.id, readable, "deleted", reset)
        return Row(position, document.id, (), "loss") if asked else None

    def of(self, doc_ids: Collection[str]) -> Iterator[_Candidate]:
        """The same places, found from the documents instead of from the channels."""
        documents = {row.document: row for row in self._index.find(doc_ids).values()}
        entries = self._index.entries_of(list(documents))
        found: list[_Candidate] = []
        by_channel: dict[ChannelId, list[tuple[int, DocumentId, bool]]] = {}
        for number, its_entries in entries.items():
            for entry in its_entries:
                gone = entry.deleted or entry.removed
                by_channel.setdefault(entry.channel, []).append((entry.seq, number, gone))
                since = self._viewer.opened.get(entry.channel)
                if since is not None and not gone:
                    place = Position(entry.seq) if entry.seq >= since else Position(since, entry.seq)
                    found.append(_Candidate(place, number, None, _live_row(documents[number])))
        for channel, start, end in self._intervals:
            here = by_channel.get(channel, ())
            went = [(seq, number) for seq, number, gone in here if gone and seq <= end]
            found += self._merged([self._told(went, channel, start, end, None)], None)
            if self._wanted.revocations and end != OPEN:
                stayed = [(seq, number) for seq, number, gone in here if not (gone and seq <= end)]
                found += self._merged([self._told(stayed, channel, start, end, end)], end)
        found.sort(key=lambda candidate: candidate.position)
        return (candidate for candidate in found if candidate.position > self._since)


def _live_row(document: DocumentRow) -> LiveRow:
    return LiveRow(
        document.seq, document.document, document.id, document.winner or "", document.leaves, int(document.purged)
    )
