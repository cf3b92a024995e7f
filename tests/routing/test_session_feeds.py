"""Feeds opened with a session: they end with it, whatever ends it, and those of other sessions go on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.auth.sessions import Session, Sessions
from gateway.callers import Caller, administrator
from gateway.errors import InvalidLogin, SessionOver, Unauthorized
from gateway.store.protocol import PrincipalChange
from tests.routing.following import Follower
from tests.routing.world import ADMIN, World

Follow = Callable[..., Follower]


class Place:
    """The world's user `ann`, and sessions with a clock that stands still."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 1_000.0
        self.sessions = Sessions(world._metadata.sessions, clock=lambda: self.now, ended=self._ended)

    def _ended(self, session: Session) -> None:
        self.world.database.session_ended(None if session.admin else session.name)

    async def log_in(self) -> Caller:
        found = await self.world.store.principal("user", "ann")
        assert found is not None
        _, session = await self.sessions.create("ann", {"notes": found.login_seq})
        return await self.world.database.resume(session)

    async def change(self, **properties: Any) -> None:
        await self.world.store.put_principal("user", "ann", PrincipalChange(properties))


@pytest.fixture
async def place(world: World) -> Place:
    await world.user("ann", ["a"])
    return Place(world)


@pytest.fixture
async def follow(world: World) -> AsyncIterator[Follow]:
    started: list[Follower] = []

    def start(caller: Caller, **query: Any) -> Follower:
        started.append(Follower(world, caller, **{"feed": "continuous", "heartbeat_s": 600.0, **query}))
        return started[-1]

    yield start
    for follower in started:
        await follower.stop()


def session_of(caller: Caller) -> Session:
    assert caller.session is not None
    return caller.session


async def _logout(place: Place, caller: Caller) -> None:
    await place.sessions.end(session_of(caller))


async def _time_over(place: Place, caller: Caller) -> None:
    place.now = session_of(caller).expires_at
    place.sessions.sweep()


async def _by_the_admin(place: Place, caller: Caller) -> None:
    await place.sessions.end_logins("notes", "ann")


async def _password(place: Place, caller: Caller) -> None:
    await place.change(password="another")


async def _disabled(place: Place, caller: Caller) -> None:
    await place.change(disabled=True)


async def _disabled_for_a_moment(place: Place, caller: Caller) -> None:
    await place.change(disabled=True)
    await place.change(disabled=None)


async def _created_again(place: Place, caller: Caller) -> None:
    await place.world.store.delete_principal("user", "ann")
    await place.world.user("ann", ["a"])


ENDS = [_logout, _time_over, _by_the_admin, _password, _disabled, _disabled_for_a_moment, _created_again]


@pytest.mark.parametrize("feed", ["continuous", "longpoll"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.strip("_"))
async def test_a_waiting_feed_ends_at_once_with_its_session(
    place: Place, follow: Follow, end: Callable[[Place, Caller], Awaitable[None]], feed: str
) -> None:
    caller = await place.log_in()
    feed_of_session = follow(caller, feed=feed)
    await feed_of_session.waits()
    await end(place, caller)
    with pytest.raises(Unauthorized):
        await feed_of_session.end()
    with pytest.raises(SessionOver):
        await place.world.database.resume(session_of(caller))


async def test_another_session_of_the_user_and_a_login_by_password_go_on(place: Place, follow: Follow) -> None:
    first, second, by_password = await place.log_in(), await place.log_in(), Caller("ann")
    feeds = [follow(second), follow(by_password)]
    ended = follow(first)
    for feed in (*feeds, ended):
        await feed.waits()
    await place.sessions.end(session_of(first))
    with pytest.raises(SessionOver):
        await ended.end()
    await place.world.write(ADMIN, "d", channels=["a"])
    for feed in feeds:
        await feed.sees("d")


async def test_the_feed_of_an_admins_session_ends_with_it_and_others_go_on(place: Place, follow: Follow) -> None:
    _, session = place.sessions.create_admin("ops")
    feed, other = follow(administrator("ops", session)), follow(ADMIN)
    await feed.waits()
    await other.waits()
    await place.sessions.end(session)
    with pytest.raises(SessionOver):
        await feed.end()
    await place.world.write(ADMIN, "d", channels=["a"])
    await other.sees("d")


async def test_a_session_that_ends_while_its_feed_reads_is_noticed_before_the_feed_waits(
    place: Place, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await place.log_in()
    store, real = place.world.database._store, place.world.database._store.read
    ended = False

    async def read(function: Callable[..., Any]) -> Any:
        nonlocal ended
        found = await real(function)
        if not ended:
            ended = True
            await place.sessions.end(session_of(caller))
        return found

    monkeypatch.setattr(store, "read", read)
    with pytest.raises(SessionOver):
        await follow(caller).end()


async def test_a_feed_opened_by_a_login_before_the_password_changed_does_not_begin(place: Place) -> None:
    caller = await place.log_in()
    await place.change(password="another")
    with pytest.raises(Unauthorized):
        await anext(aiter(place.world.feed(Caller("ann", login_seq=caller.login_seq)).events()))


async def test_a_renewed_session_keeps_its_feed(place: Place, follow: Follow) -> None:
    caller = await place.log_in()
    feed = follow(caller)
    await feed.waits()
    place.now += 599
    assert place.sessions.renew(session_of(caller))
    place.now += 300
    place.sessions.sweep()
    await place.world.write(ADMIN, "d", channels=["a"])
    await feed.sees("d")


async def test_who_is_not_there_or_disabled_gets_no_session_from_an_admin(place: Place) -> None:
    assert await place.world.database.without_password("ann") == Caller("ann")
    await place.change(disabled=True)
    for name, status in (("ann", 403), ("bob", 404), ("GUEST", 404)):
        with pytest.raises(Exception, match=r"disabled|missing") as raised:
            await place.world.database.without_password(name)
        assert getattr(raised.value, "status", None) == status
    with pytest.raises(InvalidLogin):
        await place.world.database.login("ann", "x")
