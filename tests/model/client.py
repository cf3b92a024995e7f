"""A replicating client with a local copy, as PouchDB keeps one: revision trees grown from what it fetched."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from gateway.feeds.page import Page, Row
from gateway.model.positions import START, Position
from gateway.model.revisions import winner_first

if TYPE_CHECKING:
    from tests.model.timeline import Timeline

PATIENCE = 400  # pages until following must have ended (P4)


class Client:
    """With `revocations` it forgets on a loss, and forgets then fetches on a reset."""

    def __init__(
        self, timeline: Timeline, user: str, revocations: bool, channels: Collection[str] | None = None
    ) -> None:
        self._timeline = timeline
        self.user = user
        self.revocations = revocations
        self.channels = channels
        self.since = START
        self.copies: dict[str, dict[str, tuple[str | None, bool]]] = {}  # doc -> rev -> (parent, deleted)
        self._inbox: Sequence[Row] = ()
        self._then = START  # the position when the inbox is done

    def page(self, limit: int) -> Page:
        """The next page, without taking it."""
        since = self._timeline.on_the_wire(self.since)
        assert since == self.since
        return self._timeline.page(self.user, since, limit, revocations=self.revocations, channels=self.channels)

    def ask(self, limit: int = 10_000, keep: int | None = None) -> Page:
        """Ask for a page and keep its first rows only, all if not said otherwise; `receive` fetches them."""
        self.receive()
        page = self.page(limit)
        self._inbox = page.rows[:keep]
        if len(self._inbox) == len(page.rows):
            self._then = page.last
        else:
            self._then = self._inbox[-1].position if self._inbox else self.since
        return page

    def receive(self) -> None:
        """Fetch what the kept rows list. One that is missing meanwhile: do not advance past its row (A19)."""
        if self._then < self.since:
            return
        for row in self._inbox:
            if not self._take(row) and self.revocations:
                break
            self.since = row.position
        else:
            self.since = max(self._then, self.since)
        self._inbox = ()
        self._then = START

    def _take(self, row: Row) -> bool:
        """Whether nothing was missing. With revocations a row is taken whole or not at all: what a client kept of a row
        that it did not advance past would be its own at no position, and no loss would ever be told of it."""
        fetched = self._timeline.fetch(self.user, row.id, *row.revs) if row.revs else []
        if self.revocations:
            if None in fetched:
                return False
            if row.kind == "loss" or row.reset:
                self.copies.pop(row.id, None)
        for one in fetched:
            if one is not None:
                copy = self.copies.setdefault(row.id, {})
                copy.update({at: (parent, deleted) for at, parent, deleted in one.path})
        return None not in fetched

    def step(self, limit: int = 10_000, keep: int | None = None) -> Page:
        """One page, fetched at once."""
        page = self.ask(limit, keep)
        self.receive()
        return page

    def follow(self, limit: int = 10_000) -> list[Row]:
        """Page until caught up; all rows that came."""
        came: list[Row] = []
        for _ in range(PATIENCE):
            page = self.step(limit)
            came += page.rows
            if self.since == Position(self._timeline.oracle.seq):
                return came
            assert len(page.rows) == limit, "P4: a page was not full though more follows"
        raise AssertionError("P4: following does not end")

    def leaves(self, doc: str) -> list[tuple[str, bool]]:
        """The leaves of the local copy, the winner first."""
        copy = self.copies.get(doc, {})
        parents = {parent for parent, _ in copy.values()}
        return winner_first((rev, deleted) for rev, (_, deleted) in copy.items() if rev not in parents)

    def contents(self) -> dict[str, str]:
        """document -> winner of everything alive in the local copy."""
        return {doc: found[0][0] for doc in self.copies if (found := self.leaves(doc)) and not found[0][1]}

    def holds(self, doc: str) -> str | None:
        """The winner of a document in the local copy, None if it is not there or deleted."""
        return self.contents().get(doc)

    def check_copy(self) -> None:
        """P1 with revocations, P2 without; for a client that has caught up."""
        visible = self._timeline.visible(self.user, self.channels)
        if self.revocations:
            assert self.contents() == visible, "P1: the copy is not what the user can read now"
        else:
            missing = {doc: rev for doc, rev in visible.items() if rev not in self.copies.get(doc, {})}
            assert missing == {}, "P2: readable documents are not there at their current revision"
