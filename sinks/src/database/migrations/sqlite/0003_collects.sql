-- Who has collected what. These three tables belong to the API's transaction alone: a row, its count and what the
-- pipeline has to be told are written together. No sink writes them.
CREATE TABLE collects (
    actor_id TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    active INTEGER NOT NULL, -- 0 or 1
    seq INTEGER NOT NULL, -- of the last change: orders its events
    occurred_at INTEGER NOT NULL, -- of the last change; this and the next two: milliseconds since 1970
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (actor_id, subject_id)
) STRICT, WITHOUT ROWID;

-- Who has collected a subject, newest first.
CREATE INDEX collects_by_subject ON collects (subject_id, active, occurred_at);

CREATE TABLE collect_counts (
    subject_id TEXT NOT NULL,
    value INTEGER NOT NULL, -- how many rows of `collects` are active
    PRIMARY KEY (subject_id)
) STRICT, WITHOUT ROWID;

-- Events on their way to the log. What the log has acknowledged is deleted; ids are never used again.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner TEXT NOT NULL, -- whose relay sends it
    claimed_at INTEGER NOT NULL, -- since when; by the database's clock, as `created_at`
    actor_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    request TEXT NOT NULL, -- hexadecimal
    event TEXT NOT NULL, -- JSON, as it will be in the log
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_by_actor ON outbox (actor_id, id);
CREATE INDEX outbox_by_owner ON outbox (owner, id);
