"""What the upstream has of a document, as short as a test can say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.errors import GatewayError
from gateway.model.apply import Found
from gateway.model.routing import Routing
from gateway.store.protocol import DatabaseStore, FoundDocument, Index, PrincipalChange

TellLeaf = tuple[Found, Routing | None, str | None]


def leaf(
    rev: str,
    channels: str = "",
    *,
    after: Sequence[str] = (),
    deleted: bool = False,
    grants: Iterable[tuple[str, str]] = (),
    roles: Iterable[tuple[str, str]] = (),
    expiry: float | None = None,
    refused: GatewayError | None = None,
) -> TellLeaf:
    """A new leaf; `after` are its ancestors, newest first; channels are words."""
    routing = Routing(frozenset(channels.split()), frozenset(grants), frozenset(roles), expiry)
    return Found(rev, deleted, tuple(after), None), routing, refused.reason if refused else None


def known(rev: str, *, deleted: bool = False) -> TellLeaf:
    """A leaf that is recorded."""
    return Found(rev, deleted, (), None), None, None


def document(doc: str, *leaves: TellLeaf, purged: bool = False) -> FoundDocument:
    return FoundDocument(doc, leaves, purged)


async def tell(db: DatabaseStore, *documents: FoundDocument, now: float = 1000.0) -> int:
    """Apply them as one batch; the last sequence afterwards."""
    await db.apply(documents, upstream_since=None, now=now)
    return (await db.state()).last_seq


async def put_user(db: DatabaseStore, name: str, channels: str = "", roles: str = "") -> bool:
    return await db.put_principal("user", name, PrincipalChange({}, channels.split(), roles.split()))


async def put_role(db: DatabaseStore, name: str, channels: str = "") -> bool:
    return await db.put_principal("role", name, PrincipalChange({}, channels.split()))


def entries_by_name(index: Index, doc: str) -> dict[str, tuple[int, bool, bool]]:
    """channel → (seq, deleted, removed) of one document."""
    number = index.find([doc])[doc].document
    entries = index.entries_of([number])[number]
    names = index.channel_names([entry.channel for entry in entries])
    return {names[entry.channel]: (entry.seq, entry.deleted, entry.removed) for entry in entries}


def spans_by_name(index: Index, doc: str) -> set[tuple[str, int, int]]:
    number = index.find([doc])[doc].document
    spans = index.spans([number]).get(number, [])
    names = index.channel_names([channel for channel, _, _ in spans])
    return {(names[channel], start, end) for channel, start, end in spans}
