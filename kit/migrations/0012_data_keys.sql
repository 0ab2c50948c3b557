-- The key-encryption keys by which data keys may be wrapped.  One that is retired is deleted, by a
-- transaction that waits for those that hold it.
CREATE TABLE keks (
    id bytea PRIMARY KEY CHECK (length(id) = 8)
);

-- The keys that seal, each wrapped.  Deleting one erases what it sealed.
CREATE TABLE data_keys (
    id      uuid  PRIMARY KEY,
    kek     bytea NOT NULL,
    wrapped bytea NOT NULL
);
