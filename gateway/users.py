"""The users of one database as they are now: who logs in, who may go on, as whom the sync function sees a writer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from gateway.auth.credentials import Credentials
from gateway.auth.sessions import Session
from gateway.callers import Caller
from gateway.errors import Forbidden, InvalidLogin, NotFound, SessionOver, Unauthorized
from gateway.model.names import GUEST
from gateway.model.routing import ADMIN, Writer
from gateway.store.protocol import DatabaseStore, Principal

_KEPT: Final = 10_000


class Users:
    """Keeps users in memory until `forget` says that they changed."""

    def __init__(
        self, database: str, store: DatabaseStore, credentials: Credentials, last_seq: Callable[[], int]
    ) -> None:
        """`last_seq` is that of the last publication; each one has to be followed by `forget`."""
        self._database = database
        self._store = store
        self._credentials = credentials
        self._last_seq = last_seq
        self._kept: dict[str, Principal | None] = {}

    def forget(self, names: Iterable[str]) -> None:
        """These users were changed."""
        for name in names:
            self._kept.pop(name, None)

    async def get(self, name: str) -> Principal | None:
        if name not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            before = self._last_seq()
            user = await self._store.principal("user", name)
            if before != self._last_seq():
                return user  # something was committed meanwhile, perhaps to this user: do not keep it
            self._kept[name] = user
        return self._kept[name]

    async def _enabled(self, name: str) -> Principal | None:
        user = await self.get(name)
        return None if user is None or user.properties.get("disabled") else user

    async def login(self, name: str, password: str) -> Caller:
        """The caller, or InvalidLogin (also for disabled and unknown users)."""
        user = await self.get(name) if name != GUEST else None
        stored = user.properties.get("password") if user is not None else None
        verdict = await self._credentials.verify(self._database, name, password, stored)
        if not verdict.ok or user is None or user.properties.get("disabled"):
            raise InvalidLogin
        return Caller(name, login_seq=user.login_seq)

    async def resume(self, session: Session) -> Caller:
        """Who a session is here. Raises SessionOver for one that is not, or not any more, a user of this database."""
        user = await self._enabled(session.name)
        if user is None or not session.holds(self._database, user.login_seq):
            raise SessionOver
        return Caller(session.name, login_seq=user.login_seq, session=session)

    async def without_password(self, name: str) -> Caller:
        """A user for whom an administrator makes a session. Raises NotFound; Forbidden for a disabled user."""
        user = await self.get(name) if name != GUEST else None
        if user is None:
            raise NotFound
        if user.properties.get("disabled"):
            raise Forbidden("the user is disabled")
        return Caller(name, login_seq=user.login_seq)

    async def guest(self) -> Caller:
        """The guest, or Unauthorized when the guest is disabled."""
        user = await self._enabled(GUEST)
        if user is None:
            raise Unauthorized
        return Caller(GUEST, login_seq=user.login_seq)

    async def session(self, caller: Caller) -> dict[str, Any]:
        """CouchDB's `_session` JSON with Sync Gateway's `channels` in `userCtx`."""
        context: dict[str, Any] = {"name": caller.admin, "roles": ["_admin"]}
        if caller.user is not None:
            user = await self.get(caller.user)
            context = {"name": None if caller.is_guest else caller.user, "roles": [], "channels": {}}
            if user is not None:
                context |= {"roles": sorted(user.roles), "channels": {"!": 1, **user.channels}}
        info: dict[str, Any] = {"authentication_handlers": ["cookie", "default"]}
        if not caller.is_guest:
            info["authenticated"] = "default" if caller.session is None else "cookie"
        return {"ok": True, "userCtx": context, "info": info}

    def validity(self, caller: Caller) -> Callable[[], Awaitable[None]]:
        """A check that the caller may go on: not deleted, disabled or with another password since the login (or the
        first check), and the session, if it was one, not over. It raises Unauthorized."""
        first: list[int] = [] if caller.login_seq is None else [caller.login_seq]
        session = caller.session

        async def check() -> None:
            if session is not None and session.over:
                raise SessionOver
            if caller.user is None:
                return
            user = await self._enabled(caller.user)
            if user is None:
                raise Unauthorized("the login is not valid any more")
            if not first:
                first.append(user.login_seq)
            elif first[0] != user.login_seq:  # another password, or disabled or deleted meanwhile
                raise Unauthorized("the login is not valid any more")
            if session is not None and not session.holds(self._database, user.login_seq):
                raise SessionOver

        return check

    async def writer(self, caller: Caller) -> Writer:
        """As whom the sync function sees the caller now. Raises InvalidLogin when the user is gone or disabled."""
        if caller.user is None:
            return ADMIN
        user = await self._enabled(caller.user)
        if user is None:
            raise InvalidLogin
        name = None if caller.is_guest else caller.user
        return Writer(name, channels=frozenset(user.channels), roles=user.roles)
