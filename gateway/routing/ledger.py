"""Writes between "sent upstream" and "routed": verdicts for the router, waiters for the writers.

One `Pending` is made for each write before it is sent. The router finds its verdict here and tells here what it has
applied; the writer waits here. Everything runs on the event loop, nothing here awaits but the two waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from gateway import limits
from gateway.errors import TooManyRequests
from gateway.model.routing import Routing


@dataclass(slots=True, eq=False)
class Pending:
    """One write that is not routed yet, with the routing that its writer was given."""

    id: str
    rev: str | None  # None until the upstream answers, where it could not be foreseen
    parent: str | None  # the recorded leaf that it replaces
    deleted: bool
    routing: Routing
    digest: str
    trusted: bool  # the upstream computes the revision from the body (new_edits): same revision, same body
    opened_at: float
    sent_at_tick: int
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    answered_at_tick: int | None = None
    routed: asyncio.Event = field(default_factory=asyncio.Event)
    leaves: frozenset[str] = frozenset()  # those recorded when its document was last applied


class Ledger:
    """All pending writes of one database. `tick` counts the rows that the router has received."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_id: dict[str, list[Pending]] = {}
        self._count = 0
        self.tick = 0

    def open(
        self,
        doc: str,
        rev: str | None,
        *,
        parent: str | None,
        deleted: bool,
        routing: Routing,
        digest: str,
        trusted: bool,
    ) -> Pending:
        """Announce a write that is about to be sent. Raises TooManyRequests at VERDICTS_COUNT."""
        if self._count >= limits.VERDICTS_COUNT:
            self._expire()
            if self._count >= limits.VERDICTS_COUNT:
                raise TooManyRequests(f"more than {limits.VERDICTS_COUNT} writes wait for the router")
        pending = Pending(doc, rev, parent, deleted, routing, digest, trusted, self._clock(), self.tick)
        self._by_id.setdefault(doc, []).append(pending)
        self._count += 1
        return pending

    def answer(self, pending: Pending, rev: str) -> None:
        """The upstream has stored it as `rev`. Another revision than foreseen leaves no verdict."""
        if pending.rev is not None and pending.rev != rev:
            pending.trusted, pending.digest = False, ""
        elif pending.rev is None:
            # The function did not see the revision that it has now; the router asks it again.
            pending.trusted, pending.digest = False, ""
        pending.rev = rev
        pending.answered_at_tick = self.tick
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

    def keep(self, pending: Pending) -> None:
        """Nobody knows whether it was stored: its verdict stays until it expires (W11)."""
        pending.trusted = False
        pending.answered.set()

    def _expire(self) -> None:
        before = self._clock() - limits.VERDICT_SECONDS
        for pending in [one for some in self._by_id.values() for one in some if one.opened_at < before]:
            self.close(pending)

    def expire(self) -> None:
        """Drop verdicts older than VERDICT_SECONDS. Called by the router now and then."""
        self._expire()

    # The router's side

    async def settle(self, rows: Mapping[str, int]) -> None:
        """Wait until writes that were sent before their document's row came have their answers; once, and not longer
        than WRITE_IN_FLIGHT_WAIT_SECONDS. `rows` are (document, tick of its row)."""
        waiting = [
            asyncio.ensure_future(pending.answered.wait())
            for doc, tick in rows.items()
            for pending in self._by_id.get(doc, ())
            if not pending.answered.is_set() and pending.sent_at_tick < tick
        ]
        if not waiting:
            return
        try:
            await asyncio.wait(waiting, timeout=limits.WRITE_IN_FLIGHT_WAIT_SECONDS)
        finally:
            for task in waiting:
                task.cancel()

    def verdict(self, doc: str, rev: str) -> Pending | None:
        """The verdict for exactly this revision, if there is only one (W2)."""
        found = [pending for pending in self._by_id.get(doc, ()) if pending.rev == rev and pending.digest]
        return found[0] if len(found) == 1 else None

    def expects_others(self, doc: str, revs: Collection[str]) -> bool:
        """Whether an answered write of this document waits whose revision is not among `revs`: then a row with these
        leaves may be older than the answer, and the leaves have to be read."""
        return any(
            pending.answered_at_tick is not None and pending.rev not in revs for pending in self._by_id.get(doc, ())
        )

    def applied(self, doc: str, tick: int, leaves: frozenset[str]) -> None:
        """A row received at `tick` was applied, perhaps as a no-op: release who waits for it (W1)."""
        for pending in self._by_id.get(doc, ()):
            pending.leaves = leaves
            if pending.answered_at_tick is not None and (pending.rev in leaves or tick > pending.answered_at_tick):
                pending.routed.set()

    def waiting(self) -> Iterable[str]:
        """Documents with pending writes."""
        return self._by_id.keys()
