"""From the configured URL to an upstream."""

from __future__ import annotations

from pathlib import Path

from gateway.couch.client import CouchDB
from gateway.couch.upstream import Upstream

EMBEDDED = "embedded:"


def open_upstream(url: str, username: str | None = None, password: str | None = None) -> Upstream:
    """The upstream for `embedded:DIRECTORY` or `http(s)://…`; no I/O yet, `check()` tells whether it can be used.

    Raises ValueError with a sentence for the one who wrote the configuration; it never holds the password.
    """
    if url.startswith(EMBEDDED):
        directory = url.removeprefix(EMBEDDED)
        if not directory:
            raise ValueError("an embedded upstream needs a directory: embedded:./data/couch")
        if username is not None or password is not None:
            raise ValueError("an embedded upstream has no username and password: nobody else can reach it")
        # Only here: an installation in front of a CouchDB never loads the embedded one.
        from gateway.embedded.server import EmbeddedServer  # noqa: PLC0415 - only where it is used

        return EmbeddedServer(Path(directory))
    return CouchDB(url, username=username, password=password)
