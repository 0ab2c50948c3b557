-- Held by whoever recounts own tables.  LOCK TABLE takes no snapshot, so what is read after it is
-- newer than what the one before has written.
CREATE TABLE audits ();
