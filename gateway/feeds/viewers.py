"""Viewers that were computed a moment ago: a page should cost its rows, not the history of its reader's access."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection

from gateway import limits
from gateway.feeds.viewer import Viewer, viewer
from gateway.store.protocol import Index


class Viewers:
    """Least recently used viewers of one database, for its reading threads.

    One is right in every snapshot with the `access_seq` that it was made in: every change of anybody's access moves
    that on. Viewers through a channel filter are not kept, for their channels may come to exist without any change of
    access.
    """

    def __init__(self, most: int = limits.VIEWERS_INTERVALS_COUNT) -> None:
        """`most`: intervals in all viewers that are kept."""
        self._most = most
        self._held = 0
        self._kept: OrderedDict[str | None, tuple[int, int, Viewer]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, index: Index, user: str | None, channels: Collection[str] | None = None) -> Viewer:
        """As `viewer`. Raises InvalidLogin when the user is gone."""
        if channels is not None:
            return viewer(index, user, channels)
        access_seq = index.state.access_seq
        with self._lock:
            found = self._kept.get(user)
            if found is not None and found[0] == access_seq:
                self._kept.move_to_end(user)
                return found[2]
        made = viewer(index, user)
        weight = 1 + sum(len(spans) for spans in made.held.values())
        with self._lock:
            self._drop(user)
            self._kept[user] = (access_seq, weight, made)
            self._held += weight
            while self._held > self._most:
                self._drop(next(iter(self._kept)))
        return made

    def _drop(self, user: str | None) -> None:
        found = self._kept.pop(user, None)
        if found is not None:
            self._held -= found[1]
