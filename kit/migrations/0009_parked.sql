-- Of a snapshot, many entries have one number.
ALTER TABLE parked DROP CONSTRAINT parked_pkey,
    ADD PRIMARY KEY (origin, channel, kind, id, number);
