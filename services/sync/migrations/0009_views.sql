-- Views: which sections of records the levels above their owner hold; own ones and copies of those
-- of the nodes above.
CREATE TABLE views (
    origin            uuid    NOT NULL,
    id                uuid    NOT NULL,
    owner_epoch       integer NOT NULL,
    version           bigint  NOT NULL,
    hash              bytea   NOT NULL,
    public            bytea   NOT NULL,
    number            bigint  NOT NULL,
    effective_seconds bigint  NOT NULL,
    create_seconds    bigint  NOT NULL,
    rules             text    NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON views (origin, bucket(id));

-- To which view each node holds: this one and copies of those below.
CREATE TABLE view_reports (
    origin         uuid    NOT NULL,
    id             uuid    NOT NULL,
    owner_epoch    integer NOT NULL,
    version        bigint  NOT NULL,
    hash           bytea   NOT NULL,
    public         bytea   NOT NULL,
    view           uuid    NOT NULL,
    report_seconds bigint  NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON view_reports (origin, bucket(id));

ALTER TABLE frames ADD COLUMN view uuid;
COMMENT ON COLUMN frames.view IS 'the view by which sections besides `public` were left in it; NULL if it has none';
CREATE INDEX ON frames (view) WHERE view IS NOT NULL;

ALTER TABLE streams ADD COLUMN refusals bigint NOT NULL DEFAULT 0,
    ADD COLUMN refusal text NOT NULL DEFAULT '';
COMMENT ON COLUMN streams.refusal IS 'why what `via` brought last was not taken, or not all of it';
