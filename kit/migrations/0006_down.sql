-- A third channel: what travels to the nodes below.
ALTER TABLE outbox DROP CONSTRAINT outbox_channel_check,
    ADD CHECK (channel IN ('urgent', 'records', 'down'));
INSERT INTO logs (channel) VALUES ('down');
