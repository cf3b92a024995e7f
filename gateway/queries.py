"""What can be asked of a database, parsed and checked: plain values between http/ and database.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gateway import limits
from gateway.errors import GatewayError
from gateway.model.positions import START, Since

FeedKind: TypeAlias = Literal["normal", "longpoll", "continuous", "eventsource", "websocket"]
FROM_THE_BEGINNING = Since(START)


@dataclass(frozen=True, slots=True)
class DocumentQuery:
    """Options of `GET /{db}/{doc}` (https://docs.couchdb.org/en/stable/api/document/common.html#get--db-docid)."""

    rev: str | None = None
    revs: bool = False
    revs_info: bool = False
    conflicts: bool = False
    deleted_conflicts: bool = False
    local_seq: bool = False
    latest: bool = False
    attachments: bool = False
    atts_since: Sequence[str] | None = None  # with attachments, but not those that these revisions have already
    att_encoding_info: bool = False
    open_revs: Sequence[str] | Literal["all"] | None = None

    @property
    def has_meta(self) -> bool:
        """Whether the answer holds more than the revision. With `rev` it never does, as in CouchDB."""
        asked = self.revs_info or self.conflicts or self.deleted_conflicts or self.local_seq
        return asked and (self.rev is None or self.latest)

    @property
    def with_attachments(self) -> bool:
        """Whether the bytes of attachments are asked for."""
        return self.attachments or self.atts_since is not None


@dataclass(frozen=True, slots=True)
class UploadedAttachment:
    """An attachment that a client is sending."""

    content_type: str
    encoding: Literal["gzip"] | None
    size: int | None  # of the bytes as they are sent; None where the client did not say
    pieces: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class BulkGetItem:
    """One member of `docs` in `_bulk_get`. Members of the wrong type become `error`."""

    id: str
    rev: str | None
    error: GatewayError | None = None
    atts_since: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class RevisionPart:
    """One revision of a multipart answer. `error`: `content` says what is wrong with it."""

    id: str
    rev: str | None
    content_type: str
    content: AsyncIterator[bytes]
    size: int | None = None  # of the content, in bytes, where it is known
    error: bool = False


@dataclass(frozen=True, slots=True)
class AllDocsQuery:
    """Options of `_all_docs`. `keys` excludes the range options."""

    keys: Sequence[Any] | None = None
    start: str | None = None  # the lower bound by id; with descending the upper one, as CouchDB's startkey
    end: str | None = None
    inclusive_end: bool = True
    descending: bool = False
    skip: int = 0
    limit: int | None = None
    include_docs: bool = False
    conflicts: bool = False
    attachments: bool = False
    att_encoding_info: bool = False
    update_seq: bool = False

    def chosen(self, names: Sequence[str]) -> list[Any]:
        """Of these names, which are in order, those that the options choose; `keys` as they are."""
        first, last = (self.end, self.start) if self.descending else (self.start, self.end)
        found: list[Any] = list(self.keys) if self.keys is not None else []
        if self.keys is None:
            found = [one for one in names if (first is None or one >= first) and (last is None or one <= last)]
            if not self.inclusive_end:
                found = [one for one in found if one != self.end]
        if self.descending:
            found.reverse()
        return found[self.skip :] if self.limit is None else found[self.skip : self.skip + self.limit]


@dataclass(frozen=True, slots=True)
class Listing:
    """The answer to an AllDocsQuery: `head` is `total_rows`, `offset` and perhaps `update_seq`. `pages` are the rows,
    encoded, in pieces that are read as they are taken; a GatewayError in the middle ends the answer."""

    head: Mapping[str, Any]
    pages: AsyncIterator[Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class ChangesQuery:
    """Options of `_changes`. Seconds, not milliseconds. `since` None is `now`."""

    feed: FeedKind = "normal"
    since: Since | None = FROM_THE_BEGINNING
    limit: int | None = None
    style: Literal["main_only", "all_docs"] = "main_only"
    include_docs: bool = False
    conflicts: bool = False
    attachments: bool = False
    att_encoding_info: bool = False
    active_only: bool = False
    descending: bool = False
    revocations: bool = False
    channels: Collection[str] | None = None  # filter=sync_gateway/bychannel
    doc_ids: Collection[str] | None = None  # filter=_doc_ids
    selector: Mapping[str, Any] | None = None  # filter=_selector
    fields: Sequence[tuple[str, ...]] | None = None  # of the documents included with it
    heartbeat_s: float | None = None
    timeout_s: float = limits.FEED_TIMEOUT_DEFAULT_SECONDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one written document. `rev` is None exactly when `error` is set."""

    id: str
    rev: str | None = None
    error: GatewayError | None = None
    routed: bool = True  # False: stored, but not yet routed (answered 202)


@dataclass(frozen=True, slots=True)
class BulkGetResult:
    """All answers for one `BulkGetItem`: each `{"ok": doc}` or `{"error": {id, rev, error, reason}}`."""

    id: str
    docs: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Trial:
    """A document to put to a sync function. `user`: None for an administrator, the name of a user, or an object with
    `name`, `channels`, `roles`. `function` None: the database's own."""

    doc: dict[str, Any]
    old_doc: dict[str, Any] | None
    user: Any
    function: str | None


ResyncKind: TypeAlias = Literal["entered", "left", "refused", "failed", "changed", "expiring"]


@dataclass(frozen=True, slots=True)
class ResyncStart:
    """What to route anew by: a `version` of the sync function, a `source`, or what is wanted. A `preview` changes
    nothing. `accept_failures`: hide documents on which the function fails; `accept_deletions`: delete those that are
    over by it already."""

    preview: bool = False
    version: int | None = None
    source: str | None = None
    accept_failures: bool = False
    accept_deletions: bool = False
