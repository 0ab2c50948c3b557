-- What a service has committed and its publisher has not numbered yet.  The row is written in the
-- transaction of the change, after the record is locked.  CACHE 1 (the default of an identity):
-- so positions of one record grow in the order of its commits.
CREATE TABLE outbox (
    channel     text        NOT NULL CHECK (channel IN ('urgent', 'records')),
    position    bigint      GENERATED ALWAYS AS IDENTITY,
    kind        text        NOT NULL,
    id          uuid        NOT NULL,
    owner_epoch integer     NOT NULL,
    version     bigint      NOT NULL,
    before      bytea       CHECK (length(before) = 16),
    hash        bytea       NOT NULL CHECK (length(hash) = 16),
    public      bytea       NOT NULL,
    event_id    uuid        NOT NULL,
    event_type  text        NOT NULL,
    event_time  timestamptz NOT NULL,
    event       bytea       NOT NULL,
    insert_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, position)
);
COMMENT ON COLUMN outbox.before IS 'the hash of the record before; NULL if it is new';

-- The heads are rows, never max(number): what is freed does not move them.
CREATE TABLE logs (
    channel text   PRIMARY KEY,
    head    bigint NOT NULL DEFAULT 0
);
INSERT INTO logs (channel) VALUES ('urgent'), ('records');

-- Each start of a publisher is a run; it numbered from `first` on, until the next run began.
CREATE TABLE runs (
    channel text   NOT NULL REFERENCES logs,
    first   bigint NOT NULL,
    run     uuid   NOT NULL,
    start_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, first, run)
);

CREATE TABLE entries (
    channel     text        NOT NULL REFERENCES logs,
    number      bigint      NOT NULL,
    kind        text        NOT NULL,
    id          uuid        NOT NULL,
    owner_epoch integer     NOT NULL,
    version     bigint      NOT NULL,
    hash        bytea       NOT NULL,
    public      bytea       NOT NULL,
    event_id    uuid        NOT NULL,
    event_type  text        NOT NULL,
    event_time  timestamptz NOT NULL,
    event       bytea       NOT NULL,
    number_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel, number)
);

-- Who reads the log, and the last entry that each has committed.
CREATE TABLE receipts (
    reader  text        NOT NULL,
    channel text        NOT NULL REFERENCES logs,
    number  bigint      NOT NULL,
    read_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (reader, channel)
);

-- Running sums of record hashes, own (origin is this node) and of copies, by the last byte of the id.
CREATE TABLE sums (
    origin  uuid     NOT NULL,
    channel text     NOT NULL,
    kind    text     NOT NULL,
    bucket  smallint NOT NULL CHECK (bucket BETWEEN 0 AND 255),
    records bigint   NOT NULL,
    digest  numeric(39) NOT NULL,
    PRIMARY KEY (origin, channel, kind, bucket)
);

-- How far the copies of each stream of other nodes are applied here, and what is proved of them.
-- The service's own streams stand here too, with what its own recount found.
CREATE TABLE proofs (
    origin       uuid     NOT NULL,
    channel      text     NOT NULL,
    frame        bigint   NOT NULL DEFAULT 0,
    applied      bigint   NOT NULL DEFAULT 0,
    certificate  bytea    NOT NULL DEFAULT '',
    verdict      smallint NOT NULL DEFAULT 3,
    buckets      smallint[] NOT NULL DEFAULT '{}',
    counts       jsonb    NOT NULL DEFAULT '{}',
    digest       numeric(39) NOT NULL DEFAULT 0,
    next_bucket  smallint NOT NULL DEFAULT 0,
    compare_time timestamptz,
    recount_time timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (origin, channel)
);

-- Entries that could not be applied.  They block no other record; a later state supersedes them.
CREATE TABLE parked (
    origin      uuid    NOT NULL,
    channel     text    NOT NULL,
    number      bigint  NOT NULL,
    kind        text    NOT NULL,
    id          uuid    NOT NULL,
    owner_epoch integer NOT NULL,
    version     bigint  NOT NULL,
    hash        bytea   NOT NULL,
    public      bytea   NOT NULL,
    reason      text    NOT NULL,
    PRIMARY KEY (origin, channel, number)
);

-- Mutations that were answered: a repeat gets the same answer.  The answer is sealed.
CREATE TABLE calls (
    caller       text        NOT NULL,
    method       text        NOT NULL,
    request_id   uuid        NOT NULL,
    request_hash bytea       NOT NULL,
    answer       bytea       NOT NULL,
    answer_time  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (caller, method, request_id)
);

CREATE FUNCTION element(hash bytea) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('0x' || encode(hash, 'hex'))::numeric;
COMMENT ON FUNCTION element IS 'a hash as a number, big-endian, to be summed modulo 2^128';

CREATE FUNCTION modulo(total numeric) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN mod(mod(total, 340282366920938463463374607431768211456)
               + 340282366920938463463374607431768211456,
               340282366920938463463374607431768211456);
COMMENT ON FUNCTION modulo IS 'modulo 2^128, never negative';

CREATE FUNCTION bucket(id uuid) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN get_byte(uuid_send(id), 15)::smallint;
