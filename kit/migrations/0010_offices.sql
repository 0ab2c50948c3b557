-- A fourth channel: what stays at the node.
ALTER TABLE outbox DROP CONSTRAINT outbox_channel_check,
    ADD CHECK (channel IN ('urgent', 'records', 'down', 'local'));
ALTER TABLE entries DROP CONSTRAINT entries_channel_check,
    ADD CHECK (channel IN ('urgent', 'records', 'down', 'local'));
INSERT INTO logs (channel) VALUES ('local');

-- Who holds which office: membership's records, which the other services of the node follow.
CREATE TABLE offices (
    origin       uuid        NOT NULL,
    id           uuid        NOT NULL,
    owner_epoch  integer     NOT NULL,
    version      bigint      NOT NULL,
    hash         bytea       NOT NULL CHECK (length(hash) = 16),
    public       bytea       NOT NULL,
    holder       text        NOT NULL,
    organization uuid        NOT NULL,
    role         smallint    NOT NULL,
    begin_time   timestamptz NOT NULL,
    end_time     timestamptz,
    PRIMARY KEY (id, origin),
    CONSTRAINT offices_term CHECK (end_time >= begin_time)
);
COMMENT ON COLUMN offices.end_time IS 'the first moment at which it no longer counts; NULL: it has no end';
CREATE INDEX ON offices (origin, bucket(id));
CREATE INDEX ON offices (organization, id);
CREATE INDEX ON offices (holder);
