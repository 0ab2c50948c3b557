-- Where nodes are reached by clients, as each says of itself: this one and copies of those below.
CREATE TABLE homes (
    origin      uuid    NOT NULL,
    id          uuid    NOT NULL,
    owner_epoch integer NOT NULL,
    version     bigint  NOT NULL,
    hash        bytea   NOT NULL,
    public      bytea   NOT NULL,
    node        uuid    NOT NULL,
    address     text    NOT NULL,
    issuer      text    NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON homes (origin, bucket(id));
