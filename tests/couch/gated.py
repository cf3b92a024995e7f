"""A database in memory whose answers wait until a test lets them go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.couch.upstream import (
    ChangeRow,
    DatabaseInfo,
    Document,
    Identity,
    Idle,
    RevisionRef,
    UpstreamResponse,
    WriteResult,
)
from gateway.errors import BadRequest, GatewayError, TooLarge, UnreadableDocument


@dataclass(eq=False)
class Bulk:
    """One bulk request in flight."""

    kind: str  # "edits", "revisions", "read", "attachments" or "leaves"
    items: list[Any]
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None

    @property
    def ids(self) -> list[str]:
        return [item["_id"] if isinstance(item, dict) else getattr(item, "id", item) for item in self.items]


class GatedDatabase:
    """Answers tell what was asked: a written document gets a rev from its `n`, a read one tells how often it was read.

    A document with `"bad"` fails every bulk it is in, as one document fails a whole `_bulk_docs` of CouchDB.
    """

    name = "db"

    def __init__(self, *, open_gates: bool = False) -> None:
        self.bulks: list[Bulk] = []  # all ever sent
        self.flying: list[Bulk] = []
        self.open_gates = open_gates
        self.missing: set[RevisionRef] = set()
        self.reads = 0

    async def _wait(self, kind: str, items: Sequence[Any]) -> None:
        bulk = Bulk(kind, list(items))
        self.bulks.append(bulk)
        self.flying.append(bulk)
        try:
            if not self.open_gates:
                await bulk.gate.wait()
        finally:
            self.flying.remove(bulk)
        if bulk.error is not None:
            raise bulk.error

    async def write(self, docs: Sequence[Document], *, new_edits: bool) -> list[WriteResult]:
        await self._wait("edits" if new_edits else "revisions", docs)
        if any(doc.get("bad") for doc in docs):
            raise TooLarge("a document is too large")
        return [WriteResult(doc["_id"], f"1-{doc['n']}") for doc in docs]

    async def read(self, wanted: Sequence[RevisionRef], *, attachments: bool = False) -> list[Document | None]:
        gone = set(self.missing)  # as of now: what is written later is not seen by a read that is on its way
        await self._wait("attachments" if attachments else "read", wanted)
        if any(ref.id == "deep" for ref in wanted):
            raise UnreadableDocument("document 'deep'")
        self.reads += 1
        return [
            None
            if ref in gone
            else {"_id": ref.id, "_rev": ref.rev, "_revisions": {"start": 1, "ids": ["a"]}, "read": self.reads}
            for ref in wanted
        ]

    async def leaves(self, ids: Sequence[str]) -> list[list[Document]]:
        await self._wait("leaves", ids)
        if "bad" in ids:
            raise BadRequest("illegal id")
        self.reads += 1
        return [[{"_id": doc_id, "_rev": "1-a", "read": self.reads}] for doc_id in ids]

    async def identity(self) -> Identity:
        raise NotImplementedError

    async def info(self) -> DatabaseInfo:
        raise NotImplementedError

    async def revs_diff(self, revs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
        raise NotImplementedError

    def changes(self, since: str) -> AsyncGenerator[ChangeRow | Idle, None]:
        raise NotImplementedError

    async def has_changes(self, since: str) -> bool:
        raise NotImplementedError

    async def purged(self) -> list[tuple[str, list[str]]]:
        raise NotImplementedError

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        raise NotImplementedError

    async def settled(self) -> None:
        """Let the loop turn until everything that can happen now has happened."""
        for _ in range(12):
            await asyncio.sleep(0)

    async def release(self, bulk: Bulk, error: GatewayError | None = None) -> None:
        bulk.error = error
        bulk.gate.set()
        await self.settled()

    async def release_all(self) -> None:
        self.open_gates = True
        while self.flying:
            for bulk in list(self.flying):
                bulk.gate.set()
            await self.settled()
