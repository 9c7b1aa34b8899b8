//! Output types: the types of values in output topics. Topology, processors, sinks and API derive names, keys,
//! partitions and tables from here.

use crate::{CounterWindow, Counters, Ranking, Reaction, Verdict};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A type of values that output topics hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputType {
    /// All totals of a subject ([`Counters`]).
    Counters,
    /// A metric within a window ([`CounterWindow`]).
    CounterWindow,
    /// The state of a toggle ([`Reaction`]).
    Reaction,
    /// A whole board ([`Ranking`]).
    Ranking,
    /// An event that was not counted ([`Verdict`]).
    Verdict,
    /// Any bytes: a dead letter, with its origin and reason in headers.
    Raw,
}

/// The description of an output type.
struct Description {
    name: &'static str,
    tables: &'static [&'static str],
}

impl OutputType {
    /// Every output type.
    pub const ALL: [Self; 6] =
        [Self::Counters, Self::CounterWindow, Self::Reaction, Self::Ranking, Self::Verdict, Self::Raw];

    const fn description(self) -> Description {
        match self {
            Self::Counters => Description { name: "counters", tables: &["counters"] },
            Self::CounterWindow => Description { name: "counter", tables: &["counter_windows"] },
            Self::Reaction => Description { name: "reaction", tables: &["reactions"] },
            Self::Ranking => Description { name: "ranking", tables: &["boards", "board_entries"] },
            Self::Verdict => Description { name: "verdict", tables: &["verdicts"] },
            Self::Raw => Description { name: "raw", tables: &["dead_letters"] },
        }
    }

    /// Its name: the `value` of a topic in `topology.yaml`, and the name of the edge type.
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// The tables of the database that store it. Where there are several, rows of the later ones are visible only through
    /// rows of the first one.
    pub const fn tables(self) -> &'static [&'static str] {
        self.description().tables
    }

    /// The type of this name; None for edge types that never leave the pipeline.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|output| output.name() == name)
    }
}

/// A value of an output topic.
pub trait OutputValue: Serialize + DeserializeOwned {
    /// Its type.
    const TYPE: OutputType;

    /// Appends the key of its record: a value replaces the one before it of the same key.
    fn write_key(&self, key: &mut Vec<u8>);

    /// The part of the key that selects the partition; None for the whole key.
    fn partition_key(&self) -> Option<&str> {
        None
    }

    /// generation << 48 | commit number: a greater one replaces a smaller one.
    fn version(&self) -> i64;
}

impl OutputValue for Counters {
    const TYPE: OutputType = OutputType::Counters;

    fn write_key(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(self.subject_id.as_bytes());
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl OutputValue for CounterWindow {
    const TYPE: OutputType = OutputType::CounterWindow;

    fn write_key(&self, key: &mut Vec<u8>) {
        self.append_key(key);
    }

    fn partition_key(&self) -> Option<&str> {
        Some(&self.subject_id)
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl OutputValue for Reaction {
    const TYPE: OutputType = OutputType::Reaction;

    fn write_key(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.key());
    }

    fn partition_key(&self) -> Option<&str> {
        Some(&self.actor_id)
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl OutputValue for Ranking {
    const TYPE: OutputType = OutputType::Ranking;

    fn write_key(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(self.board.as_bytes());
    }

    fn version(&self) -> i64 {
        self.version
    }
}

impl OutputValue for Verdict {
    const TYPE: OutputType = OutputType::Verdict;

    fn write_key(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(self.actor_id.as_deref().unwrap_or_default().as_bytes());
    }

    fn version(&self) -> i64 {
        self.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_lead_back_to_their_types_and_no_table_stores_two() {
        for output in OutputType::ALL {
            assert_eq!(OutputType::from_name(output.name()), Some(output));
        }
        assert_eq!(OutputType::from_name("change"), None);
        let tables: Vec<_> = OutputType::ALL.into_iter().flat_map(OutputType::tables).collect();
        assert_eq!(tables.iter().collect::<BTreeSet<_>>().len(), tables.len());
    }
}
