//! Records on their way into a target, folded: the newest of each key wins.

use crate::fold::{Fold, Names};
use crate::row::{CounterRow, CountersRecord, ReactionRow, ReactionText, WindowRecord, WindowRow};
use crate::target::Standing;
use serde::Deserialize;
use tally_model::{DeadLetter, OutputType, Ranking, Roots, Verdict};
use tally_streams::log::{Record, TopicPartition};

/// What a target writes at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// Totals by subject.
    pub counters: Fold<CounterRow>,
    /// Windows by subject, metric, length and start.
    pub windows: Fold<WindowRow>,
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
    /// Names of metrics: they outlive the batch.
    names: Names,
}

/// A step of a position.
#[derive(Clone, Debug)]
pub struct Move {
    /// Partition of an output topic.
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

/// A record that could not be processed, and the position of its dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetterRow {
    /// The partition of the letter.
    pub place: TopicPartition,
    /// The offset of the letter there.
    pub place_offset: u64,
    /// The dead letter.
    pub letter: DeadLetter,
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
        let names = &mut self.names;
        Ok(match output {
            OutputType::Counters => {
                let record = CountersRecord::read(value, whole)?;
                let version = record.totals.version;
                self.counters.add(key, record, names);
                version
            }
            OutputType::CounterWindow => {
                let window = WindowRecord::read(value)?;
                let version = window.version;
                self.windows.add(key, window, names);
                version
            }
            OutputType::Reaction => {
                let reaction: ReactionText<'_> = read(value)?;
                let version = reaction.version;
                self.reactions.add(key, reaction, names);
                version
            }
            OutputType::Ranking => {
                let ranking: Ranking = read(value)?;
                let version = ranking.version;
                self.rankings.add(key, ranking, names);
                version
            }
            OutputType::Verdict => {
                let verdict: Verdict = read(value)?;
                let version = verdict.version;
                self.verdicts.push(verdict);
                version
            }
            OutputType::Raw => 0,
        })
    }

    /// Counts a record without a row for this target: it still fills the batch.
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

/// Reads a value without copies where it can.
fn read<'a, V: Deserialize<'a>>(value: &'a [u8]) -> Result<V, RecordError> {
    Ok(serde_json::from_slice(value)?)
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
