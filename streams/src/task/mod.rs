//! A task: one subtopology at work on one partition.
//!
//! Invariant: state, positions, hops and outputs move together. Whatever [`Task::process`] did since the last commit is
//! either all in the transaction that [`Task::prepare_commit`] completes, or undone by [`Task::rollback`].

mod checkpoint;
mod commit;
mod confirmed;
mod dispatch;
mod envelope;
mod held;
mod idle;
mod memory;
mod position;
mod rejections;
mod restore;
mod snapshot;
mod takeover;

pub use confirmed::ConfirmedTime;
pub use envelope::{Envelope, EnvelopeError, PART_BYTES_MAX, WIRE_VERSIONS};
pub use idle::ClockMove;
pub use memory::{MemoryShare, StateMemory};
pub use position::Position;
pub use rejections::{Kind, Rejections};
pub use restore::TaskSite;

use crate::log::{LogError, Now, Record, TopicPartition, TransactionalProducer};
use crate::processor::{Dataflow, Hop, Origin, OutputRecord, Processor, PunctuationType, Sent};
use crate::store::{StoreError, Stores};
use crate::topology::Subtopology;
use checkpoint::TaskCheckpoint;
use held::Held;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a task cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// An error of the log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An error of a store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record or a position that needs an operator.
    #[error("{address}: {reason}")]
    Halt {
        /// Topic, partition and offset.
        address: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// What a node did since the last query.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeCounts {
    /// Values processed.
    pub processed: u64,
    /// Values that it could not process.
    pub rejected: u64,
}

/// The context of all values that a record causes: the graph, and the origin.
struct Passage<'a, D: Dataflow> {
    subtopology: &'a Subtopology<D>,
    origin: &'a Origin,
    /// The record of the root topic; None where an internal record, or none, is the cause.
    source: Option<&'a Record<'a>>,
}

/// A value or a record on its way into a node.
enum Input<'a, V> {
    Value(&'a V),
    Record,
}

/// See the module.
pub struct Task<D: Dataflow> {
    name: String,
    partition: u32,
    owner: Arc<str>,
    generation: u16,
    wire_version: u8,
    subtopology: Arc<Subtopology<D>>,
    upstream_is_root: bool,
    root_partitions: u32,
    processors: Vec<Box<dyn Processor<D>>>,
    punctuators: Vec<Punctuator>,
    stores: Stores,
    hops: Vec<D::Hop>,
    moves: idle::Moves,
    confirmed: confirmed::Confirmed,
    /// An idle root task's clock stays this far behind the wall: records that are being appended get their append time
    /// meanwhile.
    idle_margin_ms: i64,
    /// Records whose append time was below the clock, since the last query.
    behind_clock: u64,
    checkpoint: TaskCheckpoint,
    snapshots: snapshot::Snapshots,

    position: Position,
    committed: Position,
    /// The number of the last commit.
    commit: u64,
    /// A record was processed, or a punctuator fired, since the last commit.
    moved: bool,
    /// What moved since progress was last sent to all destinations.
    progress_pending: ProgressPending,
    /// By the monotonic clock, like every `_at_ms` here.
    told_all_at_ms: i64,
    told_all: bool,
    wall_ms: i64,
    /// Which outputs have data in the open transaction.
    written: Vec<bool>,
    /// By output, the last record for the task's partition: at the commit it carries the task's progress.
    held: Vec<Held>,
    /// By output, whether its topic is compacted.
    compacted: Vec<bool>,
    /// Marks of older releases lie in its output topics: with the next commit their keys get tombstones.
    owes_tombstones: bool,
    /// The internal topic of progress, and how many marks were written to it since the task was opened.
    marks_topic: Arc<str>,
    marks: u64,
    /// Records of its changelog that were read when it was opened.
    restored_records: u64,
    /// It has committed, so its checkpoint is not the cause of crashes.
    proven: bool,

    counts: Vec<NodeCounts>,
    /// What each node passed on, by edge type: node * types + type.
    forwarded: Vec<u64>,
    rejections: Rejections,
    /// By node and window.
    late: BTreeMap<(Arc<str>, Arc<str>), u64>,
    /// By node.
    over_limit: BTreeMap<Arc<str>, u64>,
    pool: Vec<Vec<Sent<D::Value>>>,
    record: OutputRecord,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
enum ProgressPending {
    #[default]
    Nothing,
    Clock,
    Positions,
}

struct Punctuator {
    node: usize,
    kind: PunctuationType,
    interval_ms: i64,
}

impl<D: Dataflow> Task<D> {
    /// `<subtopology>/<partition>`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The partition it reads.
    pub fn source(&self) -> TopicPartition {
        TopicPartition::new(self.subtopology.source.clone(), self.partition)
    }

    /// Its position.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// How many marks it has written to the internal topic of progress since it was opened.
    pub fn marks(&self) -> u64 {
        self.marks
    }

    /// How many records of its changelog were read to bring it up to date.
    pub fn restored_records(&self) -> u64 {
        self.restored_records
    }

    /// Its subtopology.
    pub fn subtopology(&self) -> &Arc<Subtopology<D>> {
        &self.subtopology
    }

    /// Its stores, in the order of [`Subtopology::stores`].
    pub fn stores(&mut self) -> &mut Stores {
        &mut self.stores
    }

    /// The source is committed below this offset.
    pub fn committed_next(&self) -> u64 {
        self.committed.input_next
    }

    /// The batch ended here: between its last record and this offset there are no records to process.
    pub fn skip_to(&mut self, next_offset: u64) {
        self.position.input_next = self.position.input_next.max(next_offset);
        if self.subtopology.upstream.is_none()
            && let Some(own) = self.position.upstream.first_mut().and_then(|said| said.first_mut())
        {
            own.next_offset = self.position.input_next;
        }
    }

    /// How many entries each store has in memory.
    pub fn store_entries(&mut self) -> Vec<(String, usize)> {
        let names = self.subtopology.stores.iter().map(|store| store.name.clone());
        names.zip(self.stores.iter_mut().map(|store| store.len())).collect()
    }

    /// Records that its nodes rejected since the last call.
    pub fn take_rejections(&mut self) -> Rejections {
        std::mem::take(&mut self.rejections)
    }

    /// What each node did since the last call.
    pub fn take_counts(&mut self) -> impl Iterator<Item = (&Arc<str>, NodeCounts)> {
        self.subtopology.nodes.iter().map(|node| &node.name).zip(self.counts.iter_mut().map(std::mem::take))
    }

    /// What each node has passed on since the last call: its name, the edge type, how many values.
    pub fn take_forwarded(&mut self) -> impl Iterator<Item = (&Arc<str>, &'static str, u64)> {
        let of_node = self.forwarded.chunks_mut(D::EDGE_TYPES.len().max(1));
        self.subtopology.nodes.iter().zip(of_node).flat_map(|(node, counts)| {
            let counts = counts.iter_mut().map(std::mem::take);
            D::EDGE_TYPES.iter().zip(counts).map(|(value, count)| (&node.name, *value, count))
        })
    }

    /// How many records of commits came too late for the windows of its nodes since the last call: node, window, number.
    pub fn take_late(&mut self) -> impl Iterator<Item = (Arc<str>, Arc<str>, u64)> {
        std::mem::take(&mut self.late).into_iter().map(|((node, window), count)| (node, window, count))
    }

    /// How many records of commits counted for others since the last call, by node: see [`Processor::take_over_limit`].
    pub fn take_over_limit(&mut self) -> BTreeMap<Arc<str>, u64> {
        std::mem::take(&mut self.over_limit)
    }

    /// How many records had an append time below the clock since the last call: the clocks of brokers and processes are
    /// apart by more than the margin.
    pub fn take_behind_clock(&mut self) -> u64 {
        std::mem::take(&mut self.behind_clock)
    }

    /// Processes one record of its source.
    pub fn process(&mut self, record: &Record<'_>, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        match self.subtopology.upstream {
            None => self.process_outside(record, producer)?,
            Some(_) => self.process_hop(record, producer)?,
        }
        self.position.input_next = record.offset + 1;
        self.moved = true;
        self.progress_pending = ProgressPending::Positions;
        Ok(())
    }

    fn process_outside(
        &mut self,
        record: &Record<'_>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        self.repeat_moves(record.offset, producer)?;
        let append_time_ms = self.confirmed.append_time_ms(record.offset, record.append_time_ms);
        self.behind_clock += u64::from(append_time_ms < self.position.clock_ms);
        // A record older than the clock is taken at the clock: decisions never go back.
        let append_time_ms = append_time_ms.max(self.position.clock_ms);
        self.advance_clock(append_time_ms, producer)?;
        let request = record.headers.get(D::REQUEST_HEADER).and_then(|bytes| bytes.try_into().ok());
        let clock_ms = self.position.clock_ms;
        let (partition, offset, forgotten) = (self.partition, record.offset, self.confirmed.forgotten(record.offset));
        let origin = Origin { partition, offset, append_time_ms, clock_ms, request, forgotten };
        let subtopology = self.subtopology.clone();
        let passage = Passage { subtopology: &subtopology, origin: &origin, source: Some(record) };
        for entry in &subtopology.entries {
            self.dispatch(*entry, Input::Record, &passage, producer)?;
        }
        if let Some(own) = self.position.upstream.first_mut().and_then(|said| said.first_mut()) {
            own.next_offset = record.offset + 1;
        }
        Ok(())
    }

    fn process_hop(&mut self, record: &Record<'_>, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        let bytes = record.value.unwrap_or_default();
        let (envelope, body) = Envelope::decode(bytes).map_err(|e| self.halt(record.offset, e.to_string()))?;
        if envelope.generation != self.generation {
            let reason = format!(
                "written by generation {}, and this is generation {}: finish the replay, or start with a clean topic",
                envelope.generation, self.generation
            );
            return Err(self.halt(record.offset, reason));
        }
        let origin = Origin {
            partition: self.partition,
            offset: record.offset,
            append_time_ms: record.append_time_ms,
            clock_ms: self.position.clock_ms,
            ..Origin::default()
        };
        let subtopology = self.subtopology.clone();
        let passage = Passage { subtopology: &subtopology, origin: &origin, source: None };
        let mut sent = Ok(());
        let decoded = D::Hop::decode(body, &mut |value| {
            // One hop serves all its readers, and they need not take the same type.
            let route = &subtopology.entry_routes[D::edge_type(&value)];
            if sent.is_ok() {
                sent = self.enter(route, &value, &passage, producer);
            }
        });
        decoded.map_err(|e| self.halt(record.offset, e))?;
        sent?;
        if envelope.part + 1 == envelope.parts {
            match self.position.upstream.get_mut(envelope.task as usize) {
                Some(said) => *said = envelope.progress,
                None => {
                    let reason = format!("written by task {}, which this topology does not have", envelope.task);
                    return Err(self.halt(record.offset, reason));
                }
            }
            let clock_ms = self.position.clock_behind_hop(self.upstream_is_root, self.root_partitions);
            if i64::MIN < clock_ms && clock_ms < self.position.clock_ms {
                // The clock was set in an upstream task.
                self.position.clock_ms = clock_ms;
            }
            self.advance_clock(clock_ms, producer)?;
        }
        Ok(())
    }

    /// The source has been read to its end as of `now`: time passes without records.
    pub fn idle(&mut self, now: Now, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        let clock_ms = now.wall_ms.saturating_sub(self.idle_margin_ms);
        let before_ms = self.position.clock_ms;
        if self.subtopology.upstream.is_some() {
            return Ok(());
        }
        self.move_clock(clock_ms, producer)?;
        if self.position.clock_ms == before_ms {
            return Ok(());
        }
        if self.progress_pending == ProgressPending::Nothing {
            self.progress_pending = ProgressPending::Clock;
        }
        Ok(())
    }

    /// Wall time for punctuators that go by it.
    pub fn punctuate_wall(&mut self, now: Now, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        let before_ms = std::mem::replace(&mut self.wall_ms, now.wall_ms);
        self.punctuate(PunctuationType::WallClock, before_ms, now.wall_ms, producer)
    }

    /// Append time of a record that the task is to read; None behind a hop, where it decides nothing.
    pub fn time_of(&self, record: &Record<'_>) -> Option<i64> {
        let is_root = self.subtopology.upstream.is_none();
        is_root.then(|| self.confirmed.append_time_ms(record.offset, record.append_time_ms))
    }

    /// Sets the clock, also backwards. Nothing fires.
    fn set_clock(&mut self, clock_ms: i64) {
        if clock_ms < self.position.clock_ms {
            self.position.clock_ms = clock_ms;
            if let Some(own) = self.position.upstream.first_mut().and_then(|said| said.first_mut()) {
                own.clock_ms = clock_ms;
            }
        }
        self.moved = true;
        self.progress_pending = ProgressPending::Positions;
    }

    /// Moves the clock forward and fires what comes due.
    fn advance_clock(&mut self, clock_ms: i64, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        if clock_ms <= self.position.clock_ms {
            return Ok(());
        }
        let before_ms = std::mem::replace(&mut self.position.clock_ms, clock_ms);
        if self.subtopology.upstream.is_none()
            && let Some(own) = self.position.upstream.first_mut().and_then(|said| said.first_mut())
        {
            own.clock_ms = clock_ms;
        }
        self.punctuate(PunctuationType::Clock, before_ms, clock_ms, producer)
    }

    fn punctuate(
        &mut self,
        kind: PunctuationType,
        before_ms: i64,
        now_ms: i64,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        if before_ms == i64::MIN {
            return Ok(());
        }
        for index in 0..self.punctuators.len() {
            let Punctuator { node, kind: its_kind, interval_ms } = self.punctuators[index];
            let is_timer = its_kind == PunctuationType::Timer && kind == PunctuationType::Clock;
            let passed = its_kind == kind && before_ms.div_euclid(interval_ms) != now_ms.div_euclid(interval_ms);
            if is_timer || passed {
                let sent =
                    self.call(node, producer, |processor, context| processor.punctuate(context, its_kind, now_ms))?;
                self.moved |= passed || sent || self.stores.iter_mut().any(|store| store.has_changes());
            }
        }
        Ok(())
    }

    fn halt(&self, offset: u64, reason: String) -> TaskError {
        TaskError::Halt { address: format!("{}@{offset}", self.source()), reason }
    }
}
