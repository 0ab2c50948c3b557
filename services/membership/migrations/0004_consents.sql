-- What people were told of the use of their data, in every version, as privacy.toml said it then.
CREATE TABLE privacy_texts (
    use            text     NOT NULL,
    effective_date date     NOT NULL,
    basis          smallint NOT NULL CHECK (basis BETWEEN 1 AND 3),
    title          text     NOT NULL,
    text           text     NOT NULL,
    PRIMARY KEY (use, effective_date)
);

-- Who was told it, and who consented or took that back: rows are only added.
CREATE TABLE consents (
    id             uuid        PRIMARY KEY,
    person         uuid        NOT NULL,
    use            text        NOT NULL,
    effective_date date        NOT NULL,
    step           smallint    NOT NULL CHECK (step BETWEEN 1 AND 3),
    recorder       text        NOT NULL,
    time           timestamptz NOT NULL
);
COMMENT ON COLUMN consents.person IS 'the member or application of whom it is, as in people';
COMMENT ON COLUMN consents.effective_date IS 'of the text that was shown';
CREATE INDEX ON consents (person);

CREATE TRIGGER only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON privacy_texts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON consents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
