"""The upstream's own feed for an administrator, for as long as the administrator may go on here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

from gateway import limits
from gateway.errors import UnknownDatabase
from gateway.feeds.wakes import Waiter, Wakes


async def passed_on(
    content: AsyncIterator[bytes],
    wakes: Wakes,
    still_valid: Callable[[], Awaitable[None]],
    deleted: asyncio.Event,
) -> AsyncIterator[bytes]:
    """The bytes of `content`. Raises what `still_valid` raises as soon as the login ends, also while nothing comes;
    Unavailable when there are too many feeds.

    Of a database that is being deleted the upstream ends the feed, whole; here it ends once `deleted` is set, so that
    who deletes it hears of that first. After DELETED_FEED_SECONDS without an end UnknownDatabase is raised.
    """
    waiter = wakes.register(None)
    watching = asyncio.create_task(_until_invalid(waiter, wakes, still_valid))
    ending = _Ending()
    try:
        while True:
            chunk = await _chunk(content, watching, ending)
            if chunk is None:
                if await _is_gone(still_valid):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(ending.seconds_left()):
                            await deleted.wait()
                return
            yield chunk
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)  # whose error, if it had one, counts no more
        wakes.leave(waiter)


class _Ending:
    """How long a feed may still take to end, from the first time that is asked."""

    def __init__(self) -> None:
        self._ends_at: float | None = None

    def seconds_left(self) -> float:
        now = time.monotonic()
        if self._ends_at is None:
            self._ends_at = now + limits.DELETED_FEED_SECONDS
        return max(self._ends_at - now, 0)


async def _chunk(content: AsyncIterator[bytes], watching: asyncio.Task[NoReturn], ending: _Ending) -> bytes | None:
    """The next bytes, None at the end. Raises what ended `watching`."""
    coming = asyncio.create_task(_next(content))
    try:
        await asyncio.wait({coming, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            if not isinstance(watching.exception(), UnknownDatabase):
                watching.result()
            left = ending.seconds_left()
            await asyncio.wait({coming}, timeout=left)
            if not coming.done() or not left:
                watching.result()
        return await coming
    finally:
        if not coming.done():
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming


async def _is_gone(still_valid: Callable[[], Awaitable[None]]) -> bool:
    try:
        await still_valid()
    except UnknownDatabase:
        return True
    return False


async def _next(content: AsyncIterator[bytes]) -> bytes | None:
    return await anext(content, None)


async def _until_invalid(waiter: Waiter, wakes: Wakes, still_valid: Callable[[], Awaitable[None]]) -> NoReturn:
    while True:
        await still_valid()
        if wakes.watch(waiter, (), wakes.last_seq):
            await waiter.woken.wait()
        else:
            await asyncio.sleep(0)
