-- Why a card was revoked may tell of its holder: it is sealed with the holder's key, and erased with it.
ALTER TABLE revocations
    DROP COLUMN reason,
    ADD COLUMN reason bytea;
COMMENT ON COLUMN revocations.reason IS 'sealed; NULL: erased';
