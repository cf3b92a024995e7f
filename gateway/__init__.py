"""Couch Gateway: a channel router in front of Apache CouchDB."""

__version__ = "0.1.0"
