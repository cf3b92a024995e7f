"""Load on one HTTP server, from one process, bounded in count."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """Seconds of each request, and of them all."""

    seconds: list[float]
    total_s: float

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.total_s

    @property
    def median_ms(self) -> float:
        return statistics.median(self.seconds) * 1000

    @property
    def p99_ms(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)] * 1000


async def measure(request: Callable[[int], Awaitable[None]], *, count: int, connections: int) -> Figures:
    """Make `count` requests, numbered from 0, over so many connections at once."""
    numbers = iter(range(count))
    seconds: list[float] = []

    async def connection() -> None:
        for number in numbers:
            began = time.perf_counter()
            await request(number)
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    return Figures(seconds, time.perf_counter() - began)
