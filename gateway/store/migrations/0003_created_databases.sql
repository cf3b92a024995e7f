-- Databases that administrators made with PUT /{db}, beside those of the config file. What is `creating` or `deleting`
-- was begun and not finished: the next start, or the same request once more, finishes it.
CREATE TABLE created_database (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('creating', 'serving', 'deleting'))
) WITHOUT ROWID;

-- What the gateway is, as a whole: `uuid` is its name for CouchDB's clients.
CREATE TABLE server_fact (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- `_users`: users of the server, who become users of each database whose `_security` names them or one of their roles.
CREATE TABLE server_user (
    name TEXT PRIMARY KEY,
    rev TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    body TEXT NOT NULL,         -- the document without `_` members and password
    password TEXT               -- its hash; NULL: cannot log in
) WITHOUT ROWID;

CREATE TABLE security (
    database INTEGER PRIMARY KEY REFERENCES database(id),
    value TEXT NOT NULL
);
