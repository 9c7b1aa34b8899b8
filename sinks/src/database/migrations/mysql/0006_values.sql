-- Values that are no integers, and windows of every kind; the same columns as in SQLite. Of `value`, `decimal_value` and
-- `text_value` at most one is not null. Each table is rewritten once.
SET @is_missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'counters' AND column_name = 'text_value');
SET @change_counters = IF(@is_missing, 'ALTER TABLE counters
    MODIFY value BIGINT,
    ADD COLUMN decimal_value DECIMAL(65, 9),
    ADD COLUMN text_value VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin', 'DO 0');
PREPARE change_counters FROM @change_counters;
EXECUTE change_counters;
DEALLOCATE PREPARE change_counters;

SET @is_missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'counter_windows' AND column_name = 'text_value');
SET @change_windows = IF(@is_missing, 'ALTER TABLE counter_windows
    MODIFY value BIGINT,
    ADD COLUMN window_kind VARBINARY(64) NOT NULL DEFAULT '''',
    ADD COLUMN variable_end BIGINT,
    ADD COLUMN decimal_value DECIMAL(65, 9),
    ADD COLUMN text_value VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    ADD COLUMN deleted TINYINT,
    DROP PRIMARY KEY,
    ADD PRIMARY KEY (subject_id, metric, window_ms, window_start, window_kind)', 'DO 0');
PREPARE change_windows FROM @change_windows;
EXECUTE change_windows;
DEALLOCATE PREPARE change_windows;

-- The totals that are integers.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW subject_totals AS
    SELECT subject_id, JSON_OBJECTAGG(CONVERT(metric USING utf8mb4), value) AS counters, MAX(version) AS version
    FROM counters
    WHERE value IS NOT NULL
    GROUP BY subject_id;
