-- Which log the rows were read from: at most one row.
CREATE TABLE sink_log (
    only_row INTEGER NOT NULL, -- 1
    log_id TEXT NOT NULL, -- hexadecimal
    PRIMARY KEY (only_row)
) STRICT, WITHOUT ROWID;
