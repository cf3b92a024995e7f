"""What a document's routing by another function differs in from the recorded one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.model.routing import NO_ROUTING, Routing
from gateway.store.resync_protocol import Computed, NewRouting, RoutedDocument


@dataclass(frozen=True, slots=True)
class Said:
    """What the function said about a leaf.

    `refused` says why it gave no routing: then nobody but holders of `*` sees the leaf. `failed` says more where that
    was no refusal but an error of the function.
    """

    routing: Routing = NO_ROUTING
    refused: str | None = None
    failed: str | None = None


def differences(document: RoutedDocument, said: Mapping[str, Said]) -> Computed:
    """`said` has an answer for each leaf of the document, by revision."""
    leaves = []
    changed = False
    refused = failed = channels = None
    expiries = []
    for leaf in document.leaves:
        now = said[leaf.rev]
        before, after = leaf.routing, now.routing
        moved = _seen(before) != _seen(after)
        if moved or before.expiry != after.expiry or leaf.refused != now.refused:
            leaves.append(NewRouting(leaf.rev, after, now.refused, moved))
        if leaf.superseded:
            continue
        changed = changed or moved
        if not leaf.deleted and after.expiry is not None and before.expiry != after.expiry:
            expiries.append(after.expiry)
        # Of several leaves the winner's answer is told, which comes first.
        failed = failed or now.failed
        refused = refused or (now.refused if now.failed is None else None)
        if leaf.rev == document.winner and document.alive and before.channels != after.channels:
            channels = after.channels
    return Computed(
        document.document, document.seq, leaves, changed, refused, failed, channels, min(expiries, default=None)
    )


def _seen(routing: Routing) -> tuple[object, ...]:
    """All that decides what anybody may read, and until when."""
    return routing.channels, routing.grants, routing.roles, routing.grant_ends, routing.role_ends
