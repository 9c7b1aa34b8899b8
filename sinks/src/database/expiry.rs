//! Rows that are too old leave, so that nothing grows without bound.

use super::connection::Connection;
use super::rows::Value;
use super::table::{COUNTER_WINDOWS, DEAD_LETTERS, VERDICTS};
use crate::target::Expired;
use std::time::Duration;
use tally_model::WindowSpec;

/// Rows a statement deletes, so that it holds its locks only briefly.
const SLICE_ROWS: i64 = 1_000;
/// The time of starts that a statement searches for rows of some windows among those of all: it locks what it reads.
const STEP_MS: i64 = 3_600_000;
/// How often the search begins again, for rows that were written when it had passed them.
const SEARCH_EVERY_MS: i64 = 86_400_000;

/// How long rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Since the append time of the event. Afterwards receipts no longer list uncounted events.
    pub verdicts: Duration,
    /// Since the dead letter was written.
    pub dead_letters: Duration,
    /// Since the window's end.
    pub counter_windows: Duration,
    /// Windows that are kept for a shorter time.
    pub windows: Vec<WindowRetention>,
}

/// How long some windows are kept, since their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRetention {
    /// The metrics, at least one.
    pub metrics: Vec<String>,
    /// The kind of windows.
    pub window: WindowSpec,
    /// Rows of windows without a common length are kept longer by the longest possible one.
    pub kept: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
        Self { verdicts: days(1), dead_letters: days(14), counter_windows: days(90), windows: Vec::new() }
    }
}

/// Deletes old rows, a slice of each table at a time.
#[derive(Default)]
pub(super) struct Expiry {
    retention: Retention,
    /// Of [`Retention::windows`].
    searches: Vec<Search>,
}

/// How far the rows of some windows are searched.
#[derive(Clone, Copy, Default)]
struct Search {
    /// Starts before this are.
    from_ms: i64,
    /// When it begins again.
    again_ms: i64,
}

impl Expiry {
    pub fn new(retention: Retention) -> Self {
        Self { searches: vec![Search::default(); retention.windows.len()], retention }
    }

    /// Deletes a slice of each table.
    pub async fn expire(&mut self, connection: &mut dyn Connection, now_ms: i64) -> Result<Expired, sqlx::Error> {
        let Retention { verdicts, dead_letters, counter_windows, .. } = self.retention;
        let before = |kept: Duration| Value::Int(before_ms(now_ms, kept));
        let slice = Value::Int(SLICE_ROWS);
        let expired = &connection.dialect().expired;
        let windows_before = before(counter_windows);
        let statements = [
            (VERDICTS.name, expired.verdicts, vec![before(verdicts), slice.clone()]),
            (DEAD_LETTERS.name, expired.dead_letters, vec![before(dead_letters), slice.clone()]),
            (COUNTER_WINDOWS.name, expired.counter_windows, vec![windows_before.clone(), windows_before, slice]),
        ];
        let mut done = Expired::default();
        for (table, sql, parameters) in statements {
            let rows = connection.execute(sql.into(), &parameters).await?;
            done.rows.push((table, rows));
            done.more |= rows == SLICE_ROWS as u64;
        }
        for (of, search) in self.retention.windows.iter().zip(&mut self.searches) {
            let (rows, more) = search.step(of, before_ms(now_ms, counter_windows), connection, now_ms).await?;
            done.more |= more;
            if let Some((_, of_table)) = done.rows.last_mut() {
                *of_table += rows;
            }
        }
        Ok(done)
    }
}

/// The time before which rows are too old.
fn before_ms(now_ms: i64, kept: Duration) -> i64 {
    now_ms.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX))
}

impl Search {
    /// Deletes old rows among the next ones. Windows that ended before `gone_ms` leave with those of all kinds. Returns the
    /// number of rows, and whether there may be more.
    async fn step(
        &mut self,
        of: &WindowRetention,
        gone_ms: i64,
        connection: &mut dyn Connection,
        now_ms: i64,
    ) -> Result<(u64, bool), sqlx::Error> {
        let longest_ms = of.window.longest_ms();
        if now_ms >= self.again_ms {
            *self = Self { from_ms: gone_ms - longest_ms, again_ms: now_ms + SEARCH_EVERY_MS };
        }
        // A window that starts before this ended long enough ago.
        let end_ms = before_ms(now_ms, of.kept) - longest_ms;
        let to_ms = end_ms.min(self.from_ms + STEP_MS);
        if to_ms <= self.from_ms {
            return Ok((0, false));
        }
        let (size_ms, kind) = of.window.columns();
        let mut parameters = [self.from_ms, to_ms, size_ms].map(Value::Int).to_vec();
        parameters.push(Value::Owned(kind));
        parameters.extend(of.metrics.iter().map(|metric| Value::Text(metric)));
        parameters.push(Value::Int(SLICE_ROWS));
        let sql = (connection.dialect().expired.windows_of)(of.metrics.len());
        let rows = connection.execute(sql.into(), &parameters).await?;
        if rows == SLICE_ROWS as u64 {
            return Ok((rows, true));
        }
        self.from_ms = to_ms;
        Ok((rows, to_ms < end_ms))
    }
}
