-- What the database sink writes; the same tables as in SQLite. Ids are VARBINARY: compared byte by byte.
-- `version` (generation << 48 | commit number) guards every upsert. Times are milliseconds since 1970.
--
-- MySQL commits every statement by itself, so a migration that was cut short is run again from its start: each statement
-- must bear that.

CREATE TABLE IF NOT EXISTS counters (
    subject_id VARBINARY(128) NOT NULL,
    metric VARBINARY(64) NOT NULL,
    value BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (subject_id, metric)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS counter_windows (
    subject_id VARBINARY(128) NOT NULL,
    metric VARBINARY(64) NOT NULL,
    window_ms BIGINT NOT NULL,
    window_start BIGINT NOT NULL,
    value BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (subject_id, metric, window_ms, window_start),
    KEY counter_windows_by_start (window_start)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- By actor, as in the topic. Who reacted to a subject, newest first, is in the index.
CREATE TABLE IF NOT EXISTS reactions (
    actor_id VARBINARY(128) NOT NULL,
    metric VARBINARY(64) NOT NULL,
    subject_id VARBINARY(128) NOT NULL,
    active TINYINT NOT NULL,
    occurred_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (actor_id, metric, subject_id),
    KEY reactions_by_subject (subject_id, metric, active, occurred_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
  PARTITION BY KEY (actor_id) PARTITIONS 16;

-- A board as a whole: its row guards its entries, and they are replaced together.
CREATE TABLE IF NOT EXISTS boards (
    board VARBINARY(255) NOT NULL,
    items BIGINT NOT NULL, -- how many entries it has
    as_of BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (board)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS board_entries (
    board VARBINARY(255) NOT NULL,
    position BIGINT NOT NULL, -- from 1
    subject_id VARBINARY(128) NOT NULL,
    score BIGINT NOT NULL, -- in thousandths
    PRIMARY KEY (board, position)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What nobody could read has no rules: ids and reasons of any length must fit.
CREATE TABLE IF NOT EXISTS verdicts (
    `partition` INT UNSIGNED NOT NULL,
    `offset` BIGINT NOT NULL,
    request VARBINARY(64),
    event_id MEDIUMBLOB,
    actor_id MEDIUMBLOB,
    verdict VARBINARY(32) NOT NULL,
    reason MEDIUMTEXT NOT NULL,
    node VARCHAR(255) NOT NULL,
    appended_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (`partition`, `offset`),
    KEY verdicts_by_request (request),
    KEY verdicts_by_time (appended_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- A dead letter never changes: its own place in its topic is its key, and it needs no version.
CREATE TABLE IF NOT EXISTS dead_letters (
    letter_topic VARBINARY(255) NOT NULL,
    letter_partition INT UNSIGNED NOT NULL,
    letter_offset BIGINT NOT NULL,
    reason MEDIUMTEXT,
    node MEDIUMTEXT,
    topic MEDIUMTEXT, -- this, `partition` and `offset`: where the record came from
    `partition` BIGINT,
    `offset` BIGINT,
    `key` LONGBLOB,
    value LONGBLOB,
    appended_at BIGINT NOT NULL,
    PRIMARY KEY (letter_topic, letter_partition, letter_offset),
    KEY dead_letters_by_time (appended_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- How far each topic partition is contained in the tables above; written in the same transaction as they are.
CREATE TABLE IF NOT EXISTS sink_progress (
    topic VARBINARY(255) NOT NULL,
    `partition` INT UNSIGNED NOT NULL,
    generation BIGINT NOT NULL,
    next_offset BIGINT NOT NULL,
    roots MEDIUMTEXT NOT NULL, -- JSON: [{"partition","next_offset","clock_ms","task"}]
    version BIGINT NOT NULL,
    PRIMARY KEY (topic, `partition`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW subject_totals AS
    SELECT subject_id, JSON_OBJECTAGG(CONVERT(metric USING utf8mb4), value) AS counters, MAX(version) AS version
    FROM counters
    GROUP BY subject_id;
