"""PAGE of the routing rules: one page of one user's feed, from one snapshot of the index.

Candidates come in the order of their places by merging index ranges, so a page costs its own rows. Between two
triggers (a channel granted, or with revocations lost) all places are plain; at a trigger T come the places `T:S`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal, TypeVar

from gateway import limits
from gateway.feeds.viewer import Viewer
from gateway.model.intervals import OPEN, ChannelId
from gateway.model.leaves import Leaf, first_had
from gateway.model.positions import ENDLESS, Position
from gateway.store.protocol import DocumentId, DocumentRow, Index

CHUNK = 1_001
T = TypeVar("T", tuple[int, DocumentId], tuple[int, DocumentId, bool])


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a page is asked for."""

    limit: int
    revocations: bool = False
    active_only: bool = False
    pending: bool = False
    doc_ids: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class Row:
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


@dataclass(frozen=True, slots=True)
class _Candidate:
    position: Position
    document: DocumentId
    row: Row | None  # made already for what is gone; None for what is live


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
    last = rows[-1].position if more and rows else since if more else Position(index.state.last_seq)
    pending = _pending(candidate, candidates, seen) if more and wanted.pending else 0
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
    documents = index.documents([candidate.document for candidate in chosen if candidate.row is None])
    # The winner of a live document is readable, for its channel is open: only other leaves have to be looked at.
    several = [number for number, document in documents.items() if document.leaves > 1]
    leaves = index.leaves(several) if several else {}
    rows = []
    for candidate in chosen:
        if candidate.row is not None:
            rows.append(candidate.row)
            continue
        document = documents[candidate.document]
        revs: tuple[str, ...] = (document.winner or "",)
        hidden = False
        if document.leaves > 1:
            found = viewer.readable(leaves[document.document])
            revs = tuple(leaf.rev for leaf in found)
            hidden = len(found) < document.leaves
        reset = wanted.revocations and (hidden or document.purged)
        rows.append(Row(candidate.position, document.id, revs, "live", reset))
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
            if not wanted.active_only and since.major > 0 and (end, ENDLESS) > (since.major, since.minor)
        ]
        ends = {end for _, _, end in self._intervals if end != OPEN} if wanted.revocations else set()
        # first_had is at least 1, so from 0 nothing gone can be due.
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
        index = self._index
        sources: list[Iterator[tuple[int, DocumentId, Row | None]]] = []
        if channels:
            found = self._chunks(lambda at, count: index.live(channels, at, upto, count), after)
            sources.append((seq, document, None) for chunk in found for seq, document in chunk)
        for channel, start, end in self._intervals:
            low, high = max(after, start), min(upto, end)
            if low < high:
                sources.append(self._gone(channel, start, end, low, high, None))
        yield from self._merged(sources, None)

    def _triggered(self, trigger: int, after: int) -> Iterator[_Candidate]:
        """Places (trigger, seq) with seq > after: backfill of what was granted, then told what was lost."""
        index = self._index
        granted = [channel for channel, start in self._viewer.opened.items() if start == trigger]
        sources: list[Iterator[tuple[int, DocumentId, Row | None]]] = []
        if granted:
            found = self._chunks(lambda at, count: index.live(granted, at, trigger - 1, count), after)
            sources.append((seq, document, None) for chunk in found for seq, document in chunk)
        if self._wanted.revocations:
            for channel, start, end in self._intervals:
                if end == trigger and channel in self._viewer.opened:
                    # Open again: what is alive there is readable, so only what went after the loss is to be told.
                    low = max(after, end)
                    sources.append(self._gone(channel, start, end, low, index.state.last_seq, trigger))
                elif end == trigger:
                    sources.append(self._lost(channel, start, end, after))
        yield from self._merged(sources, trigger)

    def _chunks(self, fetch: Callable[[int, int], Sequence[T]], after: int) -> Iterator[Sequence[T]]:
        """Chunk after chunk of entries, whose first member is their sequence; read only as far as they are taken."""
        while True:
            found = fetch(after, self._chunk)
            yield found
            if len(found) < self._chunk:
                return
            after = found[-1][0]

    def _merged(
        self, sources: list[Iterator[tuple[int, DocumentId, Row | None]]], trigger: int | None
    ) -> Iterator[_Candidate]:
        merged = sources[0] if len(sources) == 1 else heapq.merge(*sources, key=itemgetter(0))
        for seq, document, row in merged:
            yield _Candidate(Position(seq) if trigger is None else Position(trigger, seq), document, row)

    def _gone(
        self, channel: ChannelId, start: int, end: int, after: int, upto: int, trigger: int | None
    ) -> Iterator[tuple[int, DocumentId, Row | None]]:
        deleted_only = not self._wanted.revocations
        found = self._chunks(
            lambda at, count: self._index.gone(channel, at, upto, count, deleted_only=deleted_only), after
        )
        for chunk in found:
            yield from self._told(chunk, channel, start, end, trigger)

    def _lost(
        self, channel: ChannelId, start: int, end: int, after: int
    ) -> Iterator[tuple[int, DocumentId, Row | None]]:
        """All documents of a channel that was lost, but those that went before: these have their own place."""
        found = self._chunks(lambda at, count: self._index.entries(channel, at, count), after)
        for chunk in found:
            due = [(seq, document) for seq, document, gone in chunk if not gone or seq > end]
            yield from self._told(due, channel, start, end, end)

    def _told(
        self, found: Sequence[tuple[int, DocumentId]], channel: ChannelId, start: int, end: int, trigger: int | None
    ) -> Iterator[tuple[int, DocumentId, Row | None]]:
        """Of documents gone from one interval of a channel, those that must be told, with their rows."""
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
        for number, its_entries in entries.items():
            live = [entry for entry in its_entries if not entry.deleted and not entry.removed]
            for entry in live:
                since = self._viewer.opened.get(entry.channel)
                if since is not None:
                    place = Position(entry.seq) if entry.seq >= since else Position(since, entry.seq)
                    found.append(_Candidate(place, number, None))
            for entry in its_entries:
                for channel, start, end in self._intervals:
                    if channel != entry.channel:
                        continue
                    gone = entry.deleted or entry.removed
                    if gone and (end == OPEN or entry.seq <= end):
                        trigger = None
                    elif end != OPEN and self._wanted.revocations:
                        trigger = end
                    else:
                        continue
                    for seq, _, row in self._told([(entry.seq, number)], channel, start, end, trigger):
                        place = Position(seq) if trigger is None else Position(trigger, seq)
                        found.append(_Candidate(place, number, row))
        found.sort(key=lambda candidate: candidate.position)
        return (candidate for candidate in found if candidate.position > self._since)
