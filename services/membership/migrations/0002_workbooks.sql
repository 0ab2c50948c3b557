-- Workbooks, and rosters that are checked before anything is changed.
ALTER TABLE rosters
    ADD COLUMN preview       boolean NOT NULL DEFAULT false,
    ADD COLUMN skipped_rows  bigint  NOT NULL DEFAULT 0,
    ADD COLUMN sheet         text    NOT NULL DEFAULT '',
    ADD COLUMN unread_sheets text[]  NOT NULL DEFAULT '{}',
    ADD COLUMN forgotten     boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT rosters_state_check,
    DROP CONSTRAINT rosters_check1,
    ADD CONSTRAINT rosters_state CHECK (state BETWEEN 1 AND 7),
    ADD CONSTRAINT rosters_done_rows CHECK (
        done_rows = admitted_rows + applied_rows + unchanged_rows + refused_rows + skipped_rows
    );
COMMENT ON COLUMN rosters.preview IS 'whether it stops when it is checked, until it is committed';
COMMENT ON COLUMN rosters.forgotten IS 'whether its results no longer show whom a row was about';
DROP INDEX rosters_id_idx;
CREATE INDEX rosters_waiting ON rosters (id) WHERE state IN (2, 5);

ALTER TABLE roster_rows
    ADD COLUMN shown bytea,
    DROP CONSTRAINT roster_rows_outcome_check,
    ADD CONSTRAINT roster_rows_outcome CHECK (outcome BETWEEN 1 AND 5);
COMMENT ON COLUMN roster_rows.shown IS
    'name and masked ID number for the result file, sealed; forgotten after 30 days';
DROP INDEX roster_rows_roster_record_idx;

-- Whom the rows of a roster were about, so that one who comes twice is seen; deleted with the content.
CREATE TABLE roster_people (
    roster   uuid   NOT NULL,
    id_index bytea  NOT NULL,
    line     bigint NOT NULL,
    PRIMARY KEY (roster, id_index)
);
COMMENT ON COLUMN roster_people.id_index IS 'the blind index of the ID number';
