"""Rows as words: `4:2 d`, `5 d deleted`, `6 d removed` (it left the channel), `6:2 d revoked` (the channel was lost),
`7 d reset` (forget it first)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.feeds.page import Page, Row
from gateway.model.positions import ENDLESS


def told(rows: Sequence[Row] | Page) -> list[str]:
    """What a feed told, without revisions."""
    return [_words(row) for row in (rows.rows if isinstance(rows, Page) else rows)]


def _words(row: Row) -> str:
    kind = {"live": "", "deleted": " deleted", "loss": " removed" if row.position.minor == ENDLESS else " revoked"}
    return f"{row.position} {row.id}{kind[row.kind]}{' reset' if row.reset else ''}"
