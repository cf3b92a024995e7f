"""From rows to what the store applies: which leaves a document has now, and the routing of each new one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway import limits
from gateway.couch.revision_cache import RevisionReader
from gateway.couch.upstream import Document, RevisionRef, UpstreamDatabase
from gateway.model.apply import Found, Recorded, is_known, is_stale
from gateway.model.revisions import history
from gateway.model.routing import ADMIN, NO_ROUTING, Call, Routing, body_digest
from gateway.routing.ledger import Ledger
from gateway.store.protocol import DatabaseStore, FoundDocument
from gateway.syncfn.runtime import SyncFunction

log = logging.getLogger(__name__)
_NOTHING = Recorded()


@dataclass(frozen=True, slots=True)
class RowHint:
    """A document that may have changed. `revs` None: read it in any case. `tick` says when the row was received."""

    id: str
    revs: tuple[str, ...] | None
    tick: int


@dataclass(slots=True)
class _NewLeaf:
    """A leaf without a recorded routing, and where it comes from."""

    doc: Document
    found: Found
    routing: Routing | None = None
    refused: str | None = None


class Resolver:
    """Turns hints into FoundDocuments; reads upstream only what verdicts and the index do not tell."""

    def __init__(
        self,
        store: DatabaseStore,
        upstream: UpstreamDatabase,
        reader: RevisionReader,
        function: SyncFunction,
        ledger: Ledger,
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._reader = reader
        self._function = function
        self._ledger = ledger

    async def resolve(
        self, hints: Sequence[RowHint], *, authoritative: bool
    ) -> tuple[list[FoundDocument], dict[str, frozenset[str]]]:
        """What to apply, and for documents where nothing is to be done the leaves that are recorded.

        With `authoritative` an older state than the recorded one is believed: the upstream was replaced or purged.
        Documents whose read is stale are in neither (W9).
        """
        recorded = await self._store.recorded([hint.id for hint in hints])
        found: list[FoundDocument] = []
        known: dict[str, frozenset[str]] = {}
        unsure: list[str] = []
        for hint in hints:
            before = recorded.get(hint.id, _NOTHING)
            if hint.revs is None or self._ledger.expects_others(hint.id, hint.revs):
                unsure.append(hint.id)
            elif set(hint.revs) == before.leaves.keys():
                known[hint.id] = frozenset(before.leaves)
            elif (made := self._from_verdict(hint.id, hint.revs, before)) is not None:
                found.append(made)
            else:
                unsure.append(hint.id)
        if unsure:
            leaves = dict(zip(unsure, await self._upstream.leaves(unsure), strict=True))
            await self._resolve_read(leaves, recorded, authoritative, found, known)
        return found, known

    def _from_verdict(self, doc: str, revs: Sequence[str], before: Recorded) -> FoundDocument | None:
        """The recorded leaves with one replaced by a verdict's child: nothing has to be read."""
        new = [rev for rev in revs if rev not in before.leaves]
        if len(new) != 1:
            return None
        verdict = self._ledger.verdict(doc, new[0])
        if verdict is None or not verdict.trusted or verdict.answered_at_tick is None:
            return None
        expected = set(before.leaves) - {verdict.parent} | {new[0]}
        if set(revs) != expected or (verdict.parent is not None and verdict.parent not in before.leaves):
            return None
        parent = before.leaves.get(verdict.parent) if verdict.parent is not None else None
        ancestors = (parent.rev, *parent.ancestors) if parent is not None else ()
        leaf = Found(new[0], verdict.deleted, ancestors[: limits.LEAF_ANCESTORS_COUNT], None)
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
        found: list[FoundDocument],
        known: dict[str, frozenset[str]],
    ) -> None:
        documents: list[tuple[str, list[_NewLeaf], bool]] = []
        new: list[_NewLeaf] = []
        for doc, leaves in read.items():
            before = recorded.get(doc, _NOTHING)
            now = [_found(leaf) for leaf in leaves]
            if is_known(now, before):
                known[doc] = frozenset(before.leaves)
                continue
            if not authoritative and is_stale(now, before):
                log.info("a stale read of a document was ignored; its row will come again")
                continue
            its = [_NewLeaf(leaf, one) for leaf, one in zip(leaves, now, strict=True)]
            new += [leaf for leaf in its if leaf.found.rev not in before.leaves]
            documents.append((doc, its, _was_purged(now, before)))
        await self._route(new)
        for doc, its, purged in documents:
            values = [(_kept(leaf.found), leaf.routing, leaf.refused) for leaf in its]
            found.append(FoundDocument(doc, values, purged))

    async def _route(self, new: Sequence[_NewLeaf]) -> None:
        """Give each new leaf its routing: its verdict if that was made for this very body, else as the admin."""
        foreign: list[_NewLeaf] = []
        for leaf in new:
            verdict = self._ledger.verdict(leaf.doc["_id"], leaf.found.rev)
            if verdict is not None and verdict.digest == body_digest(leaf.doc):
                leaf.routing = verdict.routing
            else:
                foreign.append(leaf)
        if not foreign:
            return
        parents = await self._parents(foreign)
        calls = [Call(leaf.doc, parent, ADMIN) for leaf, parent in zip(foreign, parents, strict=True)]
        for leaf, answer in zip(foreign, await self._function.run(calls), strict=True):
            leaf.routing = answer.routing
            if answer.error is not None:
                # Stored by somebody whom we could not stop: nobody but holders of `*` and admins see it.
                leaf.routing, leaf.refused = NO_ROUTING, answer.error.reason
                log.warning("a document written straight to the upstream is refused: %s", answer.error.reason)

    async def _parents(self, leaves: Sequence[_NewLeaf]) -> list[Document | None]:
        """The body of each leaf's parent, where the upstream still has it."""
        refs = [
            RevisionRef(leaf.doc["_id"], leaf.found.ancestors[0]) if leaf.found.ancestors else None for leaf in leaves
        ]
        read = iter(await self._reader.documents([ref for ref in refs if ref is not None]))
        return [None if ref is None else next(read) for ref in refs]


def _found(leaf: Document) -> Found:
    revs = history(leaf["_revisions"]) if "_revisions" in leaf else [leaf["_rev"]]
    return Found(leaf["_rev"], bool(leaf.get("_deleted")), tuple(revs[1:]), None)


def _kept(found: Found) -> Found:
    return Found(found.rev, found.deleted, found.ancestors[: limits.LEAF_ANCESTORS_COUNT], None)


def _others(before: Recorded, expected: set[str]) -> list[Found]:
    return [
        Found(leaf.rev, leaf.deleted, leaf.ancestors, None) for leaf in before.leaves.values() if leaf.rev in expected
    ]


def _was_purged(now: Sequence[Found], before: Recorded) -> bool:
    """Whether a recorded leaf vanished without a descendant: revision-aware clients have to drop their tree (A11)."""
    there = {rev for leaf in now for rev in (leaf.rev, *leaf.ancestors)}
    return any(rev not in there for rev in before.leaves)
