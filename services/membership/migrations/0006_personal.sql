-- The section `personal` of copies, where a view shows it; else, and of own members, its hash, 16 bytes.
ALTER TABLE members ADD COLUMN personal bytea;
-- What keeps that hash from being guessed: the section is made again of it and what is sealed.
ALTER TABLE admissions ADD COLUMN personal_salt text NOT NULL DEFAULT '';
