"""Moments of the clock as people and sync functions write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_LAST: Final = 253_402_300_799  # the end of the year 9999


def moment_text(seconds: float) -> str:
    """Unix seconds as a date and time by RFC 3339, to the second: `2030-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(min(int(seconds), _LAST), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
