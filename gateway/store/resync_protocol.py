"""What the store keeps of a resync: the job, and beside the serving tables what would differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from gateway.model.routing import Routing

ResyncState: TypeAlias = Literal["running", "stopped", "held", "completed", "error"]
ListKind: TypeAlias = Literal["entered", "left", "refused", "failed", "changed", "expiring"]


@dataclass(frozen=True, slots=True)
class ResyncJob:
    """The resync of a database, running or ended. Times are unix seconds.

    `version` None: the source is only tried and is no version. `cursor`: every document whose sequence is not above it
    is computed; -1 while what an earlier job left is still being removed.
    """

    version: int | None
    digest: str
    source: str
    preview: bool
    state: ResyncState
    cursor: int
    accept_failures: bool
    started_at: float
    ended_at: float | None = None
    error: str | None = None
    accept_deletions: bool = False


@dataclass(frozen=True, slots=True)
class RoutedLeaf:
    """A leaf as it is routed now, by name."""

    rev: str
    deleted: bool
    superseded: bool
    routing: Routing
    refused: str | None


@dataclass(frozen=True, slots=True)
class RoutedDocument:
    """A document to compute; a ghost has no leaves. `alive`: the winner is no tombstone."""

    document: int
    id: str
    seq: int
    winner: str | None
    alive: bool
    leaves: Sequence[RoutedLeaf]


@dataclass(frozen=True, slots=True)
class NewRouting:
    """What another function says of a leaf, where it differs. `moved`: in more than the expiry or why it is refused."""

    rev: str
    routing: Routing
    refused: str | None
    moved: bool


@dataclass(frozen=True, slots=True)
class Computed:
    """What came out of computing a document as it was at `seq`. Nothing set: nothing differs.

    `refused` and `failed` say why the function refuses a leaf, or on which error it ended. `channels` are those of the
    winner, if it is alive and they differ. `expires` is when the first of its leaves that are alive will be deleted, in
    unix seconds, of those that would not be, or at another time, by the function in force.
    """

    document: int
    seq: int
    leaves: Sequence[NewRouting] = ()
    changed: bool = False
    refused: str | None = None
    failed: str | None = None
    channels: frozenset[str] | None = None
    expires: float | None = None

    @property
    def is_told(self) -> bool:
        """Whether there is anything to keep of it."""
        return bool(self.leaves) or self.refused is not None or self.failed is not None


@dataclass(frozen=True, slots=True)
class ResyncCounts:
    """`total` and `left` are documents that have leaves, and those of them not computed yet. `channels_entered` and
    `_left` count pairs of document and channel; `access_gained` and `_lost` of a user or role and a channel or role."""

    total: int
    left: int
    changed: int
    refused: int
    failed: int
    expiring: int
    channels_entered: int
    channels_left: int
    access_gained: int
    access_lost: int


class ResyncStore(Protocol):
    """The resync of one database."""

    async def job(self) -> ResyncJob | None: ...

    async def begin(self, job: ResyncJob) -> None:
        """Put this job in the place of the one before. With a cursor of -1 call `clear` until it answers True."""

    async def note(self, state: ResyncState, *, error: str | None = None, ended_at: float | None = None) -> None:
        """Change the state of a job that is running."""

    async def clear(self, limit: int) -> bool:
        """Remove what an earlier job left, of at most `limit` documents; True when that was all: the cursor is 0."""

    async def batch(self, after: int, limit: int) -> list[RoutedDocument]:
        """The first documents with a sequence above `after`, in order."""

    async def put(self, computed: Sequence[Computed], cursor: int) -> None:
        """Keep what came of these documents, instead of what was kept of them, and the cursor, in one transaction.

        What came of a document that has changed meanwhile is not kept: it comes again.
        """

    async def settle(self, now: float) -> None:
        """Everything is computed: find out who gains and loses access by it at `now` (unix seconds)."""

    async def apply(self, version: int, now: float) -> bool:
        """Make the computed routing the recorded one and the version the one in force, in one transaction.

        Grants that are over at `now` (unix seconds) are none. False, and nothing is done, when documents changed that
        are not computed. Raises Conflict when another version
        is wanted by now. The publication is delivered before this returns.
        """

    async def count_expired(self, now: float) -> int:
        """How many documents would be over at `now` (unix seconds) by the computed routing, and deleted at once."""

    async def counts(self) -> ResyncCounts: ...

    async def list_documents(
        self, kind: ListKind, channel: str | None, start: int, limit: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Documents of that kind, of those entering or leaving perhaps only in one channel, from the number `start` on,
        and the number with which to go on."""

    async def list_channels(self, start: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Channels from the name `start` on that documents enter or leave, with how many."""

    async def list_access(self, start: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """What users and roles gain and lose, by sources of their own, from the number `start` on."""
