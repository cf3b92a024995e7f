"""Password hashes: argon2id (RFC 9106) in a few threads of their own, never on the event loop.

Parameters are OWASP's (https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html). They are
memory-hard, so only `HASHES_AT_ONCE_COUNT` run at a time and a bounded number of logins wait for them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher, Type, extract_parameters
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError
from argon2.low_level import error_to_str

from gateway import limits
from gateway.auth.rules import password_problem
from gateway.errors import BadRequest, Unavailable

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# argon2.h: ARGON2_MEMORY_ALLOCATION_ERROR and ARGON2_THREAD_FAIL say nothing about the password.
_PASSING_FAULTS = {error_to_str(-22), error_to_str(-33)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`rehash`: the password is right, and its hash was made with other parameters than today's."""

    ok: bool
    rehash: bool = False


WRONG = Verdict(False)


def configured_hash_problem(text: str) -> str | None:
    """Why a hash in the config file is not one of argon2id, or None."""
    try:
        parameters = extract_parameters(text)
    except InvalidHashError:
        return "begins as an argon2 hash but is none"
    if parameters.type is not Type.ID:
        return "must be a hash of the argon2id kind"
    return None


class Passwords:
    """Makes and checks hashes. Close it when the server ends."""

    def __init__(
        self,
        *,
        memory_kibibytes: int = limits.HASH_MEMORY_KIBIBYTES,
        passes: int = limits.HASH_PASSES_COUNT,
        at_once: int = limits.HASHES_AT_ONCE_COUNT,
        waiting: int = limits.HASHES_WAITING_COUNT,
    ) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kibibytes, parallelism=1)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="password")
        self._most = at_once + waiting
        self._under_way = 0
        self._lock = threading.Lock()
        # What a login of an unknown user is checked against, so that it takes as long as one of a known user.
        self._nobody: Future[str] = self._threads.submit(self._hasher.hash, "nobody has this password")

    async def hash_password(self, password: str) -> str:
        """The hash to store. Raises BadRequest for what cannot be a password, Unavailable when too many wait."""
        if problem := password_problem(password):
            raise BadRequest(problem)
        return await self._run(lambda: self._hash(password))

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Whether `password` belongs to the stored hash; None is an unknown user, or one without a password.

        Takes the same time either way. Raises Unavailable when too many logins wait already.
        """
        if len(password) > limits.PASSWORD_CHARACTERS:
            return WRONG
        return await self._run(lambda: self._verify(stored, password))

    async def close(self) -> None:
        """End the threads; what has not begun is cancelled."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    def _hash(self, password: str) -> str:
        try:
            return self._hasher.hash(_prepared(password))
        except HashingError as error:
            _log.error("a password could not be hashed: %s", error)
            raise Unavailable from None

    def _verify(self, stored: str | None, password: str) -> Verdict:
        try:
            self._hasher.verify(self._nobody.result() if stored is None else stored, _prepared(password))
        except VerifyMismatchError:
            return WRONG
        except (InvalidHashError, VerificationError) as error:
            if str(error) in _PASSING_FAULTS:
                _log.error("a password could not be checked: %s", error)
                raise Unavailable from None
            _log.error("a stored password hash is malformed; its user cannot log in until the password is set anew")
            return WRONG
        if stored is None:
            return WRONG
        return Verdict(True, rehash=self._hasher.check_needs_rehash(stored))

    async def _run(self, job: Callable[[], _Result]) -> _Result:
        with self._lock:
            if self._under_way >= self._most:
                raise Unavailable("too many logins at once, try again")
            self._under_way += 1
        try:
            future = self._threads.submit(job)
        except RuntimeError:  # closed
            self._ended()
            raise Unavailable from None
        # The place is free when the job ends, which may be after its waiter was cancelled.
        future.add_done_callback(self._ended)
        return await asyncio.wrap_future(future)

    def _ended(self, _: object = None) -> None:
        with self._lock:
            self._under_way -= 1


def _prepared(password: str) -> bytes:
    """One spelling of each character, as RFC 8265 (OpaqueString) says: keyboards differ in how they compose them."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
