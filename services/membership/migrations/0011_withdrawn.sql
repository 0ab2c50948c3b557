-- Who has withdrawn, and is brought back by a restore, is found again.
CREATE INDEX applications_withdrawn ON applications (id) WHERE state = 4;
COMMENT ON INDEX applications_withdrawn IS '4: WITHDRAWN';
