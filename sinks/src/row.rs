//! Rows of the folded tables, and the records that they come from.
//!
//! Records are read without copies of their texts: most fold into a row that is there already.

use crate::fold::{Names, Newest};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use tally_model::Ranking;

/// The totals of a subject, and which of them to write.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterRow {
    /// The subject.
    pub subject_id: Arc<str>,
    /// The newest totals, ascending by metric.
    pub totals: Vec<(Arc<str>, i64)>,
    /// The metrics that any of the folded records names as changed.
    pub changed: Vec<Arc<str>>,
    /// The newest version.
    pub version: i64,
    /// Write all totals: a record that named some of them may have been compacted away before it was read.
    pub whole: bool,
}

/// The newest value of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRow {
    /// The subject.
    pub subject_id: Arc<str>,
    /// The metric.
    pub metric: Arc<str>,
    /// The window's length.
    pub window_ms: i64,
    /// Milliseconds since 1970.
    pub window_start_ms: i64,
    /// The count within the window.
    pub value: i64,
    /// The newest version.
    pub version: i64,
}

/// The newest state of a toggle, and when it was first seen.
#[derive(Clone, Debug, PartialEq)]
pub struct ReactionRow {
    /// The actor.
    pub actor_id: Arc<str>,
    /// The toggle.
    pub metric: Arc<str>,
    /// The subject.
    pub subject_id: Arc<str>,
    /// Switched on.
    pub active: bool,
    /// The effective time of the event, milliseconds since 1970.
    pub occurred_at_ms: i64,
    /// The least append time among the folded records.
    pub created_at_ms: i64,
    /// The append time of the newest record.
    pub updated_at_ms: i64,
    /// The newest version.
    pub version: i64,
}

/// [`tally_model::Counters`], and whether all of them are to be written.
pub struct CountersRecord<'a> {
    pub totals: CountersText<'a>,
    pub whole: bool,
}

/// [`tally_model::Counters`] as it was read.
#[derive(Deserialize)]
pub struct CountersText<'a> {
    #[serde(borrow)]
    subject_id: Cow<'a, str>,
    #[serde(borrow)]
    counters: Totals<'a>,
    #[serde(borrow)]
    changed: Vec<Text<'a>>,
    pub version: i64,
}

/// [`tally_model::CounterWindow`] as it was read.
#[derive(Deserialize)]
pub struct WindowText<'a> {
    #[serde(borrow)]
    subject_id: Cow<'a, str>,
    #[serde(borrow)]
    metric: Cow<'a, str>,
    window_ms: i64,
    window_start_ms: i64,
    value: i64,
    pub version: i64,
}

/// [`tally_model::Reaction`] as it was read.
#[derive(Deserialize)]
pub struct ReactionText<'a> {
    #[serde(borrow)]
    actor_id: Cow<'a, str>,
    #[serde(borrow)]
    metric: Cow<'a, str>,
    #[serde(borrow)]
    subject_id: Cow<'a, str>,
    active: bool,
    occurred_at_ms: i64,
    appended_at_ms: i64,
    pub version: i64,
}

/// A text, borrowed unless it has escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Pairs of a metric and its total.
struct Totals<'a>(Vec<(Text<'a>, i64)>);

impl<'de: 'a, 'a> Deserialize<'de> for Totals<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Totals<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("totals by metric")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some(pair) = map.next_entry::<Text<'de>, i64>()? {
                    pairs.push(pair);
                }
                // As tally writes them.
                if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
                    pairs = pairs.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
                }
                Ok(Totals(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl CounterRow {
    fn change(&mut self, metric: &str, names: &mut Names) {
        if !self.changed.iter().any(|changed| **changed == *metric) {
            self.changed.push(names.share(metric));
        }
    }
}

impl Newest for CounterRow {
    type Record<'a> = CountersRecord<'a>;

    fn first(record: CountersRecord<'_>, names: &mut Names) -> Self {
        let CountersRecord { totals, whole } = record;
        let CountersText { subject_id, counters, changed, version } = totals;
        Self {
            subject_id: subject_id.into(),
            totals: counters.0.into_iter().map(|(metric, value)| (names.share(&metric.0), value)).collect(),
            changed: changed.iter().map(|metric| names.share(&metric.0)).collect(),
            version,
            whole,
        }
    }

    fn merge(&mut self, later: CountersRecord<'_>, names: &mut Names) {
        // The newest totals contain what the other record changed as well.
        self.whole |= later.whole;
        let CountersText { counters, changed, version, .. } = later.totals;
        changed.iter().for_each(|metric| self.change(&metric.0, names));
        if version < self.version {
            return;
        }
        self.version = version;
        // Nearly always the same metrics, at the same places.
        self.totals.truncate(counters.0.len());
        for (at, (metric, value)) in counters.0.into_iter().enumerate() {
            match self.totals.get_mut(at) {
                Some((known, total)) if **known == *metric.0 => *total = value,
                Some(other) => *other = (names.share(&metric.0), value),
                None => self.totals.push((names.share(&metric.0), value)),
            }
        }
    }
}

impl Newest for WindowRow {
    type Record<'a> = WindowText<'a>;

    fn first(record: WindowText<'_>, names: &mut Names) -> Self {
        let WindowText { subject_id, metric, window_ms, window_start_ms, value, version } = record;
        let metric = names.share(&metric);
        Self { subject_id: subject_id.into(), metric, window_ms, window_start_ms, value, version }
    }

    fn merge(&mut self, later: WindowText<'_>, _: &mut Names) {
        if later.version >= self.version {
            (self.value, self.version) = (later.value, later.version);
        }
    }
}

impl Newest for ReactionRow {
    type Record<'a> = ReactionText<'a>;

    fn first(record: ReactionText<'_>, names: &mut Names) -> Self {
        let ReactionText { actor_id, metric, subject_id, active, occurred_at_ms, appended_at_ms, version } = record;
        Self {
            actor_id: actor_id.into(),
            metric: names.share(&metric),
            subject_id: subject_id.into(),
            active,
            occurred_at_ms,
            created_at_ms: appended_at_ms,
            updated_at_ms: appended_at_ms,
            version,
        }
    }

    fn merge(&mut self, later: ReactionText<'_>, _: &mut Names) {
        self.created_at_ms = self.created_at_ms.min(later.appended_at_ms);
        if later.version >= self.version {
            let ReactionText { active, occurred_at_ms, appended_at_ms, version, .. } = later;
            self.active = active;
            (self.occurred_at_ms, self.updated_at_ms, self.version) = (occurred_at_ms, appended_at_ms, version);
        }
    }
}

impl Newest for Ranking {
    type Record<'a> = Ranking;

    fn first(record: Ranking, _: &mut Names) -> Self {
        record
    }

    fn merge(&mut self, later: Ranking, _: &mut Names) {
        if later.version >= self.version {
            *self = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Fold;
    use tally_model::{CounterWindow, Counters, Reaction, WindowSpec};

    const ODD: &str = "a\"\\\u{7528}\n";

    fn json(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    fn totals(totals: &[(&str, i64)], changed: &[&str], version: i64) -> String {
        json(&Counters {
            subject_id: ODD.into(),
            counters: totals.iter().map(|(metric, total)| ((*metric).to_owned(), (*total).into())).collect(),
            changed: changed.iter().map(|metric| (*metric).to_owned()).collect(),
            approximate: vec!["visitors".into()],
            as_of_ms: 1,
            version,
        })
    }

    fn folded(records: &[(String, bool)]) -> CounterRow {
        let (mut fold, mut names) = (Fold::<CounterRow>::default(), Names::default());
        for (record, whole) in records {
            let record = CountersRecord { totals: serde_json::from_str(record).unwrap(), whole: *whole };
            fold.add(b"k", record, &mut names);
        }
        assert_eq!(fold.rows().len(), 1);
        fold.rows()[0].clone()
    }

    #[test]
    fn rows_have_what_the_records_say() {
        let mut names = Names::default();
        let row = folded(&[(totals(&[(ODD, 2), ("views", -1)], &["views"], 7), false)]);
        assert_eq!(
            row,
            CounterRow {
                subject_id: ODD.into(),
                totals: vec![(ODD.into(), 2), ("views".into(), -1)],
                changed: vec!["views".into()],
                version: 7,
                whole: false
            }
        );
        let (subject_id, metric) = (ODD.to_owned(), ODD.to_owned());
        let window = CounterWindow {
            subject_id,
            metric,
            window: WindowSpec::Tumbling { size_ms: 1 },
            window_start_ms: 2,
            window_end_ms: 3,
            value: 3.into(),
            approximate: true,
            deleted: false,
            version: 4,
        };
        let row = WindowRow::first(serde_json::from_str(&json(&window)).unwrap(), &mut names);
        assert_eq!((&*row.subject_id, &*row.metric, row.window_ms, row.window_start_ms), (ODD, ODD, 1, 2));
        assert_eq!((row.value, row.version), (3, 4));
        let (actor_id, metric, subject_id) = (ODD.to_owned(), "likes".into(), "a:1".into());
        let reaction =
            Reaction { actor_id, metric, subject_id, active: true, occurred_at_ms: 1, appended_at_ms: 2, version: 3 };
        let row = ReactionRow::first(serde_json::from_str(&json(&reaction)).unwrap(), &mut names);
        assert_eq!((&*row.actor_id, &*row.metric, &*row.subject_id, row.active), (ODD, "likes", "a:1", true));
        assert_eq!((row.occurred_at_ms, row.created_at_ms, row.updated_at_ms, row.version), (1, 2, 2, 3));
    }

    #[test]
    fn the_newest_totals_win_and_every_change_is_kept() {
        let records = [
            (totals(&[("b", 1), ("c", 1)], &["b", "c"], 5), false),
            (totals(&[("a", 1), ("b", 2), ("c", 1)], &["a", "b"], 6), false),
            (totals(&[("b", 9), ("d", 9)], &["d"], 4), true),
        ];
        let row = folded(&records);
        assert_eq!(row.totals, [("a".into(), 1), ("b".into(), 2), ("c".into(), 1)]);
        assert_eq!(row.changed.iter().map(|metric| &**metric).collect::<Vec<_>>(), ["b", "c", "a", "d"]);
        assert_eq!((row.version, row.whole), (6, true));
        // Fewer metrics than before, at an equal version.
        let row = folded(&[(totals(&[("a", 1), ("b", 2)], &["a"], 5), false), (totals(&[("b", 3)], &["b"], 5), false)]);
        assert_eq!(row.totals, [("b".into(), 3)]);
    }

    #[test]
    fn keys_are_told_apart_however_many_there_are() {
        let (mut fold, mut names) = (Fold::<CounterRow>::default(), Names::default());
        for round in 0..3 {
            for n in 0..5_000 {
                let record = totals(&[("a", n)], &["a"], round);
                let record = CountersRecord { totals: serde_json::from_str(&record).unwrap(), whole: false };
                fold.add(n.to_string().as_bytes(), record, &mut names);
            }
        }
        let values: Vec<_> = fold.rows().iter().map(|row| (row.totals[0].1, row.version)).collect();
        assert_eq!(values, (0..5_000).map(|n| (n, 2)).collect::<Vec<_>>());
        fold.clear();
        assert!(fold.rows().is_empty());
    }

    #[test]
    fn totals_of_every_writer_are_sorted() {
        let record = r#"{"subject_id":"a:1","counters":{"b":1,"a":2,"b":3},"changed":[],"version":1}"#;
        assert_eq!(folded(&[(record.to_owned(), false)]).totals, [("a".into(), 2), ("b".into(), 3)]);
    }
}
