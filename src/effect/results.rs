//! What a topology computes, by metric.

use crate::testing::window_name;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use tally_model::{CounterWindow, Counters, Ranking, Reaction, format_ms};
use tally_streams::simulation::Written;

/// What a value belongs to. Places of a board are ordered by their number, everything else by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A place of a board, from 1.
    Place(usize),
    /// A subject, a window of it, a reaction, or a record.
    Name(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(place) => write!(f, "place {place}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Values by what they are of, such as `views` or `board hot`, and by key.
#[derive(Default)]
pub struct Results(pub BTreeMap<String, BTreeMap<Key, String>>);

impl Results {
    /// Takes in a record of `counters`.
    pub fn add_counters(&mut self, record: &Written) {
        let Some(counters) = read::<Counters>(record) else { return };
        for (metric, value) in counters.counters {
            self.set(metric, counters.subject_id.clone(), value.to_string());
        }
    }

    /// Takes in a record of `counter`. A deleted window, which another session has absorbed, counts as one that never was.
    pub fn add_window(&mut self, record: &Written) {
        let Some(window) = read::<CounterWindow>(record) else { return };
        let of = format!("{} {}", window.metric, window_name(window.window));
        let key = format!("{} {}", window.subject_id, format_ms(window.window_start_ms));
        match window.deleted {
            false => self.set(of, key, window.value.to_string()),
            true => self.remove(&of, key),
        }
    }

    /// Takes in a record of `reaction`. A reaction that is off counts as one that never was.
    pub fn add_reaction(&mut self, record: &Written) {
        let Some(reaction) = read::<Reaction>(record) else { return };
        let (of, key) = (format!("{} on", reaction.metric), format!("{} {}", reaction.actor_id, reaction.subject_id));
        match reaction.active {
            true => self.set(of, key, "on".to_owned()),
            false => self.remove(&of, key),
        }
    }

    /// Takes in a record of `ranking`: its places replace those of the record before.
    pub fn add_ranking(&mut self, record: &Written) {
        let Some(ranking) = read::<Ranking>(record) else { return };
        let places = ranking.items.into_iter().enumerate();
        let places = places.map(|(at, item)| (Key::Place(at + 1), item.subject_id));
        self.0.insert(format!("board {}", ranking.board), places.collect());
    }

    /// Takes in a record of any other topic: how often there is one like it.
    pub fn add_record(&mut self, topic: &str, record: &Written) {
        let key = Key::Name(String::from_utf8_lossy(&record.value).into_owned());
        let values = self.0.entry(format!("topic {topic}")).or_default();
        let before = values.get(&key).and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
        values.insert(key, (before + 1).to_string());
    }

    fn remove(&mut self, of: &str, key: String) {
        if let Some(values) = self.0.get_mut(of) {
            values.remove(&Key::Name(key));
        }
    }

    fn set(&mut self, of: String, key: String, value: String) {
        self.0.entry(of).or_default().insert(Key::Name(key), value);
    }
}

fn read<T: DeserializeOwned>(record: &Written) -> Option<T> {
    serde_json::from_slice(&record.value).ok()
}
