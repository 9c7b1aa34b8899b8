//! Compares what two topologies made of the same events.

use super::decisions::Decision;
use super::replay::Replay;
use super::results::Key;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tally_model::format_ms;
use tally_streams::log::LoggedRecord;

/// How many examples a line has.
const SAMPLES_MAX: usize = 3;
/// A longer name, key or value of an example is cut.
const SAMPLE_CHARS_MAX: usize = 60;
/// How many kinds of decisions have a line.
const KINDS_MAX: usize = 20;

/// What would be different.
pub struct Effect {
    events: usize,
    /// Append times of the first event and the last one, milliseconds since 1970.
    times_ms: (i64, i64),
    /// Decisions before and after, with the events.
    decisions: BTreeMap<(Decision, Decision), Group>,
    /// By what they are of.
    results: BTreeMap<String, ResultDifference>,
}

/// Things that differ in the same way.
#[derive(Default)]
struct Group {
    count: usize,
    samples: Vec<String>,
}

impl Group {
    fn add(&mut self, sample: impl FnOnce() -> String) {
        self.count += 1;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(sample());
        }
    }
}

/// The values of one metric, window, board or topic.
enum ResultDifference {
    /// Some differ, of so many.
    Some(Group, usize),
    /// Only the changed topology has such values.
    New(usize),
    /// Only the topology that runs has such values.
    Gone(usize),
}

/// Compares the topology that runs with the changed one, which have both processed `records`.
pub fn compare(records: &[LoggedRecord], running: &Replay, changed: &Replay) -> Effect {
    let mut decisions = BTreeMap::<_, Group>::new();
    for (at, record) in records.iter().enumerate() {
        let (before, after) = (running.decisions.of(running.places[at]), changed.decisions.of(changed.places[at]));
        if before != after {
            decisions.entry((before, after)).or_default().add(|| cut(&event_name(record)));
        }
    }
    let mut results = BTreeMap::new();
    let (before, after) = (&running.results.0, &changed.results.0);
    for of in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let difference =
            match (before.get(of).filter(|all| !all.is_empty()), after.get(of).filter(|all| !all.is_empty())) {
                (Some(before), Some(after)) => some_differ(before, after),
                (Some(before), None) => Some(ResultDifference::Gone(before.len())),
                (None, Some(after)) => Some(ResultDifference::New(after.len())),
                (None, None) => None,
            };
        results.extend(difference.map(|difference| (of.clone(), difference)));
    }
    let times_ms = records.first().zip(records.last()).map(|(first, last)| (first.append_time_ms, last.append_time_ms));
    Effect { events: records.len(), times_ms: times_ms.unwrap_or_default(), decisions, results }
}

fn some_differ(before: &BTreeMap<Key, String>, after: &BTreeMap<Key, String>) -> Option<ResultDifference> {
    let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
    let mut group = Group::default();
    for key in &keys {
        let (was, is) = (before.get(*key), after.get(*key));
        if was != is {
            let shown = |value: Option<&String>| value.map_or("nothing".to_owned(), |value| cut(value));
            group.add(|| format!("{}: {} → {}", cut(&key.to_string()), shown(was), shown(is)));
        }
    }
    (group.count > 0).then_some(ResultDifference::Some(group, keys.len()))
}

/// The id of an event, or its place where it has none.
fn event_name(record: &LoggedRecord) -> String {
    let event: Json = serde_json::from_slice(record.value.as_deref().unwrap_or_default()).unwrap_or_default();
    let field = |name: &str| event.get(name).and_then(Json::as_str).map(str::to_owned);
    match (field("event_id"), field("actor_id")) {
        (Some(id), Some(actor)) => format!("{id} of {actor}"),
        (Some(id), None) => id,
        (None, _) => format!("partition {} offset {}", record.partition, record.offset),
    }
}

fn cut(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut chars = text.chars().map(printable);
    let mut cut: String = chars.by_ref().take(SAMPLE_CHARS_MAX).collect();
    cut.extend(chars.next().map(|_| '…'));
    cut
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (format_ms(self.times_ms.0), format_ms(self.times_ms.1));
        writeln!(
            f,
            "effect on the last {} events, {from} to {to}, both topologies without earlier state:",
            self.events
        )?;
        let different: usize = self.decisions.values().map(|group| group.count).sum();
        writeln!(f, "  {different} would be decided differently")?;
        let mut decisions: Vec<_> = self.decisions.iter().collect();
        decisions.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        for ((before, after), group) in decisions.iter().take(KINDS_MAX) {
            writeln!(f, "    {before} → {after}: {}, such as {}", group.count, group.samples.join(", "))?;
        }
        let others: usize = decisions.iter().skip(KINDS_MAX).map(|(_, group)| group.count).sum();
        if others > 0 {
            writeln!(f, "    in other ways: {others}")?;
        }
        let [differing, new, gone] = self.result_counts();
        write!(f, "  results: {differing} differ, {new} new, {gone} no longer computed")?;
        for (of, difference) in &self.results {
            write!(f, "\n    {of}: ")?;
            match difference {
                ResultDifference::Some(group, all) => {
                    write!(f, "{} of {all}, such as {}", group.count, group.samples.join(", "))?;
                }
                ResultDifference::New(count) => write!(f, "{count} new")?,
                ResultDifference::Gone(count) => write!(f, "{count} no longer computed")?,
            }
        }
        Ok(())
    }
}

impl Effect {
    /// Results that differ, that are new, and that are no longer computed.
    fn result_counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for difference in self.results.values() {
            match difference {
                ResultDifference::Some(group, _) => counts[0] += group.count,
                ResultDifference::New(count) => counts[1] += count,
                ResultDifference::Gone(count) => counts[2] += count,
            }
        }
        counts
    }
}
