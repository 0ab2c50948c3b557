-- Who did what, by which office: written in the transaction of the change, without a number, so
-- that mutations do not wait for one another.
CREATE TABLE audit_waiting (
    position   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time       timestamptz NOT NULL DEFAULT clock_timestamp(),
    caller     text        NOT NULL,
    method     text        NOT NULL,
    office     text        NOT NULL,
    path       text        COLLATE "C" NOT NULL,
    names      text[]      NOT NULL,
    request_id uuid
);

-- The trail: numbered and chained by the publisher (kit/chain.py), and never changed.
CREATE TABLE audit (
    number     bigint      PRIMARY KEY,
    time       timestamptz NOT NULL,
    caller     text        NOT NULL,
    method     text        NOT NULL,
    office     text        NOT NULL,
    path       text        COLLATE "C" NOT NULL,
    names      text[]      NOT NULL,
    request_id uuid,
    hash       bytea       NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX ON audit USING gin (names);
CREATE INDEX ON audit (caller, number);

CREATE TABLE audit_head (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    number bigint  NOT NULL,
    hash   bytea   NOT NULL
);
INSERT INTO audit_head (number, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- The heads of the trails of other nodes, as their certificates brought them.  Two hashes of one
-- number are the sign of a trail that was made anew.
CREATE TABLE audit_heads (
    origin       uuid        NOT NULL,
    number       bigint      NOT NULL,
    hash         bytea       NOT NULL,
    certify_time timestamptz NOT NULL,
    PRIMARY KEY (origin, number, hash)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows are only ever added to %', TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
