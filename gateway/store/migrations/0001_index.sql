-- The whole index from the first day: the past cannot be added later (routing-rules A15, A16).

CREATE TABLE database (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last_seq INTEGER NOT NULL DEFAULT 0,
    access_seq INTEGER NOT NULL DEFAULT 0,      -- the last sequence that changed anybody's access
    epoch TEXT NOT NULL,                        -- goes with every position on the wire
    upstream_since TEXT NOT NULL DEFAULT '0',
    server_uuid TEXT NOT NULL DEFAULT '',
    instance_start_time TEXT NOT NULL DEFAULT '',
    purge_seq TEXT NOT NULL DEFAULT '',
    sync_digest TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'online',
    router_epoch INTEGER NOT NULL DEFAULT 0,
    doc_count INTEGER NOT NULL DEFAULT 0,
    doc_del_count INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE channel (
    id INTEGER PRIMARY KEY,
    database INTEGER NOT NULL REFERENCES database(id),
    name TEXT NOT NULL,
    UNIQUE (database, name)
);

-- A user or role. properties is NULL while it is only named by grants, or deleted.
CREATE TABLE principal (
    id INTEGER PRIMARY KEY,
    database INTEGER NOT NULL REFERENCES database(id),
    kind TEXT NOT NULL CHECK (kind IN ('user', 'role')),
    name TEXT NOT NULL,
    properties TEXT,
    seq INTEGER NOT NULL DEFAULT 0,
    UNIQUE (database, kind, name)
);

CREATE TABLE life (
    principal INTEGER NOT NULL REFERENCES principal(id),
    from_seq INTEGER NOT NULL,
    until_seq INTEGER,
    PRIMARY KEY (principal, from_seq)
) WITHOUT ROWID;

-- target is a channel or a role; source is 'admin', 'doc:<document.id>' or 'token:<issuer>'.
CREATE TABLE grants (
    principal INTEGER NOT NULL REFERENCES principal(id),
    kind TEXT NOT NULL CHECK (kind IN ('channel', 'role')),
    target INTEGER NOT NULL,
    source TEXT NOT NULL,
    from_seq INTEGER NOT NULL,
    expires_at REAL,
    PRIMARY KEY (principal, kind, target, source)
) WITHOUT ROWID;
CREATE INDEX grants_source ON grants (source);

-- The union over sources, as intervals; never merged, never dropped.
CREATE TABLE access (
    principal INTEGER NOT NULL REFERENCES principal(id),
    kind TEXT NOT NULL CHECK (kind IN ('channel', 'role')),
    target INTEGER NOT NULL,
    from_seq INTEGER NOT NULL,
    until_seq INTEGER,
    PRIMARY KEY (principal, kind, target, from_seq)
) WITHOUT ROWID;
CREATE INDEX access_target ON access (kind, target, principal) WHERE until_seq IS NULL;

-- winner is NULL for a ghost: every leaf was purged.
CREATE TABLE document (
    id INTEGER PRIMARY KEY,
    database INTEGER NOT NULL REFERENCES database(id),
    doc TEXT NOT NULL,
    seq INTEGER NOT NULL,
    winner TEXT,
    deleted INTEGER NOT NULL,
    leaves INTEGER NOT NULL,
    purged_seq INTEGER,
    UNIQUE (database, doc)
);

CREATE TABLE leaf (
    document INTEGER NOT NULL REFERENCES document(id),
    rev TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    channels TEXT NOT NULL,     -- JSON array of channel ids
    grants TEXT NOT NULL,       -- JSON array of [principal, channel]
    roles TEXT NOT NULL,        -- JSON array of [user, role]
    expiry REAL,
    inherited TEXT NOT NULL,    -- JSON array of [channel, sequence]
    ancestors TEXT NOT NULL,    -- JSON array of revisions, newest first
    refused TEXT,
    superseded_at REAL,
    PRIMARY KEY (document, rev)
) WITHOUT ROWID;
CREATE INDEX leaf_superseded ON leaf (superseded_at) WHERE superseded_at IS NOT NULL;
CREATE INDEX leaf_expiry ON leaf (expiry) WHERE expiry IS NOT NULL;
CREATE INDEX leaf_refused ON leaf (document) WHERE refused IS NOT NULL AND superseded_at IS NULL;

-- One entry for each (channel, document), at the document's latest sequence.
CREATE TABLE channel_entry (
    document INTEGER NOT NULL REFERENCES document(id),
    channel INTEGER NOT NULL REFERENCES channel(id),
    seq INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    PRIMARY KEY (document, channel)
) WITHOUT ROWID;
CREATE INDEX entry_live ON channel_entry (channel, seq, document) WHERE deleted = 0 AND removed = 0;
CREATE INDEX entry_gone ON channel_entry (channel, seq, document) WHERE deleted = 1 OR removed = 1;

CREATE TABLE doc_span (
    document INTEGER NOT NULL REFERENCES document(id),
    channel INTEGER NOT NULL REFERENCES channel(id),
    from_seq INTEGER NOT NULL,
    until_seq INTEGER,
    PRIMARY KEY (document, channel, from_seq)
) WITHOUT ROWID;

CREATE TABLE local_doc (
    database INTEGER NOT NULL REFERENCES database(id),
    owner TEXT NOT NULL,        -- 'user:<name>', 'admin:<name>': one namespace for each
    doc TEXT NOT NULL,
    rev INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (database, owner, doc)
) WITHOUT ROWID;

CREATE TABLE sync_function (
    database INTEGER NOT NULL REFERENCES database(id),
    digest TEXT NOT NULL,
    source TEXT NOT NULL,
    first_seq INTEGER NOT NULL,
    first_used_at REAL NOT NULL,
    PRIMARY KEY (database, digest)
) WITHOUT ROWID;
