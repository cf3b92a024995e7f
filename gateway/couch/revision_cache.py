"""Bodies that were read once: a revision never changes, so N clients that pull it cost one upstream read."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import json_text, limits
from gateway.couch.batching import Batcher
from gateway.couch.upstream import Document, RevisionRef
from gateway.errors import UnreadableDocument

_OVERHEAD_BYTES = 600  # objects and dictionary places of one entry
_LARGEST_SHARE = 16  # an entry above this part of the cache would push out too many others


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """One revision as JSON texts: to be sent as it is, or parsed for one caller. Attachments are stubs."""

    body: bytes  # the document without `_revisions`
    revisions: bytes  # the value of `_revisions`, or b""

    @classmethod
    def of(cls, doc: Document) -> StoredRevision:
        """Raises UnreadableDocument for what Python cannot write as JSON again."""
        try:
            body = json_text.encode({key: value for key, value in doc.items() if key != "_revisions"})
            revisions = json_text.encode(doc["_revisions"]) if "_revisions" in doc else b""
        except (ValueError, RecursionError) as error:
            raise UnreadableDocument(f"document {doc.get('_id')!r}: {error}") from None
        return cls(body, revisions)

    def json(self, *, revisions: bool = False) -> bytes:
        """The JSON text of the document, with `_revisions` only on demand."""
        if revisions and self.revisions:
            return b'%s,"_revisions":%s}' % (self.body[:-1], self.revisions)
        return self.body

    def document(self, *, revisions: bool = True) -> Document:
        """The document, parsed anew: it belongs to the caller."""
        document: Document = json.loads(self.json(revisions=revisions))
        return document

    @property
    def size(self) -> int:
        return len(self.body) + len(self.revisions)


class RevisionCache:
    """Least recently used revisions of all databases, bounded in bytes. Holds texts: no caller can change them."""

    def __init__(self, max_bytes: int = limits.REVISION_CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.drops = 0  # how often something was dropped: a read begun before must not put it back
        self._entries: OrderedDict[tuple[str, str, str], StoredRevision] = OrderedDict()
        self._revs: dict[tuple[str, str], set[str]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, database: str, doc_id: str, rev: str) -> StoredRevision | None:
        key = (database, doc_id, rev)
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, database: str, doc: Document) -> StoredRevision:
        """Keep a document that has `_id`, `_rev`, `_revisions` and attachment stubs; the caller keeps his dict."""
        stored = StoredRevision.of(doc)
        self.put_stored(database, doc["_id"], doc["_rev"], stored)
        return stored

    def put_stored(self, database: str, doc_id: str, rev: str, stored: StoredRevision) -> None:
        """Keep it, unless it is too large a part of the cache."""
        size = _size(doc_id, stored)
        if size * _LARGEST_SHARE > self.max_bytes:
            return
        self._remove((database, doc_id, rev))
        self._entries[database, doc_id, rev] = stored
        self._revs.setdefault((database, doc_id), set()).add(rev)
        self.bytes += size
        while self.bytes > self.max_bytes:
            self._remove(next(iter(self._entries)))

    def drop(self, database: str, doc_id: str) -> None:
        """Forget every revision of a document (it was purged)."""
        self.drops += 1
        for rev in list(self._revs.get((database, doc_id), ())):
            self._remove((database, doc_id, rev))

    def drop_database(self, database: str) -> None:
        """Forget a database: it was deleted, or replaced by another of that name."""
        self.drops += 1
        for key in [key for key in self._entries if key[0] == database]:
            self._remove(key)

    def _remove(self, key: tuple[str, str, str]) -> None:
        stored = self._entries.pop(key, None)
        if stored is None:
            return
        database, doc_id, rev = key
        self.bytes -= _size(doc_id, stored)
        revs = self._revs[database, doc_id]
        revs.discard(rev)
        if not revs:
            del self._revs[database, doc_id]


def _size(doc_id: str, stored: StoredRevision) -> int:
    return stored.size + 2 * len(doc_id) + _OVERHEAD_BYTES


class RevisionReader:
    """Revisions through the cache. Misses become one bulk read; readers of one revision at one time share it."""

    def __init__(self, batcher: Batcher, cache: RevisionCache) -> None:
        self._batcher = batcher
        self._cache = cache
        self._name = batcher.database.name

    async def document(self, ref: RevisionRef) -> Document | None:
        """The revision with `_revisions` and attachment stubs, the caller's own; None when it is not stored."""
        return (await self.documents([ref]))[0]

    async def documents(self, refs: Sequence[RevisionRef]) -> list[Document | None]:
        """`document` for each, in order."""
        return [None if stored is None else stored.document() for stored in await self.revisions(refs)]

    async def documents_each(self, refs: Sequence[RevisionRef]) -> list[Document | UnreadableDocument | None]:
        """`documents`, but one that cannot be read is a value and spoils no other."""
        return [
            stored.document() if isinstance(stored, StoredRevision) else stored
            for stored in await self.revisions_each(refs)
        ]

    async def revisions_each(self, refs: Sequence[RevisionRef]) -> list[StoredRevision | UnreadableDocument | None]:
        """`revisions`, but one that cannot be read is a value and spoils no other."""
        try:
            return list(await self.revisions(refs))
        except UnreadableDocument as error:
            if len(refs) == 1:
                return [error]
            half = len(refs) // 2
            return [*await self.revisions_each(refs[:half]), *await self.revisions_each(refs[half:])]

    async def revision(self, ref: RevisionRef) -> StoredRevision | None:
        """The revision as JSON text, for sending it on."""
        return (await self.revisions([ref]))[0]

    async def revisions(self, refs: Sequence[RevisionRef]) -> list[StoredRevision | None]:
        """`revision` for each, in order. Raises what UpstreamDatabase.read raises."""
        found = {ref: self._cache.get(self._name, ref.id, ref.rev) for ref in dict.fromkeys(refs)}
        missing = [ref for ref, stored in found.items() if stored is None]
        if missing:
            drops = self._cache.drops
            for ref, doc in zip(missing, await self._batcher.read_many(missing), strict=True):
                if doc is None:
                    continue
                stored = found[ref] = StoredRevision.of(doc)
                if drops == self._cache.drops:
                    self._cache.put_stored(self._name, ref.id, ref.rev, stored)
        return [found[ref] for ref in refs]
