//! The messages of `tally check` about the YAML of a topology.

mod aggregates;
mod boards;
mod events;
mod table;

use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::topology::{Diagnostics, Fingerprint, Topology};

/// Topologies without mistakes, which the tests change.
const EVENTS: &str = include_str!("events.yaml");
const AGGREGATES: &str = include_str!("aggregates.yaml");
const CLOSED: &str = include_str!("closed.yaml");

/// A file with one part, which must be there exactly once, replaced.
fn changed(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` is not there once");
    text.replace(from, to)
}

/// Everything that is wrong with a file.
fn mistakes(text: &str) -> Diagnostics {
    Topology::<Actions>::load("t.yaml", text, REGISTRY, SINK_TYPES).err().unwrap_or(Diagnostics(Vec::new()))
}

/// The messages alone, each behind the words that are marked.
fn messages(text: &str) -> Vec<String> {
    let message = |at: &tally_streams::topology::Diagnostic| {
        let line = text.lines().nth(at.line - 1).unwrap_or_default();
        let word: String = line.chars().skip(at.column - 1).take(at.caret_length).collect();
        format!("{word}: {}", at.message)
    };
    mistakes(text).0.iter().map(message).collect()
}

fn fingerprint(text: &str) -> Fingerprint {
    let loaded = Topology::<Actions>::load("t.yaml", text, REGISTRY, SINK_TYPES);
    loaded.unwrap_or_else(|mistakes| panic!("{mistakes}")).fingerprint()
}
