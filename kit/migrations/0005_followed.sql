-- How far this service has read the logs of other services of its node.
CREATE TABLE followed (
    peer    text   NOT NULL,
    channel text   NOT NULL,
    number  bigint NOT NULL DEFAULT 0,
    run     bytea  NOT NULL DEFAULT '',
    PRIMARY KEY (peer, channel)
);

-- The members of this node, as membership announces them: kept by services that follow it.
CREATE TABLE roll (
    id           uuid    PRIMARY KEY,
    version      bigint  NOT NULL,
    organization uuid    NOT NULL,
    active       boolean NOT NULL
);
