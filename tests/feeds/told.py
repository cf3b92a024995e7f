"""What a feed told, as short as a test can compare it."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.feeds.page import Page, Row


def told(rows: Sequence[Row] | Page) -> list[tuple[str, str, str]]:
    """(place, document, kind) of each row."""
    listed = rows.rows if isinstance(rows, Page) else rows
    return [(str(row.position), row.id, row.kind) for row in listed]
