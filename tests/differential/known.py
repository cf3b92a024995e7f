"""Where answers may differ, and why: in one place, a reason to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.differential.requests import Ask
from tests.differential.sides import Told

ADMIN: Final = "admin"
USER: Final = "user"
LOOKALIKE: Final = "pouchdb-server"
GATEWAY: Final = frozenset((ADMIN, USER))


@dataclass(frozen=True, slots=True)
class Difference:
    """On these kinds of server, requests and answers (the embedded server's first) that fit."""

    kinds: frozenset[str]
    reason: str
    fits: Callable[[Ask, Told, Told], bool]


def _tombstones(ask: Ask, ours: Told, theirs: Told) -> bool:
    """Rows of deleted documents are missing on their side: all of them from the beginning on, where the client holds
    nothing yet. Nothing else is different."""
    if ask.path != ("_changes",) or (ours.status, theirs.status) != (200, 200):
        return False
    told = {row["id"] for row in theirs.body["results"]}
    expected = [row for row in ours.body["results"] if row["id"] in told or not row.get("deleted")]
    from_the_beginning = not any(name == "since" for name, _ in ask.params)
    return theirs.body == {**ours.body, "results": expected} and not (
        from_the_beginning and any(row.get("deleted") for row in expected)
    )


KNOWN: Final = [
    Difference(frozenset((USER,)), "a user is told of a deletion only where it may hold the document", _tombstones),
]


def differs_as_known(kind: str, ask: Ask, ours: Told, theirs: Told) -> bool:
    """Whether the two answers may differ."""
    return any(kind in known.kinds and known.fits(ask, ours, theirs) for known in KNOWN)
