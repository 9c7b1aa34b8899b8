-- Values that are no integers, and windows of every kind. Of `value`, `decimal_value` and `text_value` at most one is not
-- null. SQLite cannot change a column or a key: the tables are written anew.
DROP VIEW subject_totals;

CREATE TABLE new_counters (
    subject_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    value INTEGER, -- an integer of 64 bits
    version INTEGER NOT NULL,
    decimal_value TEXT, -- a decimal, or an integer of more than 64 bits
    text_value TEXT,
    PRIMARY KEY (subject_id, metric)
) STRICT, WITHOUT ROWID;

INSERT INTO new_counters (subject_id, metric, value, version) SELECT subject_id, metric, value, version FROM counters;
DROP TABLE counters;
ALTER TABLE new_counters RENAME TO counters;

CREATE TABLE new_counter_windows (
    subject_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    window_ms INTEGER NOT NULL, -- length; 0 for sessions, of which each has its own
    window_start INTEGER NOT NULL, -- milliseconds since 1970
    value INTEGER, -- an integer of 64 bits
    version INTEGER NOT NULL,
    window_kind TEXT NOT NULL DEFAULT '', -- '' for tumbling windows; kind and parameters in ms: 'hopping:3600000:300000'
    variable_end INTEGER, -- null where it is window_start + window_ms. A generated column would cost every upsert 8 %
    decimal_value TEXT, -- a decimal, or an integer of more than 64 bits
    text_value TEXT,
    deleted INTEGER, -- 1: the window does not exist any more, and the row guards against older values; otherwise null
    PRIMARY KEY (subject_id, metric, window_ms, window_start, window_kind)
) STRICT, WITHOUT ROWID;

INSERT INTO new_counter_windows (subject_id, metric, window_ms, window_start, value, version)
    SELECT subject_id, metric, window_ms, window_start, value, version FROM counter_windows;
DROP TABLE counter_windows;
ALTER TABLE new_counter_windows RENAME TO counter_windows;
CREATE INDEX counter_windows_by_start ON counter_windows (window_start);

-- The totals that are integers.
CREATE VIEW subject_totals AS
    SELECT subject_id, json_group_object(metric, value) AS counters, MAX(version) AS version
    FROM counters
    WHERE value IS NOT NULL
    GROUP BY subject_id;
