-- No state that came with a snapshot is newer than `settled`: certificates are compared from there.
ALTER TABLE proofs ADD COLUMN settled bigint NOT NULL DEFAULT 0;

-- Own records that came back from above after a restore: what never left the node is missing.
CREATE TABLE taken_back (
    kind      text        NOT NULL,
    id        uuid        NOT NULL,
    reason    smallint    NOT NULL,
    take_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, id)
);
