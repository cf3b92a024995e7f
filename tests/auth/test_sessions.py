"""Sessions: found without a read of the store, renewed as CouchDB does, over at once and everywhere."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import limits
from gateway.auth.sessions import Session, Sessions
from gateway.store.protocol import PrincipalChange, SessionStore, StoredSession
from gateway.store.sqlite import SqliteStore


@dataclass
class Watched:
    """The real store, its reads counted; `hold` keeps an answer back that was read already."""

    inner: SessionStore
    reads: int = 0
    read: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None
    renewed: list[Mapping[bytes, float]] = field(default_factory=list)

    async def create(self, session: StoredSession, now: float) -> list[bytes]:
        return await self.inner.create(session, now)

    async def find(self, token: bytes) -> StoredSession | None:
        self.reads += 1
        found = await self.inner.find(token)
        self.read.set()
        if self.hold is not None:
            hold, self.hold = self.hold, None
            await hold.wait()
        return found

    async def renew(self, until: Mapping[bytes, float]) -> None:
        self.renewed.append(dict(until))
        await self.inner.renew(until)

    async def delete(self, token: bytes) -> None:
        await self.inner.delete(token)

    async def end_logins(self, database: str, user: str, token: bytes | None = None) -> list[bytes]:
        return await self.inner.end_logins(database, user, token)

    async def forget_expired(self, before: float, limit: int) -> int:
        return await self.inner.forget_expired(before, limit)

    async def databases_of(self, user: str) -> list[str]:
        return await self.inner.databases_of(user)

    async def most_databases_of_a_user(self) -> int:
        return await self.inner.most_databases_of_a_user()


class Place:
    """Sessions with a clock that stands still, over a store with the user `ann` in `notes` and `other`."""

    def __init__(self, store: Watched) -> None:
        self.store = store
        self.now = 1_000.0
        self.ended: list[Session] = []
        self.sessions = self.opened()

    def opened(self, *, kept: int = 100) -> Sessions:
        """As after a restart."""
        self.sessions = Sessions(self.store, ttl_s=600, clock=lambda: self.now, ended=self.ended.append, kept=kept)
        return self.sessions

    async def made(self, **logins: int) -> tuple[str, Session]:
        return await self.sessions.create("ann", logins or {"notes": 1})


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = SqliteStore(tmp_path / "metadata.db")
    for name in ("notes", "other"):
        await (await store.database(name)).put_principal("user", "ann", PrincipalChange({"password": "x"}))
    yield Place(Watched(store.sessions))
    await store.close()


async def test_a_session_in_use_costs_no_read_of_the_store(place: Place) -> None:
    token, session = await place.made()
    for _ in range(5):
        assert await place.sessions.find(token) is session
    assert place.store.reads == 0
    place.opened()
    found = await place.sessions.find(token)
    assert found is not None
    assert (found.name, found.logins, found.expires_at, found.admin) == ("ann", {"notes": 1}, 1_600.0, False)
    assert await place.sessions.find(token) is found
    assert place.store.reads == 1


async def test_the_store_has_no_token_only_its_hash(place: Place) -> None:
    token, session = await place.made()
    assert len(token) == 43  # 256 bits
    assert session.token == hashlib.sha256(token.encode()).digest()
    other, _ = await place.made()
    assert other != token


@pytest.mark.parametrize("token", ["", "x", "a" * 42, "a" * 44, "a" * 42 + "=", "ä" * 43, "a" * 42 + "\n", "a" * 9_000])
async def test_what_cannot_be_a_token_is_not_even_looked_up(place: Place, token: str) -> None:
    assert await place.sessions.find(token) is None
    assert place.store.reads == 0


async def test_a_token_that_was_never_given_out_is_nobody(place: Place) -> None:
    assert await place.sessions.find("a" * 43) is None


async def test_a_session_is_over_when_its_time_is(place: Place) -> None:
    token, session = await place.made()
    place.now += 599.9
    assert await place.sessions.find(token) is session
    place.now += 0.1
    assert await place.sessions.find(token) is None
    assert session.over
    assert place.ended == [session]
    place.opened()
    assert await place.sessions.find(token) is None


async def test_the_sweep_ends_those_whose_time_is_over_and_tells_it(place: Place) -> None:
    _, first = await place.made()
    place.now += 300
    _, second = await place.made()
    place.now += 300
    place.sessions.renew(second)
    place.sessions.sweep()
    assert (place.ended, second.over) == ([first], False)
    place.now += 599
    place.sessions.sweep()
    assert not second.over
    place.now += 1
    place.sessions.sweep()
    assert place.ended == [first, second]


async def test_it_is_renewed_when_a_tenth_of_its_time_is_used_as_in_couchdb(place: Place) -> None:
    token, session = await place.made()
    place.now += 60
    assert not place.sessions.renew(session)
    place.now += 1
    assert place.sessions.renew(session)
    assert session.expires_at == place.now + 600
    assert not place.sessions.renew(session)
    place.now += 599
    assert await place.sessions.find(token) is session


async def test_renewals_are_stored_together_and_outlive_a_restart(place: Place) -> None:
    (one, first), (two, second) = await place.made(), await place.made()
    place.now += 100
    assert place.sessions.renew(first)
    assert place.sessions.renew(second)
    assert place.store.renewed == []
    await place.sessions.close()
    assert [set(batch) for batch in place.store.renewed] == [{first.token, second.token}]
    place.opened()
    place.now += 599
    assert await place.sessions.find(one) is not None
    assert await place.sessions.find(two) is not None


async def test_a_renewal_that_is_not_stored_yet_counts_for_one_who_was_forgotten_meanwhile(place: Place) -> None:
    sessions = place.opened(kept=1)
    token, session = await place.made()
    place.now += 500
    assert sessions.renew(session)
    del session
    await place.made()  # takes the only place
    place.now += 200
    found = await sessions.find(token)
    assert found is not None
    assert place.store.reads == 1
    assert found.expires_at == place.now + 400


async def test_whoever_holds_a_session_sees_its_end_also_when_it_was_pushed_out_of_memory(place: Place) -> None:
    sessions = place.opened(kept=1)
    token, session = await place.made()
    await place.made()
    assert await sessions.find(token) is session
    await sessions.end(session)
    assert session.over
    assert await sessions.find(token) is None


async def test_logging_out_ends_it_here_and_in_the_store(place: Place) -> None:
    token, session = await place.made()
    await place.sessions.end(session)
    assert (session.over, place.ended) == (True, [session])
    assert not session.holds("notes", 1)
    assert await place.sessions.find(token) is None
    place.opened()
    assert await place.sessions.find(token) is None


async def test_a_session_that_ends_while_it_is_read_is_not_brought_back(place: Place) -> None:
    token, session = await place.made()
    place.opened()
    place.store.hold = hold = asyncio.Event()
    reading = asyncio.create_task(place.sessions.find(token))
    await place.store.read.wait()
    await place.sessions.end(session)
    hold.set()
    assert await reading is None
    assert await place.sessions.find(token) is None


async def test_two_requests_that_read_it_at_once_have_the_same(place: Place) -> None:
    token, _ = await place.made()
    place.opened()
    first, second = await asyncio.gather(place.sessions.find(token), place.sessions.find(token))
    assert first is second


async def test_it_ends_in_one_database_and_goes_on_in_another(place: Place) -> None:
    token, session = await place.made(notes=1, other=1)
    assert session.holds("notes", 1)
    assert not session.holds("notes", 2), "the user has another password since"
    assert not session.holds("elsewhere", 1)
    assert await place.sessions.end_logins("notes", "ann") == 1
    assert (session.holds("notes", 1), session.holds("other", 1), session.over) == (False, True, False)
    assert place.ended == [session]
    place.opened()
    again = await place.sessions.find(token)
    assert again is not None
    assert again.logins == {"notes": 0, "other": 1}
    assert await place.sessions.end_logins("notes", "ann") == 0


async def test_one_of_several_sessions_is_ended_by_its_token(place: Place) -> None:
    (one, first), (_, second) = await place.made(), await place.made()
    assert await place.sessions.end_logins("notes", "ann", one) == 1
    assert await place.sessions.end_logins("notes", "bob", one) == 0
    assert (first.holds("notes", 1), second.holds("notes", 1)) == (False, True)


async def test_a_session_that_made_room_for_another_is_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_OF_USER_COUNT", 2)
    made = []
    for _ in range(3):
        made.append(await place.made())
        place.now += 1
    assert [session.over for _, session in made] == [True, False, False]
    assert await place.sessions.find(made[0][0]) is None


async def test_an_admins_session_is_never_stored_and_ends_with_the_process(place: Place) -> None:
    token, session = place.sessions.create_admin("ops")
    assert await place.sessions.find(token) is session
    place.now += 100
    assert place.sessions.renew(session)
    await place.sessions.close()
    assert (place.store.reads, place.store.renewed) == (0, [])
    place.opened()
    assert await place.sessions.find(token) is None


async def test_one_session_of_an_admin_too_many_ends_the_oldest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_OF_ADMINS_COUNT", 2)
    made = [place.sessions.create_admin("ops") for _ in range(3)]
    assert [session.over for _, session in made] == [True, False, False]


async def test_a_session_of_a_user_of_no_database_is_like_an_admins_in_memory_only_and_of_these_users_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MEMBERLESS_COUNT", 2)
    _, of_admin = place.sessions.create_admin("ops")
    made = [place.sessions.create_memberless("bob", "hash") for _ in range(3)]
    assert [session.over for _, session in made] == [True, False, False]
    assert not of_admin.over
    token, session = made[-1]
    place.now += 100
    assert place.sessions.renew(session)
    assert await place.sessions.find(token) is session
    await place.sessions.end(session)
    assert await place.sessions.find(token) is None
    await place.sessions.close()
    assert place.store.renewed == []


async def test_a_session_has_a_time_of_its_own_where_it_was_given_one(place: Place) -> None:
    token, session = await place.sessions.create("ann", {"notes": 1}, ttl_s=5_000)
    place.opened()
    place.now += 4_999
    found = await place.sessions.find(token)
    assert found is not None
    assert place.sessions.renew(found)
    assert found.expires_at == place.now + 5_000
    assert session.expires_at == 6_000.0


async def test_the_housekeeping_ends_stores_and_removes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_SWEEP_SECONDS", 0.001)
    (_, over), (_, renewed) = await place.made(), await place.made()
    place.now += 500
    place.sessions.renew(renewed)
    place.now += 101
    place.sessions.start()
    async with asyncio.timeout(10):
        while not place.ended or await place.store.inner.find(over.token) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert place.ended == [over]
    assert [set(batch) for batch in place.store.renewed] == [{renewed.token}]
    await place.sessions.close()
