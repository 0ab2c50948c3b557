-- What a view that shows less deletes.
CREATE INDEX members_shown ON members (id, origin) WHERE length(personal) > 16;
