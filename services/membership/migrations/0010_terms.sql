-- Four eyes: every roster is checked, and another officer than who brought it commits it.
ALTER TABLE rosters
    DROP COLUMN preview,
    ADD COLUMN committer text NOT NULL DEFAULT '',
    ADD CONSTRAINT rosters_four_eyes CHECK (state NOT IN (2, 3) OR committer NOT IN ('', creator));
COMMENT ON COLUMN rosters.creator IS 'who brought it, and so files the applications in it';
COMMENT ON CONSTRAINT rosters_four_eyes ON rosters IS '2 and 3: what is IMPORTING or DONE';

-- Whom a row was about, also one that was refused: who comes twice in a roster is seen by it, and who
-- is erased is found.
DROP TABLE roster_people;
ALTER TABLE roster_rows ADD COLUMN id_index bytea;
COMMENT ON COLUMN roster_rows.id_index IS
    'the blind index of the ID number, if that is right; forgotten with what is shown';
CREATE INDEX roster_rows_people ON roster_rows (id_index, roster) WHERE id_index IS NOT NULL;

-- Who was turned down is erased when their term has ended.
ALTER TABLE submissions
    ADD COLUMN erase_time timestamptz,
    ADD CONSTRAINT submissions_erased
        CHECK (erase_time IS NULL OR (decide_time IS NOT NULL AND member IS NULL));
CREATE INDEX submissions_turned_down ON submissions (decide_time)
    WHERE member IS NULL AND erase_time IS NULL;

-- The salt of the section `personal` follows from the key of the person.
ALTER TABLE admissions DROP COLUMN personal_salt;
