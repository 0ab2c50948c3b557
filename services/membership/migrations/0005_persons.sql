-- A person is one member, and a member one person.
CREATE UNIQUE INDEX one_binding_of_person ON bindings (person) WHERE active;
CREATE UNIQUE INDEX one_binding_of_member ON bindings (member) WHERE active;

-- Who has tried to be somebody and failed; forgotten after a day.
CREATE TABLE binding_attempts (
    person       uuid        NOT NULL,
    id_index     bytea       NOT NULL,
    attempt_time timestamptz NOT NULL
);
COMMENT ON COLUMN binding_attempts.id_index IS 'the blind index of the ID number';
CREATE INDEX ON binding_attempts (person);
CREATE INDEX ON binding_attempts (id_index);
CREATE INDEX ON binding_attempts (attempt_time);

-- Four eyes: who files an application does not approve it.
ALTER TABLE submissions
    ADD COLUMN filer text NOT NULL DEFAULT '',
    ADD CONSTRAINT submissions_four_eyes CHECK (member IS NULL OR decider <> filer);
ALTER TABLE rosters ADD COLUMN creator text NOT NULL DEFAULT '';
COMMENT ON COLUMN rosters.creator IS 'who files the applications in it';
CREATE INDEX ON submissions (filer) WHERE decide_time IS NULL;
