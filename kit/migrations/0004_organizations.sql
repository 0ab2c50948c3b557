-- The part of the tree that this node holds: what it serves, all below, and all above.
-- Databases of membership have had these two tables before the kit had them.
CREATE TABLE IF NOT EXISTS organizations (
    id           uuid     PRIMARY KEY,
    code         text     COLLATE "C" NOT NULL UNIQUE,
    display_name text     NOT NULL,
    level        smallint NOT NULL CHECK (level BETWEEN 1 AND 7),
    parent       uuid,
    path         text     COLLATE "C" NOT NULL,
    host         uuid
);
COMMENT ON COLUMN organizations.path IS 'codes from the nation down: 0.51.5101; a subtree is the range from ''x.'' to ''x/''';
COMMENT ON COLUMN organizations.host IS 'the node below that hosts it with its subtree; NULL: as what is above it';
CREATE INDEX IF NOT EXISTS organizations_path_idx ON organizations (path);
CREATE INDEX IF NOT EXISTS organizations_parent_code_idx ON organizations (parent, code);
CREATE INDEX IF NOT EXISTS organizations_path_idx1 ON organizations (path) WHERE host IS NOT NULL;

-- Which divisions the organisations were seeded from.
CREATE TABLE IF NOT EXISTS seeds (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    version text    NOT NULL
);
