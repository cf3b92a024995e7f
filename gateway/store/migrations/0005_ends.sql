-- What ends by itself is found for each database alone, the next first: grants at `expires_at`, documents at `expiry`.
ALTER TABLE grants ADD COLUMN database INTEGER REFERENCES database(id);
UPDATE grants SET database = (SELECT database FROM principal WHERE id = grants.principal);
CREATE INDEX grants_end ON grants (database, expires_at) WHERE expires_at IS NOT NULL;

ALTER TABLE leaf ADD COLUMN database INTEGER REFERENCES database(id);
ALTER TABLE leaf ADD COLUMN asked_at REAL;      -- what relative times in its routing counted from
UPDATE leaf SET database = (SELECT database FROM document WHERE id = leaf.document);
DROP INDEX leaf_expiry;
CREATE INDEX leaf_end ON leaf (database, expiry)
    WHERE expiry IS NOT NULL AND deleted = 0 AND superseded_at IS NULL;
