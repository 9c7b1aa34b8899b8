//! What every store held of the boards at moments at which nothing was on its way, held against the model of the log as
//! it was then.

use super::boards::{Board, Changes, Rules};
use super::{Differences, LogRecord, Model};
use std::collections::{BTreeMap, HashMap};

/// All boards of one store by name, as of a clock.
#[derive(Clone, Debug)]
pub struct Held {
    pub store: &'static str,
    pub clock_ms: i64,
    /// One that nobody has come onto yet may be missing.
    pub boards: BTreeMap<String, Board>,
}

impl Held {
    /// Whether no board can have aged between its clock and `until_ms`.
    pub fn is_settled(&self, until_ms: i64, rules: &[Rules]) -> bool {
        rules.iter().all(|rules| rules.tick(self.clock_ms) == rules.tick(until_ms))
    }
}

/// A moment of rest.
#[derive(Debug)]
pub struct Moment {
    /// Where `user-actions` ended, by partition.
    pub ends: Vec<u64>,
    /// By the clock of whoever looked; nothing was written before it that `ends` does not cover.
    pub at_ms: i64,
    /// From this clock on nothing that `ends` covers is held back.
    pub released_ms: i64,
    pub held: Vec<Held>,
}

/// Every board of every store at every moment. The moments are in their order.
pub fn compare_boards(model: &Model, moments: &[Moment], rules: &[Rules], differences: &mut Differences) {
    // Each change with the first moment that has it; one that comes after the last is of no interest.
    let first = |(partition, offset): (u32, u64)| {
        moments.iter().position(|moment| moment.ends.get(partition as usize).is_some_and(|end| offset < *end))
    };
    let mut by_moment: HashMap<usize, Vec<_>> = HashMap::new();
    for (place, change) in &model.board_changes {
        if let Some(moment) = first(*place) {
            by_moment.entry(moment).or_default().push(change);
        }
    }
    let mut changes = Changes::default();
    for (number, moment) in moments.iter().enumerate() {
        by_moment.remove(&number).unwrap_or_default().into_iter().for_each(|change| changes.add(change));
        for (held, rules) in moment.held.iter().flat_map(|held| rules.iter().map(move |rules| (held, rules))) {
            let right = changes.board(rules, held.clock_ms);
            let found = held.boards.get(&rules.board).cloned().unwrap_or_default();
            differences.compared(held.store, 1);
            differences.compared("places on boards", right.len());
            differences.compared("boards with somebody", usize::from(!right.is_empty()));
            if found != right {
                let place = (0..).find(|at| found.get(*at) != right.get(*at)).unwrap_or_default();
                let (found_there, right_there) = (found.get(place), right.get(place));
                differences.add(format!(
                    "{} of {} at moment {number}, as of {}: {} places and {} are right; place {}: {found_there:?} is there, \
                     {right_there:?} is right",
                    rules.board, held.store, held.clock_ms, found.len(), right.len(), place + 1,
                ));
            }
        }
    }
}

/// The boards as the topic has them, one record after the other.
#[derive(Default)]
pub struct TopicBoards {
    boards: BTreeMap<String, Board>,
    /// By board and version.
    written: HashMap<(String, i64), Board>,
    pub records: usize,
}

impl TopicBoards {
    /// Takes the next record. A mark speaks for everything before it: where it covers what a moment covers, and no tick
    /// lies between its clock and its time, the moment gets to know what the topic held then.
    pub fn take(&mut self, record: &LogRecord<'_>, moments: &mut [Moment], rules: &[Rules]) {
        let json: serde_json::Value = serde_json::from_slice(record.value).expect("JSON");
        if !record.key.starts_with(b"\0") {
            self.records += 1;
            let board = String::from_utf8(record.key.to_vec()).expect("the names of boards are UTF-8");
            let items = items(&json["items"]);
            let version = json["version"].as_i64().expect("a version");
            assert_ne!(self.boards.get(&board), Some(&items), "{board}: a record that says nothing new");
            self.written.insert((board.clone(), version), items.clone());
            self.boards.insert(board, items);
            return;
        }
        let number = |root: &serde_json::Value, field: &str| root[field].as_i64().expect("a number");
        let mut roots = json["roots"].as_array().expect("roots").clone();
        roots.sort_by_key(|root| number(root, "partition"));
        let ends: Vec<u64> = roots.iter().map(|root| number(root, "next_offset") as u64).collect();
        let clock_ms = roots.iter().map(|root| number(root, "clock_ms")).min().unwrap_or(i64::MIN);
        let held = Held { store: "topic", clock_ms, boards: self.boards.clone() };
        let known = |moment: &&mut Moment| {
            moment.ends == ends && record.append_time_ms <= moment.at_ms && clock_ms >= moment.released_ms
        };
        if clock_ms > i64::MIN
            && held.is_settled(record.append_time_ms, rules)
            && let Some(moment) = moments.iter_mut().find(known)
        {
            moment.held.retain(|held| held.store != "topic");
            moment.held.push(held);
        }
    }

    /// Everything that a store holds is a record that was written.
    pub fn compare_versions(
        &self,
        store: &'static str,
        stored: &BTreeMap<String, (i64, Board)>,
        differences: &mut Differences,
    ) {
        for (board, (version, items)) in stored {
            let written = self.written.get(&(board.clone(), *version));
            if written != Some(items) {
                differences.add(format!("{board} of {store}, version {version}: {items:?}; the topic has {written:?}"));
            }
        }
    }
}

/// The items of a board, as JSON.
pub fn items(json: &serde_json::Value) -> Board {
    let item = |item: &serde_json::Value| {
        let subject = item["subject_id"].as_str().expect("a subject").to_owned();
        (subject, item["score"].as_i64().expect("a whole score"))
    };
    json.as_array().expect("items").iter().map(item).collect()
}
