-- The order in which frames of all streams were numbered here, for those who watch: gap-free, and
-- in it each stream's frames keep their order.  Whoever holds the advisory lock `arrivals` numbers;
-- what was numbered last of each stream is its frame_receipt as the reader `arrivals`.
CREATE TABLE arrivals (
    number  bigint PRIMARY KEY,
    origin  uuid   NOT NULL,
    service text   NOT NULL,
    channel text   NOT NULL,
    frame   bigint NOT NULL,
    UNIQUE (origin, service, channel, frame)
);

CREATE TABLE arrival_head (
    single    boolean PRIMARY KEY DEFAULT true CHECK (single),
    head      bigint  NOT NULL DEFAULT 0,
    trimmed   bigint  NOT NULL DEFAULT 0,
    published bigint  NOT NULL DEFAULT 0
);
INSERT INTO arrival_head DEFAULT VALUES;
COMMENT ON COLUMN arrival_head.trimmed IS 'the greatest number whose frame was freed';
COMMENT ON COLUMN arrival_head.published IS 'the last number whose events are in the stream BELOW';

-- Each time that someone begins to number is a run; it numbered from `first` on, until the next run
-- began.  A number together with its run is never given twice, also not after a restore.
CREATE TABLE arrival_runs (
    first bigint NOT NULL,
    place bigint GENERATED ALWAYS AS IDENTITY,
    run   uuid   NOT NULL,
    PRIMARY KEY (first, place)
);

CREATE FUNCTION arrival_run(number bigint) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT run FROM arrival_runs WHERE first <= $1
                      ORDER BY first DESC, place DESC LIMIT 1),
                    '00000000-0000-0000-0000-000000000000'::uuid)
$$;

-- Of the frames that are here already, those count that were kept without a hole.
INSERT INTO frame_receipts (reader, origin, service, channel, frame)
SELECT 'arrivals', streams.origin, streams.service, streams.channel,
       coalesce(min(frames.number) - 1, streams.frame)
  FROM streams LEFT JOIN frames USING (origin, service, channel)
 GROUP BY streams.origin, streams.service, streams.channel, streams.frame;

CREATE TABLE subscribers (
    id            uuid        PRIMARY KEY,
    display_name  text        NOT NULL,
    nats_user_key text        NOT NULL,
    types         text[]      NOT NULL,
    origins       uuid[]      NOT NULL,
    subtree       text        NOT NULL,
    user_jwt      text        NOT NULL,
    create_time   timestamptz NOT NULL,
    revoke_time   timestamptz
);
