-- Whoever was a person once, also when it counts no more.
CREATE INDEX ON bindings (person, member);
