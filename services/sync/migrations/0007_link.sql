-- How the parent is known by TLS, and how this node is known to it.
ALTER TABLE uplink
    ADD COLUMN parent_key       bytea NOT NULL DEFAULT '',
    ADD COLUMN link_certificate bytea NOT NULL DEFAULT '';
COMMENT ON COLUMN uplink.parent_key IS 'the parent''s public key, as the invitation named it';

ALTER TABLE enrollments ADD COLUMN revoke_time timestamptz;
COMMENT ON COLUMN enrollments.revoke_time IS 'since when it is cut off; NULL if it is not';
