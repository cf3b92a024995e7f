"""Writes between "sent upstream" and "routed": verdicts for the router, waiters for the writers.

One `Pending` is made for each write before it is sent. The router finds its verdict here and tells here what it has
applied; the writer waits here. Everything runs on the event loop, nothing here awaits but the two waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway import limits
from gateway.errors import TooManyRequests
from gateway.model.routing import Routing, Verdict


@dataclass(slots=True, eq=False)
class Pending:
    """One write that is not routed yet, with the routing that its writer was given."""

    id: str
    rev: str | None  # None until the upstream answers, where it could not be foreseen
    parent: str | None  # the recorded leaf that it replaces
    deleted: bool
    routing: Routing
    version: int  # of the sync function that said so
    digest: str
    trusted: bool  # the upstream computes the revision from the body (new_edits): same revision, same body
    opened_at: float  # on the clock
    sent_at: int  # a moment of the ledger
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    answered_at: int | None = None  # a moment of the ledger
    routed: asyncio.Event = field(default_factory=asyncio.Event)
    applied: bool = False  # its document was applied since it was sent
    leaves: frozenset[str] = frozenset()  # those recorded when its document was last applied
    waited_for: bool = False  # a row has waited for its answer in vain
    abandoned: bool = False  # nobody waits for it any more


class Ledger:
    """All pending writes of one database.

    What happened before what is told by moments: numbers that only rise, one for each row received, write sent, answer
    and read of leaves.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_id: dict[str, list[Pending]] = {}
        self._count = 0
        self._moment = 0

    def __len__(self) -> int:
        return self._count

    def moment(self) -> int:
        """The moment of what happens now."""
        self._moment += 1
        return self._moment

    def open(
        self,
        doc: str,
        rev: str | None,
        *,
        parent: str | None,
        deleted: bool,
        routing: Routing,
        version: int,
        digest: str,
        trusted: bool,
    ) -> Pending:
        """Announce a write that is about to be sent. Raises TooManyRequests at VERDICTS_COUNT."""
        if self._count >= limits.VERDICTS_COUNT:
            self._expire()
            if self._count >= limits.VERDICTS_COUNT:
                raise TooManyRequests(f"more than {limits.VERDICTS_COUNT} writes wait for the router")
        pending = Pending(doc, rev, parent, deleted, routing, version, digest, trusted, self._clock(), self.moment())
        self._by_id.setdefault(doc, []).append(pending)
        self._count += 1
        return pending

    def answer(self, pending: Pending, rev: str, verdict: Verdict | None = None) -> None:
        """The upstream has stored it as `rev`. Another revision than foreseen leaves no verdict, unless `verdict` is
        what the function says of the very body that was stored, as that revision."""
        if verdict is not None:
            pending.routing, pending.version = verdict.routing, verdict.version
        elif pending.rev != rev:
            # The function did not see the revision that it has now; the router asks it again.
            pending.trusted, pending.digest = False, ""
        pending.rev = rev
        pending.answered_at = self.moment()
        pending.answered.set()
        if rev in pending.leaves:
            pending.routed.set()

    def close(self, pending: Pending) -> None:
        """The write failed, or is routed, or nobody waits for it any more."""
        of_document = self._by_id.get(pending.id)
        if of_document is None or pending not in of_document:
            return
        of_document.remove(pending)
        if not of_document:
            del self._by_id[pending.id]
        self._count -= 1
        pending.answered.set()

    def abandon(self, pending: Pending) -> None:
        """Nobody waits for it any more, but it is stored, or may be: its verdict stays until its revision is routed or
        the verdict expires (W11)."""
        pending.abandoned = True
        if pending.answered_at is None:
            pending.trusted = False
        pending.answered.set()
        if pending.routed.is_set():
            self.close(pending)

    def _expire(self) -> None:
        before = self._clock() - limits.VERDICT_SECONDS
        for pending in [one for some in self._by_id.values() for one in some if one.opened_at < before]:
            self.close(pending)

    def expire(self) -> None:
        """Drop verdicts older than VERDICT_SECONDS. Called by the router now and then."""
        self._expire()

    # The router's side

    async def settle(self, rows: Mapping[str, int]) -> None:
        """Wait until writes that were sent before their document's row came have their answers; once for each write,
        and not longer than WRITE_IN_FLIGHT_WAIT_SECONDS for all. `rows` are (document, moment of its row)."""
        waiting = [
            pending
            for doc, moment in rows.items()
            for pending in self._by_id.get(doc, ())
            if not pending.answered.is_set() and pending.sent_at < moment and not pending.waited_for
        ]
        if not waiting:
            return
        try:
            async with asyncio.timeout(limits.WRITE_IN_FLIGHT_WAIT_SECONDS):
                for pending in waiting:
                    await pending.answered.wait()
        except TimeoutError:
            for pending in waiting:
                pending.waited_for = True

    def verdict(self, doc: str, rev: str, version: int) -> Pending | None:
        """The verdict for exactly this revision, if there is only one (W2), and it is of this version of the function:
        what an earlier one said of a write must not route it after another came in force."""
        found = [pending for pending in self._by_id.get(doc, ()) if pending.rev == rev and pending.digest]
        return found[0] if len(found) == 1 and found[0].version == version else None

    def stored(self, doc: str) -> set[str]:
        """Revisions of this document that the upstream said it has stored and that are not routed yet. A row or a read
        without them is older than the answer, or they were superseded: their leaves have to be read."""
        return {
            pending.rev
            for pending in self._by_id.get(doc, ())
            if pending.answered_at is not None and pending.rev is not None and not pending.routed.is_set()
        }

    def applied(self, doc: str, seen_at: int, leaves: frozenset[str]) -> None:
        """What was seen of a document at that moment, in a row or a read, is recorded now, perhaps as a no-op: release
        who waits for it (W1)."""
        for pending in list(self._by_id.get(doc, ())):
            pending.applied, pending.leaves = True, leaves
            if pending.rev in leaves or (pending.answered_at is not None and seen_at > pending.answered_at):
                if pending.answered_at is not None:
                    pending.routed.set()
                if pending.abandoned:
                    self.close(pending)
