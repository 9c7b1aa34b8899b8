//! Totals and windows of subjects.

use super::{Columns, DatabaseError, ID_LISTS, ReadDatabase, padded, placeholders};
use sqlx::Error;
use std::collections::HashMap;
use std::sync::Arc;
use tally_cache::CachedCounters;
use tally_model::{MetricValue, WindowSpec};

/// The columns that make up a value: every engine casts to this type, which has no digits of its own.
const VALUE: &str = "value, CAST(decimal_value AS CHAR), text_value";

/// The end of a window.
const END: &str = "COALESCE(variable_end, window_start + window_ms)";

/// A value of a metric within a window.
pub struct WindowRow {
    /// The metric.
    pub metric: String,
    /// Milliseconds since 1970.
    pub start_ms: i64,
    /// The first millisecond behind the window.
    pub end_ms: i64,
    /// The value, with the digits that the database keeps.
    pub value: MetricValue,
}

/// Which windows to read.
pub struct WindowQuery<'a> {
    /// The subject.
    pub subject_id: &'a str,
    /// The metrics.
    pub metrics: &'a [&'a str],
    /// The kind of window.
    pub window: WindowSpec,
    /// The earliest and the latest start, in ms.
    pub starts_ms: (i64, i64),
    /// Only windows that end after this.
    pub ends_after_ms: i64,
    /// The most rows: those that start last.
    pub rows_max: usize,
}

impl ReadDatabase {
    /// The totals of subjects; those without rows are missing. `named` shares the names of metrics, and writes a value as
    /// the metric does.
    pub async fn totals(
        &self,
        ids: &[&str],
        named: impl Fn(&str, MetricValue) -> (Arc<str>, MetricValue),
    ) -> Result<HashMap<String, CachedCounters>, DatabaseError> {
        let mut totals = HashMap::<String, (Vec<(Arc<str>, MetricValue)>, i64)>::new();
        for ids in ids.chunks(ID_LISTS[ID_LISTS.len() - 1]) {
            let padded: Vec<_> = padded(ids).collect();
            let list = placeholders(padded.len());
            let sql = format!("SELECT subject_id, metric, version, {VALUE} FROM counters WHERE subject_id IN ({list})");
            let read = |row: &dyn Columns| Ok((row.text(0)?, row.text(1)?, row.int(2)?, value(row, 3)?));
            for (id, metric, version, value) in self.fetch(sql, &padded, read).await? {
                let (counters, newest) = totals.entry(id).or_default();
                counters.push(named(&metric, value));
                // A row keeps the version that changed it last; together they are as of the newest.
                *newest = version.max(*newest);
            }
        }
        let totals = totals.into_iter().map(|(id, (mut counters, version))| {
            counters.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            (id, CachedCounters { counters: counters.into(), version })
        });
        Ok(totals.collect())
    }

    /// Values of a subject in windows, those that start last first. Windows in which nothing was counted are missing.
    pub async fn windows(&self, query: &WindowQuery<'_>) -> Result<Vec<WindowRow>, DatabaseError> {
        let WindowQuery { subject_id, metrics, window, starts_ms: (first_ms, last_ms), ends_after_ms, rows_max } =
            query;
        let (size_ms, kind) = window.columns();
        // Numbers are bound as text, and every engine casts to this type.
        let [size_ms, first, last, ends_after] =
            [size_ms, *first_ms, *last_ms, *ends_after_ms].map(|number| number.to_string());
        let mut parameters: Vec<_> = std::iter::once(*subject_id).chain(metrics.iter().copied()).collect();
        parameters.extend([&size_ms, &kind, &first, &last, &ends_after].map(String::as_str));
        let sql = format!(
            "SELECT metric, window_start, {END}, {VALUE} FROM counter_windows WHERE subject_id = ? AND \
             metric IN ({}) AND window_ms = CAST(? AS SIGNED) AND window_kind = ? AND \
             window_start BETWEEN CAST(? AS SIGNED) AND CAST(? AS SIGNED) AND {END} > CAST(? AS SIGNED) AND \
             deleted IS NULL ORDER BY window_start DESC LIMIT {rows_max}",
            placeholders(metrics.len())
        );
        let read = |row: &dyn Columns| {
            Ok(WindowRow { metric: row.text(0)?, start_ms: row.int(1)?, end_ms: row.int(2)?, value: value(row, 3)? })
        };
        self.fetch(sql, &parameters, read).await
    }
}

/// The value in the columns [`VALUE`], the first of which is given.
fn value(row: &dyn Columns, column: usize) -> Result<MetricValue, Error> {
    if let Some(integer) = row.int_or_null(column)? {
        return Ok(MetricValue::Integer(integer));
    }
    if let Some(decimal) = row.text_or_null(column + 1)? {
        // A server fills up with zeros, and a number of 128 bits has no room for them.
        let digits = if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { &decimal };
        return MetricValue::from_json(digits).map_err(|e| Error::Decode(e.into()));
    }
    Ok(row.text_or_null(column + 2)?.map_or(MetricValue::Null, |text| MetricValue::Text(Arc::new(text))))
}
