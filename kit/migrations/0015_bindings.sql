-- Which persons, by a keyed hash of what their issuer calls them, are which members: membership's
-- records, which the other services of the node follow.
CREATE TABLE bindings (
    origin      uuid    NOT NULL,
    id          uuid    NOT NULL,
    owner_epoch integer NOT NULL,
    version     bigint  NOT NULL,
    hash        bytea   NOT NULL CHECK (length(hash) = 16),
    public      bytea   NOT NULL,
    person      uuid    NOT NULL,
    member      uuid    NOT NULL,
    active      boolean NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON bindings (origin, bucket(id));
CREATE INDEX ON bindings (person) WHERE active;
