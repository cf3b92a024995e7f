"""Where answers may differ, and why: in one place, a reason to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.differential.requests import Ask
from tests.differential.sides import Told

ADMIN: Final = "admin"
USER: Final = "user"
GATEWAY: Final = frozenset((ADMIN, USER))


@dataclass(frozen=True, slots=True)
class Difference:
    """On these kinds of server, requests and answers (the embedded server's first) that fit."""

    kinds: frozenset[str]
    reason: str
    fits: Callable[[Ask, Told, Told], bool]


def _tombstones(ask: Ask, ours: Told, theirs: Told) -> bool:
    """Rows of deleted documents, and revisions, are missing on their side, and nothing else is different."""
    if ask.path != ("_changes",) or ours.status != theirs.status:
        return False
    rows = [row for row in ours.body["results"] if not row.get("deleted")]
    return rows == [row for row in theirs.body["results"] if not row.get("deleted")]


def _no_ancestors(ask: Ask, ours: Told, theirs: Told) -> bool:
    def without(body: Any) -> Any:
        return {
            id: {name: sorted(set(revs)) for name, revs in entry.items() if name != "possible_ancestors" or revs}
            for id, entry in body.items()
        }

    if ask.path != ("_revs_diff",) or (ours.status, theirs.status) != (200, 200):
        return False
    return bool(without(ours.body) == without(theirs.body))


def _empty_range(ask: Ask, ours: Told, theirs: Told) -> bool:
    return ask.path == ("_all_docs",) and ("limit", 0) in ask.params and ours.status == 400


KNOWN: Final = [
    Difference(GATEWAY, "a client is told of a deletion only where it may hold the document", _tombstones),
    Difference(GATEWAY, "a revision asked for twice is answered once; ancestors may be an empty list", _no_ancestors),
    Difference(GATEWAY, "a page without rows is answered without looking at its range", _empty_range),
]


def differs_as_known(kind: str, ask: Ask, ours: Told, theirs: Told) -> bool:
    """Whether the two answers may differ."""
    return any(kind in known.kinds and known.fits(ask, ours, theirs) for known in KNOWN)
