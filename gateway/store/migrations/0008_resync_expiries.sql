-- When a document, alive, will expire by the other function, where it would not, or at another time, by the one in force.
ALTER TABLE resync_document ADD COLUMN expires REAL;
ALTER TABLE resync_job ADD COLUMN accept_deletions INTEGER NOT NULL DEFAULT 0;
CREATE INDEX resync_document_expires ON resync_document (database, document) WHERE expires IS NOT NULL;
