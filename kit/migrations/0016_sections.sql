-- The section `personal` of a record, or the 16 bytes of its hash where it is not held; NULL of a
-- record that has none.
ALTER TABLE outbox ADD COLUMN personal bytea;
ALTER TABLE entries ADD COLUMN personal bytea;
ALTER TABLE parked ADD COLUMN personal bytea;
