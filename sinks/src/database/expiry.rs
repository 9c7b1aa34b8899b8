//! Rows that are too old leave, so that nothing grows without bound.

use super::connection::Connection;
use super::rows::Value;
use super::table::{COUNTER_WINDOWS, DEAD_LETTERS, VERDICTS};
use crate::target::Expired;
use std::time::Duration;

/// Rows a statement deletes, so that it holds its locks only briefly.
const SLICE_ROWS: i64 = 1_000;

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Since the append time of the event. Afterwards receipts no longer list uncounted events.
    pub verdicts: Duration,
    /// Since the dead letter was written.
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

impl Retention {
    /// Deletes a slice of each table.
    pub(super) async fn expire(&self, connection: &mut dyn Connection, now_ms: i64) -> Result<Expired, sqlx::Error> {
        let before =
            |kept: Duration| Value::Int(now_ms.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX)));
        let slice = Value::Int(SLICE_ROWS);
        let expired = &connection.dialect().expired;
        let windows_before = before(self.counter_windows);
        let statements = [
            (VERDICTS.name, expired.verdicts, vec![before(self.verdicts), slice.clone()]),
            (DEAD_LETTERS.name, expired.dead_letters, vec![before(self.dead_letters), slice.clone()]),
            (COUNTER_WINDOWS.name, expired.counter_windows, vec![windows_before.clone(), windows_before, slice]),
        ];
        let mut done = Expired::default();
        for (table, sql, parameters) in statements {
            let rows = connection.execute(sql.into(), &parameters).await?;
            done.rows.push((table, rows));
            done.more |= rows == SLICE_ROWS as u64;
        }
        Ok(done)
    }
}
