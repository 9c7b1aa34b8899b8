//! The writer: the one state machine that changes a log. Embedded and memory share it.
//!
//! All waiting requests become one commit to the storage: the records of each partition are joined, offsets and append
//! times assigned, everything stored, then published. I/O happens only through [`Storage`](super::storage::Storage),
//! and time comes only from the injected clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use super::batch::Batches;
use super::keys;
use super::partition::PartitionState;
use super::registry::Registry;
use super::request::{Answer, Append, Holder, Reply, Request, Transaction};
use super::storage::{Op, PartitionId, Storage};
use super::upkeep::{Upkeep, UpkeepOptions};
use super::view::View;
use crate::log::{AppendedOffsets, Clock, CommittedOffset, LogError, TopicSpec, WallClock};

/// The most batches that one commit removes. Fewer if there is no room even for the list of freed pages.
pub(super) const SLICE_BATCHES: usize = 4096;

/// Owned by the committing thread. See the module's text.
pub(super) struct Writer {
    pub(super) view: Arc<View>,
    pub(super) clock: Clock,
    pub(super) partitions: Vec<PartitionState>,
    /// See [`SLICE_BATCHES`].
    pub(super) slice_batches: usize,
    pub(super) upkeep: Upkeep,
    /// No record to come is older, ms since 1970: one time for the whole log, so that no partition is behind what a task
    /// has done as of the time of another.
    pub(super) time_ms: i64,
    /// Determines the append times if set; while it is in doubt, appends outside transactions are rejected.
    wall: Option<Arc<WallClock>>,
    holders: HashMap<String, Weak<Holder>>,
}

impl Writer {
    /// Recovers the state from the storage.
    pub fn open(storage: Box<dyn Storage>, clock: Clock) -> Result<Self, LogError> {
        let registry = match storage.get(keys::TOPICS)? {
            Some(value) => {
                let registry = Registry::decode(&value)?;
                if Registry::is_old(&value) {
                    // Before the first block is written.
                    storage.commit(&[Op::Put { key: keys::TOPICS.to_vec(), value: registry.encode()? }])?;
                }
                registry
            }
            None => Registry::default(),
        };
        let mut partitions = Vec::new();
        for topic in registry.topics() {
            for id in topic.first..topic.first + topic.partitions {
                partitions.push((id, PartitionState::recover(&*storage, id, topic)?));
            }
        }
        partitions.sort_unstable_by_key(|(id, _)| *id);
        let partitions: Vec<_> = partitions.into_iter().map(|(_, state)| state).collect();
        let bounds = partitions.iter().map(PartitionState::bounds).collect();
        let view = View::new(storage, registry, bounds);
        Ok(Self::with(view, partitions, clock))
    }

    /// Begins a log in a storage that is empty.
    pub fn new(storage: Box<dyn Storage>, clock: Clock) -> Self {
        Self::with(View::new(storage, Registry::default(), Vec::new()), Vec::new(), clock)
    }

    fn with(view: View, partitions: Vec<PartitionState>, clock: Clock) -> Self {
        let time_ms = partitions.iter().map(|state| state.time_ms).max().unwrap_or(i64::MIN);
        let (view, holders) = (view.into(), HashMap::new());
        let (slice_batches, upkeep) = (SLICE_BATCHES, Upkeep::default());
        Self { view, clock, partitions, slice_batches, upkeep, time_ms, wall: None, holders }
    }

    /// From now on merging and compaction follow these options.
    pub fn kept_by(mut self, options: UpkeepOptions) -> Self {
        self.upkeep.options = options;
        self
    }

    /// From now on this is the time.
    pub fn judged_by(mut self, wall: Option<Arc<WallClock>>) -> Self {
        wall.iter().for_each(|wall| wall.has_appended(self.time_ms));
        self.wall = wall;
        self
    }

    /// What readers see.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Executes requests in order, in as few commits as possible. The answers must be delivered afterwards.
    #[must_use]
    pub fn run(&mut self, requests: Vec<Request>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut round = Round::default();
        for request in requests {
            match request {
                Request::Append(append) => self.stage_append(&mut round, append),
                Request::Transaction(transaction) => self.stage_transaction(&mut round, transaction),
                Request::TakeOver(id, reply) => {
                    let holder = self.take_over(id);
                    // Answered after the round: what the former holder had staged is durable by then.
                    round.waiting.push(Waiting::Holder(reply, holder));
                }
                Request::Ensure(specs, reply) => {
                    self.finish(&mut round, &mut answers);
                    let done = self.ensure(&specs);
                    answers.push(Answer::Done(reply, done));
                }
                Request::Delete(at, before, reply) => {
                    self.finish(&mut round, &mut answers);
                    let id = self.view.registry().id(&at);
                    let done = id.and_then(|id| self.delete_records(id, before));
                    answers.push(Answer::Done(reply, done));
                }
            }
        }
        self.finish(&mut round, &mut answers);
        answers
    }

    fn stage_append(&self, round: &mut Round, append: Append) {
        if let Some(doubt) = self.wall.as_ref().and_then(|wall| wall.read().doubt) {
            round.waiting.push(Waiting::Doubted(append.reply, LogError::Unavailable(doubt.to_string())));
            return;
        }
        let mut offsets = AppendedOffsets::with_capacity(append.writes.len());
        for (partition, batches) in append.writes {
            let id = append.topic.first + partition;
            let next = round.add(id, batches, &self.partitions[id as usize]);
            offsets.push((partition, next.saturating_sub(1)));
        }
        round.waiting.push(Waiting::Append(append.reply, offsets));
    }

    fn stage_transaction(&self, round: &mut Round, transaction: Transaction) {
        let Transaction { holder, writes, offsets, memberships, reply } = transaction;
        let groups = self.view.groups();
        let allowed = holder.check().and_then(|()| memberships.iter().try_for_each(|m| groups.check(m)));
        drop(groups);
        if let Err(error) = allowed {
            round.waiting.push(Waiting::Refused(reply, error));
            return;
        }
        for (id, batches) in writes {
            round.add(id, batches, &self.partitions[id as usize]);
        }
        round.offsets.extend(offsets);
        round.waiting.push(Waiting::Transaction(reply));
    }

    fn take_over(&mut self, id: String) -> Arc<Holder> {
        let holder = Arc::new(Holder::new(id.clone()));
        if let Some(former) = self.holders.insert(id, Arc::downgrade(&holder)).and_then(|weak| weak.upgrade()) {
            former.fence();
        }
        self.holders.retain(|_, holder| holder.strong_count() > 0);
        holder
    }

    /// Commits the staged operations, publishes them, and answers the requests.
    fn finish(&mut self, round: &mut Round, answers: &mut Vec<Answer>) {
        let Round { writes, offsets, waiting } = std::mem::take(round);
        let outcome = if writes.is_empty() && offsets.is_empty() { Ok(()) } else { self.commit(writes, offsets) };
        answers.extend(waiting.into_iter().map(|waiting| waiting.answer(&outcome)));
    }

    fn commit(&mut self, writes: Writes, offsets: Vec<(Vec<u8>, CommittedOffset)>) -> Result<(), LogError> {
        let time_ms = match &self.wall {
            Some(wall) => wall.stamp(),
            None => self.time_ms.max((self.clock)()),
        };
        let mut staged = Vec::with_capacity(writes.len());
        for (id, mut batches) in writes {
            let state = &self.partitions[id as usize];
            let mut next = state.next;
            for batch in batches.iter_mut() {
                batch.seal(next, time_ms);
                next += u64::from(batch.count());
            }
            staged.push((id, batches, next));
        }
        let mut ops = Vec::with_capacity(staged.len() + offsets.len());
        for (id, batches, _) in &staged {
            let mut base = self.partitions[*id as usize].next;
            for batch in batches.iter() {
                ops.push(Op::Append { partition: *id, base, value: batch.as_bytes() });
                base += u64::from(batch.count());
            }
        }
        self.load_offsets(&offsets)?;
        ops.extend(
            offsets
                .iter()
                .map(|(key, committed)| Op::Put { key: key.clone(), value: keys::encode_offset(key, committed) }),
        );
        self.view.storage.commit(&ops)?;

        if !staged.is_empty() {
            self.time_ms = time_ms;
        }
        let mut published = self.view.published_mut();
        for (id, batches, next) in &staged {
            let state = &mut self.partitions[*id as usize];
            state.recent_bytes += batches.iter().map(|batch| batch.len_bytes() as u64).sum::<u64>();
            (state.next, state.time_ms) = (*next, time_ms);
            published.set_bounds(*id, state.bounds());
        }
        for (key, committed) in offsets {
            published.set_offset(key, committed);
        }
        drop(published);
        self.view.changes().raise();
        Ok(())
    }

    fn load_offsets(&self, offsets: &[(Vec<u8>, CommittedOffset)]) -> Result<(), LogError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut published = self.view.published_mut();
        offsets.iter().try_for_each(|(key, _)| published.load_offset(&*self.view.storage, key))
    }

    fn ensure(&mut self, specs: &[TopicSpec]) -> Result<(), LogError> {
        let old = self.view.registry();
        let new = old.with(specs)?;
        if new == *old {
            return Ok(());
        }
        let mut ops: Vec<_> = (old.partitions()..new.partitions()).map(Op::Create).collect();
        ops.push(Op::Put { key: keys::TOPICS.to_vec(), value: new.encode()? });
        self.view.storage.commit(&ops)?;

        self.partitions.resize_with(new.partitions() as usize, PartitionState::default);
        for topic in new.topics() {
            for id in topic.first..topic.first + topic.partitions {
                self.partitions[id as usize].follow(topic);
            }
        }
        let mut published = self.view.published_mut();
        published.grow(new.partitions());
        published.registry = new.into();
        drop(published);
        self.view.changes().raise();
        Ok(())
    }
}

/// What the next commit will hold.
#[derive(Default)]
struct Round {
    writes: Writes,
    offsets: Vec<(Vec<u8>, CommittedOffset)>,
    waiting: Vec<Waiting>,
}

type Writes = BTreeMap<PartitionId, Batches>;

impl Round {
    /// Adds records to a partition and returns the offset after them.
    fn add(&mut self, id: PartitionId, batches: Batches, state: &PartitionState) -> u64 {
        let staged = self.writes.entry(id).or_default();
        staged.append(batches);
        state.next + staged.count()
    }
}

/// Who gets the outcome of the commit.
enum Waiting {
    Append(Reply<AppendedOffsets>, AppendedOffsets),
    Transaction(Reply<()>),
    /// Decided before the commit, and answered in its turn.
    Refused(Reply<()>, LogError),
    Holder(Reply<Arc<Holder>>, Arc<Holder>),
    /// The wall clock is in doubt.
    Doubted(Reply<AppendedOffsets>, LogError),
}

impl Waiting {
    fn answer(self, outcome: &Result<(), LogError>) -> Answer {
        match self {
            Self::Append(reply, offsets) => Answer::Appended(reply, outcome.clone().map(|()| offsets)),
            Self::Transaction(reply) => Answer::Done(reply, outcome.clone()),
            Self::Refused(reply, error) => Answer::Done(reply, Err(error)),
            Self::Holder(reply, holder) => Answer::Held(reply, holder),
            Self::Doubted(reply, error) => Answer::Appended(reply, Err(error)),
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
