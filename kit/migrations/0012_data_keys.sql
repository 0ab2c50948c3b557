-- The key-encryption keys by which data keys may be wrapped, and those that may not any more.  One
-- is retired by a transaction that waits for those that hold it; a service that starts with an older
-- file does not bring it back.
CREATE TABLE keks (
    id      bytea   PRIMARY KEY CHECK (length(id) = 8),
    retired boolean NOT NULL DEFAULT false
);

-- The keys that seal, each wrapped.  Deleting one erases what it sealed.
CREATE TABLE data_keys (
    id      uuid  PRIMARY KEY,
    kek     bytea NOT NULL,
    wrapped bytea NOT NULL
);
