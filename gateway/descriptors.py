"""File descriptors: as many as the system allows, fewer connections than that, and no flood of complaints.

asyncio tells of each connection that it could not accept with a traceback, as often as the backlog is long.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import time
from typing import Any, Final

from gateway import limits

log = logging.getLogger(__name__)
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def allow_all() -> int:
    """Raise the soft limit of this process to its hard one; what may be open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.DESCRIPTORS_COUNT if hard == resource.RLIM_INFINITY else min(hard, limits.DESCRIPTORS_COUNT)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            log.warning("the limit of open files stays at %d: %s", soft, error)
            return soft
        soft = wanted
    return limits.DESCRIPTORS_COUNT if soft == resource.RLIM_INFINITY else soft


def connections_of(descriptors: int) -> int:
    """How many clients may be connected, so that descriptors are left for the upstream, the stores and administrators;
    at least half of them are for clients."""
    left = max(descriptors - limits.DESCRIPTORS_RESERVED_COUNT, descriptors // 2)
    return min(left, limits.CONNECTIONS_COUNT)


class Complaints:
    """Handles what nobody else in the loop does; exhausted resources once a second at most."""

    def __init__(self) -> None:
        self._told_at = 0.0
        self._untold = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
            return
        self._untold += 1
        if time.monotonic() - self._told_at >= 1:
            log.error("%s: %s (%d times)", context.get("message", "out of resources"), error.strerror, self._untold)
            self._told_at, self._untold = time.monotonic(), 0
