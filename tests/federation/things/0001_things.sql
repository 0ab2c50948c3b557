CREATE TABLE things (
    origin uuid NOT NULL, id uuid NOT NULL, owner_epoch int NOT NULL, version bigint NOT NULL,
    hash bytea NOT NULL, public bytea NOT NULL, organization uuid NOT NULL, state int NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON things (origin, bucket(id));
CREATE TABLE cries (LIKE things INCLUDING ALL);
CREATE TABLE orders (LIKE things INCLUDING ALL);
