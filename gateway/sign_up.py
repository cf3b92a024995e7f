"""Sign-up: anybody makes a user of the server for himself, as CouchDB's `_users` let him, and changes only his own.

https://docs.couchdb.org/en/stable/intro/security.html#authentication-database; off unless the config file says so. The
refusals are those of CouchDB's validation function of `_users`, in its words.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

from gateway import limits
from gateway.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyRequests
from gateway.server_users import PREFIX, ServerUsers

_MINUTE_SECONDS: Final = 60.0


class SignUp:
    """What who is no administrator may do with `_users`. For one event loop."""

    def __init__(
        self,
        users: ServerUsers,
        *,
        admins: Collection[str],
        is_taken: Callable[[str], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`is_taken`: whether a database has a user of this name of its own, whom nobody else may be taken for."""
        self._users = users
        self._admins = admins
        self._is_taken = is_taken
        self._clock = clock
        self._lately: deque[tuple[float, str]] = deque()  # not more than SIGN_UPS_COUNT
        self._of_address: Counter[str] = Counter()

    # Documents. `own` is the name of who is logged in, None for nobody.

    async def get(self, own: str, doc_id: str, rev: str | None) -> dict[str, Any]:
        """One's own document. Raises NotFound for any other, whether it is there or not."""
        if doc_id != PREFIX + own:
            raise NotFound
        return await self._users.get(doc_id, rev)

    async def put(self, own: str | None, doc: Mapping[str, Any], address: str | None) -> str:
        """Make a document, or change or delete one's own; the new revision.

        Raises Forbidden, Conflict for what is there, BadRequest, TooLarge, and TooManyRequests for a flood.
        """
        doc_id = doc.get("_id")
        if own is not None and doc_id == PREFIX + own:
            return await self._change(doc, str(doc_id))
        if doc.get("_deleted") is True:
            raise Forbidden("Only admins may delete other user docs.")
        self._count(address)
        if doc.get("_rev") is not None:
            raise Conflict
        if doc.get("roles"):
            raise Forbidden("Only _admin may set roles")
        if "password" not in doc:
            raise BadRequest("a user that signs up needs a password")
        name = str(doc_id).removeprefix(PREFIX)
        if name in self._admins or await self._is_taken(name):
            raise Conflict
        return await self._users.put(doc)

    async def _change(self, doc: Mapping[str, Any], doc_id: str) -> str:
        now = await self._users.get(doc_id)
        if doc.get("_rev") != now["_rev"]:
            raise Conflict  # so that the roles are those of the document that is replaced
        if doc.get("_deleted") is not True and doc.get("roles") != now.get("roles"):
            raise Forbidden("Only _admin may edit roles")
        return await self._users.put(doc)

    def _count(self, address: str | None) -> None:
        """Raises TooManyRequests past SIGN_UPS_OF_ADDRESS_COUNT or SIGN_UPS_COUNT attempts within a minute."""
        now = self._clock()
        while self._lately and self._lately[0][0] <= now - _MINUTE_SECONDS:
            _, before = self._lately.popleft()
            self._of_address[before] -= 1
            if not self._of_address[before]:
                del self._of_address[before]
        whence = _network(address)
        if len(self._lately) >= limits.SIGN_UPS_COUNT:
            raise TooManyRequests(f"{limits.SIGN_UPS_COUNT} sign-ups within a minute (limit SIGN_UPS_COUNT)")
        if self._of_address[whence] >= limits.SIGN_UPS_OF_ADDRESS_COUNT:
            raise TooManyRequests(
                f"{limits.SIGN_UPS_OF_ADDRESS_COUNT} sign-ups from this address within a minute "
                "(limit SIGN_UPS_OF_ADDRESS_COUNT)"
            )
        self._lately.append((now, whence))
        self._of_address[whence] += 1


def _network(address: str | None) -> str:
    """Whoever has one IPv6 address has the 64 bits behind it, too."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
