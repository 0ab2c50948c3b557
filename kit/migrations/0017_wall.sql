-- Who serves (the role that logs in) owns nothing: it reads and writes the tables, those too that
-- later migrations make, and cannot change what they are.  To the trail it adds, and nothing else.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO SESSION_USER;
ALTER DEFAULT PRIVILEGES IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO SESSION_USER;
REVOKE UPDATE, DELETE ON audit, audit_heads FROM SESSION_USER;

CREATE FUNCTION reach() RETURNS text[] LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('smartunion.reach', true), '')::text[];
COMMENT ON FUNCTION reach IS 'how far the session sees what is personal: the name of a person, such '
    'as members/…; the paths of organisations, each with a dot behind it, with all below; '
    'everything, as the empty string; NULL: nothing.  kit/db.py sets it from who calls';

CREATE FUNCTION calling_member() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN substring((reach())[1] FROM '^members/(.+)$')::uuid;
COMMENT ON FUNCTION calling_member IS 'the member who calls about themselves; NULL: nobody does';

-- All that is personal and sealed is read by a key of this table, so here stands the wall.  Each
-- service adds a policy that says whose a key is; of no person are those that it opens as it starts.
-- Who may not read a key may still add one.
ALTER TABLE data_keys ENABLE ROW LEVEL SECURITY;
CREATE POLICY service ON data_keys USING ('' = ANY (reach())) WITH CHECK (true);

-- Sections besides `public` that could not be applied are in clear.
ALTER TABLE parked ENABLE ROW LEVEL SECURITY;
CREATE POLICY service ON parked
    USING (coalesce(length(personal), 16) = 16 OR '' = ANY (reach()))
    WITH CHECK (true);
