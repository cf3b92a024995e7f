"""Logging in to every database at once: where the name and the password are right, at the same cost for every name."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from gateway.callers import Caller
from gateway.database import Database
from gateway.errors import InvalidLogin, Unavailable
from gateway.logins import Logins
from gateway.store.protocol import PrincipalChange
from gateway.store.sqlite import SqliteStore

LETTERS = "abcdefg"


class Tried:
    """What passwords were checked, where: `-` for one that cannot be right."""

    def __init__(self) -> None:
        self.names = ""
        self.full = False

    async def refuse(self, name: str, password: str) -> None:
        self.names += "-"

    def database(self, name: str, right: dict[str, str]) -> Database:
        tried = self

        class One:
            async def login(self, user: str, password: str) -> Caller:
                if tried.full:
                    raise Unavailable
                tried.names += name
                if right.get(user) != password:
                    raise InvalidLogin
                return Caller(user, login_seq=1)

        One.name = name  # type: ignore[attr-defined]
        return cast("Database", One())


async def _open(directory: Path, users: dict[str, dict[str, str]], most: int) -> tuple[SqliteStore, Logins, Tried]:
    """`users`: database → name → password."""
    store, tried, databases = SqliteStore(directory / "metadata.db"), Tried(), {}
    for name, of_database in users.items():
        db = await store.database(name)
        await db.put_principal("user", "GUEST", PrincipalChange())
        for user in of_database:
            await db.put_principal("user", user, PrincipalChange({"password": "x"}))
        databases[name] = tried.database(name, of_database)
    return store, Logins(store.sessions, databases, tried.refuse, most=most), tried


async def test_a_login_is_to_every_database_where_it_is_right(tmp_path: Path) -> None:
    users = {"a": {"ann": "one"}, "b": {"ann": "two"}, "c": {"ann": "one"}, "d": {"bob": "one"}}
    store, logins, _ = await _open(tmp_path, users, 20)
    assert [database.name for database, _ in await logins.login("ann", "one")] == ["a", "c"]
    assert [database.name for database, _ in await logins.login("ann", "two")] == ["b"]
    assert [caller.user for _, caller in await logins.login("bob", "one")] == ["bob"]
    assert await logins.login("ann", "three") == []
    assert await logins.login("nobody", "one") == []
    await store.close()


@pytest.mark.parametrize("name", ["ann", "bob", "nobody", "GUEST", "with a space", ""])
async def test_every_name_and_password_costs_the_same(tmp_path: Path, name: str) -> None:
    users = {"a": {"ann": "one"}, "b": {"ann": "two", "bob": "one"}, "c": {"ann": "one"}, "d": {}}
    store, logins, tried = await _open(tmp_path, users, 20)
    for password in ("one", "two", "wrong"):
        tried.names = ""
        await logins.login(name, password)
        assert len(tried.names) == 3
    await store.close()


async def test_a_login_costs_no_more_than_some_databases(tmp_path: Path) -> None:
    store, logins, tried = await _open(tmp_path, {letter: {"ann": letter} for letter in LETTERS}, 3)
    assert [database.name for database, _ in await logins.login("ann", "c")] == ["c"]
    assert await logins.login("ann", "d") == []
    assert tried.names == "abcabc"
    await store.close()


async def test_names_that_are_in_one_database_each_cost_one_hash(tmp_path: Path) -> None:
    store, logins, tried = await _open(tmp_path, {letter: {f"of-{letter}": "x"} for letter in LETTERS}, 20)
    await logins.login("of-c", "x")
    await logins.login("nobody", "x")
    assert tried.names == "c-"
    await store.close()


async def test_without_a_database_a_login_takes_as_long_as_a_wrong_one(tmp_path: Path) -> None:
    store, logins, tried = await _open(tmp_path, {}, 20)
    assert await logins.login("ann", "x") == []
    assert tried.names == "-"
    await store.close()


async def test_a_database_that_is_not_served_is_not_tried(tmp_path: Path) -> None:
    store, logins, tried = await _open(tmp_path, {"a": {"ann": "x"}}, 20)
    await (await store.database("gone")).put_principal("user", "ann", PrincipalChange({"password": "x"}))
    assert [database.name for database, _ in await logins.login("ann", "x")] == ["a"]
    assert tried.names == "a-"
    await store.close()


async def test_too_many_logins_at_once_are_no_wrong_login(tmp_path: Path) -> None:
    store, logins, tried = await _open(tmp_path, {"a": {"ann": "x"}}, 20)
    tried.full = True
    with pytest.raises(Unavailable):
        await logins.login("ann", "x")
    await store.close()
