"""Verified credentials: right ones are remembered for a while, wrong ones never, and a new password counts at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from gateway.auth.credentials import Credentials
from gateway.auth.passwords import Passwords, Verdict
from gateway.errors import Unavailable


class Counting(Passwords):
    """Real hashes, counted; `hold` keeps the next ones waiting."""

    def __init__(self) -> None:
        super().__init__(memory_kibibytes=64, passes=1)
        self.checks = 0
        self.begun = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.failure: Exception | None = None

    async def verify(self, stored: str | None, password: str) -> Verdict:
        self.checks += 1
        self.begun.set()
        if self.hold:
            await self.hold.wait()
        if self.failure:
            raise self.failure
        return await super().verify(stored, password)


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def passwords() -> AsyncIterator[Counting]:
    counting = Counting()
    yield counting
    await counting.close()


async def test_a_right_password_is_hashed_once(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    for _ in range(5):
        assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    assert passwords.checks == 1


async def test_a_wrong_password_is_hashed_each_time_also_beside_a_remembered_right_one(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    for _ in range(3):
        assert not (await credentials.verify("notes", "ann", "letmeout", stored)).ok
    assert passwords.checks == 4


async def test_a_changed_password_counts_at_once(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    old, new = await passwords.hash_password("before"), await passwords.hash_password("after")
    assert (await credentials.verify("notes", "ann", "before", old)).ok
    assert not (await credentials.verify("notes", "ann", "before", new)).ok
    assert (await credentials.verify("notes", "ann", "after", new)).ok


async def test_a_deleted_user_is_refused_at_once(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    assert not (await credentials.verify("notes", "ann", "letmein", None)).ok


@pytest.mark.parametrize(
    ("realm", "name", "password"),
    [
        ("other", "ann", "letmein"),
        ("notes", "bob", "letmein"),
        ("note", "sann", "letmein"),
        ("notes", "annl", "etmein"),
    ],
)
async def test_what_is_remembered_belongs_to_one_user_of_one_database(
    passwords: Counting, realm: str, name: str, password: str
) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    await credentials.verify(realm, name, password, stored)
    assert passwords.checks == 2


async def test_it_is_forgotten_after_its_time_however_often_it_was_used(passwords: Counting) -> None:
    clock = Clock()
    credentials = Credentials(passwords, clock=clock, seconds=300)
    stored = await passwords.hash_password("letmein")
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    clock.now += 299.9
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    assert passwords.checks == 1
    clock.now += 0.1
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    assert passwords.checks == 2


async def test_only_the_latest_used_are_kept(passwords: Counting) -> None:
    credentials = Credentials(passwords, count=2)
    stored = await passwords.hash_password("letmein")
    for name in ("ann", "bob", "ann", "cid"):
        assert (await credentials.verify("notes", name, "letmein", stored)).ok
    assert passwords.checks == 3
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    assert passwords.checks == 3
    assert (await credentials.verify("notes", "bob", "letmein", stored)).ok
    assert passwords.checks == 4


async def test_logins_at_the_same_moment_share_one_hash(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    for password, ok in (("letmein", True), ("wrong", False)):
        passwords.checks = 0
        answers = await asyncio.gather(*(credentials.verify("notes", "ann", password, stored) for _ in range(50)))
        assert {answer.ok for answer in answers} == {ok}
        assert passwords.checks == 1


async def test_a_login_that_is_given_up_does_not_take_the_others_with_it(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    passwords.hold = asyncio.Event()
    first = asyncio.create_task(credentials.verify("notes", "ann", "letmein", stored))
    second = asyncio.create_task(credentials.verify("notes", "ann", "letmein", stored))
    await passwords.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    passwords.hold.set()
    assert (await second).ok
    assert passwords.checks == 1


async def test_a_failure_reaches_each_login_and_the_next_one_tries_again(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    passwords.failure = Unavailable()
    answers = await asyncio.gather(
        *(credentials.verify("notes", "ann", "letmein", stored) for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    passwords.failure = None
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok


async def test_a_hash_made_anew_is_remembered_without_another_check(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    credentials.remember("notes", "ann", "letmein", stored)
    assert (await credentials.verify("notes", "ann", "letmein", stored)).ok
    assert passwords.checks == 0


async def test_nothing_of_a_password_is_kept_in_readable_form(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    await credentials.verify("notes", "ann", "letmein", stored)
    assert "letmein" not in repr(vars(credentials))


async def test_the_end_waits_for_checks_under_way(passwords: Counting) -> None:
    credentials = Credentials(passwords)
    stored = await passwords.hash_password("letmein")
    passwords.hold = asyncio.Event()
    login = asyncio.create_task(credentials.verify("notes", "ann", "letmein", stored))
    await passwords.begun.wait()
    passwords.hold.set()
    await credentials.close()
    assert (await login).ok
