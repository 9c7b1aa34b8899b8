//! Records on their way into a target, folded: the newest of each key wins.

use crate::target::Standing;
use hashbrown::HashMap;
use tally_model::{CounterWindow, Counters, DeadLetter, OutputType, OutputValue, Ranking, Reaction, Roots, Verdict};
use tally_streams::log::{Record, TopicPartition};

/// What a target writes at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// Totals by subject.
    pub counters: Fold<CounterRow>,
    /// Windows by subject, metric, length and start.
    pub windows: Fold<CounterWindow>,
    /// Toggles by actor, metric and subject.
    pub reactions: Fold<ReactionRow>,
    /// Whole boards by name.
    pub rankings: Fold<Ranking>,
    /// Each has its own key.
    pub verdicts: Vec<Verdict>,
    /// Each has its own key.
    pub dead_letters: Vec<DeadLetterRow>,
    /// The positions after this batch, of the partitions where they move.
    pub positions: Vec<Move>,
    records: usize,
}

/// A step of a position.
#[derive(Clone, Debug)]
pub struct Move {
    /// Of an output topic.
    pub partition: TopicPartition,
    /// What is stored now; None where there is nothing. Nothing is written where this is not so.
    pub expected: Option<Standing>,
    /// The position after the batch.
    pub next_offset: u64,
    /// How far the input is contained after the batch.
    pub roots: Roots,
    /// The greatest version among what is contained after the batch.
    pub version: i64,
}

/// Rows of which a newer one replaces an older one of the same key.
#[derive(Debug)]
pub struct Fold<R> {
    rows: Vec<R>,
    index: HashMap<Box<[u8]>, usize, ahash::RandomState>,
}

/// The totals of a subject, and which of them to write.
#[derive(Clone, Debug, PartialEq)]
pub struct CounterRow {
    /// The newest totals; `changed` is the union of what the folded records name.
    pub counters: Counters,
    /// Write all totals: a record that named some of them may have been compacted away before it was read.
    pub whole: bool,
}

/// The newest state of a toggle, and when it was first seen.
#[derive(Clone, Debug, PartialEq)]
pub struct ReactionRow {
    /// The newest state.
    pub reaction: Reaction,
    /// The least append time among the folded records.
    pub created_at_ms: i64,
}

/// A record that could not be processed, and where its letter lies.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterRow {
    /// The partition of the letter.
    pub place: TopicPartition,
    /// The offset of the letter there.
    pub place_offset: u64,
    /// The letter.
    pub letter: DeadLetter,
}

/// A row that folds.
pub trait Newest {
    /// Takes in a row from `later` in the log. It wins unless its version is smaller.
    fn merge(&mut self, later: Self);
}

impl Newest for CounterRow {
    fn merge(&mut self, mut later: Self) {
        if later.counters.version >= self.counters.version {
            std::mem::swap(self, &mut later);
        }
        // The newest totals contain what the other record changed as well.
        let other = later;
        self.whole |= other.whole;
        for metric in other.counters.changed {
            if !self.counters.changed.contains(&metric) {
                self.counters.changed.push(metric);
            }
        }
    }
}

impl Newest for ReactionRow {
    fn merge(&mut self, mut later: Self) {
        if later.reaction.version >= self.reaction.version {
            std::mem::swap(self, &mut later);
        }
        self.created_at_ms = self.created_at_ms.min(later.created_at_ms);
    }
}

impl Newest for CounterWindow {
    fn merge(&mut self, later: Self) {
        if later.version >= self.version {
            *self = later;
        }
    }
}

impl Newest for Ranking {
    fn merge(&mut self, later: Self) {
        if later.version >= self.version {
            *self = later;
        }
    }
}

impl<R> Default for Fold<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), index: HashMap::default() }
    }
}

impl<R: Newest> Fold<R> {
    /// The rows, one a key, in order of first appearance.
    pub fn rows(&self) -> &[R] {
        &self.rows
    }

    fn add(&mut self, key: &[u8], row: R) {
        match self.index.get(key) {
            Some(&at) => self.rows[at].merge(row),
            None => {
                self.index.insert(key.into(), self.rows.len());
                self.rows.push(row);
            }
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.index.clear();
    }
}

impl Batch {
    /// Takes in a data record of an output topic; its version. A tombstone has no version for a guard to compare, so it is
    /// passed over; rows that are too old leave by [`crate::Target::expire`].
    pub fn add(
        &mut self,
        from: &TopicPartition,
        output: OutputType,
        record: &Record<'_>,
        whole: bool,
    ) -> Result<i64, RecordError> {
        self.records += 1;
        if output == OutputType::Raw {
            let Record { key, value, append_time_ms, .. } = *record;
            let letter = DeadLetter::read(|name| record.headers.get(name), (key, value), append_time_ms);
            self.dead_letters.push(DeadLetterRow { place: from.clone(), place_offset: record.offset, letter });
            return Ok(0);
        }
        let Some(value) = record.value else { return Ok(0) };
        let key = record.key.ok_or(RecordError::NoKey)?;
        match output {
            OutputType::Counters => read(value, |counters| self.counters.add(key, CounterRow { counters, whole })),
            OutputType::CounterWindow => read(value, |window| self.windows.add(key, window)),
            OutputType::Reaction => read(value, |reaction: Reaction| {
                let created_at_ms = reaction.appended_at_ms;
                self.reactions.add(key, ReactionRow { reaction, created_at_ms });
            }),
            OutputType::Ranking => read(value, |ranking| self.rankings.add(key, ranking)),
            OutputType::Verdict => read(value, |verdict| self.verdicts.push(verdict)),
            OutputType::Raw => Ok(0),
        }
    }

    /// Counts a record that has no row, or none that the target takes: it fills a batch all the same.
    pub fn add_mark(&mut self) {
        self.records += 1;
    }

    /// How many records were taken in.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Empties it; keeps its memory.
    pub fn clear(&mut self) {
        self.counters.clear();
        self.windows.clear();
        self.reactions.clear();
        self.rankings.clear();
        self.verdicts.clear();
        self.dead_letters.clear();
        self.positions.clear();
        self.records = 0;
    }
}

/// Reads a value and takes it in; its version.
fn read<V: OutputValue>(value: &[u8], take: impl FnOnce(V)) -> Result<i64, RecordError> {
    let value: V = serde_json::from_slice(value)?;
    let version = value.version();
    take(value);
    Ok(version)
}

/// Why a record of an output topic cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Rows are folded by key.
    #[error("it has no key")]
    NoKey,
    /// The value is not of the topic's type.
    #[error("{0}")]
    Value(#[from] serde_json::Error),
}
