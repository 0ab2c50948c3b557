-- Whether a directive from above has been looked at: only what is new is asked for twice a second.
ALTER TABLE directives ADD COLUMN looked boolean NOT NULL DEFAULT false;
CREATE INDEX ON directives (origin) WHERE NOT looked;
