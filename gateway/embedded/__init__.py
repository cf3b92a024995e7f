"""The embedded upstream: a CouchDB-compatible document store on SQLite."""

from __future__ import annotations

from gateway.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer"]
