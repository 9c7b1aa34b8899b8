//! The names in a topology that expectations may use.

use std::collections::{BTreeMap, BTreeSet};
use tally_model::{MetricValue, OutputType, WindowSpec};
use tally_processors::{Actions, metrics};
use tally_streams::topology::{ConfigDuration, Report, Span, Topology, parse_duration};

/// The names in a topology that expectations may use.
pub struct Names {
    pub metrics: BTreeMap<String, Metric>,
    /// Toggles that the database does not own.
    pub toggles: BTreeSet<String>,
    pub boards: BTreeSet<String>,
    pub stores: BTreeSet<String>,
    /// Of topics without a section of their own.
    pub topics: BTreeSet<String>,
    /// The types of values that topics have.
    pub values: Vec<OutputType>,
}

impl Names {
    /// Those of a topology.
    pub fn of(topology: &Topology<Actions>) -> Self {
        let prefix = &*topology.settings.topic_prefix;
        let is_plain = |value: &str| OutputType::from_name(value).is_none();
        let topics = topology.topics.iter().filter(|(name, topic)| **name != *topology.root && is_plain(&topic.value));
        let metrics = metrics(topology).into_iter();
        Self {
            metrics: metrics
                .map(|metric| {
                    let windows = metric.windows.into_iter().map(window_name).collect();
                    (metric.name, Metric { windows, of_nothing: metric.kind.of_nothing() })
                })
                .collect(),
            toggles: (topology.facts())
                .filter(|(_, facts)| facts.toggle.as_ref().is_some_and(|toggle| !toggle.owned))
                .map(|(node, _)| node.to_owned())
                .collect(),
            boards: topology.facts().flat_map(|(_, facts)| facts.boards.clone()).collect(),
            stores: (topology.subtopologies.iter())
                .flat_map(|subtopology| subtopology.stores.iter().map(|store| store.name.clone()))
                .collect(),
            topics: topics.map(|(name, _)| name.strip_prefix(prefix).unwrap_or(name).to_owned()).collect(),
            values: topology.topics.values().filter_map(|topic| OutputType::from_name(&topic.value)).collect(),
        }
    }
}

/// A metric.
pub struct Metric {
    /// The names of its windows, as [`window_name`] gives them.
    windows: Vec<String>,
    /// Its value without any event.
    pub of_nothing: MetricValue,
}

impl Metric {
    /// The name of one of its windows: durations may have other units in the file, such as `24h` for `1d`.
    pub fn window(&self, metric: &str, name: &str, span: Span, report: &mut Report<'_>) -> Option<String> {
        let word = |word: &str| parse_duration(word).map_or(word.to_owned(), |known| ConfigDuration(known).to_string());
        let name = name.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
        if !self.windows.contains(&name) {
            let help = match &*self.windows {
                [] => format!("`{metric}` has no windows"),
                some => format!("its windows: {}", some.join(", ")),
            };
            report.add_with_help(span, format!("`{metric}` has no window `{name}`"), help);
            return None;
        }
        Some(name)
    }
}

/// How a kind of windows is named in a test file: `1h`, `hopping 1h every 5m`, `session 30m max 12h`, `sliding 10s`.
pub fn window_name(window: WindowSpec) -> String {
    let shown = ConfigDuration::from_ms;
    match window {
        WindowSpec::Tumbling { size_ms } => shown(size_ms).to_string(),
        WindowSpec::Hopping { size_ms, every_ms } => format!("hopping {} every {}", shown(size_ms), shown(every_ms)),
        WindowSpec::Session { gap_ms, max_ms } => format!("session {} max {}", shown(gap_ms), shown(max_ms)),
        WindowSpec::Sliding { size_ms } => format!("sliding {}", shown(size_ms)),
    }
}
