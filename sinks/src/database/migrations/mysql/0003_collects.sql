-- Who has collected what; the same tables as in SQLite. They belong to the API's transaction alone: a row, its count and
-- what the pipeline has to be told are written together. No sink writes them.
CREATE TABLE IF NOT EXISTS collects (
    actor_id VARBINARY(128) NOT NULL,
    subject_id VARBINARY(128) NOT NULL,
    active TINYINT NOT NULL,
    seq BIGINT NOT NULL, -- of the last change: orders its events
    occurred_at BIGINT NOT NULL, -- of the last change
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (actor_id, subject_id),
    KEY collects_by_subject (subject_id, active, occurred_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS collect_counts (
    subject_id VARBINARY(128) NOT NULL,
    value BIGINT NOT NULL, -- how many rows of `collects` are active
    PRIMARY KEY (subject_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Events on their way to the log. What the log has acknowledged is deleted.
CREATE TABLE IF NOT EXISTS outbox (
    id BIGINT NOT NULL AUTO_INCREMENT,
    owner VARBINARY(64) NOT NULL, -- whose relay sends it
    claimed_at BIGINT NOT NULL, -- since when; by the database's clock, as `created_at`
    actor_id VARBINARY(128) NOT NULL,
    seq BIGINT NOT NULL,
    request VARBINARY(64) NOT NULL, -- hexadecimal
    event BLOB NOT NULL, -- JSON, as it will be in the log
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY outbox_by_actor (actor_id, id),
    KEY outbox_by_owner (owner, id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
