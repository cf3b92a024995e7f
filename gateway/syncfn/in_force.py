"""The sync function that decides in a database at this moment. Everything that asks it does so through one holder."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from gateway.model.routing import Call, Verdict
from gateway.syncfn.runtime import SyncFunction


class FunctionInForce:
    """Holds one function, and another one from the moment it is replaced. `close` it at the end."""

    def __init__(self, function: SyncFunction, number: int) -> None:
        """`number` is which version of the database's function it is."""
        self._function = function
        function.decide(number)
        self._asking: Counter[SyncFunction] = Counter()  # calls under way
        self._retired: set[SyncFunction] = set()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def number(self) -> int:
        """Of the version in force; its verdicts bear it."""
        return self._function.version

    @property
    def source(self) -> str:
        return self._function.source

    @property
    def digest(self) -> str:
        """SHA-256 of the source."""
        return self._function.digest

    async def run(self, calls: Sequence[Call], *, now: float | None = None) -> list[Verdict]:
        """As `SyncFunction.run`: all verdicts are of the function that is in force as this is called."""
        function = self._function
        self._asking[function] += 1
        try:
            return await function.run(calls, now=now)
        finally:
            self._asking[function] -= 1
            self._close_if_done(function)

    def replace(self, function: SyncFunction, number: int) -> None:
        """Calls from now on are for this one, which is closed here at the end.

        The one before is closed once its calls under way have ended.
        """
        function.decide(number)
        before, self._function = self._function, function
        if before is not function:
            self._retired.add(before)
            self._close_if_done(before)

    def _close_if_done(self, function: SyncFunction) -> None:
        if function in self._retired and not self._asking[function]:
            self._retired.discard(function)
            del self._asking[function]
            task = asyncio.create_task(function.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """End every process. Calls under way raise SyncFunctionUnavailable."""
        retired, self._retired = self._retired, set()
        await asyncio.gather(*(function.close() for function in (*retired, self._function)), *self._closing)
