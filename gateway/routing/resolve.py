"""From rows to what the store applies: which leaves a document has now, and the routing of each new one."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from gateway import limits
from gateway.couch.revision_cache import RevisionReader
from gateway.couch.upstream import Document, RevisionRef, UpstreamDatabase
from gateway.errors import UnreadableDocument
from gateway.model.apply import Found, Recorded, is_known, is_stale
from gateway.model.revisions import generation, history
from gateway.model.routing import ADMIN, NO_ROUTING, Call, Routing, body_digest
from gateway.pauses import Pauses
from gateway.routing.imports import Imports
from gateway.routing.ledger import Ledger
from gateway.store.protocol import DatabaseStore, FoundDocument
from gateway.syncfn.in_force import FunctionInForce

log = logging.getLogger(__name__)
_NOTHING = Recorded()
_LAG_PAUSE_FIRST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class RowHint:
    """A document that may have changed. `revs` None: read it in any case. `seen_at` is the moment of its row."""

    id: str
    revs: tuple[str, ...] | None
    seen_at: int


@dataclass(slots=True)
class Resolved:
    """What hints came to. A document whose read is stale is neither found nor known (W9)."""

    found: list[FoundDocument] = field(default_factory=list)  # to be applied
    known: dict[str, frozenset[str]] = field(default_factory=dict)  # nothing to be done: the leaves recorded
    seen_at: dict[str, int] = field(default_factory=dict)  # the moment at which each was like that


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A revision that somebody wrote straight to the upstream and the sync function refuses."""

    id: str
    rev: str
    reason: str


@dataclass(slots=True)
class _NewLeaf:
    """A leaf without a recorded routing, and where it comes from."""

    doc: Document
    found: Found
    followed: bool = False  # taken in whatever the rules of import are
    routing: Routing | None = None
    refused: str | None = None
    left_out: str | None = None  # why it is not imported


class Resolver:
    """Turns hints into FoundDocuments; reads upstream only what verdicts and the index do not tell."""

    def __init__(
        self,
        store: DatabaseStore,
        upstream: UpstreamDatabase,
        reader: RevisionReader,
        function: FunctionInForce,
        ledger: Ledger,
        imports: Imports,
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._reader = reader
        self._function = function
        self._ledger = ledger
        self._imports = imports
        self.refused: deque[RefusedRow] = deque(maxlen=limits.ROUTER_REFUSED_COUNT)
        self.refused_count = 0

    async def resolve(self, hints: Sequence[RowHint], *, authoritative: bool) -> Resolved:
        """What to apply, and where nothing is to be done.

        With `authoritative` an older state than the recorded one is believed: the upstream was replaced or purged.
        """
        recorded = await self._store.recorded([hint.id for hint in hints])
        resolved = Resolved(seen_at={hint.id: hint.seen_at for hint in hints})
        unsure: dict[str, set[str]] = {}
        for hint in hints:
            before = recorded.get(hint.id, _NOTHING)
            stored = self._ledger.stored(hint.id)
            if hint.revs is not None and stored.issubset(hint.revs):
                if before.leaves.keys() == set(hint.revs):
                    resolved.known[hint.id] = frozenset(before.leaves)
                    continue
                if (made := self._from_verdict(hint.id, hint.revs, before)) is not None:
                    resolved.found.append(made)
                    continue
            unsure[hint.id] = set() if authoritative else stored | set(hint.revs or ())
        if unsure:
            read, unreadable = await self._read(unsure, recorded, resolved.seen_at)
            await self._resolve_read(read, recorded, authoritative, resolved)
            resolved.found += [
                _hidden(hint.id, hint.revs, recorded.get(hint.id, _NOTHING), unreadable[hint.id])
                for hint in hints
                if hint.id in unreadable and hint.revs is not None and not self._imports.restricted
            ]
        return resolved

    async def _read(
        self, wanted: Mapping[str, Collection[str]], recorded: Mapping[str, Recorded], seen_at: dict[str, int]
    ) -> tuple[dict[str, Sequence[Document]], dict[str, str]]:
        """Leaves read upstream, and of documents that cannot be read the reason why.

        Where a wanted revision is neither there nor superseded the read is from a copy that lags behind, or it was
        purged just now: read again, for UPSTREAM_LAG_SECONDS, then believe it.
        """
        read: dict[str, Sequence[Document]] = {}
        unreadable: dict[str, str] = {}
        behind = list(wanted)
        pause = _LAG_PAUSE_FIRST_SECONDS
        ends_at = asyncio.get_running_loop().time() + limits.UPSTREAM_LAG_SECONDS
        while True:
            moment = self._ledger.moment()
            for doc, leaves in await self._leaves(behind, unreadable):
                read[doc], seen_at[doc] = leaves, moment
            behind = [
                doc
                for doc in behind
                if doc not in unreadable and _lags(wanted[doc], read[doc], recorded.get(doc, _NOTHING))
            ]
            if not behind:
                return read, unreadable
            if asyncio.get_running_loop().time() >= ends_at:
                for doc in behind:
                    seen_at[doc] = 0  # it proves nothing about what was written before it
                log.warning("%d documents are upstream in an older state than their rows said", len(behind))
                return read, unreadable
            await asyncio.sleep(pause)
            pause *= 2

    async def _leaves(self, docs: Sequence[str], unreadable: dict[str, str]) -> list[tuple[str, Sequence[Document]]]:
        """One bad document must not stop all routing: the bulk that it spoils is read in halves."""
        try:
            return list(zip(docs, await self._upstream.leaves(docs), strict=True))
        except UnreadableDocument as error:
            if len(docs) > 1:
                half = len(docs) // 2
                return [
                    *await self._leaves(docs[:half], unreadable),
                    *await self._leaves(docs[half:], unreadable),
                ]
            unreadable[docs[0]] = error.reason
            log.warning("a document cannot be read: %s; nobody will see it", error.reason)
            return []

    def _from_verdict(self, doc: str, revs: Sequence[str], before: Recorded) -> FoundDocument | None:
        """The recorded leaves with one replaced by a verdict's child: nothing has to be read."""
        new = [rev for rev in revs if rev not in before.leaves]
        if len(new) != 1:
            return None
        verdict = self._ledger.verdict(doc, new[0], self._function.number)
        if verdict is None or not verdict.trusted or verdict.answered_at is None:
            return None
        expected = set(before.leaves) - {verdict.parent} | {new[0]}
        if set(revs) != expected or (verdict.parent is not None and verdict.parent not in before.leaves):
            return None
        parent = before.leaves.get(verdict.parent) if verdict.parent is not None else None
        ancestors = (parent.rev, *parent.ancestors) if parent is not None else ()
        leaf = Found(new[0], verdict.deleted, ancestors, None)
        return FoundDocument(
            doc,
            [(leaf, verdict.routing, None)]
            + [(Found(one.rev, one.deleted, one.ancestors, None), None, None) for one in _others(before, expected)],
        )

    async def _resolve_read(
        self,
        read: Mapping[str, Sequence[Document]],
        recorded: Mapping[str, Recorded],
        authoritative: bool,
        resolved: Resolved,
    ) -> None:
        documents: list[tuple[str, list[_NewLeaf], bool]] = []
        new: list[_NewLeaf] = []
        left_out: dict[str, dict[str, str]] = {}
        for doc, leaves in read.items():
            before = recorded.get(doc, _NOTHING)
            now = [_found(leaf) for leaf in leaves]
            if is_known(now, before):
                left_out[doc] = {}
                resolved.known[doc] = frozenset(before.leaves)
                continue
            if not authoritative and is_stale(now, before):
                log.info("a stale read of a document was ignored; its row will come again")
                continue
            its = [_NewLeaf(leaf, one, _is_followed(one, before)) for leaf, one in zip(leaves, now, strict=True)]
            new += [leaf for leaf in its if leaf.found.rev not in before.leaves]
            documents.append((doc, its, _was_purged(now, before)))
        await self._route(new)
        for doc, its, _ in documents:
            left_out[doc] = {leaf.found.rev: leaf.left_out for leaf in its if leaf.left_out is not None}
        await self._imports.note(left_out)
        for doc, its, purged in documents:
            values = [(leaf.found, leaf.routing, leaf.refused) for leaf in its if leaf.left_out is None]
            if is_known([found for found, _, _ in values], recorded.get(doc, _NOTHING)):
                resolved.known[doc] = frozenset(found.rev for found, _, _ in values)
            else:
                resolved.found.append(FoundDocument(doc, values, purged))

    async def _route(self, new: Sequence[_NewLeaf]) -> None:
        """Give each new leaf its routing: its verdict if that was made for this very body, else as the admin."""
        foreign: list[_NewLeaf] = []
        pauses = Pauses()
        for leaf in new:
            await pauses.when_due()
            verdict = self._ledger.verdict(leaf.doc["_id"], leaf.found.rev, self._function.number)
            if verdict is not None and verdict.digest == body_digest(leaf.doc):
                leaf.routing = verdict.routing
            else:
                foreign.append(leaf)
        reasons = await self._imports.reasons([(leaf.doc, leaf.followed) for leaf in foreign])
        for leaf, reason in zip(foreign, reasons, strict=True):
            leaf.left_out = reason
        foreign = [leaf for leaf in foreign if leaf.left_out is None]
        if not foreign:
            return
        parents = await self._parents(foreign)
        calls = [Call(leaf.doc, parent, ADMIN) for leaf, parent in zip(foreign, parents, strict=True)]
        for leaf, answer in zip(foreign, await self._function.run(calls), strict=True):
            leaf.routing = answer.routing
            if answer.error is not None:
                # Stored by somebody whom we could not stop: nobody but holders of `*` and admins see it.
                leaf.routing, leaf.refused = NO_ROUTING, answer.error.reason
                self.refused.append(RefusedRow(leaf.doc["_id"], leaf.found.rev, answer.error.reason))
                self.refused_count += 1
                log.warning("a document written straight to the upstream is refused: %s", answer.error.reason)

    async def _parents(self, leaves: Sequence[_NewLeaf]) -> list[Document | None]:
        """The body of each leaf's parent, where the upstream still has it."""
        refs = [
            RevisionRef(leaf.doc["_id"], leaf.found.ancestors[0]) if leaf.found.ancestors else None for leaf in leaves
        ]
        read = iter(await self._reader.documents_each([ref for ref in refs if ref is not None]))
        found = [None if ref is None else next(read) for ref in refs]
        return [None if isinstance(doc, UnreadableDocument) else doc for doc in found]


def _found(leaf: Document) -> Found:
    revs = history(leaf["_revisions"]) if "_revisions" in leaf else [leaf["_rev"]]
    return Found(leaf["_rev"], bool(leaf.get("_deleted")), tuple(revs[1:]), None)


def _is_followed(leaf: Found, before: Recorded) -> bool:
    """Whether it is the end of something that is recorded: who holds that has to hear of it. Or an ancestor of it, as
    after a backup was restored: that was taken in once."""
    leaves = before.leaves.values()
    ends = leaf.deleted and any(one.rev in leaf.ancestors for one in leaves)
    return ends or any(leaf.rev in one.ancestors for one in leaves)


def _hidden(doc: str, revs: Sequence[str], before: Recorded, reason: str) -> FoundDocument:
    """What is known of a document that cannot be read: its leaves, which nobody but holders of `*` will see."""
    known = [(Found(one.rev, one.deleted, one.ancestors, None), None, None) for one in _others(before, set(revs))]
    new = [(Found(rev, False, (), None), NO_ROUTING, reason) for rev in revs if rev not in before.leaves]
    return FoundDocument(doc, [*known, *new])


def _others(before: Recorded, expected: Collection[str]) -> list[Found]:
    return [
        Found(leaf.rev, leaf.deleted, leaf.ancestors, None) for leaf in before.leaves.values() if leaf.rev in expected
    ]


def _lags(wanted: Collection[str], read: Sequence[Document], before: Recorded) -> bool:
    """Whether a read misses a revision that must be there: no leaf, and no ancestor of a leaf read or recorded."""
    there = {rev for leaf in before.leaves.values() for rev in leaf.ancestors}
    stemmed = 0  # up to this generation ancestors are forgotten upstream
    for leaf in read:
        revs = history(leaf["_revisions"]) if "_revisions" in leaf else [leaf["_rev"]]
        there.update(revs)
        stemmed = max(stemmed, generation(revs[-1]) - 1)
    return any(rev not in there and generation(rev) > stemmed for rev in wanted)


def _was_purged(now: Sequence[Found], before: Recorded) -> bool:
    """Whether a recorded leaf vanished without a descendant: revision-aware clients have to drop their tree (A11)."""
    there = {rev for leaf in now for rev in (leaf.rev, *leaf.ancestors)}
    return any(rev not in there for rev in before.leaves)
