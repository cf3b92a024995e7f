"""Sessions: what stands behind the cookie of a client that logged in.

A token is 256 random bits; only its SHA-256 is kept. Sessions of users are in the metadata store and outlive a restart,
those of server admins, and of users of the server who are of no database, are in memory only. A session in use costs no
read of the store.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final
from weakref import WeakValueDictionary

from gateway import limits
from gateway.store.protocol import SessionStore, StoredSession

_log = logging.getLogger(__name__)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}\Z")
# With less than this left a session in use is prolonged, as CouchDB does (couch_httpd_auth): not for each request.
_RENEWED_SHARE: Final = 0.9


class Session:
    """One login that goes on. There is one object for one token, so who holds it sees its end.

    `logins`: for each database in which it is a user, the user's login_seq it was made at. `admin`: it is a server
    admin. `password_hash`: it is a user of the server who was of no database, with the password of this hash.
    `own_hash`: that of a user of the server who is of a database, and may go to his own document in `_users` until this
    object is forgotten.
    """

    __slots__ = (
        "__weakref__",
        "admin",
        "expires_at",
        "logins",
        "name",
        "over",
        "own_hash",
        "password_hash",
        "token",
        "ttl_s",
    )

    def __init__(
        self, token: bytes, name: str, logins: Mapping[str, int], ttl_s: float, expires_at: float, *, admin: bool
    ) -> None:
        self.token = token
        self.name = name
        self.logins = dict(logins)
        self.ttl_s = ttl_s
        self.expires_at = expires_at  # unix seconds
        self.admin = admin
        self.password_hash: str | None = None
        self.own_hash: str | None = None
        self.over = False

    def holds(self, database: str, login_seq: int) -> bool:
        """Whether it is still the user of this database who has this login_seq."""
        return not self.over and login_seq > 0 and self.logins.get(database) == login_seq


class Sessions:
    """All sessions of the process. `start()` it inside the event loop, `close()` it before the store."""

    def __init__(
        self,
        store: SessionStore,
        *,
        ttl_s: float = limits.SESSION_SECONDS,
        clock: Callable[[], float] = time.time,
        ended: Callable[[Session], None] = lambda session: None,
        kept: int = limits.SESSIONS_KEPT_COUNT,
    ) -> None:
        """`ended` is called when a session ends, or ends in a database. `kept` are in memory while nobody uses them."""
        self.ttl_s = ttl_s
        self._store = store
        self._clock = clock
        self._ended = ended
        self._kept = kept
        self._known: WeakValueDictionary[bytes, Session] = WeakValueDictionary()
        self._recent: OrderedDict[bytes, Session] = OrderedDict()
        self._admins: OrderedDict[bytes, Session] = OrderedDict()
        self._memberless: OrderedDict[bytes, Session] = OrderedDict()
        self._due: list[tuple[float, bytes]] = []  # a heap: when to look whether the time is over
        self._watched: set[bytes] = set()  # what the heap holds
        self._renewed: dict[bytes, float] = {}  # not yet in the store
        self._storing: dict[bytes, float] = {}  # on their way there
        self._endings = 0
        self._housekeeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to end sessions whose time is over, and to store what was renewed."""
        self._housekeeping = asyncio.create_task(self._keep_house())

    async def close(self) -> None:
        """Store what was renewed."""
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.gather(self._housekeeping, return_exceptions=True)
        await self._store_renewed()

    # Making and finding

    async def create(self, name: str, logins: Mapping[str, int], *, ttl_s: float | None = None) -> tuple[str, Session]:
        """A session of a user, and its token. Raises Unavailable at SESSIONS_COUNT."""
        token, session = self._new(name, logins, ttl_s, admin=False)
        stored = StoredSession(session.token, name, dict(logins), session.ttl_s, session.expires_at)
        for ended in await self._store.create(stored, self._clock()):
            self._forget(ended)
        self._keep(session)
        return token, session

    def create_admin(self, name: str) -> tuple[str, Session]:
        """A session of a server admin. At SESSIONS_OF_ADMINS_COUNT it ends the oldest."""
        token, session = self._new(name, {}, None, admin=True)
        while len(self._admins) >= limits.SESSIONS_OF_ADMINS_COUNT:
            self._forget(next(iter(self._admins)))
        self._admins[session.token] = session
        self._know(session)
        return token, session

    def create_memberless(self, name: str, password_hash: str) -> tuple[str, Session]:
        """A session of a user of the server who is of no database. At SESSIONS_MEMBERLESS_COUNT it ends the oldest."""
        token, session = self._new(name, {}, None, admin=False)
        session.password_hash = password_hash
        while len(self._memberless) >= limits.SESSIONS_MEMBERLESS_COUNT:
            self._forget(next(iter(self._memberless)))
        self._memberless[session.token] = session
        self._know(session)
        return token, session

    def _new(self, name: str, logins: Mapping[str, int], ttl_s: float | None, *, admin: bool) -> tuple[str, Session]:
        token = secrets.token_urlsafe(32)
        ttl_s = self.ttl_s if ttl_s is None else ttl_s
        return token, Session(_hash(token), name, logins, ttl_s, self._clock() + ttl_s, admin=admin)

    async def find(self, token: str) -> Session | None:
        """The session of a token; None for one that is over, or never was."""
        if not _TOKEN.match(token):
            return None
        key = _hash(token)
        while True:
            session = self._known.get(key)
            if session is not None:
                break
            before = self._endings
            stored = await self._store.find(key)
            if before != self._endings:
                continue  # some session ended meanwhile, perhaps this one
            session = self._known.get(key)  # another request was faster
            if session is None:
                if stored is None:
                    return None
                until = max(stored.expires_at, self._renewed.get(key, 0), self._storing.get(key, 0))
                session = Session(key, stored.name, stored.logins, stored.ttl_s, until, admin=False)
            break
        if session.expires_at <= self._clock():
            self._forget(key)
            return None
        self._keep(session)
        return session

    def renew(self, session: Session) -> bool:
        """The session is in use. True when this gave it its whole time again: tell the client."""
        now = self._clock()
        if session.over or session.expires_at - now >= session.ttl_s * _RENEWED_SHARE:
            return False
        session.expires_at = now + session.ttl_s
        if not (session.admin or session.password_hash):
            self._renewed[session.token] = session.expires_at
        return True

    # Ending

    async def end(self, session: Session) -> None:
        """Log out."""
        try:
            if not session.admin:
                await self._store.delete(session.token)
        finally:
            self._forget(session.token, session)

    async def end_logins(self, database: str, user: str, token: str | None = None) -> int:
        """Let all sessions, or the one, be this user no more; how many were."""
        key = None if token is None else _hash(token)
        tokens = await self._store.end_logins(database, user, key)
        self._endings += 1
        for one in tokens:
            session = self._known.get(one)
            if session is not None:
                session.logins[database] = 0
                self._ended(session)
        return len(tokens)

    def end_database(self, database: str) -> None:
        """The database was dropped, with its users, in the store: no session is a user of it, nor of a new one of that
        name, whose users may have the same login_seq."""
        self._endings += 1
        for session in list(self._known.values()):
            if session.logins.pop(database, None) is not None:
                self._ended(session)

    def _forget(self, key: bytes, session: Session | None = None) -> None:
        """End it in memory, after the store: who was reading it there meanwhile reads it again."""
        self._endings += 1
        known = self._known.pop(key, None)
        session = known if known is not None else session
        self._recent.pop(key, None)
        self._admins.pop(key, None)
        self._memberless.pop(key, None)
        self._renewed.pop(key, None)
        if session is not None and not session.over:
            session.over = True
            self._ended(session)

    # Memory

    def _know(self, session: Session) -> None:
        self._known[session.token] = session
        if session.token not in self._watched:
            self._watched.add(session.token)
            heapq.heappush(self._due, (session.expires_at, session.token))

    def _keep(self, session: Session) -> None:
        self._know(session)
        if session.admin or session.password_hash:
            return
        self._recent[session.token] = session
        self._recent.move_to_end(session.token)
        while len(self._recent) > self._kept:
            self._recent.popitem(last=False)

    # Housekeeping

    async def _keep_house(self) -> None:
        next_removal = 0.0
        while True:
            await asyncio.sleep(limits.SESSION_SWEEP_SECONDS)
            try:
                self.sweep()
                await self._store_renewed()
                if time.monotonic() >= next_removal:
                    await self._remove_expired()
                    next_removal = time.monotonic() + limits.SESSION_HOUSEKEEPING_SECONDS
            except Exception:
                _log.exception("the housekeeping of sessions failed; it goes on")

    def sweep(self) -> None:
        """End the sessions in memory whose time is over."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            session = self._known.get(key)
            if session is None:
                self._watched.discard(key)
            elif session.expires_at > now:
                heapq.heappush(self._due, (session.expires_at, key))
            else:
                self._watched.discard(key)
                self._forget(key)

    async def _store_renewed(self) -> None:
        if not self._renewed:
            return
        self._storing, self._renewed = self._renewed, {}
        try:
            await self._store.renew(self._storing)
        except BaseException:
            self._renewed = {**self._storing, **self._renewed}
            raise
        finally:
            self._storing = {}

    async def _remove_expired(self) -> None:
        before = self._clock()
        while await self._store.forget_expired(before, limits.SESSION_REMOVALS_COUNT) == limits.SESSION_REMOVALS_COUNT:
            pass


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
