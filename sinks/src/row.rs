//! Rows of the folded tables, and the records that they come from.
//!
//! Records are read without copies of their texts: most fold into a row that is there already.

use crate::fold::{Names, Newest};
use crate::value::{Exact, Plain, Value};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use tally_model::{MetricValue, Ranking, WindowSpec, window_of};

/// The totals of a subject, and which of them to write.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterRow {
    /// The subject.
    pub subject_id: Arc<str>,
    /// The newest totals, ascending by metric.
    pub totals: Vec<(Arc<str>, MetricValue)>,
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
    /// The kind of window.
    pub window: WindowSpec,
    /// Milliseconds since 1970.
    pub window_start_ms: i64,
    /// The first millisecond behind the window.
    pub window_end_ms: i64,
    /// The value within the window.
    pub value: MetricValue,
    /// The window does not exist any more.
    pub deleted: bool,
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
    pub totals: CountersText<'a, Plain>,
    pub whole: bool,
}

/// [`tally_model::Counters`] as it was read, by way of values of type `V`.
#[derive(Deserialize)]
#[serde(bound(deserialize = "V: Value<'de>"))]
pub struct CountersText<'a, V> {
    #[serde(borrow)]
    subject_id: Cow<'a, str>,
    #[serde(borrow)]
    counters: Totals<'a, V>,
    #[serde(borrow)]
    changed: Vec<Text<'a>>,
    pub version: i64,
}

/// [`tally_model::CounterWindow`] as it was read, by way of a value of type `V`.
#[derive(Deserialize)]
struct WindowText<'a, V> {
    #[serde(borrow)]
    subject_id: Cow<'a, str>,
    #[serde(borrow)]
    metric: Cow<'a, str>,
    window_ms: Option<i64>,
    window: Option<Cow<'a, str>>,
    window_start_ms: i64,
    window_end_ms: Option<i64>,
    value: V,
    #[serde(default)]
    deleted: bool,
    version: i64,
}

/// A checked record of a window.
pub struct WindowRecord<'a> {
    subject_id: Cow<'a, str>,
    metric: Cow<'a, str>,
    window: WindowSpec,
    window_start_ms: i64,
    window_end_ms: i64,
    value: MetricValue,
    deleted: bool,
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
struct Totals<'a, V>(Vec<(Text<'a>, MetricValue)>, PhantomData<V>);

impl<'de: 'a, 'a, V: Value<'de>> Deserialize<'de> for Totals<'a, V> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<V>(PhantomData<V>);
        impl<'de, V: Value<'de>> Visitor<'de> for Pairs<V> {
            type Value = Totals<'de, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("totals by metric")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some((metric, value)) = map.next_entry::<Text<'de>, V>()? {
                    pairs.push((metric, value.into()));
                }
                // As tally writes them.
                if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
                    pairs = pairs.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect();
                }
                Ok(Totals(pairs, PhantomData))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
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

impl<'a> CountersRecord<'a> {
    /// Reads a record.
    pub fn read(json: &'a [u8], whole: bool) -> serde_json::Result<Self> {
        let totals = serde_json::from_slice::<CountersText<'a, Plain>>(json);
        let totals = totals.or_else(|_| {
            let exact = serde_json::from_slice::<CountersText<'a, Exact>>(json)?;
            let CountersText { subject_id, counters: Totals(totals, _), changed, version } = exact;
            Ok::<_, serde_json::Error>(CountersText {
                subject_id,
                counters: Totals(totals, PhantomData),
                changed,
                version,
            })
        });
        Ok(Self { totals: totals?, whole })
    }
}

impl<'a> WindowRecord<'a> {
    /// Reads a record.
    pub fn read(json: &'a [u8]) -> serde_json::Result<Self> {
        match serde_json::from_slice::<WindowText<'a, Plain>>(json) {
            Ok(text) => Self::checked(text),
            Err(_) => Self::checked(serde_json::from_slice::<WindowText<'a, Exact>>(json)?),
        }
    }

    fn checked<V: Into<MetricValue>>(text: WindowText<'a, V>) -> serde_json::Result<Self> {
        let WindowText { subject_id, metric, window_start_ms, value, deleted, version, .. } = text;
        let (window, window_end_ms) =
            window_of(text.window_ms, text.window.as_deref(), window_start_ms, text.window_end_ms)
                .map_err(serde::de::Error::custom)?;
        let value = value.into();
        Ok(Self { subject_id, metric, window, window_start_ms, window_end_ms, value, deleted, version })
    }
}

impl Newest for WindowRow {
    type Record<'a> = WindowRecord<'a>;

    fn first(record: WindowRecord<'_>, names: &mut Names) -> Self {
        let WindowRecord { subject_id, metric, window, window_start_ms, window_end_ms, value, deleted, version } =
            record;
        let (subject_id, metric) = (subject_id.into(), names.share(&metric));
        Self { subject_id, metric, window, window_start_ms, window_end_ms, value, deleted, version }
    }

    fn merge(&mut self, later: WindowRecord<'_>, _: &mut Names) {
        if later.version >= self.version {
            let WindowRecord { window_end_ms, value, deleted, version, .. } = later;
            (self.window_end_ms, self.value, self.deleted, self.version) = (window_end_ms, value, deleted, version);
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
#[path = "row_tests.rs"]
mod tests;
