"""What the gateway asks of a CouchDB, whichever one it is. Nothing above this module knows which.

Documents are plain dicts in CouchDB's JSON form: `_id`, `_rev`, `_deleted` (only when true), `_revisions`
(`{"start": generation, "ids": [newest digest, …]}`), `_attachments` (stubs unless said otherwise), and the body.
Failures raise `UpstreamError` or another `GatewayError`; per-document failures are values.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database this really is: differs when it was deleted and created again, or is on another server (W8)."""

    server_uuid: str
    instance_start_time: str


@dataclass(frozen=True, slots=True)
class RevisionRef:
    id: str
    rev: str


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The answer to one document of a bulk write. `rev` is None exactly when it failed."""

    id: str
    rev: str | None
    error: str = ""
    reason: str = ""
    quorum: bool = True  # False: CouchDB answered 202, stored on fewer nodes than wanted


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A hint that a document changed. `revs` are all its leaves at that time (`style=all_docs`), winner first."""

    id: str
    revs: tuple[str, ...]
    deleted: bool
    seq: str | None  # None between rows under seq_interval: never persist it (W9)


@dataclass(frozen=True, slots=True)
class Idle:
    """A heartbeat: the feed is alive and everything before it was handed out."""


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    doc_count: int
    doc_del_count: int
    update_seq: str
    purge_seq: str  # compared for equality only
    instance_start_time: str
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(slots=True)
class UpstreamResponse:
    """A raw answer for pass-through. `content` must be read to its end or closed with `aclose()`."""

    status: int
    headers: Mapping[str, str]  # lower-case names; without hop-by-hop headers
    content: AsyncIterator[bytes]


class UpstreamDatabase(Protocol):
    """One database of the upstream."""

    name: str

    async def identity(self) -> Identity:
        """Server uuid and `instance_start_time`, read afresh. Raises NotFound when the database is gone."""

    async def info(self) -> DatabaseInfo:
        """`GET /{db}`. Raises NotFound when the database is gone."""

    async def write(self, docs: Sequence[Document], *, new_edits: bool) -> list[WriteResult]:
        """`POST /{db}/_bulk_docs`; one result for each document, in the order of `docs`.

        With `new_edits=False` each document has `_rev` and usually `_revisions`; CouchDB says nothing about those it
        took (or already had), so their result carries the `_rev` sent. A connection that breaks after sending
        raises UpstreamOutcomeUnknown; before sending, it is tried again and in the end raises UpstreamUnreachable.
        """

    async def read(self, wanted: Sequence[RevisionRef], *, attachments: bool = False) -> list[Document | None]:
        """Exactly these revisions, in order, each with `_revisions`; None for one that is not stored (any more).

        Attachments are stubs, or with `attachments=True` inline base64 (`data`).
        """

    async def leaves(self, ids: Sequence[str]) -> list[list[Document]]:
        """Every leaf of each document, deleted ones too, each with `_revisions`; `[]` for an unknown id."""

    async def revs_diff(self, revs: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
        """`POST /{db}/_revs_diff`: `{id: {"missing": [rev], "possible_ancestors": [rev]}}`, for ids that miss one."""

    def changes(self, since: str) -> AsyncGenerator[ChangeRow | Idle, None]:
        """The continuous feed with `style=all_docs` from `since` ("0" is the beginning), for as long as it is iterated.

        An Idle follows whenever nothing is left to hand out, at least every UPSTREAM_HEARTBEAT_SECONDS. Raises
        UpstreamUnreachable when the connection breaks or is silent for UPSTREAM_SILENCE_SECONDS; does not reconnect.
        """

    async def has_changes(self, since: str) -> bool:
        """Whether the feed has any row after `since`. An Idle does not tell: CouchDB sends heartbeats before its rows
        too, while it is still looking for them."""

    async def purged(self) -> list[tuple[str, list[str]]]:
        """`GET /{db}/_purged_infos`: (id, revs) of what was purged and is still remembered."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        """One raw request below `/{db}`: `path` is percent-encoded and starts with `/` or is empty.

        Never raises for an HTTP status; raises UpstreamUnreachable when there is no answer.
        """


class Upstream(Protocol):
    """A CouchDB server."""

    async def check(self) -> None:
        """Raise UpstreamUnreachable or UpstreamRefused, naming the URL without its password, unless it can be used."""

    async def open(self, name: str, *, create: bool) -> UpstreamDatabase:
        """The database `name`, created if missing and `create`; NotFound, UpstreamRefused or UpstreamUnreachable."""

    async def delete(self, name: str) -> None:
        """Delete the database. Raises NotFound."""

    async def all_dbs(self) -> list[str]:
        """Names of all databases, sorted."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
    ) -> UpstreamResponse:
        """One raw request to the server; see UpstreamDatabase.request."""

    async def close(self) -> None:
        """Release connections and files. Feeds that are being iterated end with UpstreamUnreachable."""
