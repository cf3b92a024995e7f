"""Documents put to a sync function only to see what it says. Nothing is stored and nothing routed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.errors import NotFound
from gateway.model.names import GUEST
from gateway.model.routing import Call, Writer
from gateway.queries import Trial
from gateway.syncfn.runtime import SyncFunction
from gateway.syncfn.trial import described, writer_of
from gateway.users import Users


class Trials:
    """In a process of their own each, so that writes of the database do not wait for them; one at a time."""

    def __init__(self, source: Callable[[], str], users: Users) -> None:
        """`source` answers the database's own function, as it is now."""
        self._source = source
        self._users = users
        self._lock = asyncio.Lock()

    async def run(self, trial: Trial) -> dict[str, Any]:
        """What the function says, as syncfn/trial.py describes it.

        Raises IllegalName for a user that makes no sense, NotFound and InvalidLogin for one that is not there or
        disabled, BadSyncFunction for a source that does not compile, SyncFunctionUnavailable.
        """
        writer = await self._writer(trial.user)
        async with self._lock:
            source = self._source() if trial.function is None else trial.function
            function = await asyncio.to_thread(SyncFunction, source, name="sync function on trial")
            try:
                (verdict,) = await function.run([Call(trial.doc, trial.old_doc, writer)])
            finally:
                await function.close()
        return described(verdict)

    async def _writer(self, user: Any) -> Writer:
        if not isinstance(user, str):
            return writer_of(user)
        if user == GUEST:
            return writer_of({"name": None})
        try:
            caller = await self._users.without_password(user)
        except NotFound:
            raise NotFound(
                "there is no such user; to make one up, give an object with name, channels and roles"
            ) from None
        return await self._users.writer(caller)
