-- The sequence at which all earlier logins of a user ended: made, disabled, another password. Never 0 for a user.
ALTER TABLE principal ADD COLUMN login_seq INTEGER NOT NULL DEFAULT 0;
UPDATE principal SET login_seq = seq;
CREATE INDEX principal_users ON principal (name, database) WHERE kind = 'user' AND properties IS NOT NULL;

-- A login that goes on. Its token is kept as its SHA-256 only.
CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    token BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    ttl_s REAL NOT NULL,
    expires_at REAL NOT NULL
);
CREATE INDEX session_expiry ON session (expires_at);

-- The users a session is: at most one in each database. It holds while login_seq is the user's; 0 was ended by the admin.
CREATE TABLE session_login (
    session INTEGER NOT NULL REFERENCES session(id),
    principal INTEGER NOT NULL REFERENCES principal(id),
    login_seq INTEGER NOT NULL,
    PRIMARY KEY (session, principal)
) WITHOUT ROWID;
CREATE INDEX session_login_principal ON session_login (principal);
