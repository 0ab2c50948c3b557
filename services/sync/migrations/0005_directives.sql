-- Directives: own ones and copies of those of the nodes above.
CREATE TABLE directives (
    origin         uuid    NOT NULL,
    id             uuid    NOT NULL,
    owner_epoch    integer NOT NULL,
    version        bigint  NOT NULL,
    hash           bytea   NOT NULL,
    public         bytea   NOT NULL,
    title          text    NOT NULL,
    text           text    NOT NULL,
    subtree        text    NOT NULL,
    levels         text    NOT NULL,
    due_seconds    bigint  NOT NULL,
    create_seconds bigint  NOT NULL,
    expected       bytea   NOT NULL,
    parent         bytea   NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON directives (origin, bucket(id));
COMMENT ON COLUMN directives.expected IS 'the nodes that it is addressed to, 16 bytes each';

-- What nodes report: this one and copies of those below.
CREATE TABLE directive_reports (
    origin         uuid     NOT NULL,
    id             uuid     NOT NULL,
    owner_epoch    integer  NOT NULL,
    version        bigint   NOT NULL,
    hash           bytea    NOT NULL,
    public         bytea    NOT NULL,
    directive      uuid     NOT NULL,
    state          smallint NOT NULL,
    reason         text     NOT NULL,
    report_seconds bigint   NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON directive_reports (origin, bucket(id));
CREATE INDEX ON directive_reports (directive, origin);
