//! What every store held of the boards at moments at which nothing was on its way, held against the model of the log as
//! it was then.

use super::{Differences, LogRecord, Model};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tally_testkit::boards::{Board, Changes, Rules};
use tally_testkit::now_ms;

/// Compaction removes nothing younger.
const COMPACTION_MARGIN_MS: i64 = 180_000;

/// All boards of one store by name, as of a clock.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its name, for people.
    pub store: &'static str,
    /// In milliseconds since 1970.
    pub clock_ms: i64,
    /// An empty one may be missing.
    pub boards: BTreeMap<String, Board>,
    /// Those that cannot be known any more: compaction has removed the record that was the newest then.
    compacted: BTreeSet<String>,
}

impl Held {
    /// Boards that are all known.
    pub fn new(store: &'static str, clock_ms: i64, boards: BTreeMap<String, Board>) -> Self {
        Self { store, clock_ms, boards, compacted: BTreeSet::new() }
    }

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
    /// By the clock of the reader; nothing was written before it that `ends` does not cover.
    pub at_ms: i64,
    /// From this clock on nothing that `ends` covers is held back.
    pub released_ms: i64,
    /// What each store held.
    pub held: Vec<Held>,
}

/// Every board of every store at every moment. The moments are in their order.
pub fn compare_boards(model: &Model, moments: &[Moment], rules: &[Rules], differences: &mut Differences) {
    // Each change with the first moment that contains it; changes after the last moment are ignored.
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
            if held.compacted.contains(&rules.board) {
                continue;
            }
            let right = changes.board(rules, held.clock_ms);
            let found = held.boards.get(&rules.board).cloned().unwrap_or_default();
            differences.compared(held.store, 1);
            differences.compared("places on boards", right.len());
            differences.compared("boards with subjects", usize::from(!right.is_empty()));
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
    /// How many records were taken.
    pub records: usize,
    /// How many moments lie before the next record.
    passed: usize,
}

impl TopicBoards {
    /// Takes the next record. Where a moment lies between it and those before, the moment gets to know what the topic held
    /// then: nothing was on its way, so that is as of the clock of the stores, which contain it.
    pub fn take(&mut self, record: &LogRecord<'_>, moments: &mut [Moment]) {
        if record.key.starts_with(b"\0") {
            return;
        }
        self.pass(record.append_time_ms, moments);
        self.records += 1;
        let json: serde_json::Value = serde_json::from_slice(record.value).expect("JSON");
        let board = String::from_utf8(record.key.to_vec()).expect("the names of boards are UTF-8");
        let items = items(&json["items"]);
        let version = json["version"].as_i64().expect("a version");
        assert_ne!(self.boards.get(&board), Some(&items), "{board}: a record without a change");
        self.written.insert((board.clone(), version), items.clone());
        self.boards.insert(board, items);
    }

    /// There are no more records. Of a board whose first record came after a moment, compaction may have removed the
    /// records from before the moment; then it has removed all of them, and the newer one was old enough itself.
    pub fn finish(&mut self, moments: &mut [Moment]) {
        self.pass(i64::MAX, moments);
        let compacted_ms = now_ms() - COMPACTION_MARGIN_MS;
        for moment in moments.iter_mut().filter(|moment| moment.at_ms < compacted_ms) {
            if let Some(topic) = moment.held.last_mut() {
                let boards = self.boards.keys().filter(|board| !topic.boards.contains_key(*board));
                topic.compacted = boards.cloned().collect();
            }
        }
    }

    fn pass(&mut self, until_ms: i64, moments: &mut [Moment]) {
        while let Some(moment) = moments.get_mut(self.passed).filter(|moment| moment.at_ms < until_ms) {
            self.passed += 1;
            let clock_ms = moment.held.iter().map(|held| held.clock_ms).min().expect("a store was looked at");
            moment.held.push(Held::new("topic", clock_ms, self.boards.clone()));
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
pub(crate) fn items(json: &serde_json::Value) -> Board {
    let item = |item: &serde_json::Value| {
        let subject = item["subject_id"].as_str().expect("a subject").to_owned();
        (subject, item["score"].as_i64().expect("a whole score"))
    };
    json.as_array().expect("items").iter().map(item).collect()
}
