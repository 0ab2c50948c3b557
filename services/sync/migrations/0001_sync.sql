-- Nodes below, as their parents announced them: own children and copies.
CREATE TABLE nodes (
    origin            uuid    NOT NULL,
    id                uuid    NOT NULL,
    owner_epoch       integer NOT NULL,
    version           bigint  NOT NULL,
    hash              bytea   NOT NULL,
    public            bytea   NOT NULL,
    parent            uuid    NOT NULL,
    organization_code text    NOT NULL,
    display_name      text    NOT NULL,
    level             text    NOT NULL,
    public_key        bytea   NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON nodes (origin, bucket(id));

CREATE TABLE invitations (
    token_hash        bytea       PRIMARY KEY,
    organization_code text        NOT NULL,
    expire_time       timestamptz NOT NULL,
    node              uuid
);
COMMENT ON COLUMN invitations.node IS 'the node that has shown it; NULL if none has';

CREATE TABLE enrollments (
    node              uuid        PRIMARY KEY,
    organization_code text        NOT NULL,
    display_name      text        NOT NULL,
    level             text        NOT NULL,
    public_key        bytea       NOT NULL,
    nats_user_key     text        NOT NULL,
    create_time       timestamptz NOT NULL,
    link_token        bytea,
    link_token_hash   bytea       UNIQUE,
    user_jwt          text        NOT NULL DEFAULT ''
);
COMMENT ON COLUMN enrollments.link_token IS 'sealed; NULL until an operator has confirmed';

-- What the parent gave; at most one row.
CREATE TABLE uplink (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    nats_seed  bytea   NOT NULL,
    parent     uuid,
    link_token bytea   NOT NULL DEFAULT '',
    nats_url   text    NOT NULL DEFAULT '',
    user_jwt   text    NOT NULL DEFAULT ''
);
COMMENT ON COLUMN uplink.nats_seed IS 'sealed, as is link_token';

-- Every stream that is made or stored here.  Of own streams (via IS NULL), number and run are the
-- cursor in the service's log.
CREATE TABLE streams (
    origin     uuid    NOT NULL,
    service    text    NOT NULL,
    channel    text    NOT NULL,
    via        uuid,
    frame      bigint  NOT NULL DEFAULT 0,
    hash       bytea   NOT NULL,
    number     bigint  NOT NULL DEFAULT 0,
    run        bytea   NOT NULL DEFAULT '',
    head       bigint  NOT NULL DEFAULT 0,
    heard_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    rewound    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (origin, service, channel)
);

CREATE TABLE frames (
    origin     uuid    NOT NULL,
    service    text    NOT NULL,
    channel    text    NOT NULL,
    number     bigint  NOT NULL,
    previous_hash bytea NOT NULL,
    hash       bytea   NOT NULL,
    verified   boolean NOT NULL,
    body       bytea   NOT NULL,
    store_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (origin, service, channel, number),
    FOREIGN KEY (origin, service, channel) REFERENCES streams
);
ALTER TABLE frames ALTER COLUMN body SET STORAGE EXTERNAL;  -- it is compressed already
COMMENT ON COLUMN frames.verified IS 'whether the signature was checked with the origin''s key';

-- How far each reader has committed: `parent`, or a service of this node.
CREATE TABLE frame_receipts (
    reader  text   NOT NULL,
    origin  uuid   NOT NULL,
    service text   NOT NULL,
    channel text   NOT NULL,
    frame   bigint NOT NULL,
    PRIMARY KEY (reader, origin, service, channel)
);
