"""One gateway for one metadata file: two would give out the same sequences to different documents."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gateway.store.connections import StoreError


class StoreLock:
    """An advisory lock on a file beside the metadata file, held from here to `release()` or the end of the process.

    The kernel lets go of it when the process dies, however it dies, so nothing stale is ever left behind. The lock file
    itself stays: removing it would let two processes lock two different files of that name.
    """

    def __init__(self, metadata: Path) -> None:
        """Take it, or raise StoreError: another process has it, or the directory cannot be used."""
        path = metadata.with_name(metadata.name + ".lock")
        descriptor = -1
        try:
            metadata.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            reason = "another gateway uses it" if isinstance(error, BlockingIOError) else error
            raise StoreError(f"metadata store {metadata}: {reason}") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let another process have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
