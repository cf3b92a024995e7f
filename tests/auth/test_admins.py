"""Server admins."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from argon2 import PasswordHasher
from pydantic import SecretStr

from gateway.auth.admins import Admins
from gateway.auth.credentials import Credentials
from gateway.auth.passwords import Passwords

HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("by-hash")


@pytest.fixture
async def credentials() -> AsyncIterator[Credentials]:
    passwords = Passwords(memory_kibibytes=64, passes=1)
    yield Credentials(passwords)
    await passwords.close()


async def test_the_configured_password_lets_its_admin_in(credentials: Credentials) -> None:
    admins = Admins({"ops": SecretStr("caf\u00e9"), "eva": SecretStr("other")}, credentials)
    assert await admins.check("ops", "caf\u00e9")
    assert await admins.check("ops", "cafe\u0301")
    assert not await admins.check("ops", "other")
    assert not await admins.check("ops", "")
    assert not await admins.check("nobody", "other")


async def test_a_configured_hash_stands_for_its_password_and_is_none_itself(credentials: Credentials) -> None:
    admins = Admins({"ops": SecretStr(HASH), "eva": SecretStr("plain")}, credentials)
    assert await admins.check("ops", "by-hash")
    assert not await admins.check("ops", HASH)
    assert await admins.check("eva", "plain")
    assert not await admins.check("eva", "by-hash")
    assert not await admins.check("nobody", "by-hash")


async def test_every_refusal_costs_a_hash_as_soon_as_one_admin_has_one(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    admins = Admins({"ops": SecretStr(HASH), "eva": SecretStr("plain")}, credentials)
    checked: list[str] = []
    really = PasswordHasher.verify

    def counted(self: PasswordHasher, stored: str, password: bytes) -> bool:
        checked.append(stored)
        return really(self, stored, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for name in ("ops", "eva", "nobody"):
        assert not await admins.check(name, "wrong")
    assert len(checked) == 3


async def test_without_admins_nobody_is_one(credentials: Credentials) -> None:
    admins = Admins({}, credentials)
    assert not admins
    assert not await admins.check("ops", "")
    assert Admins({"ops": SecretStr("abc")}, credentials)


async def test_no_password_is_kept_readable(credentials: Credentials) -> None:
    assert "topsecret" not in repr(vars(Admins({"ops": SecretStr("topsecret")}, credentials)))
