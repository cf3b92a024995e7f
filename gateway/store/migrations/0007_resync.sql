-- What another sync function would say of the documents, computed beside the routing that serves, and how far that came.

-- cursor: everything with a sequence up to it is computed; -1: what an earlier job left is still being removed.
CREATE TABLE resync_job (
    database INTEGER PRIMARY KEY REFERENCES database(id),
    version INTEGER,            -- NULL: a source that is only tried
    digest TEXT NOT NULL,
    source TEXT NOT NULL,
    preview INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'stopped', 'held', 'completed', 'error')),
    cursor INTEGER NOT NULL,
    accept_failures INTEGER NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    error TEXT
);

-- Documents of which anything differs, or which the function refuses or fails on.
CREATE TABLE resync_document (
    document INTEGER PRIMARY KEY REFERENCES document(id),
    database INTEGER NOT NULL REFERENCES database(id),
    changed INTEGER NOT NULL,   -- channels or grants of a leaf differ
    refused TEXT,
    failed TEXT
);
CREATE INDEX resync_document_database ON resync_document (database);
CREATE INDEX resync_document_changed ON resync_document (database, document) WHERE changed = 1;
CREATE INDEX resync_document_refused ON resync_document (database, document) WHERE refused IS NOT NULL;
CREATE INDEX resync_document_failed ON resync_document (database, document) WHERE failed IS NOT NULL;

-- Leaves, superseded ones too, whose routing differs from the recorded one. Columns as those of leaf.
CREATE TABLE resync_leaf (
    document INTEGER NOT NULL REFERENCES document(id),
    rev TEXT NOT NULL,
    channels TEXT NOT NULL,
    grants TEXT NOT NULL,
    roles TEXT NOT NULL,
    expiry REAL,
    refused TEXT,
    moved INTEGER NOT NULL,     -- channels, grants or roles differ
    PRIMARY KEY (document, rev)
) WITHOUT ROWID;

-- Channels that documents, alive, enter or leave.
CREATE TABLE resync_channel (
    document INTEGER NOT NULL REFERENCES document(id),
    channel INTEGER NOT NULL REFERENCES channel(id),
    database INTEGER NOT NULL REFERENCES database(id),
    entered INTEGER NOT NULL,
    PRIMARY KEY (document, channel)
) WITHOUT ROWID;
CREATE INDEX resync_channel_channel ON resync_channel (database, channel, entered, document);

-- What users and roles (who) gain and lose, in the order in which it is listed; known once all documents are computed.
CREATE TABLE resync_access (
    id INTEGER PRIMARY KEY,
    database INTEGER NOT NULL REFERENCES database(id),
    who INTEGER NOT NULL REFERENCES principal(id),
    kind TEXT NOT NULL CHECK (kind IN ('channel', 'role')),
    target INTEGER NOT NULL,
    gained INTEGER NOT NULL
);
CREATE INDEX resync_access_database ON resync_access (database, id);
