-- Programmes of this node that somebody has made, until and after another has opened them.
CREATE TABLE drafts (
    id           uuid  PRIMARY KEY,
    organization uuid  NOT NULL,
    public       bytea NOT NULL,
    creator      text  NOT NULL,
    opener       text  NOT NULL DEFAULT '',
    CONSTRAINT drafts_four_eyes CHECK (opener <> creator)
);
COMMENT ON COLUMN drafts.public IS 'the section that the record will have';
CREATE INDEX ON drafts (organization, id) WHERE opener = '';
