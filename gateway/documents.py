"""Reading documents under access: which revision a caller gets, from the index; its body, from the revision cache."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway import limits
from gateway.callers import Caller
from gateway.couch.batching import Batcher
from gateway.couch.lanes import Call, Lane
from gateway.couch.revision_cache import RevisionReader
from gateway.couch.revision_stream import AttachmentOptions, read_revision
from gateway.couch.upstream import Document, RevisionRef
from gateway.errors import Deleted, Forbidden, GatewayError, NotFound, UnreadableDocument
from gateway.feeds.viewer import Viewer
from gateway.feeds.viewers import Viewers
from gateway.model.leaves import Leaf
from gateway.model.revisions import generation, history
from gateway.pauses import Pauses
from gateway.queries import BulkGetItem, BulkGetResult, DocumentQuery
from gateway.store.protocol import DatabaseStore, DocumentRow, Index


@dataclass(frozen=True, slots=True)
class Seen:
    """What one caller sees of one document. Leaves the winner first; `graceful` are superseded ones that a client may
    have been told of a moment ago (A19)."""

    leaves: Sequence[Leaf] = ()
    readable: Sequence[Leaf] = ()
    graceful: Sequence[Leaf] = ()
    seq: int = 0

    @property
    def winner(self) -> Leaf | None:
        return self.leaves[0] if self.leaves else None

    def resolve(self, rev: str, *, latest: bool) -> list[Leaf]:
        """The readable leaf for `rev`; with `latest` all readable leaves that descend from it, else that revision."""
        above = [leaf for leaf in self.readable if leaf.rev == rev or rev in leaf.ancestors] if latest else []
        return above or [leaf for leaf in (*self.readable, *self.graceful) if leaf.rev == rev][:1]


UNSEEN = Seen()
_STUBS = AttachmentOptions()
_DATA = AttachmentOptions(data=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One revision of an answer; `ref` is what the caller may read of it, `missing` what he is told instead."""

    id: str
    rev: str | None  # as it was asked for, or the leaf that was found
    ref: RevisionRef | None
    missing: dict[str, Any]
    atts_since: Sequence[str] | None = None


class Documents:
    """Reads of one database."""

    def __init__(
        self,
        store: DatabaseStore,
        batcher: Batcher,
        reader: RevisionReader,
        viewers: Viewers,
        *,
        hide_existence: bool,
    ) -> None:
        self._store = store
        self._batcher = batcher
        self._reader = reader
        self._hide_existence = hide_existence
        self._viewers = viewers
        self._looking = _LookLane(store, viewers)

    async def close(self) -> None:
        """Refuse what waits; what is being read ends by itself."""
        await self._looking.close()

    async def look(self, caller: Caller, doc_ids: Collection[str]) -> Mapping[str, Seen]:
        """What the caller sees of each document, all in one snapshot. Raises InvalidLogin when the user is gone."""
        call = Call[_Look, Mapping[str, Seen] | GatewayError](_Look(caller.user, tuple(doc_ids)), 1)
        waiter = call.join()
        self._looking.enqueue(call)
        found = await waiter
        if isinstance(found, GatewayError):
            raise found
        return found

    async def may_read(self, caller: Caller, doc_id: str, rev: str) -> bool:
        """Whether `rev` is a leaf that the caller may read."""
        seen = (await self.look(caller, [doc_id])).get(doc_id, UNSEEN)
        return any(leaf.rev == rev for leaf in seen.readable)

    async def readable_leaf(self, caller: Caller, doc_id: str, rev: str | None, *, latest: bool = False) -> Leaf:
        """The leaf to answer for `rev`, or for the winner. Raises NotFound, Deleted, Forbidden."""
        seen = (await self.look(caller, [doc_id])).get(doc_id, UNSEEN)
        return self._choose(seen, rev, latest)

    def _choose(self, seen: Seen, rev: str | None, latest: bool) -> Leaf:
        if latest and seen.winner in seen.readable:
            rev = None  # as CouchDB: the winner, whatever the revision
        if rev is not None:
            found = seen.resolve(rev, latest=latest)
            if found:
                return found[0]
            if any(leaf.rev == rev for leaf in seen.leaves):
                raise self._hidden()
            raise NotFound
        winner = seen.winner
        if winner is None:
            raise NotFound
        if winner not in seen.readable:
            # That a hidden document was deleted is nobody's business.
            raise NotFound if winner.deleted else self._hidden()
        if winner.deleted:
            raise Deleted
        return winner

    def _hidden(self) -> Forbidden | NotFound:
        return NotFound() if self._hide_existence else Forbidden()

    async def document(self, caller: Caller, doc_id: str, query: DocumentQuery) -> Document:
        ref, doc, meta = await self.open(caller, doc_id, query)
        return complete(await self._with_attachments(ref, doc, query), meta, revs=query.revs)

    async def open(
        self, caller: Caller, doc_id: str, query: DocumentQuery
    ) -> tuple[RevisionRef, Document, dict[str, Any]]:
        """The revision that is asked for, its document with stubs, and the members that are asked for beside it."""
        seen = (await self.look(caller, [doc_id])).get(doc_id, UNSEEN)
        leaf = self._choose(seen, query.rev, query.latest)
        ref = RevisionRef(doc_id, leaf.rev)
        (doc,) = await self.bodies([ref])
        if doc is None:
            raise NotFound
        return ref, doc, _meta(seen, leaf, doc.get("_revisions"), query) if query.has_meta else {}

    async def _with_attachments(self, ref: RevisionRef, doc: Document, query: DocumentQuery) -> Document:
        options = _options(query)
        if not doc.get("_attachments") or options == _STUBS:
            return doc
        read = await read_revision(self._batcher.database, ref, options, revs=query.revs)
        if read is None:
            raise NotFound
        return read

    async def open_revs(self, caller: Caller, doc_id: str, query: DocumentQuery) -> list[dict[str, Any]]:
        wanted = await self.wanted_revs(caller, doc_id, query)
        refs = list(dict.fromkeys(one.ref for one in wanted if one.ref is not None))
        docs = dict(zip(refs, await self.bodies(refs, _options(query)), strict=True))
        answers: list[dict[str, Any]] = []
        for one in wanted:
            doc = docs.get(one.ref) if one.ref is not None else None
            answers.append(one.missing if doc is None else {"ok": complete(doc, {}, revs=query.revs)})
        return answers

    async def wanted_revs(self, caller: Caller, doc_id: str, query: DocumentQuery) -> list[Wanted]:
        """The revisions that `open_revs` asks for. Raises NotFound for all of a document that cannot be seen."""
        seen = (await self.look(caller, [doc_id])).get(doc_id, UNSEEN)
        if query.open_revs == "all" or query.open_revs is None:
            if not seen.readable:
                raise NotFound
            asked = [(leaf.rev, [leaf]) for leaf in seen.readable]
        else:
            asked = [(rev, seen.resolve(rev, latest=query.latest)) for rev in dict.fromkeys(query.open_revs)]
        wanted: dict[str, Wanted] = {}
        for rev, leaves in asked:
            missing = {"missing": rev}
            for leaf in leaves:
                ref = RevisionRef(doc_id, leaf.rev)
                wanted.setdefault(leaf.rev, Wanted(doc_id, leaf.rev, ref, missing, query.atts_since))
            if not leaves:
                wanted.setdefault(rev, Wanted(doc_id, rev, None, missing))
        return list(wanted.values())

    async def bulk_get(
        self,
        caller: Caller,
        items: Sequence[BulkGetItem],
        *,
        revs: bool,
        attachments: bool,
        latest: bool,
        encoding_info: bool = False,
    ) -> list[BulkGetResult]:
        chosen = await self.chosen(caller, items, latest=latest)
        refs = list(dict.fromkeys(one.ref for some in chosen for one in some if one.ref is not None))
        since = {one.ref: one.atts_since for some in chosen for one in some if one.ref and one.atts_since is not None}
        docs = dict(
            zip(refs, await self.bodies(refs, AttachmentOptions(attachments, None, encoding_info)), strict=True)
        )
        for ref, known in since.items():
            if (doc := docs[ref]) is not None and doc.get("_attachments"):
                options = AttachmentOptions(since=known, encoding_info=encoding_info)
                docs[ref] = await read_revision(self._batcher.database, ref, options, revs=True)
        results = []
        for item, some in zip(items, chosen, strict=True):
            answers: list[dict[str, Any]] = []
            for one in some:
                doc = docs.get(one.ref) if one.ref is not None else None
                answers.append({"error": one.missing} if doc is None else {"ok": complete(doc, {}, revs=revs)})
            results.append(BulkGetResult(item.id, answers))
        return results

    async def chosen(self, caller: Caller, items: Sequence[BulkGetItem], *, latest: bool) -> list[list[Wanted]]:
        """For each item the revisions to answer, or one that says what is wrong."""
        seen = await self.look(caller, {item.id for item in items if item.error is None})
        chosen: list[list[Wanted]] = []
        for item in items:
            its = seen.get(item.id, UNSEEN)
            if item.error is not None:
                told = {"id": item.id or None, "rev": item.rev, **item.error.body()}
                chosen.append([Wanted(item.id, item.rev, None, told)])
                continue
            leaves = its.readable if item.rev is None else its.resolve(item.rev, latest=latest)
            missing = _missing(item.id, item.rev)
            chosen.append(
                [Wanted(item.id, leaf.rev, RevisionRef(item.id, leaf.rev), missing, item.atts_since) for leaf in leaves]
                or [Wanted(item.id, item.rev, None, missing)]
            )
        return chosen

    async def revs_diff(self, caller: Caller, revs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """What of `revs` the caller cannot know to be there. A hidden revision is missing to him: if he sends it, the
        write is answered as known, and nothing is told before."""
        seen = await self.look(caller, revs)
        answer: dict[str, Any] = {}
        pauses = Pauses()
        for doc_id, wanted in revs.items():
            await pauses.when_due()
            readable = seen.get(doc_id, UNSEEN).readable
            told = [*readable, *seen.get(doc_id, UNSEEN).graceful]
            known = {rev for leaf in told for rev in (leaf.rev, *leaf.ancestors)}
            missing = [rev for rev in wanted if rev not in known]
            if missing:
                answer[doc_id] = {"missing": missing}
                highest = max(generation(rev) for rev in missing)
                ancestors = [leaf.rev for leaf in readable if generation(leaf.rev) < highest]
                if ancestors:
                    answer[doc_id]["possible_ancestors"] = ancestors
        return answer

    async def for_feed(
        self,
        rows: Sequence[tuple[str, tuple[str, ...]]],
        *,
        attachments: bool,
        conflicts: bool,
        encoding_info: bool = False,
    ) -> list[Document | None]:
        """The documents of rows: the first of their readable revisions; the others, but deleted ones, its conflicts."""
        several = {doc_id for doc_id, revs in rows if len(revs) > 1} if conflicts else ()
        alive = await self._live_leaves(several) if several else {}
        refs = [RevisionRef(doc_id, revs[0]) if revs else None for doc_id, revs in rows]
        options = AttachmentOptions(attachments, None, encoding_info)
        read = iter(await self.bodies([ref for ref in refs if ref is not None], options))
        docs: list[Document | None] = []
        for ref, (doc_id, revs) in zip(refs, rows, strict=True):
            doc = next(read) if ref is not None else None
            if doc is not None:
                doc = _shown(doc, revs=False)
                if others := [rev for rev in revs[1:] if rev in alive.get(doc_id, ())]:
                    doc["_conflicts"] = others
            docs.append(doc)
        return docs

    async def _live_leaves(self, doc_ids: Collection[str]) -> dict[str, set[str]]:
        def read(index: Index) -> dict[str, set[str]]:
            found = index.find(doc_ids)
            leaves = index.leaves([row.document for row in found.values()])
            return {
                doc_id: {leaf.rev for leaf in leaves.get(row.document, ()) if not leaf.deleted}
                for doc_id, row in found.items()
            }

        return await self._store.read(read)

    async def bodies(self, refs: Sequence[RevisionRef], options: AttachmentOptions = _STUBS) -> list[Document | None]:
        """Bodies with `_revisions`, through the cache; those with attachments of which more is wanted, from upstream.

        One that cannot be read is missing: it must not stop a feed or a whole bulk.
        """
        found = await self._reader.documents_each(refs)
        docs = [None if isinstance(doc, UnreadableDocument) else doc for doc in found]
        if options == _STUBS:
            return docs
        attached = [at for at, doc in enumerate(docs) if doc is not None and doc.get("_attachments")]
        read: Sequence[Document | None]
        if options == _DATA:
            read = await self._batcher.read_many([refs[at] for at in attached], attachments=True)
        else:  # what _bulk_get of CouchDB does not take
            read = [await self._read_alone(refs[at], options) for at in attached]
        for at, doc in zip(attached, read, strict=True):
            docs[at] = doc
        return docs

    async def _read_alone(self, ref: RevisionRef, options: AttachmentOptions) -> Document | None:
        try:
            return await read_revision(self._batcher.database, ref, options, revs=True)
        except UnreadableDocument:
            return None


def _shown(doc: Document, *, revs: bool) -> Document:
    if not revs:
        doc.pop("_revisions", None)
    return doc


def complete(doc: Document, meta: Mapping[str, Any], *, revs: bool) -> Document:
    """The document with what is asked for beside it, its members in CouchDB's order."""
    attachments = doc.get("_attachments")
    ordered = {name: value for name, value in doc.items() if name not in ("_revisions", "_attachments")}
    if revs and "_revisions" in doc:
        ordered["_revisions"] = doc["_revisions"]
    ordered |= meta
    if attachments is not None:
        ordered["_attachments"] = attachments
    return ordered


def _meta(seen: Seen, leaf: Leaf, revisions: object, query: DocumentQuery) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    if query.revs_info and revisions is not None:
        available = {one.rev for one in (*seen.readable, *seen.graceful)}
        meta["_revs_info"] = [{"rev": rev, "status": _status(rev, available, seen)} for rev in history(revisions)]
    others = [other for other in seen.readable if other.rev != leaf.rev]
    if query.conflicts and (live := [other.rev for other in others if not other.deleted]):
        meta["_conflicts"] = live
    if query.deleted_conflicts and (dead := [other.rev for other in others if other.deleted]):
        meta["_deleted_conflicts"] = dead
    if query.local_seq:
        meta["_local_seq"] = seen.seq
    return meta


def _options(query: DocumentQuery) -> AttachmentOptions:
    return AttachmentOptions(query.attachments, query.atts_since, query.att_encoding_info)


def _status(rev: str, available: set[str], seen: Seen) -> str:
    if rev in available:
        deleted = any(leaf.deleted for leaf in (*seen.readable, *seen.graceful) if leaf.rev == rev)
        return "deleted" if deleted else "available"
    return "missing"


def _missing(doc_id: str, rev: str | None) -> dict[str, Any]:
    return {"id": doc_id, "rev": rev or "undefined", "error": "not_found", "reason": "missing"}


@dataclass(frozen=True, slots=True)
class _Look:
    user: str | None
    doc_ids: tuple[str, ...]


class _LookLane(Lane[_Look, Mapping[str, Seen] | GatewayError]):
    """Looks of concurrent requests, joined: one snapshot for all that wait."""

    def __init__(self, store: DatabaseStore, viewers: Viewers) -> None:
        super().__init__(limits.UPSTREAM_BATCH_DOCUMENTS_COUNT)
        self._store = store
        self._viewers = viewers

    async def send(self, items: Sequence[_Look]) -> list[Mapping[str, Seen] | GatewayError]:
        graceful_from = time.time() - limits.SUPERSEDED_GRACE_SECONDS

        def read(index: Index) -> list[Mapping[str, Seen] | GatewayError]:
            documents = index.find({doc_id for item in items for doc_id in item.doc_ids})
            leaves = index.leaves([row.document for row in documents.values()], superseded=True)
            viewers: dict[str | None, Viewer | GatewayError] = {}
            results: list[Mapping[str, Seen] | GatewayError] = []
            for item in items:
                if item.user not in viewers:
                    try:
                        viewers[item.user] = self._viewers.of(index, item.user)
                    except GatewayError as error:
                        viewers[item.user] = error
                who = viewers[item.user]
                if isinstance(who, GatewayError):
                    results.append(who)
                    continue
                results.append(
                    {
                        doc_id: _seen(documents[doc_id], leaves.get(documents[doc_id].document, []), who, graceful_from)
                        for doc_id in item.doc_ids
                        if doc_id in documents
                    }
                )
            return results

        return await self._store.read(read)


def _seen(row: DocumentRow, leaves: Sequence[Leaf], who: Viewer, graceful_from: float) -> Seen:
    current = [leaf for leaf in leaves if leaf.superseded_at is None]
    # What was purged has no descendant, and is never shown again.
    replaced = {rev for leaf in current for rev in leaf.ancestors}
    superseded = [
        leaf
        for leaf in leaves
        if leaf.superseded_at is not None and leaf.superseded_at >= graceful_from and leaf.rev in replaced
    ]
    return Seen(current, who.readable(current), who.readable(superseded), row.seq)
