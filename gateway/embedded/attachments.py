"""Attachment bytes: stored once for equal content, in chunks, so that a large one is never in memory as a whole.

Content is identified by SHA-256; MD5 is only what CouchDB shows as `digest`.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway import limits
from gateway.embedded.documents import IncomingAttachment, Inline, Stored
from gateway.embedded.writer import Transaction
from gateway.errors import MissingStub


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment of one revision, as stored."""

    blob: int
    content_type: str
    md5: bytes
    length: int  # of the content as a reader sees it
    revpos: int
    encoding: str | None = None
    encoded_length: int | None = None  # of the stored bytes, when encoded

    @property
    def digest(self) -> str:
        return "md5-" + base64.b64encode(self.md5).decode()

    @property
    def size(self) -> int:
        """Of the stored bytes."""
        return self.length if self.encoded_length is None else self.encoded_length


def encode(attachments: Mapping[str, Attachment]) -> str | None:
    """The text of `body.attachments`; the order of the document is kept, its revision id depends on it."""
    if not attachments:
        return None
    return json.dumps(
        {
            name: [a.blob, a.content_type, a.md5.hex(), a.length, a.revpos, a.encoding, a.encoded_length]
            for name, a in attachments.items()
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def decode(text: str | None) -> dict[str, Attachment]:
    """The inverse of `encode`."""
    if text is None:
        return {}
    return {
        name: Attachment(blob, kind, bytes.fromhex(md5), length, revpos, encoding, encoded)
        for name, (blob, kind, md5, length, revpos, encoding, encoded) in json.loads(text).items()
    }


def entry(
    attachment: Attachment, *, data: bytes | None = None, follows: bool = False, encoding_info: bool = False
) -> dict[str, Any]:
    """The member of `_attachments`: with `data`, as `follows`, or as a stub."""
    found: dict[str, Any] = {
        "content_type": attachment.content_type,
        "revpos": attachment.revpos,
        "digest": attachment.digest,
    }
    if data is not None:
        found["data"] = base64.b64encode(data).decode()
    else:
        found["length"] = attachment.length
        found["follows" if follows else "stub"] = True
    if encoding_info and attachment.encoding is not None:
        found |= {"encoding": attachment.encoding, "encoded_length": attachment.encoded_length}
    return found


def store(
    transaction: Transaction, incoming: IncomingAttachment, source: Inline | Stored, generation: int
) -> Attachment:
    """The attachment as it will be recorded, its bytes in the file."""
    if isinstance(source, Inline):
        blob, size = _store_inline(transaction.connection, source), len(source.data)
    else:
        blob, size = source.blob, source.size
        if transaction.connection.execute("SELECT 1 FROM blob WHERE key = ?", (blob,)).fetchone() is None:
            raise MissingStub("the attachment's bytes were compacted away meanwhile")
    return Attachment(
        blob,
        incoming.content_type,
        source.md5,
        source.length,
        generation,
        source.encoding,
        size if source.encoding else None,
    )


def _store_inline(connection: sqlite3.Connection, source: Inline) -> int:
    known = connection.execute("SELECT key FROM blob WHERE sha256 = ?", (source.sha256,)).fetchone()
    if known is not None:
        return int(known[0])
    blob = begin(connection)
    for start in range(0, len(source.data), limits.EMBEDDED_CHUNK_BYTES):
        add(connection, blob, start, source.data[start : start + limits.EMBEDDED_CHUNK_BYTES])
    return finish(connection, blob, source.sha256, source.md5, len(source.data))


def begin(connection: sqlite3.Connection) -> int:
    """A new blob that is still being received."""
    key = connection.execute("INSERT INTO blob DEFAULT VALUES").lastrowid
    assert key is not None  # noqa: S101  an INSERT into a rowid table has one
    return key


def add(connection: sqlite3.Connection, blob: int, start: int, data: bytes) -> None:
    connection.execute("INSERT INTO chunk (blob, start, data) VALUES (?, ?, ?)", (blob, start, data))


def finish(connection: sqlite3.Connection, blob: int, sha256: bytes, md5: bytes, length: int) -> int:
    """Name a received blob by its content. Returns the blob to use: an equal one may be there already."""
    known = connection.execute("SELECT key FROM blob WHERE sha256 = ?", (sha256,)).fetchone()
    if known is not None:
        drop(connection, blob)
        return int(known[0])
    connection.execute("UPDATE blob SET sha256 = ?, md5 = ?, length = ? WHERE key = ?", (sha256, md5, length, blob))
    return blob


def drop(connection: sqlite3.Connection, blob: int) -> None:
    connection.execute("DELETE FROM chunk WHERE blob = ?", (blob,))
    connection.execute("DELETE FROM blob WHERE key = ?", (blob,))


def read_chunk(connection: sqlite3.Connection, blob: int, position: int) -> tuple[int, bytes] | None:
    """(start, data) of the chunk that holds `position`, or None past the end."""
    row = connection.execute(
        "SELECT start, data FROM chunk WHERE blob = ? AND start <= ? ORDER BY start DESC LIMIT 1", (blob, position)
    ).fetchone()
    if row is None or position >= row[0] + len(row[1]):
        return None
    return row[0], row[1]


def read_all(connection: sqlite3.Connection, attachment: Attachment, at_most: int) -> bytes | None:
    """The content as a reader sees it, decoded; None when that is longer than `at_most`."""
    if attachment.size > at_most:
        return None
    stored = b"".join(_chunks(connection, attachment.blob))
    if attachment.encoding is None:
        return stored
    content = zlib.decompressobj(wbits=31).decompress(stored, at_most + 1)
    return content if len(content) <= at_most else None


def _chunks(connection: sqlite3.Connection, blob: int) -> Iterator[bytes]:
    for row in connection.execute("SELECT data FROM chunk WHERE blob = ? ORDER BY start", (blob,)):
        yield row[0]
