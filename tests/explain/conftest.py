"""Timelines on a real store, as the feeds' tests have them."""

from __future__ import annotations

from tests.feeds.conftest import new_timeline, t

__all__ = ["new_timeline", "t"]
