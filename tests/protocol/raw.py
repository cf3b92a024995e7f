"""Bytes to a port and back, for what no HTTP client would send."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit


async def exchange(base: str, data: bytes, *, end: bool = False, seconds: float = 10) -> bytes:
    """What the server at `base` answers to these bytes until it closes, or says no more after its answers.

    `end` closes our side after sending. Raises TimeoutError when not a byte comes.
    """
    parts = urlsplit(base)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(data)
        await writer.drain()
        if end:
            writer.write_eof()
        async with asyncio.timeout(seconds):
            received = await reader.read(65_536)
        while received:
            try:
                async with asyncio.timeout(0.3):
                    more = await reader.read(65_536)
            except TimeoutError:
                return received
            if not more:
                return received
            received += more
        return received
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
