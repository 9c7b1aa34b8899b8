//! Boards: subjects ordered by their scores.

use serde::{Deserialize, Serialize};

/// A whole board: the value of topic `rankings`, key `board`. Written only when its items changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// The board's name: the node's, like `hot`; of a group `node@group`, like `hot@sports`.
    pub board: String,
    /// The subjects, best first: by score descending, then by id ascending, byte by byte. Never one with a score of 0 or
    /// less.
    pub items: Vec<Ranked>,
    /// The clock of the task that wrote it, milliseconds since 1970.
    pub as_of_ms: i64,
    /// generation << 48 | commit number: a greater one replaces a smaller one.
    pub version: i64,
}

/// A subject on a board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranked {
    /// The subject.
    pub subject_id: String,
    /// In thousandths of the unit of the topology's weights.
    pub score: i64,
}
