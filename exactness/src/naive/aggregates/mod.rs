//! What `aggregate` nodes must compute, in the plainest way: all events of a subject at once, by the definitions of
//! docs/semantics.md.

mod found;
mod nodes;
mod values;
mod windows;

pub use found::{StoredAggregates, TopicAggregates, WindowKey};
pub use nodes::CLOSED_AFTER_MS;
pub use values::Datum;

use super::{Differences, Event, Place};
use nodes::{NODES, Node};
use std::collections::{BTreeMap, HashMap, HashSet};
use values::Right;

const PROCESSORS: &str = include_str!("topology.yaml");
/// The `read` of the workload.
const EVENTS: &str = "events:
  read: { properties: { source: text?, campaign: text?, visitor: text?, note: text?, price: decimal(2)?, points: int? } }

topics:";

/// Adds the aggregates to a topology. Its topic of windows is not compacted: each record that was ever written is compared.
pub fn with_aggregates(topology: &str) -> String {
    let mut text = topology.to_owned();
    for (from, to) in [
        ("\ntopics:", format!("\n{EVENTS}")),
        ("cleanup: compact_and_delete, retention: 90d", "retention: 90d".to_owned()),
        ("  # by subject:", format!("{PROCESSORS}  # by subject:")),
        ("visitors], by: subject_id", format!("visitors, {}], by: subject_id", NODES.map(|node| node.name).join(", "))),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replacen(from, &to, 1);
    }
    text
}

/// What an event gives to the values of a node.
#[derive(Debug)]
pub struct Part {
    /// Its effective time.
    time_ms: i64,
    /// Its append time, or that of its release.
    appended_ms: i64,
    place: Place,
    arguments: Vec<Option<Datum>>,
}

/// All events that a node takes, and the numbers of those of each subject.
type Taken = (Vec<Part>, HashMap<String, Vec<usize>>);

/// The events that each node takes.
pub struct Aggregates {
    /// By node.
    taken: [Taken; NODES.len()],
}

impl Default for Aggregates {
    fn default() -> Self {
        Self { taken: std::array::from_fn(|_| Default::default()) }
    }
}

impl Aggregates {
    /// Takes an event that no earlier node has dropped; returns by how many nodes it is rejected.
    pub(super) fn take(&mut self, place: Place, event: &Event, time_ms: i64, appended_ms: i64) -> usize {
        let mut rejected = 0;
        for (node, (parts, subjects)) in NODES.iter().zip(&mut self.taken) {
            if !(node.takes)(event) {
                continue;
            }
            match node.values.iter().map(|(.., argument)| argument.of(event)).collect() {
                Ok(arguments) => {
                    for subject in (node.subjects)(event) {
                        subjects.entry(subject).or_default().push(parts.len());
                    }
                    parts.push(Part { time_ms, appended_ms, place, arguments });
                }
                Err(()) => rejected += 1,
            }
        }
        rejected
    }

    /// How many events came too late, by node and window; only where there were any.
    pub fn late(&self) -> BTreeMap<(String, String), u64> {
        let mut late = BTreeMap::new();
        for (node, (parts, _)) in NODES.iter().zip(&self.taken) {
            for window in node.windows {
                let count = parts.iter().map(|part| window.late(part, node.grace_ms)).sum::<u64>();
                if count > 0 {
                    late.insert((node.name.to_owned(), window.name()), count);
                }
            }
        }
        late
    }

    /// Every total and every window as the topics have them.
    pub fn compare(&self, topics: &TopicAggregates, differences: &mut Differences) {
        let (mut totals, mut windows) = (HashSet::new(), HashSet::new());
        for (node, (parts, subjects)) in NODES.iter().zip(&self.taken) {
            for (subject, of) in subjects {
                let of: Vec<&Part> = of.iter().map(|number| &parts[*number]).collect();
                if node.totals {
                    compare_totals(node, subject, &of, topics, &mut totals, differences);
                }
                for window in node.windows {
                    for (start, end, of) in window.of(&of, node.grace_ms) {
                        let window = Instance { name: window.name(), start, end };
                        compare_window(node, subject, &window, &of, topics, &mut windows, differences);
                    }
                }
            }
        }
        for (key, found) in topics.totals.iter().filter(|(key, _)| !totals.contains(*key)) {
            differences.add(format!("total {key:?}: {found:?} in the topic, nothing is right"));
        }
        for (key, found) in topics.windows.iter().filter(|(key, _)| !windows.contains(*key)) {
            match found.value {
                Some(_) => differences.add(format!("window {key:?}: {found:?} in the topic, no such window is right")),
                None => differences.compared("absorbed sessions", 1),
            }
        }
    }
}

/// A window.
struct Instance {
    name: String,
    start: i64,
    end: i64,
}

fn compare_totals(
    node: &Node,
    subject: &str,
    of: &[&Part],
    topics: &TopicAggregates,
    seen: &mut HashSet<(String, String)>,
    differences: &mut Differences,
) {
    for (at, (value, function, _)) in node.values.iter().enumerate() {
        let right = Right::of(*function, at, of);
        let key = (subject.to_owned(), format!("{}.{value}", node.name));
        differences.compared("totals of aggregates", 1);
        let fits = match topics.totals.get(&key) {
            Some(found) => right.fits(found.as_ref()),
            None => right.is_nothing(),
        };
        if !fits {
            differences.add(format!("total {key:?}: {:?} in the topic, {right:?} is right", topics.totals.get(&key)));
        }
        seen.insert(key);
    }
}

fn compare_window(
    node: &Node,
    subject: &str,
    window: &Instance,
    of: &[&Part],
    topics: &TopicAggregates,
    seen: &mut HashSet<WindowKey>,
    differences: &mut Differences,
) {
    let Instance { name, start, end } = window;
    for (at, (value, function, _)) in node.values.iter().enumerate() {
        let right = Right::of(*function, at, of);
        let key = (subject.to_owned(), format!("{}.{value}", node.name), name.clone(), *start);
        let found = topics.windows.get(&key);
        let fits = found.is_some_and(|found| {
            found.end == *end && found.value.as_ref().is_some_and(|value| right.fits(value.as_ref()))
        });
        differences.compared(node.name, 1);
        if !fits {
            differences.add(format!("window {key:?} to {end}: {found:?} in the topic, {right:?} is right"));
        }
        if node.on_close && found.is_some_and(|found| found.times != 1) {
            differences.add(format!("window {key:?} was closed more than once: {found:?}"));
        }
        seen.insert(key);
    }
}
