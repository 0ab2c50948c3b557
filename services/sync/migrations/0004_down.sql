-- What travels down, and the keys that it is checked with.
ALTER TABLE nodes ADD COLUMN certificate bytea NOT NULL DEFAULT '';
ALTER TABLE enrollments ADD COLUMN certificate bytea NOT NULL DEFAULT '';
COMMENT ON COLUMN enrollments.certificate IS 'of its keys, made by the child itself';
ALTER TABLE uplink ADD COLUMN chain bytea[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN uplink.chain IS 'the certificates from this node''s up to the top''s';
COMMENT ON COLUMN streams.via IS 'the neighbour that brings it: a child, or, on the channel down, the parent';

-- Certificates of nodes below, handed down: own ones and those of the nodes above.
CREATE TABLE trusted_keys (
    origin      uuid    NOT NULL,
    id          uuid    NOT NULL,
    owner_epoch integer NOT NULL,
    version     bigint  NOT NULL,
    hash        bytea   NOT NULL,
    public      bytea   NOT NULL,
    certificate bytea   NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON trusted_keys (origin, bucket(id));
