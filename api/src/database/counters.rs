//! Totals and windows of subjects.

use super::{Columns, DatabaseError, ID_LISTS, ReadDatabase, padded, placeholders};
use std::collections::HashMap;
use std::sync::Arc;
use tally_cache::CachedCounters;

impl ReadDatabase {
    /// The totals of subjects; those without rows are missing. `name` shares the names of metrics.
    pub async fn totals(
        &self,
        ids: &[&str],
        name: impl Fn(&str) -> Arc<str>,
    ) -> Result<HashMap<String, CachedCounters>, DatabaseError> {
        let mut totals = HashMap::<String, (Vec<(Arc<str>, i64)>, i64)>::new();
        for ids in ids.chunks(ID_LISTS[ID_LISTS.len() - 1]) {
            let padded: Vec<_> = padded(ids).collect();
            let list = placeholders(padded.len());
            let sql = format!("SELECT subject_id, metric, value, version FROM counters WHERE subject_id IN ({list})");
            let read = |row: &dyn Columns| Ok((row.text(0)?, row.text(1)?, row.int(2)?, row.int(3)?));
            for (id, metric, value, version) in self.fetch(sql, &padded, read).await? {
                let (counters, newest) = totals.entry(id).or_default();
                counters.push((name(&metric), value));
                // A row keeps the version that changed it last; together they are as of the newest.
                *newest = version.max(*newest);
            }
        }
        let totals = totals.into_iter().map(|(id, (mut counters, version))| {
            counters.sort_unstable_by(|(a, _): &(Arc<str>, i64), (b, _)| a.cmp(b));
            (id, CachedCounters { counters: counters.into(), version })
        });
        Ok(totals.collect())
    }

    /// Metrics, starts and values of a subject's windows of a length, from the one that starts at `first_ms` to the one
    /// that starts at `last_ms`. Windows in which nothing was counted are missing.
    pub async fn windows(
        &self,
        subject_id: &str,
        metrics: &[String],
        window_ms: i64,
        first_ms: i64,
        last_ms: i64,
    ) -> Result<Vec<(String, i64, i64)>, DatabaseError> {
        // Numbers are bound as text, and every engine casts to this type.
        let numbers = [window_ms, first_ms, last_ms].map(|number| number.to_string());
        let mut parameters: Vec<_> = std::iter::once(subject_id).chain(metrics.iter().map(String::as_str)).collect();
        parameters.extend(numbers.iter().map(String::as_str));
        let sql = format!(
            "SELECT metric, window_start, value FROM counter_windows WHERE subject_id = ? AND metric IN ({}) AND \
             window_ms = CAST(? AS SIGNED) AND window_start BETWEEN CAST(? AS SIGNED) AND CAST(? AS SIGNED)",
            placeholders(metrics.len())
        );
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)?, row.int(2)?));
        self.fetch(sql, &parameters, read).await
    }
}
