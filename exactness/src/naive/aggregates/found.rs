//! Aggregates as the topics have them, and as the tables have them.

use super::super::{Differences, LogRecord};
use super::values::{Datum, datum, number};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// (subject, metric)
type TotalKey = (String, String);
/// (subject, metric, window, start)
pub type WindowKey = (String, String, String, i64);

/// The newest record of a window.
#[derive(Debug)]
pub struct Found {
    /// The first millisecond behind it.
    pub end: i64,
    /// None if it is deleted.
    pub value: Option<Option<Datum>>,
    /// How many records there were.
    pub times: usize,
    version: i64,
}

/// The newest values in `counters` and `counter-windows`.
#[derive(Default)]
pub struct TopicAggregates {
    /// Totals.
    pub totals: HashMap<TotalKey, Option<Datum>>,
    /// Windows.
    pub windows: HashMap<WindowKey, Found>,
}

#[derive(Deserialize)]
struct Counters<'a> {
    subject_id: String,
    #[serde(borrow)]
    counters: HashMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct Served<'a> {
    #[serde(borrow)]
    items: Vec<Counters<'a>>,
}

#[derive(Deserialize)]
struct CounterWindow<'a> {
    subject_id: String,
    metric: String,
    window_ms: Option<i64>,
    window: Option<String>,
    window_start_ms: i64,
    window_end_ms: Option<i64>,
    #[serde(borrow)]
    value: &'a RawValue,
    #[serde(default)]
    deleted: bool,
    version: i64,
}

/// Only values of an `aggregate` have a dot in their names.
pub(crate) fn is_aggregate(metric: &str) -> bool {
    metric.contains('.')
}

/// The values of no events.
fn is_nothing(value: &Option<Datum>) -> bool {
    matches!(value, None | Some(Datum::Number(0)))
}

impl TopicAggregates {
    /// Takes the next record of `counters`.
    pub fn take_totals(&mut self, record: &LogRecord<'_>) {
        if record.key.starts_with(b"\0") {
            return;
        }
        let Counters { subject_id, counters } = serde_json::from_slice(record.value).expect("counters");
        for (metric, value) in counters.into_iter().filter(|(metric, _)| is_aggregate(metric)) {
            self.totals.insert((subject_id.clone(), metric), datum(value));
        }
    }

    /// Takes the next record of `counter-windows`.
    pub fn take_window(&mut self, record: &LogRecord<'_>, differences: &mut Differences) {
        if record.key.starts_with(b"\0") {
            return;
        }
        let one: CounterWindow<'_> = serde_json::from_slice(record.value).expect("a window");
        if !is_aggregate(&one.metric) {
            return;
        }
        let window = one.window.unwrap_or_else(|| one.window_ms.expect("a length").to_string());
        let end = one.window_end_ms.unwrap_or(one.window_start_ms + one.window_ms.unwrap_or_default());
        let key = (one.subject_id, one.metric, window, one.window_start_ms);
        let before = self.windows.get(&key);
        if before.is_some_and(|before| before.version >= one.version) {
            differences.add(format!("window {key:?} has version {} behind {before:?}", one.version));
        }
        let times = before.map_or(0, |before| before.times) + 1;
        let value = (!one.deleted).then(|| datum(one.value));
        differences.compared("records of windows", 1);
        self.windows.insert(key, Found { end, value, times, version: one.version });
    }

    /// Tables hold exactly what the topics hold. A total that had no value yet may be missing.
    pub fn compare(&self, stored: &StoredAggregates, differences: &mut Differences) {
        let some = |totals: &HashMap<TotalKey, Option<Datum>>| -> HashMap<_, _> {
            let some = totals.iter().filter(|(_, value)| !is_nothing(value));
            some.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        compare("stored totals of aggregates", &some(&self.totals), &some(&stored.totals), differences);
        let windows = self.windows.iter().map(|(key, found)| (key.clone(), (found.end, found.value.clone()))).collect();
        compare("stored windows of aggregates", &windows, &stored.windows, differences);
    }

    /// What the API answers: a metric without events has the value of nothing there.
    pub fn compare_served(&self, answer: &[u8], differences: &mut Differences) {
        let Served { items } = serde_json::from_slice(answer).expect("totals of subjects");
        for Counters { subject_id, counters } in items {
            for (metric, value) in counters.into_iter().filter(|(metric, _)| is_aggregate(metric)) {
                let (served, right) = (datum(value), self.totals.get(&(subject_id.clone(), metric.clone())));
                let is_right = match right {
                    Some(right) => *right == served,
                    None => is_nothing(&served),
                };
                differences.compared("served totals of aggregates", 1);
                if !is_right {
                    differences
                        .add(format!("{metric} of {subject_id}: {served:?} is served, {right:?} is in the topic"));
                }
            }
        }
    }
}

fn compare<K: Hash + Eq + Debug, V: PartialEq + Debug>(
    what: &'static str,
    right: &HashMap<K, V>,
    found: &HashMap<K, V>,
    differences: &mut Differences,
) {
    differences.compared(what, right.len());
    for (key, value) in right {
        let found = found.get(key);
        if found != Some(value) {
            differences.add(format!("{what} {key:?}: {found:?} is stored, {value:?} is in the topic"));
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !right.contains_key(key)) {
        differences.add(format!("{what} {key:?}: {value:?} is stored, nothing is in the topic"));
    }
}

/// Aggregates as the tables have them.
#[derive(Default)]
pub struct StoredAggregates {
    /// Totals.
    pub totals: HashMap<TotalKey, Option<Datum>>,
    /// The first millisecond behind each window, and its value; none if it is deleted.
    pub windows: HashMap<WindowKey, (i64, Option<Option<Datum>>)>,
}

impl StoredAggregates {
    /// A value from the columns of its number and of its text.
    pub(crate) fn value(digits: Option<String>, text: Option<String>) -> Option<Datum> {
        match (digits, text) {
            (Some(digits), None) => Some(Datum::Number(number(&digits, 9).expect("a number"))),
            (None, text) => text.map(Datum::Text),
            (Some(digits), Some(text)) => panic!("two values: {digits} and {text:?}"),
        }
    }
}
