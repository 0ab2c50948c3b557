-- Notices of this node, and copies of those of the nodes above.
CREATE TABLE notices (
    origin         uuid    NOT NULL,
    id             uuid    NOT NULL,
    owner_epoch    integer NOT NULL,
    version        bigint  NOT NULL,
    hash           bytea   NOT NULL CHECK (length(hash) = 16),
    public         bytea   NOT NULL,
    organization   uuid    NOT NULL,
    expire_seconds bigint  NOT NULL,
    arrival        xid8    NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (id, origin)
);
COMMENT ON COLUMN notices.arrival IS 'the transaction that brought it: what follows a snapshot is found by its xmin, and by no clock';
CREATE INDEX ON notices (origin, bucket(id));
CREATE INDEX ON notices (organization, id);
CREATE INDEX ON notices (arrival);

-- What members have read: a row for each message that a member has marked, and none before.
CREATE TABLE reads (
    message   uuid        NOT NULL,
    member    uuid        NOT NULL,
    read_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    counted   boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (message, member)
);
CREATE INDEX ON reads (message) WHERE NOT counted;

-- How a new member is welcomed: the nearest organisation counts, and the latest before admission.
CREATE TABLE welcomes (
    organization   uuid        NOT NULL,
    effective_time timestamptz NOT NULL,
    title          text        NOT NULL CHECK (length(title) BETWEEN 1 AND 100),
    text           text        NOT NULL CHECK (length(text) BETWEEN 1 AND 20000),
    source         text        NOT NULL,
    PRIMARY KEY (organization, effective_time)
);
INSERT INTO welcomes VALUES (
    'b95cdade-98c5-5004-ae27-ee17bcdd12fa', '-infinity', '欢迎加入工会',
    E'您已是中国工会会员。\n您可以在这里查看工会通知、领取会员权益，也可以把您的心声和诉求告诉工会。',
    'unverified default'
);
