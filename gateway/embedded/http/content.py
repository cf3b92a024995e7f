"""Attachment bytes in and out of the file, piece by piece."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gateway import limits
from gateway.embedded import attachments
from gateway.embedded.attachments import Attachment
from gateway.embedded.compression import gzip_compressor, is_compressible
from gateway.embedded.documents import Inline, Stored
from gateway.embedded.writer import Transaction
from gateway.errors import BadRequest, DigestMismatch, GatewayError, TooLarge

if TYPE_CHECKING:
    from gateway.embedded.database import EmbeddedDatabase

_WINDOW_BYTES = 1_048_576  # decoded at once
_TRANSACTION_CHUNKS = 4  # so many are written at once
_SHRINK_BYTES = 1_048_576  # written between two looks at the connection's memory


async def stored_bytes(
    database: EmbeddedDatabase, attachment: Attachment, first: int = 0, last: int | None = None
) -> AsyncIterator[bytes]:
    """The bytes `first` to `last` (inclusive) as they are stored."""
    position, end = first, attachment.size if last is None else last + 1
    while position < end:
        found = await database.content_readers.run(
            partial(attachments.read_chunk, blob=attachment.blob, position=position)
        )
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
            piece = await database.content_readers.work(partial(decoder.decompress, left, _WINDOW_BYTES))
            left = decoder.unconsumed_tail
            if piece:
                yield piece
    yield decoder.flush()


@dataclass(frozen=True, slots=True)
class Announced:
    """What is said of an attachment before its bytes come."""

    content_type: str
    encoding: str | None = None  # "gzip" when the bytes are
    length: int | None = None  # decoded, of bytes that are encoded
    md5: bytes | None = None  # of the bytes as they come

    @property
    def compressed_here(self) -> bool:
        return self.encoding is None and is_compressible(self.content_type)


class _Upload:
    """Counts, hashes and compresses what arrives; one piece after the other, in any thread."""

    def __init__(self, announced: Announced) -> None:
        self._announced = announced
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._came_md5 = hashlib.md5(usedforsecurity=False)
        self._came = 0
        self._size = 0
        self._compressor = gzip_compressor() if announced.compressed_here else None
        self._decoder = zlib.decompressobj(wbits=31) if announced.encoding is not None else None

    def feed(self, data: bytes) -> bytes:
        """What is to be stored of it."""
        self._came += len(data)
        if self._came > limits.EMBEDDED_ATTACHMENT_BYTES:
            raise TooLarge(f"an attachment is larger than {limits.EMBEDDED_ATTACHMENT_BYTES} bytes")
        if self._decoder is not None:
            self._check_gzip(self._decoder, data)
        if self._compressor is None:
            return self._keep(data)
        self._came_md5.update(data)
        return self._keep(self._compressor.compress(data))

    def end(self) -> bytes:
        """The rest that is to be stored. Raises DigestMismatch."""
        rest = b"" if self._compressor is None else self._keep(self._compressor.flush())
        expected, came = self._announced.md5, self._md5 if self._compressor is None else self._came_md5
        if expected is not None and came.digest() != expected:
            raise DigestMismatch
        return rest

    def _keep(self, data: bytes) -> bytes:
        self._sha256.update(data)
        self._md5.update(data)
        self._size += len(data)
        return data

    @staticmethod
    def _check_gzip(decoder: zlib._Decompress, data: bytes) -> None:
        try:
            while data:
                decoder.decompress(data, _WINDOW_BYTES)
                data = decoder.unconsumed_tail
        except zlib.error:
            raise BadRequest("the attachment is not gzip, as its encoding says") from None

    @property
    def _length(self) -> int:
        """What CouchDB shows as `length`: of bytes that came encoded alone it does not know another."""
        if self._announced.encoding is not None and self._announced.length is not None:
            return self._announced.length
        return self._came

    @property
    def _encoding(self) -> str | None:
        return "gzip" if self._compressor is not None else self._announced.encoding

    def inline(self, data: bytes) -> Inline:
        """All of it, in memory."""
        return Inline(data, self._md5.digest(), self._sha256.digest(), self._length, self._encoding)

    def finish(self, transaction: Transaction, blob: int) -> Stored:
        """All of it is in the file as `blob`; the same content may be there already."""
        md5 = self._md5.digest()
        kept = attachments.finish(transaction.connection, blob, self._sha256.digest(), md5, self._size)
        return Stored(kept, md5, self._size, self._length, self._encoding)


@dataclass(slots=True)
class _File:
    """The pieces of one large attachment in the file, pinned until its document names it."""

    database: EmbeddedDatabase
    pinned: list[int]
    blob: int | None = None
    size: int = 0

    async def add(self, chunks: Sequence[bytes]) -> None:
        """In one transaction."""
        writing = asyncio.ensure_future(self.database.writing(partial(self._add, blob=self.blob, chunks=chunks)))
        try:
            self.blob = await asyncio.shield(writing)
        except asyncio.CancelledError:
            with suppress(GatewayError):  # it is written all the same: know what has to be dropped
                self.blob = await writing
            raise

    def _add(self, transaction: Transaction, blob: int | None, chunks: Sequence[bytes]) -> int:
        if blob is None:
            blob = attachments.begin(transaction.connection)
            self._pin(blob)
        before = self.size
        for chunk in chunks:
            attachments.add(transaction.connection, blob, self.size, chunk)
            self.size += len(chunk)
        if self.size // _SHRINK_BYTES > before // _SHRINK_BYTES:
            # Otherwise the connection's cache fills with pages that nobody will read again.
            transaction.connection.execute("PRAGMA shrink_memory")
        return blob

    async def finish(self, upload: _Upload) -> Stored:
        stored = await self.database.writing(partial(self._finish, upload=upload))
        self.blob = None
        return stored

    def _finish(self, transaction: Transaction, upload: _Upload) -> Stored:
        assert self.blob is not None  # noqa: S101  something was added
        stored = upload.finish(transaction, self.blob)
        if stored.blob != self.blob:
            self._pin(stored.blob)
        return stored

    def _pin(self, blob: int) -> None:
        self.database.pins.pin(blob)
        self.pinned.append(blob)


async def receive(
    database: EmbeddedDatabase, content: AsyncIterator[bytes], pinned: list[int], announced: Announced
) -> Inline | Stored:
    """Take in one attachment. A small one stays in memory, a large one goes into the file as it arrives.

    The blob of a large one is pinned and added to `pinned`: the caller unpins it once a document names it.
    """
    upload, file = _Upload(announced), _File(database, pinned)
    kept = bytearray()
    whole: list[bytes] = []
    try:
        async for chunk in content:
            kept += await database.content_readers.work(partial(upload.feed, chunk))
            while len(kept) >= limits.EMBEDDED_CHUNK_BYTES:
                whole.append(bytes(kept[: limits.EMBEDDED_CHUNK_BYTES]))
                del kept[: limits.EMBEDDED_CHUNK_BYTES]
            if len(whole) >= _TRANSACTION_CHUNKS:
                await file.add(whole)
                whole = []
        kept += await database.content_readers.work(upload.end)
        if file.blob is None:
            return upload.inline(b"".join([*whole, kept]))
        await file.add([*whole, bytes(kept)] if kept else whole)
        return await file.finish(upload)
    except BaseException:
        if file.blob is not None:
            await _forget(database, file.blob)
        raise


async def _forget(database: EmbeddedDatabase, blob: int) -> None:
    """Drop what was received of an attachment that will not be complete."""

    def job(transaction: Transaction) -> None:
        received = transaction.connection.execute("SELECT sha256 IS NOT NULL FROM blob WHERE key = ?", (blob,))
        if received.fetchone() == (0,):
            attachments.drop(transaction.connection, blob)

    await database.writing(job)
