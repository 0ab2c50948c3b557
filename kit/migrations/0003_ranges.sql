CREATE FUNCTION tail(id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (get_byte(uuid_send(id), 15)::bigint << 32) + (get_byte(uuid_send(id), 14)::bigint << 24)
         + (get_byte(uuid_send(id), 13)::bigint << 16) + (get_byte(uuid_send(id), 12)::bigint << 8)
         + get_byte(uuid_send(id), 11);
COMMENT ON FUNCTION tail IS 'the last five bytes of an id, the last one first: it begins with the '
    'bucket, and its leading digits are the ranges of kit/ranges.py';
