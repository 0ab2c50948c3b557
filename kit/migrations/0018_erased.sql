-- A key that was destroyed may leave its id, without the key: then none is made again for who is
-- erased.
ALTER TABLE data_keys
    ALTER COLUMN kek DROP NOT NULL,
    ALTER COLUMN wrapped DROP NOT NULL,
    ADD CONSTRAINT data_keys_whole CHECK ((kek IS NULL) = (wrapped IS NULL));
COMMENT ON COLUMN data_keys.wrapped IS 'NULL: it was destroyed';
