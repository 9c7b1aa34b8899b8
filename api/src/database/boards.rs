//! Boards.

use super::{Columns, DatabaseError, ReadDatabase};
use tally_model::{Ranked, Ranking};

impl ReadDatabase {
    /// A board as a whole; None where no task has written it. One statement, so that it sees one version.
    pub async fn board(&self, board: &str) -> Result<Option<Ranking>, DatabaseError> {
        let sql = "SELECT b.as_of, b.version, e.subject_id, COALESCE(e.score, 0) FROM boards b \
                   LEFT JOIN board_entries e ON e.board = b.board WHERE b.board = ? ORDER BY e.position";
        let read = |row: &dyn Columns| Ok((row.int(0)?, row.int(1)?, row.text_or_null(2)?, row.int(3)?));
        let rows = self.fetch(sql, &[board], read).await?;
        let Some((as_of_ms, version, ..)) = rows.first() else { return Ok(None) };
        let (as_of_ms, version) = (*as_of_ms, *version);
        // An empty board has one row without a subject.
        let item = |(.., subject_id, score): (i64, i64, Option<String>, i64)| {
            subject_id.map(|subject_id| Ranked { subject_id, score })
        };
        let items = rows.into_iter().filter_map(item).collect();
        Ok(Some(Ranking { board: board.to_owned(), items, as_of_ms, version }))
    }

    /// All boards by name: how many items each has, and when it was written.
    pub async fn boards(&self) -> Result<Vec<(String, i64, i64)>, DatabaseError> {
        let sql = "SELECT board, items, as_of FROM boards ORDER BY board";
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)?, row.int(2)?));
        self.fetch(sql, &[], read).await
    }
}
