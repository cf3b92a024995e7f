"""Credentials that were verified a moment ago, so that argon2 is not run for each request.

The key is an HMAC under a key of this process, so a memory dump holds no password and no fast hash of one. An entry
names the stored hash it was verified against: a changed password, a deleted user, no longer match it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway import limits
from gateway.auth.passwords import Passwords, Verdict

_OK = Verdict(True)


@dataclass(frozen=True, slots=True)
class _Verified:
    stored: str
    until: float


class Credentials:
    """Checks passwords, remembering right ones for `seconds` (of `clock`) and at most `count` of them.

    Wrong ones are never remembered. Checks of the same credentials at the same moment share one hash computation.
    For one event loop.
    """

    def __init__(
        self,
        passwords: Passwords,
        *,
        clock: Callable[[], float] = time.monotonic,
        count: int = limits.CREDENTIALS_COUNT,
        seconds: float = limits.CREDENTIALS_SECONDS,
    ) -> None:
        self._passwords = passwords
        self._clock = clock
        self._count = count
        self._seconds = seconds
        self._secret = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._under_way: dict[tuple[bytes, str | None], asyncio.Task[Verdict]] = {}

    async def verify(self, realm: str, name: str, password: str, stored: str | None) -> Verdict:
        """Whether `password` is right for user `name` of `realm` (a database's name), whose current hash is `stored`.

        None for an unknown user, which takes as long as a wrong password. Raises Unavailable as Passwords does.
        """
        if len(password) > limits.PASSWORD_CHARACTERS:
            return Verdict(False)
        key = self._key(realm, name, password)
        if stored is not None and self._is_verified(key, stored):
            return _OK
        task = self._under_way.get((key, stored))
        if task is None:
            task = asyncio.create_task(self._check(key, password, stored))
            self._under_way[key, stored] = task
            task.add_done_callback(lambda done: self._finished((key, stored), done))
        # Whoever waits may be cancelled without taking the answer from the others.
        return await asyncio.shield(task)

    def remember(self, realm: str, name: str, password: str, stored: str) -> None:
        """These credentials are right: after `stored` was made from the password just now."""
        self._remember(self._key(realm, name, password), stored)

    async def close(self) -> None:
        """Wait for the checks under way, so that nothing is left behind; forget everything."""
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._verified.clear()

    async def _check(self, key: bytes, password: str, stored: str | None) -> Verdict:
        verdict = await self._passwords.verify(stored, password)
        if verdict.ok and stored is not None:
            self._remember(key, stored)
        return verdict

    def _finished(self, place: tuple[bytes, str | None], task: asyncio.Task[Verdict]) -> None:
        self._under_way.pop(place, None)
        if not task.cancelled():
            task.exception()  # each waiter raises it; if all of them left, nobody needs to hear of it

    def _is_verified(self, key: bytes, stored: str) -> bool:
        entry = self._verified.get(key)
        if entry is None:
            return False
        if entry.stored != stored or entry.until <= self._clock():
            del self._verified[key]
            return False
        self._verified.move_to_end(key)
        return True

    def _remember(self, key: bytes, stored: str) -> None:
        self._verified[key] = _Verified(stored, self._clock() + self._seconds)
        self._verified.move_to_end(key)
        while len(self._verified) > self._count:
            self._verified.popitem(last=False)

    def _key(self, realm: str, name: str, password: str) -> bytes:
        parts = [part.encode("utf-8", "surrogatepass") for part in (realm, name, password)]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._secret, message, hashlib.sha256)
