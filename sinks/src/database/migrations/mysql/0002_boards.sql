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
