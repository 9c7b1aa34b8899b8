//! What an `aggregate` node, or a short form of it, computes: its values, its windows, and which windows an event belongs to.

use crate::dataflow::Actions;
use crate::facts::{Emit, MetricKind};
use std::sync::Arc;
use std::time::Duration;
use tally_model::{Buckets, Millionths, SCALE_MAX, SessionRule, ValueType, WindowSpec};
use tally_streams::topology::{BuildSite, StorePart};
use xxhash_rust::xxh3::xxh3_64;

/// Decimals of an average beyond those of its numbers.
const AVERAGE_DECIMALS: u8 = 3;

/// What an `aggregate` node computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregation {
    /// The node's name.
    pub node: Arc<str>,
    /// How its values travel and are stored.
    pub form: Form,
    /// Ordered by name.
    pub values: Vec<AggregateValue>,
    /// The windows besides all time, in the order of the file.
    pub windows: Vec<AggregateWindow>,
    /// How long a window takes records after its end, by append time. Of a short form it is known where the node is placed
    /// in a topology: see [`Aggregation::placed`].
    pub grace_ms: i64,
    /// When the values of windows are emitted.
    pub emit: Emit,
    /// Whether all time is counted.
    pub totals: bool,
}

/// How the values of a node travel to the `total` and are stored there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Of `aggregate`: as contributions, and in stores of the node.
    Values,
    /// Of `count` and `unique`, whose formats are older: as changes, which carry minutes, and in stores that all such nodes
    /// share with toggles. The windows are tumbling, and take records for `late_after` after their end.
    Short,
}

/// The type of the node that adds up what an `aggregate` node contributes, and closes its windows.
pub const TOTAL: &str = "total";
/// The output of an `aggregate` node that gives its closed windows.
pub const CLOSED: &str = "closed";
/// Properties of a closed window besides the values: its start, and the first millisecond behind it.
pub const WINDOW_START: &str = "window_start";
/// See [`WINDOW_START`].
pub const WINDOW_END: &str = "window_end";

impl Aggregation {
    /// The same with the grace that it has in a topology.
    pub fn placed(&self, site: &BuildSite<'_, Actions>) -> Self {
        let grace_ms = match self.form {
            Form::Values => self.grace_ms,
            Form::Short => site.settings.late_after.as_millis() as i64,
        };
        Self { grace_ms, ..self.clone() }
    }

    /// Whether it counts distinct items; of a short form, that is `unique`.
    pub fn counts_distinct(&self) -> bool {
        self.values.iter().any(|value| value.function == Function::Distinct)
    }

    /// The name of the output with its closed windows, which is the type of those events as well.
    pub fn closed_name(&self) -> String {
        format!("{}.{CLOSED}", self.node)
    }

    /// How long after its time a closed window becomes known.
    pub fn closes_after_ms(&self) -> i64 {
        self.windows.iter().map(|window| window.closes_after_ms(self.grace_ms)).max().unwrap_or(0)
    }

    /// What the state keeps for its values, for the fingerprint of the topology.
    pub fn kept(&self) -> impl Iterator<Item = StorePart> + '_ {
        self.values.iter().filter(|value| value.ratio().is_none()).map(AggregateValue::kept)
    }
}

/// A value of an `aggregate` node.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateValue {
    /// The metric: `<node>.<value>`; of a short form the name of the node.
    pub metric: Arc<str>,
    /// How it is computed.
    pub function: Function,
    /// Decimals of its numbers.
    pub scale: u8,
}

/// How a value is computed from the events of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// The number of events.
    Count,
    /// The sum of a number.
    Sum,
    /// The least number.
    Min,
    /// The greatest number.
    Max,
    /// The value of the first event.
    First,
    /// The value of the last event.
    Last,
    /// The average of a number.
    Average,
    /// The number of different values: exact up to 256, an estimate above.
    Distinct,
    /// A quantile of a number: exact below 128, with a relative error of at most 1/128 from there on.
    Quantile(Millionths),
    /// Two other values, divided when they are read.
    Ratio(Ratio),
}

/// The values that a ratio divides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio {
    /// Its place among the values of the node.
    pub dividend: usize,
    /// Its place among the values of the node.
    pub divisor: usize,
    /// The relative error, in millionths: those of both values together.
    pub error_ppm: u32,
}

impl Function {
    /// Its name in `topology.yaml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::Average => "avg",
            Self::Distinct => "distinct",
            Self::Quantile(_) => "quantile",
            Self::Ratio(_) => "ratio",
        }
    }

    /// The kind of a metric that is computed so.
    pub fn kind(self) -> MetricKind {
        match self {
            Self::Count | Self::Sum => MetricKind::Sum,
            Self::Min => MetricKind::Min,
            Self::Max => MetricKind::Max,
            Self::First => MetricKind::First,
            Self::Last => MetricKind::Last,
            Self::Average => MetricKind::Average,
            Self::Distinct => MetricKind::Unique,
            Self::Quantile(_) => MetricKind::Quantile { error_ppm: Buckets::ERROR_PPM },
            Self::Ratio(Ratio { error_ppm, .. }) => MetricKind::Ratio { error_ppm },
        }
    }
}

impl AggregateValue {
    /// Its name in the node.
    pub fn name(&self) -> &str {
        self.metric.rsplit('.').next().unwrap_or_default()
    }

    /// What the state keeps for it, for the fingerprint of the topology.
    pub fn kept(&self) -> StorePart {
        let function = match self.scale {
            0 => self.function.name().to_owned(),
            scale => format!("{} (scale {scale})", self.function.name()),
        };
        StorePart::Value { name: self.name().to_owned(), function }
    }

    /// The kind of the metric.
    pub fn kind(&self) -> MetricKind {
        self.function.kind()
    }

    /// The values that it is computed from, where it is a ratio: the state keeps nothing for it.
    pub fn ratio(&self) -> Option<Ratio> {
        match self.function {
            Function::Ratio(ratio) => Some(ratio),
            _ => None,
        }
    }

    /// Decimals of the results.
    pub fn result_scale(&self) -> u8 {
        match self.function {
            Function::Average => (self.scale + AVERAGE_DECIMALS).min(SCALE_MAX),
            _ => self.scale,
        }
    }

    /// What the results are. The first and the last value may be texts.
    pub fn value_type(&self) -> ValueType {
        match (self.function, self.result_scale()) {
            (Function::First | Function::Last, 0) => ValueType::Text,
            (_, 0) => ValueType::Integer,
            (_, scale) => ValueType::Decimal { scale },
        }
    }

    /// Identifies it in the state and in the hop.
    pub fn id(&self) -> u32 {
        xxh3_64(self.kept().written().as_bytes()) as u32
    }
}

/// A kind of windows of an `aggregate` node.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateWindow {
    /// The kind and its parameters.
    pub spec: WindowSpec,
    /// Its canonical text, part of every key.
    pub name: Arc<str>,
    /// Identifies it in the hop.
    pub id: u32,
    /// How long tables keep its windows after their end; None: for the retention of the topic.
    pub keep: Option<Duration>,
}

impl AggregateWindow {
    /// A kind of windows.
    pub fn new(spec: WindowSpec) -> Self {
        let name = spec.to_string();
        Self { spec, id: xxh3_64(name.as_bytes()) as u32, name: name.into(), keep: None }
    }

    /// What the state keeps for it, for the fingerprint of the topology: with the text of `name`.
    pub fn kept(&self) -> StorePart {
        let ms = i64::unsigned_abs;
        match self.spec {
            WindowSpec::Tumbling { size_ms } => StorePart::Tumbling { size_ms: ms(size_ms) },
            WindowSpec::Hopping { size_ms, every_ms } => {
                StorePart::Hopping { size_ms: ms(size_ms), every_ms: ms(every_ms) }
            }
            WindowSpec::Session { gap_ms, max_ms } => StorePart::Session { gap_ms: ms(gap_ms), max_ms: ms(max_ms) },
            WindowSpec::Sliding { size_ms } => StorePart::Sliding { size_ms: ms(size_ms) },
        }
    }

    /// How long after an event its windows take other events, without the grace.
    pub fn reach_ms(&self) -> i64 {
        match self.spec {
            WindowSpec::Tumbling { size_ms }
            | WindowSpec::Hopping { size_ms, .. }
            | WindowSpec::Sliding { size_ms } => size_ms,
            WindowSpec::Session { gap_ms, .. } => gap_ms,
        }
    }

    /// How long after its last moment a window still takes records: it closes a millisecond later.
    pub fn closes_after_ms(&self, grace_ms: i64) -> i64 {
        match self.spec {
            WindowSpec::Tumbling { .. } | WindowSpec::Hopping { .. } | WindowSpec::Sliding { .. } => grace_ms,
            WindowSpec::Session { gap_ms, .. } => 2 * gap_ms + grace_ms,
        }
    }

    /// Size and step of fixed windows.
    pub fn fixed(&self) -> Option<(i64, i64)> {
        match self.spec {
            WindowSpec::Tumbling { size_ms } => Some((size_ms, size_ms)),
            WindowSpec::Hopping { size_ms, every_ms } => Some((size_ms, every_ms)),
            WindowSpec::Session { .. } | WindowSpec::Sliding { .. } => None,
        }
    }

    /// How sessions are joined.
    pub fn session_rule(&self) -> Option<SessionRule> {
        match self.spec {
            WindowSpec::Session { gap_ms, max_ms } => Some(SessionRule { gap_ms, max_ms }),
            WindowSpec::Tumbling { .. } | WindowSpec::Hopping { .. } | WindowSpec::Sliding { .. } => None,
        }
    }

    /// The windows that an event belongs to and that are open for it, as in [`tally_model::Slot`], and how many of its
    /// windows are closed: those that the record, appended at `append_ms`, comes too late for. A window takes records
    /// until the grace after its end.
    pub fn open_for(&self, time_ms: i64, append_ms: i64, grace_ms: i64) -> (Option<(i64, i64)>, u64) {
        match self.spec {
            WindowSpec::Tumbling { size_ms } => open_starts((size_ms, size_ms), time_ms, append_ms, grace_ms),
            WindowSpec::Hopping { size_ms, every_ms } => open_starts((size_ms, every_ms), time_ms, append_ms, grace_ms),
            WindowSpec::Session { gap_ms, .. } => match append_ms > time_ms + gap_ms + grace_ms {
                true => (None, 1),
                false => (Some((time_ms, time_ms)), 0),
            },
            WindowSpec::Sliding { size_ms } => {
                let open = append_ms.saturating_sub(grace_ms).max(time_ms);
                match open > time_ms + size_ms {
                    true => (None, 1),
                    false => (Some((time_ms, open)), 0),
                }
            }
        }
    }
}

/// The start of the last fixed window that holds a time, if one begins every `every_ms`.
pub fn start_ms(time_ms: i64, every_ms: i64) -> i64 {
    time_ms.div_euclid(every_ms) * every_ms
}

/// The first and the last start of the fixed windows that hold a time and are open, and how many are closed.
fn open_starts(
    (size_ms, every_ms): (i64, i64),
    time_ms: i64,
    append_ms: i64,
    grace_ms: i64,
) -> (Option<(i64, i64)>, u64) {
    let last = start_ms(time_ms, every_ms);
    let first = start_ms(time_ms - size_ms, every_ms) + every_ms;
    // The first whose end and grace lie behind the append time.
    let open = start_ms(append_ms.saturating_sub(grace_ms).saturating_sub(size_ms), every_ms) + every_ms;
    let late = ((open.min(last + every_ms) - first) / every_ms).max(0) as u64;
    let from = first.max(open);
    ((from <= last).then_some((from, last)), late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The starts of the windows of an event, by the definition.
    fn starts(size: i64, every: i64, time: i64) -> Vec<i64> {
        (-300..300).map(|n| n * every).filter(|start| *start <= time && time < start + size).collect()
    }

    proptest! {
        #[test]
        fn an_event_belongs_to_the_windows_that_hold_it_and_are_open(
            size in 1..60i64, every in 1..60i64, time in -100..100i64, age in 0..120i64, grace in 0..40i64,
        ) {
            let every = every.min(size);
            let spec = match size == every {
                true => WindowSpec::Tumbling { size_ms: size },
                false => WindowSpec::Hopping { size_ms: size, every_ms: every },
            };
            let append = time + age;
            let (open, closed): (Vec<_>, Vec<_>) =
                starts(size, every, time).into_iter().partition(|start| append < start + size + grace);
            let (found, late) = AggregateWindow::new(spec).open_for(time, append, grace);
            prop_assert_eq!(late, closed.len() as u64);
            prop_assert_eq!(found, open.first().copied().zip(open.last().copied()));
        }
    }

    #[test]
    fn sessions_and_sliding_windows_take_records_up_to_their_grace() {
        let range = |spec, append| AggregateWindow::new(spec).open_for(100, append, 5).0;
        let session = WindowSpec::Session { gap_ms: 10, max_ms: 1_000 };
        assert_eq!([115, 116].map(|append| range(session, append)), [Some((100, 100)), None]);
        let sliding = WindowSpec::Sliding { size_ms: 10 };
        let expected = [Some((100, 100)), Some((100, 100)), Some((100, 101)), Some((100, 110)), None];
        assert_eq!([100, 105, 106, 115, 116].map(|append| range(sliding, append)), expected);
    }

    #[test]
    fn names_and_ids_are_what_they_have_always_been() {
        let windows = [
            WindowSpec::Tumbling { size_ms: 3_600_000 },
            WindowSpec::Hopping { size_ms: 3_600_000, every_ms: 300_000 },
            WindowSpec::Session { gap_ms: 1_800_000, max_ms: 43_200_000 },
            WindowSpec::Sliding { size_ms: 10_000 },
        ];
        let windows = windows.map(AggregateWindow::new);
        let names = ["3600000", "hopping:3600000:300000", "session:1800000:43200000", "sliding:10000"];
        assert_eq!(windows.each_ref().map(|window| &*window.name), names);
        assert_eq!(windows.each_ref().map(|window| window.kept().written()), names);
        assert_eq!(windows.map(|window| window.id), names.map(|name| xxh3_64(name.as_bytes()) as u32));
        let value = |function, scale| AggregateValue { metric: "dwell.ms".into(), function, scale };
        assert_eq!(value(Function::Sum, 0).kept().written(), "ms: sum");
        assert_eq!(value(Function::Quantile(Millionths(5)), 2).kept().written(), "ms: quantile (scale 2)");
        assert_eq!(value(Function::Sum, 0).id(), xxh3_64(b"ms: sum") as u32);
    }
}
