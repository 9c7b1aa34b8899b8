-- Which log the rows were read from: at most one row; the same table as in SQLite.
CREATE TABLE IF NOT EXISTS sink_log (
    only_row TINYINT NOT NULL, -- 1
    log_id VARBINARY(16) NOT NULL, -- hexadecimal
    PRIMARY KEY (only_row)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
