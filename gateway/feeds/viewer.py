"""For whom a read is answered: a user with all access past and present, or an administrator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gateway.errors import InvalidLogin
from gateway.model.intervals import ALWAYS, OPEN, Access, ChannelId, Intervals, intervals, open_channels
from gateway.model.leaves import Leaf, readable
from gateway.model.names import ALL_CHANNELS
from gateway.store.protocol import Index


@dataclass(frozen=True, slots=True)
class Viewer:
    """One user's intervals in one snapshot; all read endpoints decide through it.

    `held` and `opened` are seen through the channel filter of a feed; what may be fetched never is (A14). `awaited`:
    the filter names a channel that does not exist yet, and whoever has `*` will have it from its first document on.
    """

    held: Intervals
    opened: Mapping[ChannelId, int]
    all_held: Intervals
    all_opened: Mapping[ChannelId, int]
    star: ChannelId
    awaited: bool = False

    def can_read(self, leaf: Leaf) -> bool:
        return readable(leaf, self.all_held, self.all_opened, self.star)

    def readable(self, leaves: Sequence[Leaf]) -> list[Leaf]:
        """Those leaves that may be read, in their order."""
        return [leaf for leaf in leaves if self.can_read(leaf)]


def viewer(index: Index, user: str | None, channels: Collection[str] | None = None) -> Viewer:
    """The viewer of a user (None: an administrator, who has `*` from the beginning), through a channel filter or not.

    Unknown and inaccessible channels of a filter are dropped silently; `*` in it is every channel the user has.
    Raises InvalidLogin when the user is gone.
    """
    if user is None:
        access: Access | None = Access(ALWAYS, {index.star: ALWAYS})
    else:
        access = index.access(user)
    if access is None or not access.life or access.life[-1][1] != OPEN:
        raise InvalidLogin
    held = intervals(access, None, index.star)
    opened = open_channels(held)
    if channels is None or ALL_CHANNELS in channels:
        return Viewer(held, opened, held, opened, index.star)
    known = index.channel_ids(channels)
    filtered = intervals(access, known.values(), index.star)
    awaited = index.star in opened and not known.keys() >= set(channels)
    return Viewer(filtered, open_channels(filtered), held, opened, index.star, awaited)
