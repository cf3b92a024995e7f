"""Verdicts and waiters between the writers and the router."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import limits
from gateway.errors import TooManyRequests
from gateway.model.routing import NO_ROUTING
from gateway.routing.id_locks import IdLocks
from gateway.routing.ledger import Ledger, Pending


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(ledger: Ledger, rev: str | None = "1-a", digest: str = "digest", **options: Any) -> Pending:
    chosen = {"parent": None, "deleted": False, "routing": NO_ROUTING, "version": 1, "trusted": True, **options}
    return ledger.open("d", rev, digest=digest, **chosen)


def test_two_verdicts_for_one_revision_are_no_verdict() -> None:
    ledger = Ledger(Clock())
    first = opened(ledger)
    assert ledger.verdict("d", "1-a", 1) is first
    second = opened(ledger, digest="another")
    assert ledger.verdict("d", "1-a", 1) is None
    ledger.close(second)
    assert ledger.verdict("d", "1-a", 1) is first


def test_a_verdict_for_another_revision_than_the_upstream_gave_is_none() -> None:
    ledger = Ledger(Clock())
    for foreseen in ("1-a", None):
        pending = opened(ledger, foreseen)
        ledger.answer(pending, "1-b")
        assert ledger.verdict("d", "1-b", 1) is None
        assert ledger.stored("d") == {"1-b"}
        ledger.close(pending)


def test_a_writer_is_released_by_its_revision_or_by_what_was_seen_after_its_answer() -> None:
    ledger = Ledger(Clock())
    early = ledger.moment()
    pending = opened(ledger)
    row = ledger.moment()
    ledger.answer(pending, "1-a")
    for seen_at in (early, row):
        ledger.applied("d", seen_at, frozenset({"1-z"}))
        assert not pending.routed.is_set()
    ledger.applied("d", ledger.moment(), frozenset({"1-z"}))
    assert pending.routed.is_set()
    other = opened(ledger, "2-b")
    seen_at = ledger.moment()
    ledger.answer(other, "2-b")
    ledger.applied("d", seen_at, frozenset({"2-b"}))
    assert other.routed.is_set()


def test_a_revision_applied_before_its_answer_is_routed_at_its_answer() -> None:
    ledger = Ledger(Clock())
    pending = opened(ledger)
    ledger.applied("d", ledger.moment(), frozenset({"1-a"}))
    assert not pending.routed.is_set()
    ledger.answer(pending, "1-a")
    assert pending.routed.is_set()


@pytest.mark.parametrize("answered", [True, False])
def test_an_abandoned_verdict_stays_until_its_revision_is_routed(answered: bool) -> None:
    ledger = Ledger(Clock())
    pending = opened(ledger)
    if answered:
        ledger.answer(pending, "1-a")
    ledger.abandon(pending)
    assert ledger.verdict("d", "1-a", 1) is pending
    assert pending.trusted == answered, "who knows what is stored under a revision that was not acknowledged"
    ledger.applied("d", ledger.moment(), frozenset({"1-a"}))
    assert len(ledger) == 0


def test_verdicts_expire() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    opened(ledger)
    clock.now = limits.VERDICT_SECONDS + 1
    fresh = opened(ledger, "2-b")
    ledger.expire()
    assert (ledger.verdict("d", "1-a", 1), ledger.verdict("d", "2-b", 1)) == (None, fresh)


def test_there_is_a_limit_to_what_waits_and_expired_verdicts_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VERDICTS_COUNT", 2)
    clock = Clock()
    ledger = Ledger(clock)
    opened(ledger)
    opened(ledger, "2-b")
    with pytest.raises(TooManyRequests):
        opened(ledger, "3-c")
    clock.now = limits.VERDICT_SECONDS + 1
    opened(ledger, "3-c")
    assert len(ledger) == 1


async def test_a_row_waits_for_writes_sent_before_it_only() -> None:
    ledger = Ledger(Clock())
    row = ledger.moment()
    later = opened(ledger)
    async with asyncio.timeout(20):
        await ledger.settle({"d": row})
        settling = asyncio.create_task(ledger.settle({"d": ledger.moment()}))
        await asyncio.sleep(0)
        assert not settling.done()
        ledger.answer(later, "1-a")
        await settling


async def test_id_locks_exist_only_while_somebody_holds_or_waits_for_them() -> None:
    locks = IdLocks()
    order: list[str] = []

    async def use(name: str, *ids: str) -> None:
        async with locks.hold(ids):
            order.append(name)
            await asyncio.sleep(0)
            order.append(name)

    async with asyncio.timeout(20):
        async with locks.hold(["a", "b", "a"]):
            waiting = [asyncio.create_task(use("1", "b", "a")), asyncio.create_task(use("2", "a", "c", "b"))]
            given_up = asyncio.create_task(use("3", "a"))
            await asyncio.sleep(0)
            given_up.cancel()
            await use("4", "z")
            assert order == ["4", "4"]
        await asyncio.gather(*waiting)
        await asyncio.gather(given_up, return_exceptions=True)
    assert order == ["4", "4", "1", "1", "2", "2"]
    assert not locks._locks
