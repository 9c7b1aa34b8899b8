//! The properties of a topology that its state depends on.

use super::Topology;
use super::cut::changelog;
use super::fields::count;
use super::store_part::StorePart;
use crate::processor::Dataflow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that the state, the internal topics and the output tables of a generation depend on.
///
/// Rules, limits, conditions, weights, sinks and the commit interval are not in it: a change there applies from now on.
/// Its JSON is ordered by name, so the same for the same topology however the file is arranged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    subtopologies: BTreeMap<String, SubtopologyPrint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SubtopologyPrint {
    source: String,
    key: String,
    partitions: u32,
    stores: BTreeMap<String, StorePrint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StorePrint {
    kind: String,
    schema_version: u32,
    windows: Vec<StorePart>,
}

/// How a topology differs from the one that the state was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// No difference.
    Same,
    /// Only additions, which would start empty: each with its remedy.
    Added(Vec<String>),
    /// By something that the state does not fit: each with what to do. What is also new is not listed.
    Changed(Vec<String>),
}

/// What becomes of a store under another topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It keeps its entries.
    Kept,
    /// It is new, or a part of it is, and starts empty.
    Added,
    /// Its entries do not fit the topology.
    Lost,
}

/// A store, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStore {
    /// Its subtopology.
    pub subtopology: String,
    /// Its name.
    pub store: String,
    /// What becomes of it.
    pub fate: Fate,
    /// The parts that are new, or why it is lost.
    pub reasons: Vec<String>,
}

impl<D: Dataflow> Topology<D> {
    /// The parts of this topology on which its state depends.
    pub fn fingerprint(&self) -> Fingerprint {
        let subtopologies = self.subtopologies.iter().map(|subtopology| {
            let nodes = subtopology.nodes.iter().enumerate();
            let mut windows_of: BTreeMap<String, Vec<StorePart>> = nodes
                .flat_map(|(index, node)| node.blueprint.store_windows(&self.build_site(subtopology, index, 0)))
                .collect();
            let stores = subtopology.stores.iter().map(|store| {
                // The order of the windows in the file has no meaning.
                let mut windows = store.windows.clone();
                windows.extend(windows_of.remove(&store.name).unwrap_or_default());
                windows.sort_by_cached_key(StorePart::written);
                let print = StorePrint { kind: store.kind.into(), schema_version: store.schema_version, windows };
                (store.name.clone(), print)
            });
            let print = SubtopologyPrint {
                source: subtopology.source.to_string(),
                key: subtopology.key.clone(),
                partitions: subtopology.partitions,
                stores: stores.collect(),
            };
            (subtopology.name.to_string(), print)
        });
        Fingerprint { subtopologies: subtopologies.collect() }
    }
}

impl Fingerprint {
    /// The subtopologies that have state, each with the topic of that: its changelog.
    pub fn changelogs(&self, application: &str) -> Vec<(String, String)> {
        let with_state = self.subtopologies.iter().filter(|(_, print)| !print.stores.is_empty());
        with_state.map(|(name, _)| (name.clone(), changelog(application, name))).collect()
    }

    /// How this topology differs from the running one.
    pub fn compare(&self, running: &Self) -> Difference {
        let mut differences = Differences::default();
        for (name, was) in &running.subtopologies {
            match self.subtopologies.get(name) {
                Some(is) => is.compare(was, name, &mut differences),
                None => differences.changed(format!("subtopology `{name}` is gone")),
            }
        }
        for name in self.subtopologies.keys().filter(|name| !running.subtopologies.contains_key(*name)) {
            differences.added(format!("subtopology `{name}` is new"));
        }
        differences.finish()
    }

    /// What becomes of each store of the running topology, and which ones are new; by fate, then by name.
    pub fn plan(&self, running: &Self) -> Vec<PlannedStore> {
        let mut planned = Vec::new();
        let mut plan = |subtopology: &str, store: &str, fate, reasons| {
            let (subtopology, store) = (subtopology.to_owned(), store.to_owned());
            planned.push(PlannedStore { subtopology, store, fate, reasons });
        };
        for (name, was) in &running.subtopologies {
            for (store, store_was) in &was.stores {
                let mut differences = Differences::default();
                match self.subtopologies.get(name).map(|is| (is, is.stores.get(store))) {
                    None => differences.changed(format!("subtopology `{name}` is gone")),
                    Some((is, store_is)) => {
                        is.compare_source(was, name, &mut differences);
                        match store_is {
                            Some(store_is) => store_is.compare(store_was, "the store", &mut differences),
                            None => differences.changed("the store is gone".to_owned()),
                        }
                    }
                }
                match differences {
                    Differences { changed, .. } if !changed.is_empty() => plan(name, store, Fate::Lost, changed),
                    Differences { added, .. } if !added.is_empty() => plan(name, store, Fate::Added, added),
                    _ => plan(name, store, Fate::Kept, Vec::new()),
                }
            }
        }
        for (name, is) in &self.subtopologies {
            let was = running.subtopologies.get(name);
            for store in is.stores.keys().filter(|store| was.is_none_or(|was| !was.stores.contains_key(*store))) {
                plan(name, store, Fate::Added, Vec::new());
            }
        }
        planned.sort_by(|a, b| (a.fate, &a.subtopology, &a.store).cmp(&(b.fate, &b.subtopology, &b.store)));
        planned
    }
}

impl SubtopologyPrint {
    /// The source decides which entries a task has.
    fn compare_source(&self, was: &Self, name: &str, differences: &mut Differences) {
        let mut differ = |what: &str, is: &str, was: &str| {
            if is != was {
                differences.changed(format!("{what} of subtopology `{name}` was {was} and is now {is}"));
            }
        };
        differ("the source", &format!("`{}`", self.source), &format!("`{}`", was.source));
        differ("the key", &format!("`{}`", self.key), &format!("`{}`", was.key));
        differ("the source", &count(self.partitions, "partition"), &count(was.partitions, "partition"));
    }

    fn compare(&self, was: &Self, name: &str, differences: &mut Differences) {
        self.compare_source(was, name, differences);
        for (store, was) in &was.stores {
            match self.stores.get(store) {
                Some(is) => is.compare(was, &format!("store `{store}` of subtopology `{name}`"), differences),
                None => differences.changed(format!("store `{store}` of subtopology `{name}` is gone")),
            }
        }
        for store in self.stores.keys().filter(|store| !was.stores.contains_key(*store)) {
            differences.added(format!("store `{store}` of subtopology `{name}` is new"));
        }
    }
}

impl StorePrint {
    fn compare(&self, was: &Self, whose: &str, differences: &mut Differences) {
        let mut differ = |what: &str, is: String, was: String| {
            if is != was {
                differences.changed(format!("{what} of {whose} was {was} and is now {is}"));
            }
        };
        differ("the kind", format!("`{}`", self.kind), format!("`{}`", was.kind));
        differ("the schema version", self.schema_version.to_string(), was.schema_version.to_string());
        if was.windows.iter().any(|window| !self.windows.contains(window)) {
            let mut parts = was.windows.iter().chain(&self.windows);
            let has_values = parts.any(|part| matches!(part, StorePart::Value { .. }));
            let what = if has_values { "the list of values and windows" } else { "the list of windows" };
            differ(what, list(&self.windows), list(&was.windows));
            return;
        }
        for part in self.windows.iter().filter(|part| !was.windows.contains(part)) {
            differences.added(format!("{} {part} of {whose} is new", part.what()));
        }
    }
}

fn list(windows: &[StorePart]) -> String {
    let shown: Vec<_> = windows.iter().map(StorePart::to_string).collect();
    if shown.is_empty() { "empty".into() } else { format!("[{}]", shown.join(", ")) }
}

#[derive(Default)]
struct Differences {
    added: Vec<String>,
    changed: Vec<String>,
}

impl Differences {
    fn added(&mut self, what: String) {
        self.added.push(what);
    }

    fn changed(&mut self, what: String) {
        self.changed.push(what);
    }

    fn finish(self) -> Difference {
        let accept = |what| format!("{what}: accept it with `--accept-added`; it starts empty");
        let revert = |what| format!("{what}: revert it, or start over with an empty log, database and state");
        match (self.changed.is_empty(), self.added.is_empty()) {
            (false, _) => Difference::Changed(self.changed.into_iter().map(revert).collect()),
            (true, false) => Difference::Added(self.added.into_iter().map(accept).collect()),
            (true, true) => Difference::Same,
        }
    }
}
