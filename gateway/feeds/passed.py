"""The upstream's own feed for an administrator, for as long as the administrator may go on here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

from gateway.feeds.wakes import Waiter, Wakes


async def passed_on(
    content: AsyncIterator[bytes], wakes: Wakes, still_valid: Callable[[], Awaitable[None]]
) -> AsyncIterator[bytes]:
    """The bytes of `content`. Raises what `still_valid` raises as soon as the login or the database ends, also while
    nothing comes; Unavailable when there are too many feeds."""
    waiter = wakes.register(None)
    watching = asyncio.create_task(_until_invalid(waiter, wakes, still_valid))
    try:
        while True:
            coming = asyncio.create_task(_next(content))
            try:
                await asyncio.wait({coming, watching}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    with suppress(asyncio.CancelledError):
                        await coming
            if watching.done():
                watching.result()
            chunk = coming.result()
            if chunk is None:
                await still_valid()  # it may have ended since the database is gone
                return
            yield chunk
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)  # whose error, if it had one, counts no more
        wakes.leave(waiter)


async def _next(content: AsyncIterator[bytes]) -> bytes | None:
    return await anext(content, None)


async def _until_invalid(waiter: Waiter, wakes: Wakes, still_valid: Callable[[], Awaitable[None]]) -> NoReturn:
    while True:
        await still_valid()
        if wakes.watch(waiter, (), wakes.last_seq):
            await waiter.woken.wait()
        else:
            await asyncio.sleep(0)
