//! Rows that are too old leave, so that nothing grows without bound.

use super::rows::Value;
use super::sqlite::SqliteEngine;
use std::time::Duration;

/// Rows a statement deletes, so that it holds the write lock only briefly.
const SLICE_ROWS: u64 = 1_000;

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Since the log took the event. Receipts forget then what was not counted.
    pub verdicts: Duration,
    /// Since the letter was written.
    pub dead_letters: Duration,
    /// Since the window's end.
    pub counter_windows: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Self { verdicts: days(1), dead_letters: days(14), counter_windows: days(90) }
    }
}

const VERDICTS: &str = "DELETE FROM verdicts WHERE (`partition`, `offset`) IN
    (SELECT `partition`, `offset` FROM verdicts WHERE appended_at < ? LIMIT ?)";
const DEAD_LETTERS: &str = "DELETE FROM dead_letters WHERE rowid IN
    (SELECT rowid FROM dead_letters WHERE appended_at < ? LIMIT ?)";
/// The first comparison is for the index, the second is what counts.
const COUNTER_WINDOWS: &str = "DELETE FROM counter_windows WHERE (subject_id, metric, window_ms, window_start) IN
    (SELECT subject_id, metric, window_ms, window_start FROM counter_windows
     WHERE window_start < ?1 AND window_start + window_ms < ?1 LIMIT ?2)";

impl Retention {
    /// Deletes a slice of each table; says whether there is more.
    pub(super) async fn expire(&self, engine: &SqliteEngine, now_ms: i64) -> Result<bool, sqlx::Error> {
        let mut more = false;
        for (sql, kept) in
            [(VERDICTS, self.verdicts), (DEAD_LETTERS, self.dead_letters), (COUNTER_WINDOWS, self.counter_windows)]
        {
            let before_ms = now_ms.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
            let parameters = vec![Value::Int(before_ms), Value::Int(SLICE_ROWS as i64)];
            more |= engine.execute(sql, parameters).await? == SLICE_ROWS;
        }
        Ok(more)
    }
}
