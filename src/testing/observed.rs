//! The results of a run: output records, folded as their readers fold them.

use super::expectation::{Scope, Section, window_name};
use super::moment::shown;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use tally_model::{CounterWindow, Counters, DeadLetter, MetricValue, OutputType, Ranking, Reaction, Verdict};
use tally_processors::Actions;
use tally_streams::simulation::Written;
use tally_streams::topology::Topology;

/// A longer value of a dead letter is cut where it stands for a missing event id.
const LABEL_CHARS_MAX: usize = 40;

/// A value that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Got {
    /// As it is shown.
    pub text: String,
    /// The value of a record; null elsewhere.
    pub json: Json,
}

impl Got {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), json: Json::Null }
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
        let is_table = |section| !matches!(section, Section::Verdicts | Section::DeadLetters | Section::Records);
        self.scopes.retain(|(section, _), _| is_table(*section));
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
                    let json = record.json();
                    let got = Got { text: json.to_string(), json };
                    self.push((Section::Records, name.to_owned()), String::new(), got);
                }
            }
        }
    }

    /// Sets the numbers of entries in stores.
    pub fn set_stores(&mut self, entries: BTreeMap<String, usize>) {
        for (store, count) in entries {
            let scope = (Section::Stores, store);
            self.scopes.remove(&scope);
            self.set(scope, String::new(), (count > 0).then(|| Got::text(count.to_string())));
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
            self.set((Section::Counters, String::new()), key, shown_value(&value));
        }
    }

    fn add_window(&mut self, record: &Written) {
        let Some(window) = read::<CounterWindow>(record) else { return };
        let (name, start) = (window_name(window.window), shown(window.window_start_ms, self.start_ms));
        let key = format!("{} {} {name} {start}", window.subject_id, window.metric);
        // A session that another one has absorbed has no value.
        self.set((Section::Windows, String::new()), key, shown_value(&window.value));
    }

    fn add_reaction(&mut self, record: &Written) {
        let Some(reaction) = read::<Reaction>(record) else { return };
        let key = format!("{} {} {}", reaction.actor_id, reaction.metric, reaction.subject_id);
        self.set((Section::Reactions, String::new()), key, reaction.active.then(|| Got::text("on")));
    }

    fn add_ranking(&mut self, record: &Written) {
        let Some(ranking) = read::<Ranking>(record) else { return };
        let places = (1..).zip(&ranking.items).map(|(place, item)| {
            let text = format!("{} {}", item.subject_id, score(item.score));
            (place.to_string(), vec![Got::text(text)])
        });
        self.scopes.insert((Section::Boards, ranking.board), places.collect());
    }

    fn add_verdict(&mut self, record: &Written) {
        let Some(verdict) = read::<Verdict>(record) else { return };
        let (kind, reason) = (verdict.verdict.as_str(), &verdict.reason);
        let text = if reason.is_empty() { kind.to_owned() } else { format!("{kind} {reason}") };
        let id = verdict.event_id.unwrap_or_else(|| "-".to_owned());
        self.push((Section::Verdicts, String::new()), id, Got::text(text));
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
        self.push((Section::DeadLetters, String::new()), id, Got::text(text));
    }
}

fn read<T: DeserializeOwned>(record: &Written) -> Option<T> {
    let read = serde_json::from_slice(&record.value);
    debug_assert!(read.is_ok() || record.value.is_empty(), "an output record is a value of its type");
    read.ok()
}

/// The value of a metric; None where it is 0 or null, like a missing one.
fn shown_value(value: &MetricValue) -> Option<Got> {
    match value {
        MetricValue::Null | MetricValue::Integer(0) => None,
        MetricValue::Integer(value) => Some(Got::text(value.to_string())),
        MetricValue::Decimal(value) => Some(Got::text(without_zeros(value.to_string()))),
        MetricValue::Text(text) => Some(Got::text(text.as_str())),
    }
}

/// A decimal without zeros at its end.
fn without_zeros(decimal: String) -> String {
    match decimal.contains('.') {
        true => decimal.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => decimal,
    }
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
