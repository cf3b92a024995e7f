"""Database: all that one configured database offers. The only thing http/ calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.callers import Caller
from gateway.couch.upstream import Document, UpstreamResponse
from gateway.queries import (
    AllDocsQuery,
    BulkGetItem,
    BulkGetResult,
    ChangesQuery,
    DocumentQuery,
    Outcome,
)


@dataclass(frozen=True, slots=True)
class FeedRows:
    """Rows to send, each encoded JSON without a line end, in order. Sent completely before the next event is asked."""

    rows: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing to tell for heartbeat_s: send one line end."""


class Feed(Protocol):
    """One running `_changes` request.

    Iterate `events()` to its end; `last_seq` and `pending` are what to answer after it. Taking the next event says
    that the one before was written, only then the feed advances. Raises Unauthorized in the middle when the user
    is deleted, disabled or changes the password.
    """

    last_seq: str
    pending: int

    def events(self) -> AsyncIterator[FeedRows | Heartbeat]: ...


class Database(Protocol):
    """What http/ may rely on. Every method raises `GatewayError`s, whose bodies are ready to be answered."""

    name: str

    # Who

    async def login(self, name: str, password: str) -> Caller:
        """The caller, or InvalidLogin (also for disabled and unknown users)."""

    async def guest(self) -> Caller:
        """The guest, or Unauthorized when the guest is disabled."""

    async def session(self, caller: Caller) -> dict[str, Any]:
        """CouchDB's `_session` JSON with Sync Gateway's `channels` in `userCtx`."""

    # Users and roles: Sync Gateway's JSON; kind is "user" or "role"

    async def list_principals(self, kind: str, *, name_only: bool, limit: int | None) -> list[Any]: ...

    async def get_principal(self, kind: str, name: str) -> dict[str, Any]: ...

    async def put_principal(self, kind: str, name: str | None, body: Any, *, must_be_new: bool) -> bool:
        """Create or merge; True if created. `body` is the parsed JSON, `name` None when it comes from the body."""

    async def delete_principal(self, kind: str, name: str) -> None: ...

    # Reads

    async def info(self, caller: Caller) -> dict[str, Any]:
        """`GET /{db}`."""

    async def document(self, caller: Caller, doc_id: str, query: DocumentQuery) -> Document:
        """One revision. Raises NotFound, Deleted, Forbidden. Not for `open_revs`, `_local/` and `_design/`."""

    async def open_revs(self, caller: Caller, doc_id: str, query: DocumentQuery) -> list[dict[str, Any]]:
        """`[{"ok": doc} | {"missing": rev}]`; NotFound for "all" of a document that the caller cannot see."""

    async def attachment(
        self, caller: Caller, doc_id: str, name: str, rev: str | None, method: str, headers: Mapping[str, str]
    ) -> UpstreamResponse:
        """GET or HEAD of one attachment of a readable revision, streamed from the upstream."""

    async def bulk_get(
        self, caller: Caller, items: Sequence[BulkGetItem], *, revs: bool, attachments: bool, latest: bool
    ) -> list[BulkGetResult]: ...

    async def all_docs(self, caller: Caller, query: AllDocsQuery) -> dict[str, Any]:
        """`{"total_rows", "offset", "rows"}` (with keys CouchDB's error rows), counting only what may be read."""

    async def revs_diff(self, caller: Caller, revs: Mapping[str, Sequence[str]]) -> dict[str, Any]: ...

    def changes(self, caller: Caller, query: ChangesQuery) -> Feed: ...

    # Writes

    async def write(self, caller: Caller, doc: Document, *, new_edits: bool = True) -> Outcome:
        """One document with its `_id`, under the sync function. Raises the error instead of answering it."""

    async def bulk_docs(self, caller: Caller, docs: Sequence[Any], *, new_edits: bool) -> list[Outcome]:
        """Results in order; members that are no objects or have bad ids become errors of their own."""

    async def put_attachment(
        self, caller: Caller, doc_id: str, name: str, rev: str | None, content_type: str, data: bytes
    ) -> Outcome:
        """A new revision with the attachment added or replaced, under the sync function."""

    async def delete_attachment(self, caller: Caller, doc_id: str, name: str, rev: str | None) -> Outcome: ...

    # Local documents, one namespace for each caller

    async def local_get(self, caller: Caller, doc_id: str) -> Document:
        """`doc_id` with its `_local/`. Raises NotFound."""

    async def local_put(self, caller: Caller, doc: Document) -> str:
        """The new revision `0-N`. Raises Conflict."""

    async def local_delete(self, caller: Caller, doc_id: str, rev: str | None) -> None: ...

    async def local_docs(self, caller: Caller) -> dict[str, Any]:
        """`{"total_rows", "offset", "rows"}`."""

    # Administration

    async def purge(self, revs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Purge upstream and in the index; CouchDB's answer. Returns once it is routed."""

    async def upstream_request(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes | None
    ) -> UpstreamResponse:
        """Pass-through below the upstream's `/{db}`, for administrators only."""

    def status(self) -> dict[str, Any]:
        """`{"name", "state": "starting|online|upstream_unreachable|…", "seq", "caught_up", "upstream", …}`."""
