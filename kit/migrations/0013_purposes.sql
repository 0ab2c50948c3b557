-- Why personal data was shown to an officer with nothing masked; empty of everything else.
ALTER TABLE audit_waiting ADD COLUMN purpose text NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN purpose text NOT NULL DEFAULT '';
