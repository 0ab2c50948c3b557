-- Four eyes: every roster is checked, and another officer than who brought it commits it.
ALTER TABLE rosters
    DROP COLUMN preview,
    ADD COLUMN committer text NOT NULL DEFAULT '',
    ADD CONSTRAINT rosters_four_eyes CHECK (state NOT IN (2, 3) OR committer NOT IN ('', creator));
COMMENT ON COLUMN rosters.creator IS 'who brought it, and so files the applications in it';
COMMENT ON CONSTRAINT rosters_four_eyes ON rosters IS '2 and 3: what is IMPORTING or DONE';
