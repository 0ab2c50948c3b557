-- A key is named by the member to whom it belongs: it is read where the member is, and by them.
CREATE POLICY enrolled ON data_keys USING (
    id = calling_member()
    OR EXISTS (SELECT FROM roll JOIN organizations ON organizations.id = organization
                WHERE roll.id = data_keys.id AND path || '.' ^@ ANY (reach())));
