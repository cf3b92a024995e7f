"""Times in a sync function: the argument of `expiry()`, and `{expires: …}` of `access()` and `role()`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

_RELATIVE_SECONDS = 30 * 24 * 3600  # less than this is an age, not a date
_LAST_SECOND = 2**32 - 1
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}\Z")
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
_NANOSECONDS = re.compile(r"(\.[0-9]{6})[0-9]+")


def expiry_of(values: Iterable[object], now: float) -> float | None:
    """When the document expires, in unix seconds: the last of `values` that is valid counts; none, or 0: never.

    A number, or its digits as text, below thirty days is seconds from `now`, otherwise unix seconds up to 2³²-1;
    any other text must be a date and time by RFC 3339 (https://www.rfc-editor.org/rfc/rfc3339#section-5.6).
    """
    last: float | None = None
    for value in values:
        seconds = _seconds(value, now)
        if seconds is not None:
            last = seconds
    return last or None


def end_of(values: Iterable[object], now: float) -> float | None:
    """When a grant ends, in unix seconds: the latest of `values`, in the forms of `expiry_of`.

    None when one of them is no time; 0, which is never for `expiry()`, is none here.
    """
    ends = [_seconds(value, now) for value in values]
    found = [end for end in ends if end]
    return max(found) if found and len(found) == len(ends) else None


def _seconds(value: object, now: float) -> float | None:
    if isinstance(value, str):
        if not _WHOLE_NUMBER.match(value):
            return _date(value)
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LAST_SECOND:
        return None
    whole = int(value)
    return float(whole) if whole == 0 or whole >= _RELATIVE_SECONDS else now + whole


def _date(text: str) -> float | None:
    if not _RFC3339.match(text):
        return None
    try:
        moment = datetime.fromisoformat(_NANOSECONDS.sub(r"\1", text.upper()))
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return max(seconds, 1.0)  # before 1970 is long ago, not never
