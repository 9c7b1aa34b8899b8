//! Batches as rows: the values of each table's columns, in the order that [`super::table`] gives.

use super::table::{
    BOARD_ENTRIES, BOARDS, COUNTER_WINDOWS, COUNTERS, DEAD_LETTERS, REACTIONS, SINK_PROGRESS, TYPED_COUNTER_WINDOWS,
    TYPED_COUNTERS, Table, VERDICTS,
};
use crate::batch::{Batch, DeadLetterRow};
use crate::row::{CounterRow, ReactionRow, WindowRow};
use std::fmt;
use std::sync::Arc;
use tally_model::{MetricValue, Ranking, Verdict, VerdictKind};

/// A value for a column.
#[derive(Clone)]
pub enum Value<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    /// Bound without a copy where the driver can.
    Shared(&'a Arc<str>),
    Owned(String),
    Blob(&'a [u8]),
}

/// Rows of one table, one after the other, without separators.
pub struct Rows<'a> {
    pub table: &'static Table,
    pub values: Vec<Value<'a>>,
}

fn text(value: &Option<String>) -> Value<'_> {
    value.as_deref().map_or(Value::Null, Value::Text)
}

fn int(value: Option<i64>) -> Value<'static> {
    value.map_or(Value::Null, Value::Int)
}

fn blob(value: &Option<Vec<u8>>) -> Value<'_> {
    value.as_deref().map_or(Value::Null, Value::Blob)
}

impl Value<'_> {
    /// What it takes in a statement, about.
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Int(_) => 9,
            Self::Text(text) => 9 + text.len(),
            Self::Shared(text) => 9 + text.len(),
            Self::Owned(text) => 9 + text.len(),
            Self::Blob(bytes) => 9 + bytes.len(),
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Shared(text) => write!(f, "{text:?}"),
            Self::Owned(text) => write!(f, "{text:?}"),
            Self::Blob(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// So many rows of a batch become values at a time: all at once would take more memory than the batch.
const ROWS_AT_ONCE: usize = 8_192;

/// All rows of a batch but those of boards, sorted by key: see [`crate::fold::Fold::sorted`]. A table may come several times.
pub fn rows_of(batch: &Batch) -> impl Iterator<Item = Rows<'_>> {
    let of_subjects = parts(batch.counters.sorted(), counters).chain(parts(batch.windows.sorted(), windows)).flatten();
    let reactions = parts(batch.reactions.sorted(), reactions);
    let others = [verdicts, dead_letters, progress].into_iter().map(move |rows| rows(batch));
    of_subjects.chain(reactions).chain(others).filter(|rows| !rows.values.is_empty())
}

/// The rows that `of` makes of so many at a time.
fn parts<'a, R: 'a, T>(mut rows: impl Iterator<Item = &'a R>, of: fn(&[&'a R]) -> T) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || {
        let part: Vec<_> = rows.by_ref().take(ROWS_AT_ONCE).collect();
        (!part.is_empty()).then(|| of(&part))
    })
}

/// The integers, and the rest.
fn counters<'a>(rows: &[&'a CounterRow]) -> [Rows<'a>; 2] {
    let (mut integers, mut others) = (Vec::new(), Vec::new());
    for row in rows {
        for (metric, value) in &row.totals {
            if row.whole || row.changed.contains(metric) {
                let values = if value.integer().is_some() { &mut integers } else { &mut others };
                values.push(Value::Shared(&row.subject_id));
                values.push(Value::Shared(metric));
                match value {
                    MetricValue::Integer(value) => values.push(Value::Int(*value)),
                    other => values.extend(typed(other)),
                }
                values.push(Value::Int(row.version));
            }
        }
    }
    [Rows { table: &COUNTERS, values: integers }, Rows { table: &TYPED_COUNTERS, values: others }]
}

/// The columns `value`, `decimal_value` and `text_value`.
fn typed(value: &MetricValue) -> [Value<'_>; 3] {
    match value {
        MetricValue::Null => [Value::Null, Value::Null, Value::Null],
        MetricValue::Integer(value) => [Value::Int(*value), Value::Null, Value::Null],
        MetricValue::Decimal(decimal) => [Value::Null, Value::Owned(decimal.to_string()), Value::Null],
        MetricValue::Text(text) => [Value::Null, Value::Null, Value::Text(text)],
    }
}

/// The integers in tumbling windows, and the rest.
fn windows<'a>(rows: &[&'a WindowRow]) -> [Rows<'a>; 2] {
    let mut integers = Vec::with_capacity(rows.len() * COUNTER_WINDOWS.columns().count());
    let mut others = Vec::new();
    for row in rows {
        let short = row.window.tumbling_ms().zip(row.value.integer()).filter(|_| !row.deleted);
        let values = if short.is_some() { &mut integers } else { &mut others };
        values.push(Value::Shared(&row.subject_id));
        values.push(Value::Shared(&row.metric));
        match short {
            Some((size_ms, value)) => {
                values.extend([size_ms, row.window_start_ms, value].map(Value::Int));
            }
            None => {
                let (size_ms, kind) = row.window.columns();
                let is_variable = row.window_start_ms.checked_add(size_ms) != Some(row.window_end_ms);
                values.extend([size_ms, row.window_start_ms].map(Value::Int));
                values.push(Value::Owned(kind));
                values.push(int(is_variable.then_some(row.window_end_ms)));
                values.extend(typed(&row.value));
                values.push(int(row.deleted.then_some(1)));
            }
        }
        values.push(Value::Int(row.version));
    }
    [Rows { table: &COUNTER_WINDOWS, values: integers }, Rows { table: &TYPED_COUNTER_WINDOWS, values: others }]
}

fn reactions<'a>(rows: &[&'a ReactionRow]) -> Rows<'a> {
    let mut values = Vec::with_capacity(rows.len() * REACTIONS.columns().count());
    for row in rows {
        values.push(Value::Shared(&row.actor_id));
        values.push(Value::Shared(&row.metric));
        values.push(Value::Shared(&row.subject_id));
        values.push(Value::Int(row.active.into()));
        values.push(Value::Int(row.occurred_at_ms));
        values.push(Value::Int(row.created_at_ms));
        values.push(Value::Int(row.updated_at_ms));
        values.push(Value::Int(row.version));
    }
    Rows { table: &REACTIONS, values }
}

/// The rows with the version of each board.
pub fn boards<'a>(rankings: &[&'a Ranking]) -> Rows<'a> {
    let mut values = Vec::new();
    for ranking in rankings {
        values.push(Value::Text(&ranking.board));
        values.push(Value::Int(ranking.items.len() as i64));
        values.push(Value::Int(ranking.as_of_ms));
        values.push(Value::Int(ranking.version));
    }
    Rows { table: &BOARDS, values }
}

/// The rows of one board, from position 1 on.
pub fn board_entries(ranking: &Ranking) -> Rows<'_> {
    let mut values = Vec::new();
    for (position, item) in (1..).zip(&ranking.items) {
        values.push(Value::Text(&ranking.board));
        values.push(Value::Int(position));
        values.push(Value::Text(&item.subject_id));
        values.push(Value::Int(item.score));
    }
    Rows { table: &BOARD_ENTRIES, values }
}

/// The last verdict on each event, by its place.
fn last_verdicts(batch: &Batch) -> Vec<&Verdict> {
    let mut rows: Vec<_> = batch.verdicts.iter().collect();
    let place = |row: &&Verdict| (row.partition, row.offset);
    // A stable sort: verdicts of the same event keep their order.
    rows.sort_by_key(place);
    rows.chunk_by(|a, b| place(a) == place(b)).filter_map(|of_event| of_event.last().copied()).collect()
}

/// Partition and offset of events that are no longer held back: their rows go, by place.
pub fn released(batch: &Batch) -> Vec<(u32, u64)> {
    let released = last_verdicts(batch).into_iter().filter(|row| row.verdict == VerdictKind::Released);
    released.map(|row| (row.partition, row.offset)).collect()
}

fn verdicts(batch: &Batch) -> Rows<'_> {
    let mut values = Vec::new();
    for row in last_verdicts(batch).into_iter().filter(|row| row.verdict != VerdictKind::Released) {
        values.push(Value::Int(row.partition.into()));
        values.push(Value::Int(row.offset as i64));
        values.push(text(&row.request));
        values.push(text(&row.event_id));
        values.push(text(&row.actor_id));
        values.push(Value::Text(row.verdict.as_str()));
        values.push(Value::Text(&row.reason));
        values.push(Value::Text(&row.node));
        values.push(Value::Int(row.appended_at_ms));
        values.push(Value::Int(row.version));
    }
    Rows { table: &VERDICTS, values }
}

fn dead_letters(batch: &Batch) -> Rows<'_> {
    let mut rows: Vec<_> = batch.dead_letters.iter().collect();
    rows.sort_unstable_by_key(|row| (&row.place, row.place_offset));
    let mut values = Vec::new();
    for DeadLetterRow { place, place_offset, letter } in rows {
        values.push(Value::Text(&place.topic));
        values.push(Value::Int(place.partition.into()));
        values.push(Value::Int(*place_offset as i64));
        values.push(text(&letter.reason));
        values.push(text(&letter.detail));
        values.push(text(&letter.node));
        values.push(text(&letter.topic));
        values.push(int(letter.partition));
        values.push(int(letter.offset));
        values.push(blob(&letter.key));
        values.push(blob(&letter.value));
        values.push(Value::Int(letter.appended_at_ms));
    }
    Rows { table: &DEAD_LETTERS, values }
}

fn progress(batch: &Batch) -> Rows<'_> {
    let mut steps: Vec<_> = batch.positions.iter().collect();
    steps.sort_unstable_by_key(|step| &step.partition);
    let mut values = Vec::new();
    for step in steps {
        values.push(Value::Text(&step.partition.topic));
        values.push(Value::Int(step.partition.partition.into()));
        values.push(Value::Int(step.version >> 48));
        values.push(Value::Int(step.next_offset as i64));
        values.push(Value::Owned(step.roots.to_json()));
        values.push(Value::Int(step.version));
    }
    Rows { table: &SINK_PROGRESS, values }
}
