"""Which writes are not compared with a server that computes digests of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.differential.requests import Ask
from tests.differential.sides import Side


class _Write(NamedTuple):
    id: str
    rev: Any  # as it is named in the request
    replicated: bool = False
    attachment: bool = False


def left_to_digests(side: Side, ask: Ask) -> bool:
    """Whether, after this write, a leaf whose digest a server computes may stand beside another of its generation.

    The greater digest wins, so two servers agree about the winner only where the digests were sent to them.
    """
    return any(_is_beside_another(side, write) for write in _writes(ask))


def names_no_leaf(side: Side, ask: Ask) -> bool:
    """Whether this writes over a revision that is no leaf: of a deletion, or an attachment of what is unknown.

    CouchDB refuses that; pouchdb-server stores it, and nothing after it can be compared.
    """
    return any(_is_over_no_leaf(side, write) for write in _writes(ask))


def _writes(ask: Ask) -> list[_Write]:
    if ask.method not in ("PUT", "POST", "DELETE") or ask.path[0] == "_local":
        return []
    if ask.path == ("_bulk_docs",):
        replicated = ask.body.get("new_edits") is False
        return [_Write(doc["_id"], doc.get("_rev"), replicated) for doc in ask.body["docs"]]
    if ask.path[0].startswith("_") and not ask.path[0].startswith("_design/"):
        return []
    body: dict[str, Any] = ask.body or {}
    rev = dict(ask.params).get("rev") or body.get("_rev")
    return [_Write(ask.path[0], rev, attachment=ask.method == "PUT" and len(ask.path) == 2)]


def _is_over_no_leaf(side: Side, write: _Write) -> bool:
    if write.rev is None or write.replicated:
        return False
    leaves = side.leaves(write.id)
    takes_any = all(leaves.values()) if leaves else write.attachment
    return takes_any and side.revision(write.rev) not in leaves


def _is_beside_another(side: Side, write: _Write) -> bool:
    leaves = side.leaves(write.id)
    if write.replicated:
        return any(side.made_here(leaf) and _generation(leaf) == _generation(write.rev) for leaf in leaves)
    base = None if write.rev is None else side.revision(write.rev)
    if base is None and leaves:  # created again: over the winner, which is the longest where all are deleted
        base = max(leaves, key=lambda leaf: (_generation(leaf), leaf))
    made = 1 + (_generation(base) if base else 0)
    return any(leaf != base and _generation(leaf) == made for leaf in leaves)


def _generation(rev: str) -> int:
    return int(rev.partition("-")[0])
