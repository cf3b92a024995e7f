"""The way of a write: what it replaces → sync function → one bulk upstream → routed → answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

from gateway import limits
from gateway.couch.batching import Batcher
from gateway.couch.lanes import Call as LaneCall
from gateway.couch.lanes import Lane
from gateway.couch.revision_cache import RevisionCache, RevisionReader
from gateway.couch.upstream import Document, RevisionRef, UpstreamDatabase, WriteResult
from gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    InvalidDocument,
    MissingStub,
    NotLookedAt,
    RefusedBySyncFunction,
    TooLarge,
    UnauthorizedBySyncFunction,
    UpstreamError,
    UpstreamOutcomeUnknown,
    UpstreamUnreachable,
    UpstreamValidationFailed,
)
from gateway.model.apply import Recorded
from gateway.model.drafts import Draft
from gateway.model.revisions import generation
from gateway.model.routing import ADMIN, Call, Runaways, Verdict, Writer, body_digest
from gateway.pauses import Pauses
from gateway.queries import Outcome
from gateway.routing.id_locks import IdLocks
from gateway.routing.ledger import Ledger, Pending
from gateway.routing.plans import CurrentLeaf, NotALeaf, Plan, is_new, plan
from gateway.routing.router import RouterStatus
from gateway.routing.uploads import Gate, Upload
from gateway.store.protocol import DatabaseStore
from gateway.syncfn.in_force import FunctionInForce

log = logging.getLogger(__name__)
_I = TypeVar("_I")
_R = TypeVar("_R")
_REFUSALS = (RefusedBySyncFunction, UnauthorizedBySyncFunction)
_StoreAll: TypeAlias = "Callable[[Sequence[_Sending]], Awaitable[list[WriteResult | GatewayError]]]"


@dataclass(frozen=True, slots=True)
class Author:
    """For whom the documents of one request are written. `writer` is asked anew for each round: what was just written
    may have granted access. `may_read` tells of a recorded leaf."""

    writer: Callable[[], Awaitable[Writer]]
    may_read: Callable[[str, str], Awaitable[bool]]
    runaways: Runaways = field(default_factory=Runaways)


@dataclass(slots=True)
class _Sending:
    at: int
    plan: Plan
    verdict: Verdict
    old_doc: Document | None
    digest: str
    pending: Pending | None = None


class Writes:
    """All writes of one database."""

    def __init__(
        self,
        *,
        store: DatabaseStore,
        upstream: UpstreamDatabase,
        batcher: Batcher,
        reader: RevisionReader,
        cache: RevisionCache,
        function: FunctionInForce,
        ledger: Ledger,
        status: RouterStatus,
        route_again: Callable[[Sequence[str]], Awaitable[None]],
        note_own: Callable[[Collection[tuple[str, str]]], Awaitable[None]],
    ) -> None:
        """`route_again` reads documents upstream and routes what is found; `note_own` is told of writes, (document,
        digest of the body), before they are sent."""
        self._store = store
        self._upstream = upstream
        self._batcher = batcher
        self._reader = reader
        self._cache = cache
        self._ledger = ledger
        self._status = status
        self._route_again = route_again
        self._note_own = note_own
        self._locks = IdLocks()
        self._recorded = _RecordedLane(store)
        self._verdicts = _FunctionLane(function)
        self._unrouted: dict[str, float] = {}  # when a stored write of it was not routed in time; the oldest first
        self._running: set[asyncio.Task[list[Outcome]]] = set()
        self.refused_count = 0
        self.written_count = 0

    async def write(self, drafts: Sequence[Draft], author: Author) -> list[Outcome]:
        """Write them all, each for itself; results in order. Goes on when the caller is cancelled.

        Documents that the function refused are tried again as long as a round accepted others: a child may need what
        its parent grants (W10).
        """
        task = asyncio.create_task(self._write(drafts, author))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def upload(self, draft: Draft, author: Author, upload: Upload) -> Outcome:
        """One document whose body streams past, under the rules of `write`. Goes on when the caller is cancelled.

        The function is asked before any of the body is taken, so that a refusal costs nothing, and again when all but
        its last piece is upstream: that answer counts. The document's lock is held only from then on.
        """
        task = asyncio.create_task(self._upload(draft, author, upload))
        self._running.add(task)
        task.add_done_callback(self._ended)
        (outcome,) = await asyncio.shield(task)
        return outcome

    async def _upload(self, draft: Draft, author: Author, upload: Upload) -> list[Outcome]:
        outcome = await self._stored_in_pieces(draft, author, upload)
        self.refused_count += isinstance(outcome.error, _REFUSALS)
        self.written_count += outcome.rev is not None
        return [outcome]

    async def _stored_in_pieces(self, draft: Draft, author: Author, upload: Upload) -> Outcome:
        outcomes: dict[int, Outcome] = {}
        if not await self._accepted([draft], [0], author, outcomes):
            if outcomes[0].error is None:  # it is there already
                async for _ in upload.pieces:
                    pass
            return outcomes[0]
        gate = Gate(upload)
        try:
            if (early := await gate.fill()) is not None:
                error = _refusal(early) if early.rev is None else UpstreamError("an upload was answered before its end")
                return Outcome(draft.id, error=error)
            async with self._locks.hold([draft.id]):
                accepted = await self._accepted([draft], [0], author, outcomes)
                announced = [sending for sending in accepted if self._announce(sending, outcomes)]
                await self._send(announced, outcomes, lambda _: _one_result(gate.end()))
            return outcomes[0]
        except GatewayError as error:
            return Outcome(draft.id, error=error)
        finally:
            await gate.close()

    def _ended(self, task: asyncio.Task[list[Outcome]]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # its caller, if still there, has it too

    async def close(self) -> None:
        """Give up what is under way: what was stored is routed after the next start."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._recorded.close()
        await self._verdicts.close()

    async def _write(self, drafts: Sequence[Draft], author: Author) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        todo = list(range(len(drafts)))
        while todo:
            for layer in _layers(drafts, todo):
                async with self._locks.hold(drafts[at].id for at in layer):
                    outcomes.update(await self._layer(drafts, layer, author))
            refused = [at for at in todo if isinstance(outcomes[at].error, _REFUSALS)]
            if len(refused) == len(todo):
                break
            todo = refused
        self.refused_count += sum(isinstance(outcome.error, _REFUSALS) for outcome in outcomes.values())
        self.written_count += sum(outcome.rev is not None for outcome in outcomes.values())
        return [outcomes[at] for at in range(len(drafts))]

    async def _layer(self, drafts: Sequence[Draft], layer: Sequence[int], author: Author) -> dict[int, Outcome]:
        """Documents with different ids, whose locks are held."""
        outcomes: dict[int, Outcome] = {}
        accepted = await self._accepted([drafts[at] for at in layer], layer, author, outcomes)
        await self._send([sending for sending in accepted if self._announce(sending, outcomes)], outcomes, self._bulk)
        return outcomes

    async def _accepted(
        self, drafts: Sequence[Draft], layer: Sequence[int], author: Author, outcomes: dict[int, Outcome]
    ) -> list[_Sending]:
        """What is to be sent; for the others their outcome."""
        try:
            plans = await self._plan(drafts)
            writer = await author.writer()
            accepted = await self._ask(plans, layer, writer, author, outcomes)
        except GatewayError as error:
            outcomes |= {at: Outcome(draft.id, error=error) for at, draft in zip(layer, drafts, strict=True)}
            return []
        outcomes |= {at: one for at, one in zip(layer, plans, strict=True) if isinstance(one, Outcome)}
        return accepted

    # What is replaced

    async def _plan(self, drafts: Sequence[Draft]) -> list[Plan | Outcome]:
        """For each what it replaces, or the outcome where nothing is to be written."""
        current = await self._current([draft.id for draft in drafts])
        plans: list[Plan | Outcome] = []
        again: list[int] = []
        pauses = Pauses()
        for at, draft in enumerate(drafts):
            await pauses.when_due()  # the revision id is made of the whole body
            try:
                plans.append(plan(draft, current[draft.id]))
            except NotALeaf as error:
                plans.append(Outcome(draft.id, error=Conflict(error.reason)))
                again.append(at)
        if again:
            # Perhaps the router has not seen a direct write yet: ask the upstream before saying no.
            read = await self._read_leaves([drafts[at].id for at in again])
            for at in again:
                try:
                    plans[at] = plan(drafts[at], read[drafts[at].id])
                except Conflict as error:
                    plans[at] = Outcome(drafts[at].id, error=Conflict(error.reason))
        return await self._without_known(plans, current)

    async def _current(self, ids: Sequence[str]) -> dict[str, list[CurrentLeaf]]:
        """The leaves of each document: what is recorded, or where the router may lag, what is upstream."""
        self._forget_unrouted()
        lagging = self._status.state != "online" or not self._status.caught_up
        unsure = [doc for doc in ids if lagging or doc in self._unrouted]
        sure = [doc for doc in ids if not lagging and doc not in self._unrouted]
        recorded = zip(sure, await self._recorded.ask_all(sure), strict=True)
        current = {
            doc: [CurrentLeaf(leaf.rev, leaf.deleted) for leaf in found.leaves.values()] if found else []
            for doc, found in recorded
        }
        return current | (await self._read_leaves(unsure) if unsure else {})

    def _note_unrouted(self, doc: str) -> None:
        self._unrouted.pop(doc, None)
        self._unrouted[doc] = time.monotonic()

    def _forget_unrouted(self) -> None:
        before = time.monotonic() - limits.VERDICT_SECONDS
        while self._unrouted and self._unrouted[oldest := next(iter(self._unrouted))] < before:
            del self._unrouted[oldest]

    async def _read_leaves(self, ids: Sequence[str]) -> dict[str, list[CurrentLeaf]]:
        read = await self._batcher.leaves_of_many(ids)
        return {
            doc: [CurrentLeaf(leaf["_rev"], bool(leaf.get("_deleted"))) for leaf in leaves]
            for doc, leaves in zip(ids, read, strict=True)
        }

    async def _without_known(
        self, plans: list[Plan | Outcome], current: dict[str, list[CurrentLeaf]]
    ) -> list[Plan | Outcome]:
        """Revisions that are there already are answered at once, leave no verdict and wait for nothing (W1, W2)."""
        ask: dict[str, list[str]] = {}
        for at, one in enumerate(plans):
            if isinstance(one, Outcome) or one.draft.rev is None:
                continue
            leaves = current[one.draft.id]
            if any(leaf.rev == one.draft.rev for leaf in leaves):
                plans[at] = Outcome(one.draft.id, one.draft.rev)
            elif not is_new(one.draft.rev, leaves):
                # It may be an interior revision, or known and not routed yet.
                ask[one.draft.id] = [one.draft.rev]
        if ask:
            missing = await self._upstream.revs_diff(ask)
            for at, one in enumerate(plans):
                if isinstance(one, Plan) and one.draft.id in ask:
                    rev = ask[one.draft.id][0]
                    if rev not in missing.get(one.draft.id, {}).get("missing", ()):
                        plans[at] = Outcome(one.draft.id, rev)
        return plans

    # The sync function

    async def _ask(
        self,
        plans: Sequence[Plan | Outcome],
        layer: Sequence[int],
        writer: Writer,
        author: Author,
        outcomes: dict[int, Outcome],
    ) -> list[_Sending]:
        chosen = [(at, one) for at, one in zip(layer, plans, strict=True) if isinstance(one, Plan)]
        wanted = [(one.draft.id, leaf.rev) for _, one in chosen for leaf in (one.old, one.also) if leaf is not None]
        refs = [RevisionRef(doc, rev) for doc, rev in wanted]
        bodies: dict[tuple[str, str], Document | None] = {}
        for key, body in zip(wanted, await self._reader.documents_each(refs), strict=True):
            if isinstance(body, GatewayError):
                outcomes |= {at: Outcome(key[0], error=body) for at, one in chosen if one.draft.id == key[0]}
            else:
                bodies[key] = body
        chosen = [(at, one) for at, one in chosen if at not in outcomes]
        calls: list[Call] = []
        for _, one in chosen:
            shown = one.draft.shown(one.rev)
            calls.append(Call(shown, _body(bodies, one, one.old), writer, runaways=author.runaways))
            if one.also is not None:
                calls.append(Call(shown, _body(bodies, one, one.also), writer, runaways=author.runaways))
        replicated = any(not one.draft.new_edits for _, one in chosen)
        verdicts = iter(await self._verdicts.ask_all(calls, spare=not replicated))
        accepted = []
        pauses = Pauses()
        for at, one in chosen:
            await pauses.when_due()
            verdict = next(verdicts)
            second = next(verdicts) if one.also is not None else None
            error = verdict.error or (second.error if second is not None else None)
            if error is None and one.draft.has_stubs and not writer.admin:
                error = await self._stub_problem(one, author)
            if error is not None:
                outcomes[at] = Outcome(one.draft.id, error=error)
            else:
                digest = body_digest(one.draft.doc)
                accepted.append(_Sending(at, one, verdict, _body(bodies, one, one.base), digest))
        return accepted

    async def _stub_problem(self, one: Plan, author: Author) -> GatewayError | None:
        """A stub takes the attachment of the nearest ancestor that is stored: who may not read that one gets none."""
        draft, base = one.draft, one.base
        if base is not None and await author.may_read(draft.id, base.rev):
            nearer = draft.ancestors[: draft.ancestors.index(base.rev)] if base.rev in draft.ancestors else ()
            # Between the two there may be revisions that are not leaves, in a history that is not the true one.
            missing = (await self._upstream.revs_diff({draft.id: nearer})).get(draft.id, {}) if nearer else {}
            if set(missing.get("missing", ())) == set(nearer):
                return None
        return MissingStub("an attachment stub names a revision that is not there")

    # Upstream, and back through the router

    def _announce(self, sending: _Sending, outcomes: dict[int, Outcome]) -> bool:
        one = sending.plan
        try:
            sending.pending = self._ledger.open(
                one.draft.id,
                one.rev,
                parent=one.base.rev if one.base else None,
                deleted=one.draft.deleted,
                routing=sending.verdict.routing,
                version=sending.verdict.version,
                digest=sending.digest,
                trusted=one.draft.new_edits,
            )
        except GatewayError as error:
            outcomes[sending.at] = Outcome(one.draft.id, error=error)
        return sending.pending is not None

    async def _send(self, sendings: Sequence[_Sending], outcomes: dict[int, Outcome], store: _StoreAll) -> None:
        if not sendings:
            return
        stored: list[_Sending] = []
        try:
            await self._note_own([(sending.plan.draft.id, sending.digest) for sending in sendings])
            results = await store(sendings)
            verdicts = await self._verdicts_by_rev(sendings, results)
            pauses = Pauses()
            for sending, result in zip(sendings, results, strict=True):
                await pauses.when_due()
                outcome = self._stored(sending, result, verdicts.get(sending.at))
                outcomes[sending.at] = outcome
                if outcome.rev is not None:
                    stored.append(sending)
            await self._wait_routed(stored, outcomes)
        finally:
            for sending in sendings:
                became = outcomes.get(sending.at)  # nothing when this is cancelled in the middle
                unknown = became is None or isinstance(became.error, UpstreamOutcomeUnknown) or not became.routed
                if sending.pending is not None:
                    (self._ledger.abandon if unknown else self._ledger.close)(sending.pending)

    async def _bulk(self, sendings: Sequence[_Sending]) -> list[WriteResult | GatewayError]:
        new_edits = sendings[0].plan.draft.new_edits
        drafts = [sending.plan.draft for sending in sendings]
        try:
            return await self._batcher.write_many(
                [draft.doc for draft in drafts], new_edits, sizes=[draft.size for draft in drafts]
            )
        except GatewayError as error:
            return [error] * len(sendings)

    async def _verdicts_by_rev(
        self, sendings: Sequence[_Sending], results: Sequence[WriteResult | GatewayError]
    ) -> dict[int, Verdict]:
        """What the function says of each revision whose id could not be foreseen, now that it is known.

        The id depends on the attachments' bytes, the body does not: it is the one the function has accepted. Asked as
        the router would ask, so that it need not read and ask again; where it refuses, that is left to the router.
        """
        asked: list[int] = []
        calls: list[Call] = []
        for sending, result in zip(sendings, results, strict=True):
            draft = sending.plan.draft
            if draft.new_edits and sending.plan.rev is None and isinstance(result, WriteResult) and result.rev:
                asked.append(sending.at)
                calls.append(Call(draft.shown(result.rev), sending.old_doc, ADMIN))
        if not calls:
            return {}
        try:
            verdicts = await self._verdicts.ask_all(calls)
        except GatewayError:
            return {}
        return {at: verdict for at, verdict in zip(asked, verdicts, strict=True) if verdict.error is None}

    def _stored(self, sending: _Sending, result: WriteResult | GatewayError, verdict: Verdict | None) -> Outcome:
        draft, pending = sending.plan.draft, sending.pending
        if pending is None:
            raise RuntimeError("a write was sent without being announced")
        if isinstance(result, GatewayError):
            if isinstance(result, UpstreamOutcomeUnknown):
                self._note_unrouted(draft.id)
            return Outcome(draft.id, error=result)
        if result.rev is None:
            return Outcome(draft.id, error=_refusal(result))
        if pending.rev == result.rev and draft.new_edits and not draft.has_attachments:
            self._remember_body(sending, result.rev)
        self._ledger.answer(pending, result.rev, verdict)
        return Outcome(draft.id, result.rev, routed=result.quorum)

    def _remember_body(self, sending: _Sending, rev: str) -> None:
        """Put what was just stored into the revision cache: its readers come soon."""
        draft, base = sending.plan.draft, sending.plan.base
        digests = [rev.partition("-")[2]]
        if base is not None:
            if sending.old_doc is None or "_revisions" not in sending.old_doc:
                return
            digests += sending.old_doc["_revisions"]["ids"]
        doc = {**draft.shown(rev), "_revisions": {"start": generation(rev), "ids": digests}}
        self._cache.put(self._upstream.name, doc)

    async def _wait_routed(self, stored: Sequence[_Sending], outcomes: dict[int, Outcome]) -> None:
        waiting = [sending.pending for sending in stored if sending.pending is not None]
        # The row of such a one came before its answer and without its revision: perhaps no other row will come (W1).
        doubtful = [pending for pending in waiting if pending.applied and not pending.routed.is_set()]
        try:
            async with asyncio.timeout(limits.WRITE_ROUTED_WAIT_SECONDS):
                await self._look_again(doubtful)
                try:
                    async with asyncio.timeout(limits.WRITE_ROUTED_DOUBT_SECONDS):
                        await _all_routed(waiting)
                except TimeoutError:
                    await self._look_again([pending for pending in waiting if not pending.routed.is_set()])
                    await _all_routed(waiting)
        except TimeoutError:
            late = [sending for sending in stored if sending.pending and not sending.pending.routed.is_set()]
            for sending in late:
                doc = sending.plan.draft.id
                self._note_unrouted(doc)
                outcomes[sending.at] = Outcome(doc, outcomes[sending.at].rev, routed=False)
            log.warning("%d stored writes were not routed in time", len(late))

    async def _look_again(self, pendings: Sequence[Pending]) -> None:
        """Route these documents from what is upstream now, whether a row comes or not."""
        if not pendings or self._status.state != "online":
            return  # while the router is not sure of the upstream nothing may be applied (W8)
        try:
            await self._route_again([pending.id for pending in pendings])
        except GatewayError as error:
            log.info("stored writes could not be read back: %s", error.reason)


class _RecordedLane(Lane[str, Recorded | None]):
    """Reads of the index by concurrent writes, joined: one snapshot for all that wait."""

    def __init__(self, store: DatabaseStore) -> None:
        super().__init__(limits.UPSTREAM_BATCH_DOCUMENTS_COUNT)
        self._store = store

    async def send(self, items: Sequence[str]) -> list[Recorded | None]:
        found = await self._store.recorded(items)
        return [found.get(doc) for doc in items]

    async def ask_all(self, items: Sequence[str]) -> list[Recorded | None]:
        return await _ask_all(self, items)


class _FunctionLane(Lane[Call, Verdict]):
    """Calls of the sync function by concurrent writes, joined: one hop to its thread."""

    def __init__(self, function: FunctionInForce) -> None:
        super().__init__(limits.UPSTREAM_BATCH_DOCUMENTS_COUNT)
        self._function = function

    async def send(self, items: Sequence[Call]) -> list[Verdict]:
        return await self._function.run(items)

    async def ask_all(self, items: Sequence[Call], *, spare: bool = True) -> list[Verdict]:
        """All verdicts in order. Where the function runs away again and again, the rest is spared it, or else asked one
        by one, so that others have their turns: a replicator would take an error for the last word on a document."""
        verdicts = await _ask_all(self, items)
        if not spare:
            for at, verdict in enumerate(verdicts):
                if isinstance(verdict.error, NotLookedAt):
                    (verdicts[at],) = await _ask_all(self, [replace(items[at], runaways=None)])
        return verdicts


async def _ask_all(lane: Lane[_I, _R], items: Sequence[_I]) -> list[_R]:
    calls = [LaneCall[_I, _R](item, 1) for item in items]
    waiters = [call.join() for call in calls]
    for call in calls:
        lane.enqueue(call)
    return list(await asyncio.gather(*waiters))


async def _one_result(ending: Awaitable[WriteResult]) -> list[WriteResult | GatewayError]:
    try:
        return [await ending]
    except UpstreamUnreachable as error:
        return [UpstreamOutcomeUnknown(f"{error.reason}; the upload may or may not be stored")]
    except GatewayError as error:
        return [error]


async def _all_routed(pendings: Sequence[Pending]) -> None:
    for pending in pendings:
        await pending.routed.wait()


def _layers(drafts: Sequence[Draft], chosen: Sequence[int]) -> list[list[int]]:
    """Groups with at most one document of each id; those of one id in order of generation, then as given (W4)."""
    ordered = sorted(chosen, key=lambda at: generation(drafts[at].rev or "1-x") if not drafts[at].new_edits else 0)
    layers: list[list[int]] = []
    depth: dict[str, int] = {}
    for at in ordered:
        level = depth.get(drafts[at].id, 0)
        depth[drafts[at].id] = level + 1
        if level == len(layers):
            layers.append([])
        layers[level].append(at)
    return layers


def _body(bodies: dict[tuple[str, str], Document | None], one: Plan, leaf: CurrentLeaf | None) -> Document | None:
    return None if leaf is None else bodies.get((one.draft.id, leaf.rev))


_FAILED_VALIDATIONS = (
    "unknown_error",
    "unnamed_error",
    "compilation_error",
    "os_process_error",
    "unknown_query_language",
)


def _refusal(result: WriteResult) -> GatewayError:
    """The error that CouchDB gave for one document of a bulk."""
    kinds: dict[str, type[GatewayError]] = {
        "conflict": Conflict,
        "forbidden": Forbidden,
        "unauthorized": UnauthorizedBySyncFunction,
        "missing_stub": MissingStub,
        "doc_validation": InvalidDocument,
        "bad_request": InvalidDocument,
        "document_too_large": TooLarge,
        "attachment_too_large": TooLarge,
        "too_large": TooLarge,
    }
    # What a validation function threw without refusing has the name of its error (couch_query_servers).
    failed = result.error in _FAILED_VALIDATIONS or result.error.endswith("Error")
    return kinds.get(result.error, UpstreamValidationFailed if failed else UpstreamError)(result.reason or result.error)
