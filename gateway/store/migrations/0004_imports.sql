-- What was written straight to the upstream and is not taken in, and which writes are the gateway's own.

ALTER TABLE database ADD COLUMN import_rules TEXT NOT NULL DEFAULT '';  -- a digest of those that were last followed

-- Leaves that are upstream and not in the index.
CREATE TABLE not_imported (
    database INTEGER NOT NULL REFERENCES database(id),
    doc TEXT NOT NULL,
    rev TEXT NOT NULL,
    reason TEXT NOT NULL,
    seen_at REAL NOT NULL,
    PRIMARY KEY (database, doc, rev)
) WITHOUT ROWID;

-- Writes that were about to be sent upstream: after a crash they are known from this as the gateway's own.
CREATE TABLE own_write (
    database INTEGER NOT NULL REFERENCES database(id),
    doc TEXT NOT NULL,
    digest TEXT NOT NULL,       -- of the body, as verdicts have it
    at REAL NOT NULL,
    PRIMARY KEY (database, doc, digest)
) WITHOUT ROWID;
CREATE INDEX own_write_at ON own_write (database, at);
