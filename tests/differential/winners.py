"""Which writes would leave the winner of a document to the digests that the servers compute.

Of several leaves with one generation the greater digest wins. Two servers that compute digests of their own agree about
the winner only where the digests were sent to them.
"""

from __future__ import annotations

from typing import Any

from tests.differential.requests import Ask
from tests.differential.sides import Side


def left_to_digests(side: Side, ask: Ask) -> bool:
    """Whether, after this write, a leaf whose digest a server computes may stand beside another of its generation."""
    if ask.method not in ("PUT", "POST", "DELETE") or ask.path[0] == "_local":
        return False
    if ask.path == ("_bulk_docs",):
        replicated = ask.body.get("new_edits") is False
        return any(_doubtful(side, doc["_id"], doc.get("_rev"), replicated) for doc in ask.body["docs"])
    if ask.path[0].startswith("_") and not ask.path[0].startswith("_design/"):
        return False
    body: dict[str, Any] = ask.body or {}
    return _doubtful(side, ask.path[0], dict(ask.params).get("rev") or body.get("_rev"), False)


def _doubtful(side: Side, id: str, rev: Any, replicated: bool) -> bool:
    leaves = side.leaves(id)
    if replicated:
        return any(side.made_here(leaf) and _generation(leaf) == _generation(rev) for leaf in leaves)
    base = None if rev is None else side.revision(rev)
    if base is None and leaves:  # created again: over the winner, which is the longest where all are deleted
        base = max(leaves, key=lambda leaf: (_generation(leaf), leaf))
    made = 1 + (_generation(base) if base else 0)
    return any(leaf != base and _generation(leaf) == made for leaf in leaves)


def _generation(rev: str) -> int:
    return int(rev.partition("-")[0])
