-- To what is only added, who serves adds.
REVOKE UPDATE, DELETE ON privacy_texts, consents FROM SESSION_USER;

-- A key is named by the first record that was made of the person: it is read where that record is,
-- by the person who filed it, and by the member of whom it is.
CREATE POLICY people ON data_keys USING (
    EXISTS (SELECT FROM members JOIN organizations ON organizations.id = organization
             WHERE members.id = data_keys.id AND path || '.' ^@ ANY (reach()))
    OR EXISTS (SELECT FROM applications JOIN organizations ON organizations.id = organization
                WHERE applications.id = data_keys.id AND path || '.' ^@ ANY (reach()))
    OR EXISTS (SELECT FROM submissions
                WHERE application = data_keys.id AND filer = ANY (reach()) AND filer ^@ 'persons/')
    OR EXISTS (SELECT FROM people own JOIN people first USING (id_index)
                WHERE own.id = calling_member() AND first.id = data_keys.id));

-- The section `personal` of copies is in clear, and a policy on the table would hide what is public
-- beside it.  So who serves does not read that column but through this view, which shows the rows
-- in reach.  It is of the owner, whose rights it has; unlike a policy it leaves the index on
-- (origin, bucket(id)) to those who recount.  A new column of the table is granted, and added to it.
REVOKE SELECT ON members FROM SESSION_USER;
GRANT SELECT (origin, id, owner_epoch, version, hash, public, organization, state)
    ON members TO SESSION_USER;
CREATE VIEW members_held AS
SELECT origin, id, owner_epoch, version, hash, public, organization, state, personal FROM members
 WHERE (SELECT '' = ANY (reach()))
    OR EXISTS (SELECT FROM organizations
                WHERE organizations.id = organization AND path || '.' ^@ ANY (reach()));
