"""Waking of waiting feeds, in memory: a commit costs the feeds it concerns, not the feeds that are open."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from gateway import limits
from gateway.errors import TooManyRequests, Unavailable
from gateway.model.intervals import ChannelId
from gateway.model.names import GUEST
from gateway.store.protocol import Entry, Publication


class Waiter:
    """One waiting feed. It either has all rows since `upto` in `entries`, or must read the store again."""

    def __init__(self, user: str | None) -> None:
        self.user = user
        self.channels: frozenset[ChannelId] = frozenset()
        self.awaited: ChannelId | None = None  # what is live here may be of a channel that is not among `channels` yet
        self.upto = 0  # every sequence up to here was delivered, or does not concern this feed
        self.entries: dict[str, Entry] = {}  # by document: only its last change counts
        self.reread = False
        self.unchecked = False  # somebody's login ended: this feed may not wait before it has looked
        self.woken = asyncio.Event()

    @property
    def woken_by(self) -> frozenset[ChannelId]:
        return self.channels if self.awaited is None else self.channels | {self.awaited}

    def offer(self, publication: Publication, entries: Iterable[Entry]) -> None:
        """Take the entries of a commit that concerns this feed."""
        if publication.last_seq <= self.upto:
            return  # the snapshot that this feed has read held it already
        if publication.entries_left_out or (self.user is not None and self.user in publication.users):
            self.reread = True
        for entry in entries:
            if self.channels.isdisjoint(entry.live):
                # Gone from a channel of this feed: whether and how that is told, only the index knows.
                self.reread = self.reread or not self.channels.isdisjoint(entry.gone) or self.awaited in entry.live
            elif entry.single:
                self.entries.pop(entry.id, None)
                self.entries[entry.id] = entry
            else:
                self.reread = True
        if len(self.entries) > limits.FEED_MEMORY_ROWS_COUNT:
            self.reread = True
        if self.reread:
            self.entries.clear()
        self.upto = publication.last_seq
        if self.reread or self.entries:
            self.woken.set()

    def recheck(self) -> None:
        """Wake the feed, which then asks again whether its caller may go on, and reads the store."""
        self.unchecked = True
        self.reread = True
        self.entries.clear()
        self.woken.set()

    def take(self) -> tuple[list[Entry], int]:
        """The rows that came, in order of their sequences, and up to where they are complete; they are the feed's now.

        What comes later moves `upto` on, so the feed must go by the one that it was given here.
        """
        entries = sorted(self.entries.values(), key=lambda entry: entry.seq)
        self.entries.clear()
        self.woken.clear()
        return entries, self.upto


class Wakes:
    """All waiting feeds of one database, found by channel and by user."""

    def __init__(self, last_seq: int) -> None:
        self.last_seq = last_seq
        self._by_channel: dict[ChannelId, set[Waiter]] = {}
        self._by_user: dict[str | None, set[Waiter]] = {}
        self._count = 0
        self._ended = False

    def __len__(self) -> int:
        return self._count

    def register(self, user: str | None) -> Waiter:
        """A waiter that is woken by changes of the user's access. Raises Unavailable at FEEDS_COUNT, TooManyRequests at
        FEEDS_OF_USER_COUNT."""
        if self._count >= limits.FEEDS_COUNT:
            raise Unavailable(f"more than {limits.FEEDS_COUNT} feeds are waiting")
        if user not in (None, GUEST) and len(self._by_user.get(user, ())) >= limits.FEEDS_OF_USER_COUNT:
            raise TooManyRequests(f"more than {limits.FEEDS_OF_USER_COUNT} feeds of this user are waiting")
        self._count += 1
        waiter = Waiter(user)
        self._by_user.setdefault(user, set()).add(waiter)
        return waiter

    def watch(
        self, waiter: Waiter, channels: Collection[ChannelId], upto: int, awaited: ChannelId | None = None
    ) -> bool:
        """Wake it from now on for changes in `channels` after `upto`, and to read the store again at any in `awaited`;
        False if there were some already, unseen, or if it was to look again at its caller."""
        self._unwatch(waiter)
        waiter.channels = frozenset(channels)
        waiter.awaited = awaited
        waiter.upto = upto
        waiter.reread = False
        waiter.entries.clear()
        waiter.woken.clear()
        for channel in waiter.woken_by:
            self._by_channel.setdefault(channel, set()).add(waiter)
        unchecked, waiter.unchecked = waiter.unchecked, False
        return self.last_seq <= upto and not unchecked and not self._ended

    def _unwatch(self, waiter: Waiter) -> None:
        for channel in waiter.woken_by:
            waiting = self._by_channel[channel]
            waiting.discard(waiter)
            if not waiting:
                del self._by_channel[channel]
        waiter.channels, waiter.awaited = frozenset(), None

    def leave(self, waiter: Waiter) -> None:
        self._unwatch(waiter)
        self._count -= 1
        waiting = self._by_user[waiter.user]
        waiting.discard(waiter)
        if not waiting:
            del self._by_user[waiter.user]

    def recheck(self, user: str | None) -> None:
        """Let the feeds of a user (None: of administrators) see whether they may go on."""
        for waiter in self._by_user.get(user, ()):
            waiter.recheck()

    def end(self) -> None:
        """Let every feed, now and from now on, see whether it may go on: the database is deleted."""
        self._ended = True
        for user in self._by_user:
            self.recheck(user)

    def publish(self, publication: Publication) -> None:
        """Hand a commit to the feeds that it concerns."""
        self.last_seq = max(self.last_seq, publication.last_seq)
        concerned: dict[Waiter, list[Entry]] = {}
        for entry in publication.entries:
            for channel in entry.live | entry.gone:
                for waiter in self._by_channel.get(channel, ()):
                    entries = concerned.setdefault(waiter, [])
                    if not entries or entries[-1] is not entry:
                        entries.append(entry)
        for user in publication.users:
            for waiter in self._by_user.get(user, ()):
                concerned.setdefault(waiter, [])
        if publication.entries_left_out:
            concerned = {waiter: [] for waiters in self._by_user.values() for waiter in waiters}
        for waiter, entries in concerned.items():
            waiter.offer(publication, entries)
