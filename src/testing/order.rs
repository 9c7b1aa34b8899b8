//! The orders in which a case runs besides that of the file.

use std::fmt;
use tally_streams::topology::{Report, Value, Yaml, suggest};

/// Runs of a variation; more would only take longer.
const RUNS_MAX: u64 = 1_000;
/// How often a task commits under `batches`: after so many records; the last one only where something is expected.
const BATCHES: [u64; 4] = [1, 2, 5, u64::MAX];
const KINDS: &[&str] = &["shuffle", "crash", "batches"];

/// An item of `always`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variation {
    /// So many runs in which tasks take turns at random and commit at random.
    Shuffle(u64),
    /// The same with crashes.
    Crash(u64),
    /// Runs in the order of the file with other sizes of commits.
    Batches,
}

/// How one run of a case is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As in the file: each step is processed and committed before the next one.
    AsWritten,
    /// At random, by a seed.
    Shuffled(u64),
    /// At random, by a seed, with crashes.
    Crashing(u64),
    /// As in the file, where tasks commit after so many records.
    Batches(u64),
}

impl Variation {
    /// Its runs.
    pub fn orders(self) -> Vec<Order> {
        match self {
            Self::Shuffle(runs) => (1..=runs).map(Order::Shuffled).collect(),
            Self::Crash(runs) => (1..=runs).map(Order::Crashing).collect(),
            Self::Batches => BATCHES.into_iter().map(Order::Batches).collect(),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsWritten => f.write_str("in order"),
            Self::Shuffled(seed) => write!(f, "shuffle, seed {seed}"),
            Self::Crashing(seed) => write!(f, "crash, seed {seed}"),
            Self::Batches(u64::MAX) => f.write_str("batches, all records in one commit"),
            Self::Batches(1) => f.write_str("batches, a commit after each record"),
            Self::Batches(size) => write!(f, "batches, a commit after {size} records"),
        }
    }
}

/// Reads `[shuffle 20, crash 20, batches]`.
pub fn read(yaml: &Yaml, report: &mut Report<'_>) -> Vec<Variation> {
    let items = match &yaml.value {
        Value::List(items) => items.iter().collect(),
        _ => vec![yaml],
    };
    let mut variations = Vec::new();
    for item in items {
        let Some(name) = item.text(report) else { continue };
        let (kind, runs) = name.text.split_once(' ').unwrap_or((&name.text, ""));
        let count = runs.trim().parse().ok().filter(|runs| (1..=RUNS_MAX).contains(runs));
        match (kind, count) {
            ("shuffle", Some(runs)) => variations.push(Variation::Shuffle(runs)),
            ("crash", Some(runs)) => variations.push(Variation::Crash(runs)),
            ("batches", None) if runs.is_empty() => variations.push(Variation::Batches),
            ("shuffle" | "crash", None) => {
                let help = format!("write `{kind} 20`: how many times, from 1 to {RUNS_MAX}");
                report.add_with_help(name.span, format!("`{}` has no number of runs", name.text), help);
            }
            ("batches", _) => report.add_with_help(name.span, "`batches` takes no number", "write `batches`"),
            _ => {
                let help = suggest(kind, KINDS.iter().copied(), "values");
                report.add(name.span, format!("unknown value `{}`", name.text), help);
            }
        }
    }
    variations
}
