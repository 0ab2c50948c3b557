-- Voices of members: that they are there, and not what they say.
CREATE TABLE voices (
    origin       uuid    NOT NULL,
    id           uuid    NOT NULL,
    owner_epoch  integer NOT NULL,
    version      bigint  NOT NULL,
    hash         bytea   NOT NULL CHECK (length(hash) = 16),
    public       bytea   NOT NULL,
    organization uuid    NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON voices (origin, bucket(id));
CREATE INDEX ON voices (organization, id);

-- What each level did about a voice: of this node and of those below.
CREATE TABLE handlings (
    origin       uuid     NOT NULL,
    id           uuid     NOT NULL,
    owner_epoch  integer  NOT NULL,
    version      bigint   NOT NULL,
    hash         bytea    NOT NULL CHECK (length(hash) = 16),
    public       bytea    NOT NULL,
    voice        uuid     NOT NULL,
    voice_origin uuid     NOT NULL,
    action       smallint NOT NULL,
    addressee    uuid,
    arrival      xid8     NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON handlings (origin, bucket(id));
CREATE INDEX ON handlings (voice);
CREATE INDEX ON handlings (arrival);

-- The same of the nodes above, for those below.
CREATE TABLE replies (LIKE handlings INCLUDING ALL);

-- Who raised each own voice, and what it says.
CREATE TABLE raisings (
    voice  uuid  PRIMARY KEY,
    member uuid  NOT NULL,
    text   bytea NOT NULL
);
COMMENT ON COLUMN raisings.text IS 'a VoiceText, sealed';
CREATE INDEX ON raisings (member, voice);

-- The answer or the reason of each own handling.
CREATE TABLE handling_texts (
    handling uuid  PRIMARY KEY,
    text     bytea NOT NULL
);
COMMENT ON COLUMN handling_texts.text IS 'sealed';
