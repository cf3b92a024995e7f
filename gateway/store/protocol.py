"""The metadata store: principals, the routing index, local documents. One protocol, held by tests/store to its words.

Reads happen in snapshots: a function is given an `Index` and runs in a reading thread, everything it reads is of one
moment (routing-rules A17). Writes are whole transactions, one after the other for each database: the row lock first,
then reading, then giving out sequences, so sequence order is commit order (W12).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from gateway.couch.upstream import Identity
from gateway.model.apply import Found, Recorded
from gateway.model.intervals import OPEN, Access, ChannelId, Interval
from gateway.model.leaves import Leaf
from gateway.model.routing import Routing
from gateway.store.resync_protocol import ResyncStore

T = TypeVar("T")
DocumentId: TypeAlias = int
PrincipalKind: TypeAlias = Literal["user", "role"]
CreatedState: TypeAlias = Literal["creating", "serving", "deleting"]
SyncOrigin: TypeAlias = Literal["config", "api"]


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """The row of one database, as of one moment."""

    last_seq: int
    access_seq: int
    epoch: str
    upstream_since: str
    identity: Identity | None
    purge_seq: str
    doc_count: int
    doc_del_count: int
    import_rules: str  # a digest of the rules of import last followed; empty: none ever were
    sync_version: int  # of the sync function that is in force; 0 before the first
    sync_wanted: int | None  # the version that shall be in force once everything is routed by it


@dataclass(frozen=True, slots=True)
class SyncVersion:
    """A sync function as the database keeps it. `digest` is the source's SHA-256, `made_at` unix seconds.

    `origin` is where the source came from first: the config file or the admin API.
    """

    number: int
    digest: str
    source: str
    made_at: float
    origin: SyncOrigin


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A routed document. `winner` is None for a ghost, whose leaves were all purged."""

    document: DocumentId
    id: str
    seq: int
    winner: str | None
    deleted: bool
    leaves: int
    purged: bool


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """What the upstream has of one document now; routings are by name, the store interns them."""

    id: str
    leaves: Sequence[tuple[Found, Routing | None, str | None]]  # (leaf, its routing if it is new, why refused)
    purged: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One document's change, as it is published to waiting feeds."""

    seq: int
    id: str
    document: DocumentId
    winner: str | None
    single: bool  # one leaf only, never purged: the row can be made without the store
    live: frozenset[ChannelId]
    gone: frozenset[ChannelId]  # channels in which the entry is now deleted or removed


@dataclass(frozen=True, slots=True)
class Publication:
    """One committed transaction: what feeds and caches must learn of it."""

    database: str
    first_seq: int
    last_seq: int
    entries: Sequence[Entry] = ()
    users: frozenset[str] = frozenset()  # whose access or properties changed, also through a role
    next_end: float | None = None  # unix seconds; the earliest moment at which something of it ends by itself
    entries_left_out: bool = False  # very many documents changed: every feed is to read the store again


@dataclass(frozen=True, slots=True)
class Principal:
    """A user or role with what is computed for it. `properties` are the caller's own (JSON)."""

    kind: PrincipalKind
    name: str
    seq: int
    properties: Mapping[str, Any]
    admin_channels: frozenset[str]
    admin_roles: frozenset[str]
    channels: Mapping[str, int]  # every channel it has now, through roles too, with the sequence since when
    roles: frozenset[str]  # roles it has now, existing ones only
    login_seq: int = 0  # of a user: logins made at another one are over (new password, disabled, created again)


@dataclass(frozen=True, slots=True)
class PrincipalChange:
    """What to make of a principal; None leaves a set as it is. `properties` are merged in; a None value drops one."""

    properties: Mapping[str, Any] = field(default_factory=dict)
    admin_channels: Collection[str] | None = None
    admin_roles: Collection[str] | None = None


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A login that goes on. `token` is the SHA-256 of what the client holds, `expires_at` unix seconds.

    `logins`: for each database in which the session is a user, the user's login_seq it was made at; 0 never holds.
    """

    token: bytes
    name: str
    logins: Mapping[str, int]
    ttl_s: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class ServerUser:
    """A document of `_users`: `body` is without `_` members and password, of which only the hash is kept."""

    name: str
    rev: str
    deleted: bool
    body: Mapping[str, Any]
    password: str | None = field(repr=False)


class Expiring(NamedTuple):
    """A current leaf, no tombstone, that expires at `expiry` (unix seconds). The first three are its place in order."""

    expiry: float
    document: DocumentId
    rev: str
    id: str


class LiveRow(NamedTuple):
    """A document alive in some channel, with what a row of a feed needs. A page is made of hundreds of them."""

    seq: int
    document: DocumentId
    id: str
    winner: str
    leaves: int
    purged: int  # 0 or 1


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """One document in one channel."""

    channel: ChannelId
    seq: int
    deleted: bool
    removed: bool


@dataclass(frozen=True, slots=True)
class NotImported:
    """A leaf that somebody wrote straight to the upstream and that was not taken in. `seen_at` is unix seconds."""

    rev: str
    reason: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class IdRange:
    """Documents by id, compared as UTF-8 bytes. When descending from `start` down to `end`."""

    start: str | None = None
    end: str | None = None
    inclusive_end: bool = True
    descending: bool = False
    skip: int = 0
    limit: int = 1_000
    after: str | None = None  # only what comes after this id, in the direction of the range


@dataclass(frozen=True, slots=True)
class Account:
    """A user or role as explain sees it. `life` is empty when it was only ever named by grants."""

    name: str
    life: Sequence[Interval]
    disabled: bool
    origin: str | None  # config, security or server; None: made through the admin API

    @property
    def exists(self) -> bool:
        return bool(self.life) and self.life[-1][1] == OPEN


@dataclass(frozen=True, slots=True)
class Held:
    """What a user or role has by grants now: `target` is a channel's name, or with `held_roles` a role's.

    `sources`: (source, since, end in unix seconds or None) of the first SOURCES_COUNT; a source is `admin`, `security`,
    `server`, `doc:<DocumentId>` or `token:<issuer>`. `more`: there are others.
    """

    name: str
    target: str
    since: int
    sources: Sequence[tuple[str, int, float | None]]
    more: bool


class Index(Protocol):
    """The routing index at one moment. Not to be kept beyond the function it was given to."""

    state: DatabaseState
    star: ChannelId
    public: ChannelId

    def access(self, user: str) -> Access | None:
        """All of the user's access, past and present; None when there never was such a user."""

    def channel_ids(self, names: Iterable[str]) -> dict[str, ChannelId]:
        """Ids of those channels that are known."""

    def channel_names(self, ids: Iterable[ChannelId]) -> dict[ChannelId, str]: ...

    def documents(self, ids: Collection[DocumentId]) -> dict[DocumentId, DocumentRow]: ...

    def find(self, doc_ids: Collection[str]) -> dict[str, DocumentRow]:
        """Rows of these documents by their ids; unknown ones are left out."""

    def leaves(self, ids: Collection[DocumentId], *, superseded: bool = False) -> dict[DocumentId, list[Leaf]]:
        """Current leaves, the winner first; with `superseded` also those within their grace time, after them."""

    def live(
        self, channels: Collection[ChannelId], after: int, upto: int, limit: int
    ) -> Sequence[tuple[int, DocumentId]]:
        """Distinct (seq, document) of live entries in any of `channels` with after < seq <= upto, by seq."""

    def live_rows(self, channels: Collection[ChannelId], after: int, upto: int, limit: int) -> Sequence[LiveRow]:
        """As `live`, with what a row of a feed needs."""

    def count_live(self, channels: Collection[ChannelId], after: int, upto: int, cap: int) -> int:
        """How many `live` would list, at most `cap`."""

    def live_descending(
        self, channels: Collection[ChannelId], before: int, limit: int
    ) -> Sequence[tuple[int, DocumentId]]:
        """As `live`, newest first, with seq < before."""

    def live_by_id(self, channels: Collection[ChannelId], query: IdRange) -> Sequence[DocumentRow]:
        """Documents with a live entry in any of `channels`, by id."""

    def count_live_by_id(self, channels: Collection[ChannelId], below: IdRange | None = None) -> int:
        """How many documents have a live entry in any of `channels`, with `below` only those that come before its
        start."""

    def with_gone(self, channels: Collection[ChannelId], after: int, upto: int) -> set[ChannelId]:
        """Those of `channels` in which an entry with after < seq <= upto is deleted or removed."""

    def gone(
        self, channel: ChannelId, after: int, upto: int, limit: int, *, deleted_only: bool
    ) -> Sequence[tuple[int, DocumentId]]:
        """(seq, document) of entries deleted or removed in `channel`, after < seq <= upto, by seq; with
        `deleted_only` of those documents alone that are deleted now."""

    def entries(self, channel: ChannelId, after: int, limit: int) -> Sequence[tuple[int, DocumentId, bool]]:
        """(seq, document, whether deleted or removed) of every entry of `channel` with seq > after, by seq."""

    def entries_of(self, ids: Collection[DocumentId]) -> dict[DocumentId, list[DocumentEntry]]:
        """All entries of each document."""

    def channels_of(self, ids: Collection[DocumentId]) -> dict[DocumentId, set[ChannelId]]:
        """The channels in which each document has a live entry now."""

    def spans(self, ids: Collection[DocumentId]) -> dict[DocumentId, list[tuple[ChannelId, int, int]]]:
        """(channel, from, until) in which each document, alive, was in a channel; OPEN for no end."""

    def not_imported(self, doc: str) -> Sequence[NotImported]:
        """Leaves of a document, known or not, that are upstream and were not taken in."""

    # Who has what, and from whom. Lists begin with the name `start`, in the order of UTF-8 bytes.

    def accounts(self, kind: PrincipalKind, names: Collection[str]) -> dict[str, Account]:
        """Users or roles of these names; those that nothing ever named are left out."""

    def account_names(self, kind: PrincipalKind, start: str, limit: int) -> Sequence[str]:
        """Every name of a user or role, also of those that do not live, at most `limit`."""

    def holders(
        self, kind: PrincipalKind, channels: Collection[ChannelId], start: str, limit: int
    ) -> tuple[Sequence[str], str | None]:
        """Living users that have any of `channels` now, own or through a living role (of roles: own ones), by name.

        At most `limit`, and the name with which to go on, None at the end. There may be more to come even if there are
        fewer: of roles, and where very many users have them, HOLDERS_EXAMINED_COUNT names are looked at.
        """

    def count_holders(self, channel: ChannelId, cap: int) -> int:
        """How many users `holders` would list, at most `cap`."""

    def held_channels(
        self, kind: PrincipalKind, names: Collection[str], channels: Collection[ChannelId]
    ) -> Sequence[Held]:
        """What these users or roles, living or not, have of `channels` by grants of their own; never the public one as
        such."""

    def held_roles(self, users: Collection[str], channels: Collection[ChannelId]) -> Sequence[Held]:
        """Their roles, living or not, that have any of `channels`."""

    def list_channels(self, prefix: str, start: str, limit: int) -> Sequence[tuple[ChannelId, str]]:
        """Channels that anything ever named, by name."""


class DatabaseStore(Protocol):
    """One configured database."""

    name: str

    @property
    def resync(self) -> ResyncStore:
        """What is computed beside the routing, while another sync function is prepared."""

    async def state(self) -> DatabaseState: ...

    async def read(self, function: Callable[[Index], T]) -> T:
        """`function(index)` in a reading thread, within one snapshot."""

    async def recorded(self, ids: Collection[str]) -> dict[str, Recorded]:
        """What the index knows of these documents; unknown ones are left out. Names are interned ids."""

    async def apply(
        self, documents: Sequence[FoundDocument], *, upstream_since: str | None, now: float
    ) -> dict[str, frozenset[str]]:
        """Make what was found the recorded state, in one transaction, and remember the upstream position.

        Documents whose leaves are the recorded ones take no sequence. Answers the leaves now recorded for each id.
        `now` (unix seconds) marks superseded leaves, and grants that are over by then are none. The publication is
        delivered before this returns.
        """

    async def next_grant_end(self) -> float | None:
        """When the next grant is over, in unix seconds; also one that should be over already."""

    async def end_grants(self, now: float, limit: int) -> int:
        """Take away grants that are over at `now` (unix seconds), the earliest first, in one transaction.

        How many there were, at most `limit`. All at one sequence; none take none.
        """

    async def expiring(self, after: tuple[float, int, str] | None, limit: int) -> list[Expiring]:
        """Leaves that expire, due or not, by (expiry, document, rev), those after `after`."""

    async def remember(
        self,
        *,
        identity: Identity | None = None,
        purge_seq: str | None = None,
        import_rules: str | None = None,
    ) -> None:
        """Store facts about the upstream or the rules of import in use; None leaves one as it is."""

    async def note_own(self, writes: Collection[tuple[str, str]], now: float) -> None:
        """Remember writes, (document, digest of the body), that are about to be sent upstream."""

    async def own(self, writes: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of these that `note_own` was told of."""

    async def forget_own(self, before: float) -> int:
        """Drop those noted before that time (unix seconds); how many."""

    async def note_not_imported(self, found: Mapping[str, Mapping[str, str]], now: float) -> None:
        """Make this all that is not taken in of these documents: document → revision → reason."""

    async def not_imported_ids(self, after: str, limit: int) -> list[str]:
        """Documents with leaves that were not taken in, in order, after the given one."""

    async def forget_not_imported(self) -> None:
        """The upstream is another one: nothing of it is known."""

    async def sync_versions(self) -> list[SyncVersion]:
        """The versions of the sync function that are kept, by number."""

    async def sync_version(self, number: int) -> SyncVersion:
        """Raises NotFound."""

    async def want_sync(self, source: str, origin: SyncOrigin, now: float) -> SyncVersion:
        """Make this source the wanted version; a source that is known keeps its number. `now` is unix seconds.

        Nothing is wanted any more when it is in force already. Where no document was ever routed it is in force at
        once. Of more than SYNC_VERSIONS_COUNT the oldest go that are neither in force nor wanted.
        """

    async def follow_sync_file(self, source: str, now: float) -> SyncVersion | None:
        """`want_sync` with the config file's function, if it is another one than at the last call; else None."""

    async def recorded_ids(self, after: str, limit: int) -> list[str]:
        """Ids of documents that have leaves, in order, after the given one: to walk all of them (W8)."""

    async def forget_superseded(self, before: float) -> int:
        """Drop leaves superseded before that time (unix seconds); how many."""

    async def put_principal(
        self, kind: PrincipalKind, name: str, change: PrincipalChange, *, must_be_new: bool = False
    ) -> bool:
        """Create or change a user or role in one transaction; True if it was created.

        A change that changes nothing takes no sequence. With `must_be_new` raises Conflict if it exists.
        """

    async def delete_principal(self, kind: PrincipalKind, name: str) -> None:
        """End its life; what documents grant to it stays for the day it is created again. Raises NotFound."""

    async def principal(self, kind: PrincipalKind, name: str) -> Principal | None: ...

    async def principals(self, kind: PrincipalKind) -> list[tuple[str, Mapping[str, Any]]]:
        """(name, properties) of all that live, by name."""

    async def security(self) -> dict[str, Any] | None:
        """The `_security` object as it was set; None if it never was."""

    async def set_security(self, value: Mapping[str, Any]) -> None:
        """Keep it, and let those whom it names in."""

    async def settle_members(self, name: str | None = None) -> None:
        """Make accounts and access what `_security` and the users of the server say; `name`: of this user alone.

        A member has the channel `*`. A user of the server who is a member is a user here, unless the database has a
        user of this name of its own. Changes nothing, and takes no sequence, where it is so already.
        """

    async def local_get(self, owner: str, doc: str) -> tuple[str, dict[str, Any]] | None:
        """(rev, body) of a local document in the owner's namespace."""

    async def local_put(self, owner: str, doc: str, rev: str | None, body: Mapping[str, Any]) -> str:
        """Store it over `rev`, whatever is there, and answer the next one (`0-N`).

        Raises BadRequest for another form of revision; TooManyRequests at the owner's limit.
        """

    async def local_delete(self, owner: str, doc: str) -> None:
        """Raises NotFound."""

    async def local_revs(self, owner: str) -> list[tuple[str, str]]:
        """(doc, rev) of all the owner's, by id."""


class SessionStore(Protocol):
    """Sessions. A user's session is in the store until it ends or, at the latest, its time is over."""

    async def create(self, session: StoredSession, now: float) -> list[bytes]:
        """Store it; the tokens of those that ended for it, because one of its users has SESSIONS_OF_USER_COUNT already:
        the ones with the least time left. Databases and users that are not known are left out. `now` is unix seconds.

        Raises Unavailable when there are SESSIONS_COUNT, and none of them is over.
        """

    async def find(self, token: bytes) -> StoredSession | None:
        """Also one whose time is over, and logins that do not hold any more."""

    async def renew(self, until: Mapping[bytes, float]) -> None:
        """token → expires_at; those that ended are left out."""

    async def delete(self, token: bytes) -> None: ...

    async def end_logins(self, database: str, user: str, token: bytes | None = None) -> list[bytes]:
        """Let sessions (all, or the one) be this user no more; the tokens of those that were. In other databases they
        go on."""

    async def forget_expired(self, before: float, limit: int) -> int:
        """Remove sessions whose time was over before that time, at most `limit`; how many."""

    async def databases_of(self, user: str) -> list[str]:
        """The databases that have a user of this name, in order."""

    async def most_databases_of_a_user(self) -> int:
        """In how many databases there is a user of the name that is in most of them, the guest aside."""


class MetadataStore(Protocol):
    """The gateway's own database."""

    @property
    def sessions(self) -> SessionStore: ...

    async def database(self, name: str) -> DatabaseStore:
        """The store of one database, made if missing."""

    def subscribe(self, listener: Callable[[Publication], None]) -> None:
        """Call `listener` on the event loop for every committed transaction that took a sequence, in order."""

    def unsubscribe(self, listener: Callable[[Publication], None]) -> None: ...

    async def uuid(self) -> str:
        """The identity of this store: 32 hexadecimal digits, the same for as long as it lives."""

    async def server_user(self, name: str) -> ServerUser | None:
        """Also a deleted one."""

    async def server_users(self) -> list[ServerUser]:
        """All that are not deleted, by name."""

    async def put_server_user(self, user: ServerUser, over: str | None) -> None:
        """Store it over the revision `over`, None for a new one. Raises Conflict; TooManyRequests at the limit.

        Databases do not follow by themselves: settle their members then.
        """

    async def created(self) -> dict[str, CreatedState]:
        """The databases that were made by request, by name, with how far that came."""

    async def note_created(self, name: str, state: CreatedState | None) -> None:
        """Remember how far the making or the end of a database came; None: nothing of it is left."""

    async def drop(self, name: str) -> None:
        """Forget a database and that it was made by request, in one step: a new one of that name has nothing of it.

        Every call of its `DatabaseStore` raises UnknownDatabase from then on.
        """

    async def sweep(self) -> bool:
        """Remove a piece of what dropped databases left behind; False when nothing is left. Call it until then."""

    async def close(self) -> None: ...
