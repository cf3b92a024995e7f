"""The SQLite file of one database: its tables, and how connections to it are opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

VERSION = 1

# Ids sort as CouchDB's _all_docs does: SQLite compares TEXT byte by byte in UTF-8.
# `tree` is last: SQLite does not read the overflow pages of a column that is not asked for.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE doc (
    key     INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    seq     INTEGER NOT NULL UNIQUE,
    deleted INTEGER NOT NULL,      -- whether the winner is
    winner  TEXT NOT NULL,
    body    INTEGER NOT NULL,      -- of the winner
    leaves  TEXT,                  -- [[rev, deleted], …] winner first, when there is more than one
    tree    TEXT NOT NULL
);
CREATE INDEX live ON doc (id) WHERE deleted = 0;
CREATE TABLE body (
    key         INTEGER PRIMARY KEY,
    json        BLOB NOT NULL,     -- without members that begin with an underscore
    attachments TEXT               -- {name: {blob, content_type, digest, length, revpos, …}}
);
CREATE TABLE blob (
    key    INTEGER PRIMARY KEY,
    sha256 BLOB UNIQUE,            -- null while it is being received
    md5    BLOB,
    length INTEGER
);
CREATE TABLE chunk (blob INTEGER NOT NULL, start INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (blob, start));
CREATE TABLE local (id TEXT PRIMARY KEY, rev INTEGER NOT NULL, json BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE purge (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, revs TEXT NOT NULL);
"""
# Made whenever a file is opened, so that files of before have them, too. An index is named by what its rows depend on;
# the row of `view_index` goes first, its rows a few at a time: its key must not be used again.
_VIEW_TABLES = """
CREATE TABLE IF NOT EXISTS view_index (
    key       INTEGER PRIMARY KEY AUTOINCREMENT,
    signature TEXT NOT NULL UNIQUE,
    seq       INTEGER NOT NULL     -- the documents up to here are in it
);
CREATE TABLE IF NOT EXISTS view_row (
    key      INTEGER PRIMARY KEY,
    idx      INTEGER NOT NULL,     -- view_index
    map      INTEGER NOT NULL,     -- which of its map functions
    sort     BLOB NOT NULL,        -- mango/collation.py
    id       TEXT NOT NULL,        -- the document
    key_json TEXT NOT NULL,
    value    TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS view_order ON view_row (idx, map, sort, id);
CREATE INDEX IF NOT EXISTS view_doc ON view_row (id, idx);
"""


def _connect(path: Path, mode: str, cache_kib: int) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=30.0
    )
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection


def open_writer(path: Path, *, create: bool) -> sqlite3.Connection:
    """The one writing connection: write-ahead log, every commit on disk before it returns."""
    connection = _connect(path, "rwc" if create else "rw", cache_kib=32_000)
    try:
        if create:
            connection.execute("PRAGMA page_size = 8192")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise RuntimeError(f"{path.name} was written by another version of the embedded server ({version})")
        connection.executescript(f"BEGIN IMMEDIATE; {_VIEW_TABLES} COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads."""
    connection = _connect(path, "ro", cache_kib=8_000)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA mmap_size = 67108864")
    return connection


def open_content_reader(path: Path) -> sqlite3.Connection:
    """A connection for the bytes of attachments: what it reads passes, so it keeps and maps next to nothing."""
    connection = _connect(path, "ro", cache_kib=512)
    connection.execute("PRAGMA query_only = ON")
    return connection
