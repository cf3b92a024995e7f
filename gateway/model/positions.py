"""Places in one client's feed: `S`, or `T:S` inside the backfill or revocation triggered at T.

Positions are compared as pairs: plain `S` is `(S, ∞)`, `T:S` is `(T, S)`, and S may exceed T, so nothing is ever
shortened (routing-rules A6). On the wire a dash and the database's epoch follow, as CouchDB's own sequences have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import BadRequest

ENDLESS = 2**62
_MALFORMED = "Malformed sequence supplied in 'since' parameter."
_FORM = re.compile(r"(?:([0-9]{1,18}):)?(?:([0-9]{0,18}):)?([0-9]{1,18})(?:-([0-9a-zA-Z_-]*))?\Z")


class Position(NamedTuple):
    """`major` is a sequence; `minor` is ENDLESS for a plain position. A tuple, for a page makes hundreds."""

    major: int
    minor: int = ENDLESS

    def __str__(self) -> str:
        return str(self.major) if self.minor == ENDLESS else f"{self.major}:{self.minor}"

    def encode(self, epoch: str) -> str:
        """The form on the wire: `12-3f2a`, `28:5-3f2a`."""
        return f"{self.major}-{epoch}" if self.minor == ENDLESS else f"{self.major}:{self.minor}-{epoch}"


START = Position(0)


@dataclass(frozen=True, slots=True)
class Since:
    """What a client sent. `epoch` is None when it sent a bare number."""

    position: Position
    epoch: str | None = None

    def within(self, epoch: str, last_seq: int) -> Position:
        """The position to go on from: START for another database's epoch or a sequence that is not yet given out."""
        if (self.epoch is not None and self.epoch != epoch) or self.position.major > last_seq:
            return START
        return self.position


def parse_since(value: object) -> Since | None:
    """A `since` parameter; None means `now`.

    Takes numbers, `S`, `T:S`, Sync Gateway's `L::S` and `L:T:S` (both as L, the last sequence without gaps before it),
    each with or without an epoch, and any of them in JSON quotes. Raises BadRequest in CouchDB's words.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise BadRequest(_MALFORMED)
    text = str(value).strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if text == "now":
        return None
    if text == "":
        return Since(START)
    match = _FORM.match(text)
    if match is None or (match[2] == "" and match[1] is None):
        raise BadRequest(_MALFORMED)
    first, second, last, epoch = match.groups()
    if first is not None and second is not None:
        return Since(Position(int(first)), epoch)
    if first is not None:
        return Since(Position(int(first), int(last)), epoch)
    return Since(Position(int(last)), epoch)
