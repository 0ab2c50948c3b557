-- How many members of each node have read a notice: one record for each pair.
CREATE TABLE read_counts (
    origin        uuid    NOT NULL,
    id            uuid    NOT NULL,
    owner_epoch   integer NOT NULL,
    version       bigint  NOT NULL,
    hash          bytea   NOT NULL CHECK (length(hash) = 16),
    public        bytea   NOT NULL,
    notice        uuid    NOT NULL,
    notice_origin uuid    NOT NULL,
    readers       bigint  NOT NULL CHECK (readers >= 0),
    PRIMARY KEY (id, origin)
);
CREATE INDEX ON read_counts (origin, bucket(id));
CREATE INDEX ON read_counts (notice);
