"""Hashing: argon2id, off the event loop, bounded."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from gateway import limits
from gateway.auth import passwords as module
from gateway.auth.passwords import Passwords, Verdict
from gateway.errors import BadRequest, Unavailable


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    cheap = Passwords(memory_kibibytes=64, passes=1)
    yield cheap
    await cheap.close()


async def test_a_hash_is_argon2id_with_todays_parameters_and_its_own_salt() -> None:
    passwords = Passwords()
    one, two = await passwords.hash_password("letmein"), await passwords.hash_password("letmein")
    assert one.startswith(f"$argon2id$v=19$m={limits.HASH_MEMORY_KIBIBYTES},t={limits.HASH_PASSES_COUNT},p=1$")
    assert one != two
    assert await passwords.verify(one, "letmein") == Verdict(True)
    await passwords.close()


async def test_only_the_right_password_is_accepted(passwords: Passwords) -> None:
    stored = await passwords.hash_password("letmein")
    assert (await passwords.verify(stored, "letmein")).ok
    assert not (await passwords.verify(stored, "letmeinn")).ok
    assert not (await passwords.verify(stored, "")).ok


async def test_a_password_is_the_same_however_its_accents_are_composed(passwords: Passwords) -> None:
    stored = await passwords.hash_password("caf\u00e9")
    assert (await passwords.verify(stored, "cafe\u0301")).ok


@pytest.mark.parametrize("password", ["", "ab", "x" * 1_025, "abc\ud800"])
async def test_what_cannot_be_a_password_is_not_hashed(passwords: Passwords, password: str) -> None:
    with pytest.raises(BadRequest):
        await passwords.hash_password(password)


async def test_a_password_over_the_limit_never_reaches_the_hash(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await passwords.hash_password("letmein")

    def fail(*_: object) -> bool:
        raise AssertionError("hashed")

    monkeypatch.setattr(PasswordHasher, "verify", fail)
    assert not (await passwords.verify(stored, "x" * (limits.PASSWORD_CHARACTERS + 1))).ok


async def test_an_unknown_user_costs_one_hash_and_is_refused(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    really = PasswordHasher.verify

    def counted(self: PasswordHasher, stored: str, password: bytes) -> bool:
        checked.append(stored)
        return really(self, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    assert await passwords.verify(None, "letmein") == Verdict(False)
    assert await passwords.verify(None, "nobody has this password") == Verdict(False)
    assert len(checked) == 2
    assert checked[0].startswith("$argon2id$v=19$m=64,t=1,p=1$")


async def test_a_hash_with_older_parameters_asks_to_be_made_anew(passwords: Passwords) -> None:
    older = PasswordHasher(time_cost=1, memory_cost=32, parallelism=1).hash("letmein")
    assert await passwords.verify(older, "letmein") == Verdict(True, rehash=True)
    assert await passwords.verify(older, "wrong") == Verdict(False)


async def test_a_malformed_hash_lets_nobody_in_and_is_logged(
    passwords: Passwords, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert not (await passwords.verify("$argon2id$nonsense", "letmein")).ok
        assert not (await passwords.verify("", "letmein")).ok
    assert "malformed" in caplog.text
    assert "letmein" not in caplog.text


async def test_no_memory_for_a_hash_is_no_wrong_password(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object) -> bool:
        raise VerificationError("Memory allocation error")

    monkeypatch.setattr(PasswordHasher, "verify", no_memory)
    with pytest.raises(Unavailable):
        await passwords.verify(STORED, "letmein")
    assert "Memory allocation error" in caplog.text


class Gate:
    """Holds each check in its thread until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.inside = 0
        self.most_inside = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(PasswordHasher, "verify", self._verify)

    def _verify(self, *_: object) -> bool:
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        self.entered.release()
        assert self.opened.wait(30)
        with self._lock:
            self.inside -= 1
        return True


STORED = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("letmein")


async def test_few_hashes_run_at_once_few_wait_and_the_rest_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(monkeypatch)
    passwords = Passwords(memory_kibibytes=64, passes=1, at_once=2, waiting=3)
    admitted = [asyncio.create_task(passwords.verify(STORED, "letmein")) for _ in range(5)]
    for _ in range(2):
        assert await asyncio.to_thread(gate.entered.acquire, timeout=30)
    with pytest.raises(Unavailable) as refused:
        await passwords.verify(STORED, "letmein")
    assert refused.value.status == 503
    gate.opened.set()
    assert all(verdict.ok for verdict in await asyncio.gather(*admitted))
    assert gate.most_inside == 2
    assert (await passwords.verify(STORED, "letmein")).ok, "the places are free again"
    await passwords.close()


async def test_the_event_loop_goes_on_while_a_hash_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    passwords = Passwords(memory_kibibytes=64, passes=1)
    login = asyncio.create_task(passwords.verify(STORED, "letmein"))
    assert await asyncio.to_thread(gate.entered.acquire, timeout=30)
    assert not login.done()
    gate.opened.set()
    assert (await login).ok
    await passwords.close()


async def test_a_login_that_was_given_up_keeps_its_place_until_its_hash_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(monkeypatch)
    passwords = Passwords(memory_kibibytes=64, passes=1, at_once=1, waiting=0)
    login = asyncio.create_task(passwords.verify(STORED, "letmein"))
    assert await asyncio.to_thread(gate.entered.acquire, timeout=30)
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    with pytest.raises(Unavailable):
        await passwords.verify(STORED, "letmein")
    gate.opened.set()
    await passwords.close()


async def test_after_the_end_logins_are_refused_not_crashed() -> None:
    passwords = Passwords(memory_kibibytes=64, passes=1)
    await passwords.close()
    for _ in range(limits.HASHES_WAITING_COUNT + limits.HASHES_AT_ONCE_COUNT + 1):
        with pytest.raises(Unavailable):
            await passwords.verify(STORED, "letmein")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: PasswordHasher().hash("letmein"), None),
        (lambda: "$argon2id$", "begins as an argon2 hash but is none"),
        (lambda: STORED.replace("argon2id", "argon2d"), "must be a hash of the argon2id kind"),
    ],
)
def test_a_configured_hash_is_one_of_argon2id(make: Callable[[], str], problem: str | None) -> None:
    assert module.configured_hash_problem(make()) == problem
