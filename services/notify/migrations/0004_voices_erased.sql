-- What was passed on and is erased holds no sealed text any more, so its section has 94 bytes; with
-- one it has more than 150.
CREATE INDEX handlings_erased ON handlings (voice) WHERE action = 1 AND octet_length(public) < 100;
