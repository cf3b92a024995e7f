"""Turns for others within a long piece of work in the event loop."""

from __future__ import annotations

import asyncio
import time

from gateway import limits


class Pauses:
    """One for each piece of work, which asks it between any two of its steps."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def when_due(self) -> None:
        """Let the event loop go round if the work went on for PAUSE_SECONDS; else return at once."""
        if time.perf_counter() - self._since >= limits.PAUSE_SECONDS:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
