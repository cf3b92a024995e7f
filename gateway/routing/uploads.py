"""A write whose body streams past: how its end is held back until the sync function has spoken.

The upstream stores a document when the last byte of its body is there. So everything but the last piece goes up as it
comes; then the function is asked, about the document as it is at that moment, and its answer lets the last piece go or
ends the request without it. An upload may take minutes: nobody waits for it, and nothing that was decided before it
began counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from gateway.couch.upstream import WriteResult

Store: TypeAlias = Callable[[AsyncIterator[bytes]], Awaitable[WriteResult]]


class UploadEnded(Exception):
    """Nobody wants the rest of a body: what reads it shall stop."""


@dataclass(frozen=True, slots=True)
class Upload:
    """`pieces` are what the client sends, `store` sends them upstream as the document's body.

    Without the last piece that is not empty the upstream must not be able to store anything.
    """

    pieces: AsyncIterator[bytes]
    store: Store


class Gate:
    """Between the pieces of one upload and the upstream. `close` it in any case."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(1)
        self._reached = asyncio.Event()
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pump: asyncio.Task[None] | None = None
        self._request: asyncio.Task[WriteResult] | None = None

    async def fill(self) -> WriteResult | None:
        """Send everything but the last piece; None when only that is left.

        A result when the upstream did not want to hear the rest. Raises what the pieces raise, and UpstreamUnreachable.
        """
        self._pump = asyncio.create_task(self._read())
        request = self._request = asyncio.create_task(self._send())
        reached = asyncio.create_task(self._reached.wait())
        try:
            await asyncio.wait({request, reached}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reached.cancel()
        return await request if request.done() else None

    async def end(self) -> WriteResult:
        """Let the last piece go. Raises what `store` raises."""
        if self._request is None:
            raise RuntimeError("an upload ends before it began")
        self._open.set_result(None)
        return await self._request

    async def close(self) -> None:
        """Cut off what is still under way: nothing is stored of it."""
        self._open.cancel()
        for task in (self._pump, self._request):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    task.exception()  # whoever has to know it knows it
        # A client library may go on reading the body of a request that it was told to drop.
        with suppress(asyncio.QueueEmpty):
            self._queue.get_nowait()
        self._queue.put_nowait(UploadEnded())

    async def _send(self) -> WriteResult:
        return await self._upload.store(self._held_back())

    async def _read(self) -> None:
        """The client's body is read here and nowhere else, so that it can be given up at any moment."""
        try:
            async for piece in self._upload.pieces:
                if piece:
                    await self._queue.put(piece)
        except Exception as error:
            await self._queue.put(error)
        else:
            await self._queue.put(None)

    async def _held_back(self) -> AsyncIterator[bytes]:
        kept = b""
        while (piece := await self._queue.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            if kept:
                yield kept
            kept = piece
        self._reached.set()
        await asyncio.shield(self._open)
        if kept:
            yield kept
