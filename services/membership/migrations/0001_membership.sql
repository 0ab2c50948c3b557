-- Records: own ones and copies alike, and nothing personal.
CREATE TABLE applications (
    origin       uuid     NOT NULL,
    id           uuid     NOT NULL,
    owner_epoch  integer  NOT NULL,
    version      bigint   NOT NULL,
    hash         bytea    NOT NULL CHECK (length(hash) = 16),
    public       bytea    NOT NULL,
    organization uuid     NOT NULL,
    state        smallint NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON applications (origin, bucket(id));
CREATE INDEX ON applications (organization, id);

CREATE TABLE members (
    origin       uuid     NOT NULL,
    id           uuid     NOT NULL,
    owner_epoch  integer  NOT NULL,
    version      bigint   NOT NULL,
    hash         bytea    NOT NULL CHECK (length(hash) = 16),
    public       bytea    NOT NULL,
    organization uuid     NOT NULL,
    state        smallint NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON members (origin, bucket(id));
CREATE INDEX ON members (organization, id);

-- The person of each own member and application: all that is personal stands here.
CREATE TABLE people (
    id        uuid  PRIMARY KEY,
    full_name text  NOT NULL CHECK (length(full_name) BETWEEN 1 AND 50),
    id_number bytea NOT NULL,
    phone     bytea,
    id_index  bytea NOT NULL CHECK (length(id_index) = 32),
    standing  text  CHECK (standing IN ('member', 'applicant'))
);
COMMENT ON COLUMN people.id_number IS 'sealed, as is phone';
COMMENT ON COLUMN people.id_index IS 'the blind index of the ID number';
COMMENT ON COLUMN people.standing IS 'what the person is by this record: NULL once it has ended';
-- At one node a person is a member once, or waits for one decision.
CREATE UNIQUE INDEX one_standing ON people (id_index) WHERE standing IS NOT NULL;
CREATE INDEX ON people (id_index) WHERE standing IS NULL;

-- What else is known of own applications and members.
CREATE TABLE submissions (
    application   uuid        PRIMARY KEY,
    create_time   timestamptz NOT NULL,
    decide_time   timestamptz,
    decider       text        NOT NULL DEFAULT '',
    reject_reason text        NOT NULL DEFAULT '' CHECK (length(reject_reason) <= 500),
    member        uuid,
    CHECK ((decide_time IS NULL) = (decider = '')),
    CHECK (member IS NULL OR reject_reason = '')
);

CREATE TABLE admissions (
    member          uuid PRIMARY KEY,
    approval_date   date NOT NULL,
    approval_number text NOT NULL DEFAULT ''
);

CREATE TABLE rosters (
    id             uuid     PRIMARY KEY,
    organization   uuid     NOT NULL,
    file_name      text     NOT NULL CHECK (length(file_name) BETWEEN 1 AND 255),
    size_bytes     bigint   NOT NULL CHECK (size_bytes BETWEEN 1 AND 268435456),
    sha256         text     NOT NULL CHECK (length(sha256) = 64),
    state          smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    received_bytes bigint   NOT NULL DEFAULT 0,
    total_rows     bigint   NOT NULL DEFAULT 0,
    done_rows      bigint   NOT NULL DEFAULT 0,
    admitted_rows  bigint   NOT NULL DEFAULT 0,
    applied_rows   bigint   NOT NULL DEFAULT 0,
    unchanged_rows bigint   NOT NULL DEFAULT 0,
    refused_rows   bigint   NOT NULL DEFAULT 0,
    refuse_reason  text     NOT NULL DEFAULT '',
    refuse_message text     NOT NULL DEFAULT '',
    CHECK (received_bytes <= size_bytes),
    CHECK (done_rows = admitted_rows + applied_rows + unchanged_rows + refused_rows)
);
CREATE INDEX ON rosters (id) WHERE state = 2;

-- What was received, sealed; deleted when the import has ended.
CREATE TABLE roster_chunks (
    roster  uuid   NOT NULL REFERENCES rosters,
    place   bigint NOT NULL,
    content bytea  NOT NULL,
    PRIMARY KEY (roster, place)
);
COMMENT ON COLUMN roster_chunks.place IS 'where the content begins in the file, in bytes';
ALTER TABLE roster_chunks ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE roster_rows (
    roster          uuid     NOT NULL,
    line            bigint   NOT NULL,
    outcome         smallint NOT NULL CHECK (outcome BETWEEN 1 AND 4),
    record          text     NOT NULL,
    reason          text     NOT NULL,
    header          text     NOT NULL,
    message         text     NOT NULL,
    chinese_message text     NOT NULL,
    PRIMARY KEY (roster, line)
);
COMMENT ON COLUMN roster_rows.header IS 'the column that is wrong, as the header of the file names it';
CREATE INDEX ON roster_rows (roster, record) WHERE record <> '';
