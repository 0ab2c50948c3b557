-- Records: own ones and copies alike, and nothing personal.
CREATE TABLE cards (
    origin       uuid     NOT NULL,
    id           uuid     NOT NULL,
    owner_epoch  integer  NOT NULL,
    version      bigint   NOT NULL,
    hash         bytea    NOT NULL CHECK (length(hash) = 16),
    public       bytea    NOT NULL,
    member       uuid     NOT NULL,
    organization uuid     NOT NULL,
    state        smallint NOT NULL,
    status_index bigint   NOT NULL,
    holder       uuid,
    PRIMARY KEY (id, origin)
);
COMMENT ON COLUMN cards.holder IS
    'the member of an active card issued here; NULL in copies and in what came back after a restore, '
    'so that these never collide';
-- A member holds one active card.
CREATE UNIQUE INDEX one_active_card ON cards (holder) WHERE state = 1;
CREATE INDEX ON cards (origin, bucket(id));
CREATE INDEX ON cards (organization, id);
CREATE INDEX ON cards (member);
CREATE INDEX ON cards (origin, status_index);
CREATE INDEX ON cards (origin, status_index) WHERE state = 2;

-- Why officers revoked own cards.  A card that ended with the membership has no row.
CREATE TABLE revocations (
    card    uuid PRIMARY KEY,
    reason  text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    revoker text NOT NULL
);

-- Which own cards are revoked, signed; and the lists of the nodes below, as nodes hand them down.
CREATE TABLE status_lists (
    origin      uuid    NOT NULL,
    id          uuid    NOT NULL,
    owner_epoch integer NOT NULL,
    version     bigint  NOT NULL,
    hash        bytea   NOT NULL CHECK (length(hash) = 16),
    public      bytea   NOT NULL,
    node        uuid    NOT NULL,
    number      bigint  NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON status_lists (origin, bucket(id));

CREATE TABLE shared_status_lists (LIKE status_lists INCLUDING ALL);

CREATE TABLE programmes (
    origin       uuid    NOT NULL,
    id           uuid    NOT NULL,
    owner_epoch  integer NOT NULL,
    version      bigint  NOT NULL,
    hash         bytea   NOT NULL CHECK (length(hash) = 16),
    public       bytea   NOT NULL,
    organization uuid    NOT NULL,
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON programmes (origin, bucket(id));

CREATE TABLE coupons (
    origin       uuid     NOT NULL,
    id           uuid     NOT NULL,
    owner_epoch  integer  NOT NULL,
    version      bigint   NOT NULL,
    hash         bytea    NOT NULL CHECK (length(hash) = 16),
    public       bytea    NOT NULL,
    programme    uuid     NOT NULL,
    member       uuid     NOT NULL,
    organization uuid     NOT NULL,
    state        smallint NOT NULL,
    claimant     uuid,
    PRIMARY KEY (id, origin)
);
COMMENT ON COLUMN coupons.claimant IS
    'the member, if it was claimed here; NULL in copies and in what came back after a restore, so '
    'that these never collide';
-- A member claims once of a programme.
CREATE UNIQUE INDEX one_coupon ON coupons (programme, claimant);
CREATE INDEX ON coupons (origin, bucket(id));
CREATE INDEX ON coupons (member, id);
CREATE INDEX ON coupons (programme, member);

-- What is left of this node's share of each programme.  Who claims holds the row: so the share is
-- never exceeded, by however many processes.
CREATE TABLE stocks (
    programme uuid   PRIMARY KEY,
    remaining bigint NOT NULL CHECK (remaining >= 0)
);

-- Who redeemed own coupons.
CREATE TABLE redemptions (
    coupon   uuid PRIMARY KEY,
    merchant text NOT NULL
);
