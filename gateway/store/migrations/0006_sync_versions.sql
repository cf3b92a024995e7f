-- The versions of each database's sync function. One is in force, 0 while there is none yet; another may be wanted.
CREATE TABLE sync_version (
    database INTEGER NOT NULL REFERENCES database(id),
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,       -- SHA-256 of the source
    source TEXT NOT NULL,
    made_at REAL NOT NULL,
    origin TEXT NOT NULL CHECK (origin IN ('config', 'api')),
    PRIMARY KEY (database, number),
    UNIQUE (database, digest)
);
INSERT INTO sync_version (database, number, digest, source, made_at, origin)
    SELECT database, row_number() OVER (PARTITION BY database ORDER BY first_used_at, digest),
        digest, source, first_used_at, 'config'
    FROM sync_function;

ALTER TABLE database ADD COLUMN sync_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE database ADD COLUMN sync_wanted INTEGER;
-- The digest of the function that the config file had when it was last read.
ALTER TABLE database ADD COLUMN sync_file TEXT NOT NULL DEFAULT '';
UPDATE database SET
    sync_file = sync_digest,
    sync_version = coalesce(
        (SELECT v.number FROM sync_version v WHERE v.database = database.id AND v.digest = database.sync_digest), 0
    );
ALTER TABLE database DROP COLUMN sync_digest;
DROP TABLE sync_function;
