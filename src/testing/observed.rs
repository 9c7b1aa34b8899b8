//! The results of a run: output records, folded as their readers fold them.

use super::expectation::{Scope, Section};
use super::metric_value::{self, without_zeros};
use super::moment::shown;
use super::names::window_name;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;
use tally_model::{CounterWindow, Counters, DeadLetter, MetricValue, OutputType, Ranking, Reaction, Verdict};
use tally_processors::Actions;
use tally_streams::simulation::Written;
use tally_streams::topology::Topology;

/// A longer value of a dead letter is cut where it stands for a missing event id.
const LABEL_CHARS_MAX: usize = 40;

/// A value that was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Got {
    /// The value of a metric.
    Value(MetricValue),
    /// A record.
    Record(Json),
    /// Anything else.
    Text(String),
}

impl Got {
    /// The value, if it is that of a metric.
    pub fn value(&self) -> Option<&MetricValue> {
        match self {
            Self::Value(value) => Some(value),
            Self::Record(_) | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.write_str(&metric_value::shown(value)),
            Self::Record(json) => write!(f, "{json}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Results by scope and key.
#[derive(Default)]
pub struct Observed {
    scopes: BTreeMap<Scope, BTreeMap<String, Vec<Got>>>,
    start_ms: i64,
}

impl Observed {
    /// Nothing yet. Times are shown relative to `start_ms`.
    pub fn new(start_ms: i64) -> Self {
        Self { scopes: BTreeMap::new(), start_ms }
    }

    /// The results in a scope.
    pub fn scope(&self, scope: &Scope) -> BTreeMap<String, Vec<Got>> {
        self.scopes.get(scope).cloned().unwrap_or_default()
    }

    /// Forgets what is expected only once: verdicts, dead letters and records.
    pub fn next_step(&mut self) {
        let is_table = |section: Section| !(section.is_of_drops() || section == Section::Records);
        self.scopes.retain(|(section, _), _| is_table(*section));
    }

    /// Verdicts and dead letters since the last step that expected something: section, event id and text.
    pub fn drops(&self) -> Vec<[String; 3]> {
        let drops = self.scopes.iter().filter(|((section, _), _)| section.is_of_drops());
        let drops = drops.flat_map(|((section, _), found)| found.iter().map(move |(id, got)| (section, id, got)));
        drops
            .flat_map(|(section, id, got)| {
                got.iter().map(|got| [section.name().to_owned(), id.clone(), got.to_string()])
            })
            .collect()
    }

    /// Takes in records in the order of their commits.
    pub fn add(&mut self, topology: &Topology<Actions>, records: Vec<(String, Written)>) {
        for (topic, record) in records {
            let Some(known) = topology.topics.get(&topic) else { continue };
            match OutputType::from_name(&known.value) {
                Some(OutputType::Counters) => self.add_counters(&record),
                Some(OutputType::CounterWindow) => self.add_window(&record),
                Some(OutputType::Reaction) => self.add_reaction(&record),
                Some(OutputType::Ranking) => self.add_ranking(&record),
                Some(OutputType::Verdict) => self.add_verdict(&record),
                Some(OutputType::Raw) => self.add_dead_letter(&record),
                None => {
                    let name = topic.strip_prefix(&*topology.settings.topic_prefix).unwrap_or(&topic);
                    self.push((Section::Records, name.to_owned()), String::new(), Got::Record(record.json()));
                }
            }
        }
    }

    /// Sets the numbers of entries in stores.
    pub fn set_stores(&mut self, entries: BTreeMap<String, usize>) {
        for (store, count) in entries {
            self.set((Section::Stores, store), String::new(), Some(Got::Text(count.to_string())));
        }
    }

    fn push(&mut self, scope: Scope, key: String, got: Got) {
        self.scopes.entry(scope).or_default().entry(key).or_default().push(got);
    }

    /// Replaces a value; None removes it.
    fn set(&mut self, scope: Scope, key: String, got: Option<Got>) {
        let scope = self.scopes.entry(scope).or_default();
        match got {
            Some(got) => drop(scope.insert(key, vec![got])),
            None => drop(scope.remove(&key)),
        }
    }

    fn add_counters(&mut self, record: &Written) {
        let Some(counters) = read::<Counters>(record) else { return };
        for (metric, value) in counters.counters {
            let key = format!("{} {metric}", counters.subject_id);
            self.set((Section::Counters, String::new()), key, Some(Got::Value(value)));
        }
    }

    fn add_window(&mut self, record: &Written) {
        let Some(window) = read::<CounterWindow>(record) else { return };
        let (name, start) = (window_name(window.window), shown(window.window_start_ms, self.start_ms));
        let key = format!("{} {} {name} {start}", window.subject_id, window.metric);
        self.set((Section::Windows, String::new()), key, Some(Got::Value(window.value)));
    }

    fn add_reaction(&mut self, record: &Written) {
        let Some(reaction) = read::<Reaction>(record) else { return };
        let key = format!("{} {} {}", reaction.actor_id, reaction.metric, reaction.subject_id);
        self.set((Section::Reactions, String::new()), key, reaction.active.then(|| Got::Text("on".to_owned())));
    }

    fn add_ranking(&mut self, record: &Written) {
        let Some(ranking) = read::<Ranking>(record) else { return };
        let places = (1..).zip(&ranking.items).map(|(place, item)| {
            let text = format!("{} {}", item.subject_id, score(item.score));
            (place.to_string(), vec![Got::Text(text)])
        });
        self.scopes.insert((Section::Boards, ranking.board), places.collect());
    }

    fn add_verdict(&mut self, record: &Written) {
        let Some(verdict) = read::<Verdict>(record) else { return };
        let (kind, reason) = (verdict.verdict.as_str(), &verdict.reason);
        let text = if reason.is_empty() { kind.to_owned() } else { format!("{kind} {reason}") };
        let id = verdict.event_id.unwrap_or_else(|| "-".to_owned());
        self.push((Section::Verdicts, String::new()), id, Got::Text(text));
    }

    fn add_dead_letter(&mut self, record: &Written) {
        let header = |name: &str| record.headers.iter().find(|(known, _)| known == name).map(|(_, v)| v.as_slice());
        let letter = DeadLetter::read(header, (Some(&record.key), Some(&record.value)), 0);
        let reason = letter.reason.unwrap_or_default();
        let text = match letter.detail {
            Some(detail) => format!("{reason} ({detail})"),
            None => reason,
        };
        let value = record.json();
        let id = value.get("event_id").and_then(Json::as_str).map(str::to_owned);
        let id = id.unwrap_or_else(|| String::from_utf8_lossy(&record.value).chars().take(LABEL_CHARS_MAX).collect());
        self.push((Section::DeadLetters, String::new()), id, Got::Text(text));
    }
}

fn read<T: DeserializeOwned>(record: &Written) -> Option<T> {
    let read = serde_json::from_slice(&record.value);
    debug_assert!(read.is_ok() || record.value.is_empty(), "an output record is a value of its type");
    read.ok()
}

/// Thousandths as a decimal.
fn score(thousandths: i64) -> String {
    let (whole, rest) = (thousandths / 1_000, (thousandths % 1_000).abs());
    let sign = if thousandths < 0 && whole == 0 { "-" } else { "" };
    match rest {
        0 => whole.to_string(),
        rest => without_zeros(format!("{sign}{whole}.{rest:03}")),
    }
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn scores_have_up_to_three_decimals() {
        let shown = [4_000, 1_500, 100, 1, -500, -1_250].map(score);
        assert_eq!(shown, ["4", "1.5", "0.1", "0.001", "-0.5", "-1.25"]);
    }
}
