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
