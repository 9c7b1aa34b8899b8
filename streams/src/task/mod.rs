//! A task: one subtopology at work on one partition.
//!
//! Invariant: state, positions, hops and outputs move together. Whatever [`Task::process`] did since the last commit is
//! either all in the transaction that [`Task::prepare_commit`] completes, or undone by [`Task::rollback`].

mod envelope;
mod position;
mod restore;

pub use envelope::{Envelope, EnvelopeError, PART_BYTES_MAX, WIRE_VERSION};
pub use position::Position;
pub use restore::TaskSite;

use crate::log::partition_of;
use crate::log::{CommittedOffset, Header, LogError, ProducerRecord, Record, TopicPartition, TransactionalProducer};
use crate::processor::{Context, Dataflow, Hop, Origin, OutputRecord, Processor, PunctuationType, Reject, Sent};
use crate::store::{ChangelogWriter, Checkpoint, CheckpointMeta, StoreError, Stores};
use crate::topology::{OnError, Subtopology, Target};
use std::sync::Arc;

/// Progress goes to destinations without data within this time after positions moved.
const PROGRESS_MOVED_MS: i64 = 200;
/// Progress goes to all destinations at least this often.
const PROGRESS_ALWAYS_MS: i64 = 5_000;
/// An idle root task's clock stays this far behind the wall: records on their way get their append time meanwhile.
const IDLE_BEHIND_MS: i64 = 1_000;

/// Why a task cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The log says so.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A store does.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record or a position that nothing but a person can mend.
    #[error("{address}: {reason}")]
    Halt {
        /// Topic, partition and offset.
        address: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

/// What a node did since somebody last asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeCounts {
    /// Values taken.
    pub processed: u64,
    /// Values it could not take.
    pub rejected: u64,
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
    subtopology: Arc<Subtopology<D>>,
    upstream_is_root: bool,
    root_partitions: u32,
    processors: Vec<Box<dyn Processor<D>>>,
    punctuators: Vec<Punctuator>,
    stores: Stores,
    hops: Vec<D::Hop>,
    checkpoint: Option<Arc<Checkpoint>>,

    position: Position,
    committed: Position,
    /// The number of the last commit.
    commit: u64,
    /// Something was taken in, or a punctuator fired, since the last commit.
    moved: bool,
    /// Positions or clock moved since all destinations were told.
    untold: Untold,
    told_all_at_ms: i64,
    told_all: bool,
    wall_ms: i64,
    /// Which outputs have got data in the open transaction.
    written: Vec<bool>,
    /// Bytes of changelog since the last checkpoint, and when that was.
    changelog_bytes: usize,
    checkpointed_at_ms: i64,
    /// Its checkpoint is all in memory.
    hydrated: bool,
    /// It has committed since then: its checkpoint is not what kills it.
    proven: bool,

    counts: Vec<NodeCounts>,
    pool: Vec<Vec<Sent<D::Value>>>,
    record: OutputRecord,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
enum Untold {
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

    /// Where it stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The number of its last commit.
    pub fn commit_number(&self) -> u64 {
        self.commit
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

    /// The batch ended here: what lies between its last record and this offset is nothing for us.
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

    /// What each node did since the last call.
    pub fn take_counts(&mut self) -> impl Iterator<Item = (&Arc<str>, NodeCounts)> {
        self.subtopology.nodes.iter().map(|node| &node.name).zip(self.counts.iter_mut().map(std::mem::take))
    }

    /// Takes in one record of its source.
    pub fn process(&mut self, record: &Record<'_>, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        match self.subtopology.upstream {
            None => self.process_outside(record, producer)?,
            Some(_) => self.process_hop(record, producer)?,
        }
        self.position.input_next = record.offset + 1;
        self.moved = true;
        self.untold = Untold::Positions;
        Ok(())
    }

    fn process_outside(
        &mut self,
        record: &Record<'_>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        // A record older than the clock is taken at the clock: decisions never go back.
        let append_time_ms = record.append_time_ms.max(self.position.clock_ms);
        self.advance_clock(append_time_ms, producer)?;
        let request = record.headers.get("b").and_then(|bytes| bytes.try_into().ok());
        let origin = Origin { partition: self.partition, offset: record.offset, append_time_ms, request };
        let subtopology = self.subtopology.clone();
        for entry in &subtopology.entries {
            self.dispatch(*entry, Input::Record, &origin, Some(record), producer)?;
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
            request: None,
        };
        let mut values = Vec::new();
        D::Hop::decode(body, &mut |value| values.push(value)).map_err(|e| self.halt(record.offset, e))?;
        let subtopology = self.subtopology.clone();
        for value in &values {
            // One hop serves all its readers, and they need not take the same type.
            let edge_type = D::EDGE_TYPES[D::edge_type(value)];
            for entry in subtopology.entries.iter().filter(|entry| subtopology.nodes[**entry].input == edge_type) {
                self.dispatch(*entry, Input::Value(value), &origin, None, producer)?;
            }
        }
        if envelope.part + 1 == envelope.parts {
            match self.position.upstream.get_mut(envelope.task as usize) {
                Some(said) => *said = envelope.progress,
                None => {
                    let reason = format!("written by task {}, which this topology does not have", envelope.task);
                    return Err(self.halt(record.offset, reason));
                }
            }
            let clock_ms = self.position.clock_behind_hop(self.upstream_is_root, self.root_partitions);
            self.advance_clock(clock_ms, producer)?;
        }
        Ok(())
    }

    /// The source has been read to its end as of `now_ms`: time passes without records.
    pub fn idle(&mut self, now_ms: i64, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        if self.subtopology.upstream.is_some() || now_ms - IDLE_BEHIND_MS <= self.position.clock_ms {
            return Ok(());
        }
        self.advance_clock(now_ms - IDLE_BEHIND_MS, producer)?;
        self.untold = if self.untold == Untold::Nothing { Untold::Clock } else { self.untold };
        Ok(())
    }

    /// Wall time for punctuators that go by it.
    pub fn punctuate_wall(&mut self, now_ms: i64, producer: &mut dyn TransactionalProducer) -> Result<(), TaskError> {
        let before_ms = std::mem::replace(&mut self.wall_ms, now_ms);
        self.punctuate(PunctuationType::WallClock, before_ms, now_ms, producer)
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
            if its_kind == kind && before_ms.div_euclid(interval_ms) != now_ms.div_euclid(interval_ms) {
                self.moved = true;
                self.call(node, producer, |processor, context| processor.punctuate(context, kind, now_ms))?;
            }
        }
        Ok(())
    }

    /// Lets a node forward something outside of a record.
    fn call(
        &mut self,
        node: usize,
        producer: &mut dyn TransactionalProducer,
        f: impl FnOnce(&mut Box<dyn Processor<D>>, &mut Context<'_, D>),
    ) -> Result<(), TaskError> {
        let mut sent = self.pool.pop().unwrap_or_default();
        let version = self.next_version();
        let origin = Origin { partition: self.partition, append_time_ms: self.position.clock_ms, ..Origin::default() };
        let mut context = Context {
            origin,
            clock_ms: self.position.clock_ms,
            partitions: self.subtopology.partitions,
            version,
            stores: &mut self.stores,
            sent: &mut sent,
        };
        f(&mut self.processors[node], &mut context);
        for sent in sent.drain(..) {
            if let Sent::Value(value) = sent {
                self.route(node, &value, &origin, None, producer)?;
            }
        }
        self.pool.push(sent);
        Ok(())
    }

    /// Runs a node and everything downstream of it, depth first.
    fn dispatch(
        &mut self,
        node: usize,
        input: Input<'_, D::Value>,
        origin: &Origin,
        source: Option<&Record<'_>>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let mut sent = self.pool.pop().unwrap_or_default();
        let version = self.next_version();
        let mut context = Context {
            origin: *origin,
            clock_ms: self.position.clock_ms,
            partitions: self.subtopology.partitions,
            version,
            stores: &mut self.stores,
            sent: &mut sent,
        };
        self.counts[node].processed += 1;
        let processor = &mut self.processors[node];
        let outcome = match (&input, source) {
            (Input::Value(value), _) => processor.process(&mut context, value),
            (Input::Record, Some(record)) => processor.process_record(&mut context, record),
            (Input::Record, None) => Ok(()),
        };
        match outcome {
            Ok(()) => {
                for sent in sent.drain(..) {
                    match (&sent, &input) {
                        (Sent::Value(value), _) => self.route(node, value, origin, source, producer)?,
                        (Sent::Input, Input::Value(value)) => self.route(node, value, origin, source, producer)?,
                        (Sent::Input, Input::Record) => {}
                    }
                }
            }
            Err(reject) => {
                sent.clear();
                self.reject(node, reject, origin, source, producer)?;
            }
        }
        self.pool.push(sent);
        Ok(())
    }

    fn route(
        &mut self,
        node: usize,
        value: &D::Value,
        origin: &Origin,
        source: Option<&Record<'_>>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let subtopology = self.subtopology.clone();
        let targets = subtopology.nodes[node].routes.get(D::edge_type(value)).map_or(&[][..], Vec::as_slice);
        for target in targets {
            match target {
                Target::Node(next) => {
                    self.dispatch(*next, Input::Value(value), origin, source, producer)?;
                }
                Target::Hop(hop) => self.hops[*hop].add(value),
                Target::Output(output) => {
                    self.record.clear();
                    D::write(value, &mut self.record);
                    self.send_output(*output, &[], producer)?;
                    self.written[*output] = true;
                }
            }
        }
        Ok(())
    }

    /// generation << 48 | the number that the open transaction will commit under.
    fn next_version(&self) -> i64 {
        (i64::from(self.generation) << 48) | (self.commit + 1) as i64
    }

    fn send_output(
        &mut self,
        output: usize,
        headers: &[Header<'_>],
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let output = &self.subtopology.outputs[output];
        let partition = if output.co_partitioned {
            self.partition
        } else if self.record.partition_key.is_empty() {
            partition_of(&self.record.key, output.partitions)
        } else {
            partition_of(&self.record.partition_key, output.partitions)
        };
        Ok(producer.send(ProducerRecord {
            topic: &output.topic,
            partition,
            key: Some(&self.record.key),
            value: Some(&self.record.value),
            headers,
        })?)
    }

    /// A node cannot take a value: its policy decides.
    fn reject(
        &mut self,
        node: usize,
        reject: Reject<D::Value>,
        origin: &Origin,
        source: Option<&Record<'_>>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        self.counts[node].rejected += 1;
        let subtopology = self.subtopology.clone();
        let (name, policy) = (&subtopology.nodes[node].name, subtopology.nodes[node].on_error);
        let halt = |reason| Err(TaskError::Halt { address: format!("{}@{}", self.source(), origin.offset), reason });
        // What another task wrote is never put aside: it would be missing from the counts without a trace.
        let Some(record) = source else {
            return halt(format!("node `{name}` cannot take an internal record: {}", reject.reason));
        };
        if policy == OnError::Halt {
            return halt(format!("node `{name}` (on_error: halt): {}", reject.reason));
        }
        if let (OnError::DeadLetter, Some(output)) = (policy, subtopology.dead_letters) {
            self.record.clear();
            self.record.key.extend_from_slice(record.key.unwrap_or_default());
            self.record.value.extend_from_slice(record.value.unwrap_or_default());
            let (partition, offset) = (origin.partition.to_string(), origin.offset.to_string());
            let mut headers: Vec<Header<'_>> = vec![
                ("reason", reject.reason.as_bytes()),
                ("node", name.as_bytes()),
                ("topic", subtopology.source.as_bytes()),
                ("partition", partition.as_bytes()),
                ("offset", offset.as_bytes()),
            ];
            headers.extend(record.headers.iter());
            self.send_output(output, &headers, producer)?;
            self.written[output] = true;
        }
        match reject.verdict {
            Some(verdict) => self.route(node, &verdict, origin, source, producer),
            None => Ok(()),
        }
    }

    fn halt(&self, offset: u64, reason: String) -> TaskError {
        TaskError::Halt { address: format!("{}@{offset}", self.source()), reason }
    }

    /// Whether there is something to commit.
    pub fn wants_commit(&self, now_ms: i64) -> bool {
        self.moved || self.owes_progress(now_ms)
    }

    fn owes_progress(&self, now_ms: i64) -> bool {
        let since_ms = now_ms - self.told_all_at_ms;
        match self.untold {
            Untold::Nothing => false,
            Untold::Positions => since_ms >= PROGRESS_MOVED_MS,
            Untold::Clock => since_ms >= PROGRESS_ALWAYS_MS,
        }
    }

    /// Roughly how much memory the open transaction holds, in bytes.
    pub fn open_bytes(&self) -> usize {
        self.hops.iter().map(Hop::size_bytes).sum()
    }

    /// Writes everything that the open transaction still owes: what nodes held back, hops, progress, changelog.
    /// Returns the offset to commit with it.
    pub fn prepare_commit(
        &mut self,
        now_ms: i64,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(TopicPartition, CommittedOffset), TaskError> {
        for node in 0..self.processors.len() {
            self.call(node, producer, |processor, context| processor.flush(context))?;
        }
        if let Some(fault) = self.stores.iter_mut().find_map(|store| store.take_fault()) {
            return Err(fault.into());
        }
        self.told_all = self.owes_progress(now_ms);
        let own = self.subtopology.upstream.is_none();
        let progress = self.position.progress(own || self.upstream_is_root, self.root_partitions);
        let envelope = Envelope {
            generation: self.generation,
            task: self.partition,
            owner: &self.owner.clone(),
            commit: self.commit + 1,
            part: 0,
            parts: 1,
            input_next: self.position.input_next,
            progress: progress.clone(),
            upstream: Vec::new(),
        };
        self.send_hops(&envelope, producer)?;
        self.send_progress(&progress, producer)?;
        self.send_changelog(envelope, producer)?;
        let metadata = self.owner.to_string();
        Ok((self.source(), CommittedOffset { offset: self.position.input_next, metadata }))
    }

    fn send_hops(
        &mut self,
        envelope: &Envelope<'_>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let subtopology = self.subtopology.clone();
        for (hop, repartition) in self.hops.iter_mut().zip(&subtopology.hops) {
            let mut bodies: Vec<Vec<Vec<u8>>> = vec![Vec::new(); repartition.partitions as usize];
            hop.drain(repartition.partitions, PART_BYTES_MAX, &mut |partition, body| {
                if let Some(bodies) = bodies.get_mut(partition as usize) {
                    bodies.push(body);
                }
            });
            for (partition, mut bodies) in (0..).zip(bodies) {
                if bodies.is_empty() && self.told_all {
                    bodies.push(Vec::new());
                }
                send_parts(&repartition.topic, partition, envelope, &bodies, &mut self.bytes, producer)?;
            }
        }
        Ok(())
    }

    fn send_progress(
        &mut self,
        progress: &[crate::processor::RootProgress],
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        for output in 0..self.written.len() {
            let written = std::mem::take(&mut self.written[output]);
            if self.subtopology.outputs[output].co_partitioned && (written || self.told_all) {
                self.record.clear();
                D::write_progress(&self.name, self.generation, progress, self.next_version(), &mut self.record);
                self.send_output(output, &[], producer)?;
            }
        }
        Ok(())
    }

    fn send_changelog(
        &mut self,
        mut envelope: Envelope<'_>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let mut writer = ChangelogWriter::new(PART_BYTES_MAX);
        self.stores.iter_mut().filter(|store| store.has_changes()).for_each(|store| store.write_changes(&mut writer));
        let mut bodies = writer.finish();
        self.changelog_bytes += bodies.iter().map(Vec::len).sum::<usize>();
        if bodies.is_empty() {
            // The changelog is authoritative for positions, so it hears of them even where no store changed.
            bodies.push(Vec::new());
        }
        envelope.upstream = self.position.upstream.clone();
        send_parts(&self.subtopology.changelog, self.partition, &envelope, &bodies, &mut self.bytes, producer)
    }

    /// The log has committed the transaction.
    pub fn committed(&mut self, now_ms: i64) {
        self.stores.iter_mut().for_each(|store| store.commit());
        self.committed = self.position.clone();
        self.commit += 1;
        self.moved = false;
        if self.told_all {
            self.untold = Untold::Nothing;
            self.told_all_at_ms = now_ms;
        }
        // A damaged entry shows at the latest when it is loaded.
        if !self.proven && self.hydrated {
            self.proven = true;
            if let Some(checkpoint) = &self.checkpoint {
                checkpoint.proven();
            }
        }
    }

    /// The log has aborted the transaction: everything is as after the last commit.
    pub fn rollback(&mut self) {
        self.stores.iter_mut().for_each(|store| store.rollback());
        self.hops.iter_mut().for_each(Hop::clear);
        self.processors.iter_mut().for_each(|processor| processor.discard());
        self.written.fill(false);
        self.position = self.committed.clone();
        self.moved = false;
    }

    /// Whether a checkpoint is worth its cost: 8 MiB of changelog, or 10 s with any.
    pub fn wants_checkpoint(&self, now_ms: i64, bytes_max: usize, age_ms_max: i64) -> bool {
        self.checkpoint.is_some()
            && (self.changelog_bytes >= bytes_max
                || (self.changelog_bytes > 0 && now_ms - self.checkpointed_at_ms >= age_ms_max))
    }

    /// Writes a checkpoint. There is no open transaction, and the changelog is contained below `changelog_next`.
    pub fn write_checkpoint(&mut self, now_ms: i64, changelog_next: u64) -> Result<(), TaskError> {
        let Some(checkpoint) = self.checkpoint.clone() else { return Ok(()) };
        let meta = CheckpointMeta {
            generation: self.generation,
            changelog_next,
            input_next: self.committed.input_next,
            commit: self.commit,
            upstream: self.committed.upstream.clone(),
        };
        checkpoint.write(&meta, |out| self.stores.iter_mut().try_for_each(|store| store.checkpoint(out)))?;
        self.changelog_bytes = 0;
        self.checkpointed_at_ms = now_ms;
        Ok(())
    }

    /// Makes the checkpoint survive a crash of the operating system: the last thing before a task is dropped.
    pub fn close(&mut self) -> Result<(), TaskError> {
        match &self.checkpoint {
            Some(checkpoint) => Ok(checkpoint.close()?),
            None => Ok(()),
        }
    }

    /// Loads part of the checkpoint into memory; false when all is there.
    pub fn hydrate(&mut self, entries_max: usize) -> Result<bool, TaskError> {
        for store in self.stores.iter_mut() {
            if store.hydrate(entries_max)? {
                return Ok(true);
            }
        }
        self.hydrated = true;
        Ok(false)
    }
}

/// Writes the bodies of a commit for one partition, each in its envelope.
fn send_parts(
    topic: &str,
    partition: u32,
    envelope: &Envelope<'_>,
    bodies: &[Vec<u8>],
    bytes: &mut Vec<u8>,
    producer: &mut dyn TransactionalProducer,
) -> Result<(), TaskError> {
    let parts = bodies.len() as u32;
    for (part, body) in (0..).zip(bodies) {
        let last = part + 1 == parts;
        let mut header = Envelope { part, parts, ..envelope.clone() };
        if !last {
            // Positions count from the last part only.
            (header.progress, header.upstream) = (Vec::new(), Vec::new());
        }
        bytes.clear();
        header.encode(body, bytes);
        producer.send(ProducerRecord { topic, partition, key: None, value: Some(bytes), headers: &[] })?;
    }
    Ok(())
}
