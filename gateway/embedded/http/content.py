"""Attachment bytes in and out of the file, piece by piece."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gateway import limits
from gateway.embedded import attachments
from gateway.embedded.attachments import Attachment
from gateway.embedded.documents import Inline, Stored
from gateway.embedded.writer import Transaction
from gateway.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase

_WINDOW_BYTES = 1_048_576  # decoded at once


async def stored_bytes(
    database: EmbeddedDatabase, attachment: Attachment, first: int = 0, last: int | None = None
) -> AsyncIterator[bytes]:
    """The bytes `first` to `last` (inclusive) as they are stored."""
    position, end = first, attachment.size if last is None else last + 1
    while position < end:
        found = await database.reading(partial(attachments.read_chunk, blob=attachment.blob, position=position))
        if found is None:
            raise BadRequest("the attachment was purged while it was read")
        start, data = found
        yield data[position - start : end - start]
        position = start + len(data)


async def decoded_bytes(database: EmbeddedDatabase, attachment: Attachment) -> AsyncIterator[bytes]:
    """The content as its writer meant it."""
    if attachment.encoding is None:
        async for chunk in stored_bytes(database, attachment):
            yield chunk
        return
    decoder = zlib.decompressobj(wbits=31)
    async for chunk in stored_bytes(database, attachment):
        left = chunk
        while left:
            piece = decoder.decompress(left, _WINDOW_BYTES)
            left = decoder.unconsumed_tail
            if piece:
                yield piece
    yield decoder.flush()


class _Upload:
    """Counts and hashes what arrives; runs in the writing thread, one piece after the other."""

    def __init__(self, encoding: str | None) -> None:
        self.sha256 = hashlib.sha256()
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0
        self.length = 0
        self._decoder = zlib.decompressobj(wbits=31) if encoding is not None else None

    def feed(self, data: bytes) -> None:
        self.sha256.update(data)
        self.md5.update(data)
        self.size += len(data)
        if self._decoder is None:
            self.length += len(data)
        else:
            self._count_decoded(self._decoder, data)
        if max(self.size, self.length) > limits.EMBEDDED_ATTACHMENT_BYTES:
            raise TooLarge(f"an attachment is larger than {limits.EMBEDDED_ATTACHMENT_BYTES} bytes")

    def _count_decoded(self, decoder: zlib._Decompress, data: bytes) -> None:
        try:
            while data:
                self.length += len(decoder.decompress(data, _WINDOW_BYTES))
                data = decoder.unconsumed_tail
        except zlib.error:
            raise BadRequest("the attachment is not gzip, as its encoding says") from None


@dataclass(frozen=True, slots=True)
class _Receiver:
    """Puts the pieces of one large attachment into the file, pinned until its document names it."""

    database: EmbeddedDatabase
    upload: _Upload
    pinned: list[int]

    def add(self, transaction: Transaction, blob: int | None, piece: bytes) -> int:
        start = self.upload.size
        self.upload.feed(piece)
        if blob is None:
            blob = attachments.begin(transaction.connection)
            self.database.pins.pin(blob)
            self.pinned.append(blob)
        attachments.add(transaction.connection, blob, start, piece)
        return blob


async def receive(
    database: EmbeddedDatabase, content: AsyncIterator[bytes], pinned: list[int], encoding: str | None = None
) -> Inline | Stored:
    """Take in one attachment. A small one stays in memory, a large one goes into the file as it arrives.

    The blob of a large one is pinned and added to `pinned`: the caller unpins it once a document names it.
    """
    upload = _Upload(encoding)
    receiver = _Receiver(database, upload, pinned)
    buffer = bytearray()
    blob: int | None = None
    try:
        async for chunk in content:
            buffer += chunk
            while len(buffer) >= limits.EMBEDDED_CHUNK_BYTES:
                piece = bytes(buffer[: limits.EMBEDDED_CHUNK_BYTES])
                del buffer[: limits.EMBEDDED_CHUNK_BYTES]
                blob = await database.writing(partial(receiver.add, blob=blob, piece=piece))
        rest = bytes(buffer)
        if blob is None:
            await database.readers.work(lambda: upload.feed(rest))
            return Inline(rest, upload.md5.digest(), upload.sha256.digest(), upload.length)
        staged = blob

        def end(transaction: Transaction) -> int:
            if rest:
                receiver.add(transaction, staged, rest)
            kept = attachments.finish(
                transaction.connection, staged, upload.sha256.digest(), upload.md5.digest(), upload.size
            )
            if kept != staged:
                database.pins.pin(kept)
                pinned.append(kept)
            return kept

        return Stored(await database.writing(end), upload.md5.digest(), upload.size, upload.length)
    except BaseException:
        if blob is not None:
            await _forget(database, blob)
        raise


async def _forget(database: EmbeddedDatabase, blob: int) -> None:
    """Drop what was received of an attachment that will not be complete."""

    def job(transaction: Transaction) -> None:
        received = transaction.connection.execute("SELECT sha256 IS NOT NULL FROM blob WHERE key = ?", (blob,))
        if received.fetchone() == (0,):
            attachments.drop(transaction.connection, blob)

    await database.writing(job)
