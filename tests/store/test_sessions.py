"""Sessions in the store, and the sequence at which a user's logins end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from gateway import limits
from gateway.errors import Unavailable
from gateway.store.protocol import DatabaseStore, MetadataStore, PrincipalChange, StoredSession
from tests.store.conftest import Opener
from tests.store.telling import put_user


def session(number: int, until: float = 1_000.0, **logins: int) -> StoredSession:
    return StoredSession(bytes([number]) * 32, "ann", logins or {"notes": 1}, 600.0, until)


async def stored(store: MetadataStore, sessions: Iterable[StoredSession]) -> set[int]:
    """The numbers of those that are there."""
    return {one.token[0] for one in sessions if await store.sessions.find(one.token) is not None}


async def login_seq(db: DatabaseStore, name: str = "ann") -> int:
    found = await db.principal("user", name)
    assert found is not None
    return found.login_seq


async def change(db: DatabaseStore, **properties: Any) -> int:
    await db.put_principal("user", "ann", PrincipalChange(properties))
    return await login_seq(db)


async def test_logins_end_with_the_password_with_being_disabled_and_with_being_created_again(
    db: DatabaseStore,
) -> None:
    created = await change(db, password="one")
    assert created > 0
    assert await change(db, email="ann@x.org") == created
    await db.put_principal("user", "ann", PrincipalChange({}, ["A"], ["r"]))
    assert await login_seq(db) == created
    other_password = await change(db, password="two")
    assert other_password > created
    disabled = await change(db, disabled=True)
    assert disabled > other_password
    assert await change(db, disabled=None) == disabled, "who is let in again is not whom the old logins were"
    await db.delete_principal("user", "ann")
    assert await change(db, password="two") > disabled


async def test_a_session_is_found_as_it_was_stored(store: MetadataStore) -> None:
    notes, other = await store.database("notes"), await store.database("other")
    await put_user(notes, "ann")
    await put_user(other, "ann")
    made = session(1, notes=3, other=7)
    assert await store.sessions.create(made, 0) == []
    assert await store.sessions.find(made.token) == made
    assert await store.sessions.find(b"\x02" * 32) is None
    await store.sessions.delete(made.token)
    assert await store.sessions.find(made.token) is None
    await store.sessions.delete(made.token)


async def test_what_is_not_known_is_left_out_of_a_session(db: DatabaseStore, store: MetadataStore) -> None:
    await put_user(db, "ann")
    made = session(1, notes=1, nowhere=1)
    await store.database("empty")
    await store.sessions.create(replace(made, logins={**made.logins, "empty": 1}), 0)
    found = await store.sessions.find(made.token)
    assert found is not None
    assert found.logins == {"notes": 1}


async def test_a_session_is_renewed_unless_it_ended(db: DatabaseStore, store: MetadataStore) -> None:
    await put_user(db, "ann")
    one, gone = session(1), session(2)
    await store.sessions.create(one, 0)
    await store.sessions.renew({one.token: 2_000.0, gone.token: 2_000.0})
    assert await store.sessions.find(one.token) == replace(one, expires_at=2_000.0)
    assert await store.sessions.find(gone.token) is None


async def test_one_session_too_many_of_a_user_ends_the_one_with_the_least_time_left(
    db: DatabaseStore, store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSIONS_OF_USER_COUNT", 3)
    await put_user(db, "ann")
    await put_user(db, "bob")
    sessions = [session(number, until) for number, until in ((1, 50.0), (2, 30.0), (3, 40.0), (4, 90.0), (5, 10.0))]
    bobs = replace(session(9, 5.0), name="bob")
    await store.sessions.create(bobs, 0)
    ended = [await store.sessions.create(one, 0) for one in sessions]
    assert ended == [[], [], [], [sessions[1].token], [sessions[2].token]]
    assert await stored(store, [*sessions, bobs]) == {1, 4, 5, 9}


async def test_at_the_limit_of_all_sessions_those_that_are_over_make_room_and_no_other(
    db: DatabaseStore, store: MetadataStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSIONS_COUNT", 3)
    await put_user(db, "ann")
    sessions = [session(number, number * 10.0) for number in range(1, 6)]
    for one in sessions[:3]:
        await store.sessions.create(one, 0)
    with pytest.raises(Unavailable):
        await store.sessions.create(sessions[3], 10.0)
    assert await stored(store, sessions) == {1, 2, 3}
    await store.sessions.create(sessions[3], 25.0)
    assert await stored(store, sessions) == {3, 4}


async def test_what_is_over_is_removed_a_few_at_a_time(db: DatabaseStore, store: MetadataStore) -> None:
    await put_user(db, "ann")
    sessions = [session(number, number * 10.0) for number in range(1, 6)]
    for one in sessions:
        await store.sessions.create(one, 0)
    assert await store.sessions.forget_expired(35.0, 2) == 2
    assert await stored(store, sessions) == {3, 4, 5}
    assert await store.sessions.forget_expired(35.0, 2) == 1
    assert await store.sessions.forget_expired(35.0, 2) == 0
    assert await stored(store, sessions) == {4, 5}


async def test_logins_to_one_database_are_ended_and_others_are_not(store: MetadataStore) -> None:
    for name in ("notes", "other"):
        for user in ("ann", "bob"):
            await put_user(await store.database(name), user)
    both, one = session(1, notes=1, other=1), session(2, notes=1)
    bobs = replace(session(3), name="bob")
    for made in (both, one, bobs):
        await store.sessions.create(made, 0)
    assert await store.sessions.end_logins("notes", "ann", bobs.token) == []
    assert set(await store.sessions.end_logins("notes", "ann")) == {both.token, one.token}
    assert await store.sessions.end_logins("notes", "ann") == []
    assert await store.sessions.end_logins("nowhere", "ann") == []
    assert [(await store.sessions.find(made.token)) for made in (both, one, bobs)] == [
        replace(both, logins={"notes": 0, "other": 1}),
        replace(one, logins={"notes": 0}),
        bobs,
    ]
    assert await store.sessions.end_logins("other", "ann", both.token) == [both.token]


async def test_the_databases_of_a_name_are_those_where_it_is_a_user_now(store: MetadataStore) -> None:
    assert await store.sessions.most_databases_of_a_user() == 0
    for name in ("b", "a", "c"):
        db = await store.database(name)
        await put_user(db, "ann")
        await put_user(db, "GUEST")
        await db.put_principal("role", "bob", PrincipalChange())
    await put_user(await store.database("a"), "bob")
    await (await store.database("c")).delete_principal("user", "ann")
    assert await store.sessions.databases_of("ann") == ["a", "b"]
    assert await store.sessions.databases_of("bob") == ["a"]
    assert await store.sessions.databases_of("nobody") == []
    assert await store.sessions.most_databases_of_a_user() == 2


async def test_sessions_are_there_when_the_store_is_opened_again(open_store: Opener) -> None:
    store = await open_store()
    await put_user(await store.database("notes"), "ann")
    made = session(1)
    await store.sessions.create(made, 0)
    await store.sessions.renew({made.token: 5_000.0})
    await store.close()
    store = await open_store()
    assert await store.sessions.find(made.token) == replace(made, expires_at=5_000.0)
    assert await login_seq(await store.database("notes")) == 1
    await store.close()
