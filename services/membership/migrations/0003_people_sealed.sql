-- Whom records are about, sealed with the key of the person, which the application and the membership
-- that came of it share.
ALTER TABLE people
    DROP COLUMN full_name,
    DROP COLUMN id_number,
    DROP COLUMN phone,
    DROP COLUMN id_index,
    ADD COLUMN key      uuid  NOT NULL,
    ADD COLUMN person   bytea NOT NULL,
    ADD COLUMN id_index bytea NOT NULL CHECK (length(id_index) = 33);
COMMENT ON COLUMN people.key IS 'of data_keys: the id of the first record that was made of the person';
COMMENT ON COLUMN people.person IS 'name, ID number and phone, sealed';
COMMENT ON COLUMN people.id_index IS 'the blind index of the ID number';
CREATE UNIQUE INDEX one_standing ON people (id_index) WHERE standing IS NOT NULL;
CREATE INDEX people_ended ON people (id_index) WHERE standing IS NULL;

ALTER TABLE submissions
    DROP COLUMN reject_reason,
    ADD COLUMN reject_reason bytea;
COMMENT ON COLUMN submissions.reject_reason IS 'sealed with the key of the person';

ALTER TABLE admissions
    ADD COLUMN erase_time   timestamptz,
    ADD COLUMN erase_ground smallint CHECK (erase_ground BETWEEN 1 AND 5),
    ADD CONSTRAINT erased_on_a_ground CHECK ((erase_time IS NULL) = (erase_ground IS NULL));
COMMENT ON COLUMN admissions.erase_ground IS 'the number of a Member.Ground';

-- Members whose personal data was erased: 3 is Member.ERASED.
CREATE INDEX members_erased ON members (id) WHERE state = 3;
