-- What the database sink writes. Ids are TEXT under the binary collation: compared byte by byte.
-- `version` (generation << 48 | commit number) guards every upsert.

CREATE TABLE counters (
    subject_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    value INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (subject_id, metric)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter_windows (
    subject_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    window_ms INTEGER NOT NULL,
    window_start INTEGER NOT NULL, -- milliseconds since 1970
    value INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (subject_id, metric, window_ms, window_start)
) STRICT, WITHOUT ROWID;

CREATE INDEX counter_windows_by_start ON counter_windows (window_start);

CREATE TABLE reactions (
    actor_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    active INTEGER NOT NULL, -- 0 or 1
    occurred_at INTEGER NOT NULL, -- this and the next two: milliseconds since 1970
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (actor_id, metric, subject_id)
) STRICT, WITHOUT ROWID;

-- Who reacted to a subject, newest first.
CREATE INDEX reactions_by_subject ON reactions (subject_id, metric, active, occurred_at);

-- A board as a whole: its row guards its entries, and they are replaced together.
CREATE TABLE boards (
    board TEXT NOT NULL,
    items INTEGER NOT NULL, -- how many entries it has
    as_of INTEGER NOT NULL, -- milliseconds since 1970
    version INTEGER NOT NULL,
    PRIMARY KEY (board)
) STRICT, WITHOUT ROWID;

CREATE TABLE board_entries (
    board TEXT NOT NULL,
    position INTEGER NOT NULL, -- from 1
    subject_id TEXT NOT NULL,
    score INTEGER NOT NULL, -- in thousandths
    PRIMARY KEY (board, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE verdicts (
    `partition` INTEGER NOT NULL, -- this and `offset`: the event's place in the root topic
    `offset` INTEGER NOT NULL,
    request TEXT, -- hexadecimal; null for events that did not come through the door
    event_id TEXT,
    actor_id TEXT,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    node TEXT NOT NULL,
    appended_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (`partition`, `offset`)
) STRICT, WITHOUT ROWID;

CREATE INDEX verdicts_by_request ON verdicts (request) WHERE request IS NOT NULL;
CREATE INDEX verdicts_by_time ON verdicts (appended_at);

-- A dead letter never changes: its own place in its topic is its key, and it needs no version.
CREATE TABLE dead_letters (
    letter_topic TEXT NOT NULL,
    letter_partition INTEGER NOT NULL,
    letter_offset INTEGER NOT NULL,
    reason TEXT,
    node TEXT,
    topic TEXT, -- this, `partition` and `offset`: where the record came from
    `partition` INTEGER,
    `offset` INTEGER,
    `key` BLOB,
    value BLOB,
    appended_at INTEGER NOT NULL,
    PRIMARY KEY (letter_topic, letter_partition, letter_offset)
) STRICT;

CREATE INDEX dead_letters_by_time ON dead_letters (appended_at);

-- How far each topic partition is contained in the tables above; written in the same transaction as they are.
CREATE TABLE sink_progress (
    topic TEXT NOT NULL,
    `partition` INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    roots TEXT NOT NULL, -- JSON: [{"partition","next_offset","clock_ms","task"}]
    version INTEGER NOT NULL,
    PRIMARY KEY (topic, `partition`)
) STRICT, WITHOUT ROWID;

CREATE VIEW subject_totals AS
    SELECT subject_id, json_group_object(metric, value) AS counters, MAX(version) AS version
    FROM counters
    GROUP BY subject_id;
