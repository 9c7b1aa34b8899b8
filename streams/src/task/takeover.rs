//! Takeover of tasks by a thread: former owners are fenced, their open transactions are waited for, and the changelogs
//! of all tasks are read together.
//!
//! The order of the steps, and why they are sufficient:
//! 1. The group has given the partitions to this member, so from now on no commit of a former member is accepted: its
//!    offsets would be of an older generation of the group.
//! 2. A commit whose offsets were accepted before that has all its records in their partitions already, since offsets
//!    are sent after every record was acknowledged. So every record that may still be committed lies below the current
//!    written end of the changelog.
//! 3. A dead owner's open transaction would delay that until it times out, without any error. So every former owner is
//!    fenced, which ends its transaction: those named by the committed offset, unless the task was given back, and
//!    those named by records whose transaction has no outcome.
//! 4. Once readers of committed records reach that written end, the outcome of every transaction is decided. The
//!    changelog is read until there, and its last positions are the task's; the group's offset must not be beyond them.

use super::envelope::Envelope;
use super::memory::MemoryShare;
use super::restore::{ABORTED_BY_HAND, TaskSite};
use super::{Task, TaskError, idle};
use crate::log::{Consumer, Log, LogError, Now, Polled, TopicPartition};
use crate::processor::Dataflow;
use crate::store::StoreError;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest wait for transactions of former owners, and for a changelog without progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between queries for undecided transactions.
const SETTLE_STEP: Duration = Duration::from_millis(2);

/// A task that is being taken over.
struct Arrival<D: Dataflow> {
    task: Task<D>,
    changelog: TopicPartition,
    /// The checkpoint's place in the changelog; None without a checkpoint.
    checkpoint_next: Option<u64>,
    start: u64,
    end: u64,
    next: u64,
    /// The last record that was replayed is the last part of its commit.
    is_between_commits: bool,
}

/// Why an arrival cannot be completed.
enum Doubt {
    /// The checkpoint does not fit the log: the task may open without it.
    Checkpoint(String),
    /// The changelog was shortened while it was read: by a former owner, whose snapshot had been complete. It starts here.
    Shortened(u64),
    Task(TaskError),
}

impl<E: Into<TaskError>> From<E> for Doubt {
    fn from(error: E) -> Self {
        Self::Task(error.into())
    }
}

impl<D: Dataflow> Task<D> {
    /// Tasks as they were at their last commits: one for each `(index of the subtopology, partition)`. Leaves out tasks
    /// whose checkpoint another thread of this process still has open: that thread has not noticed yet that it lost
    /// them.
    pub fn take_over(
        site: &TaskSite<D>,
        log: &Arc<dyn Log>,
        wanted: &[(usize, u32)],
        now: Now,
    ) -> Result<Vec<Self>, TaskError> {
        let mut arrivals = Vec::new();
        for (subtopology, partition) in wanted {
            match Arrival::new(site, *subtopology, *partition, true, now) {
                Err(TaskError::Store(StoreError::InUse(_))) => {}
                arrival => arrivals.push(arrival?),
            }
        }
        if arrivals.is_empty() {
            return Ok(Vec::new());
        }
        settle(site, log, &mut arrivals)?;
        for arrival in &mut arrivals {
            if arrival.is_out_of_range() {
                // The changelog no longer has the records after the checkpoint, or is another changelog.
                tracing::warn!(
                    task = arrival.task.name(),
                    next = arrival.checkpoint_next,
                    start = arrival.start,
                    end = arrival.end,
                    "the checkpoint stands outside of the changelog; it is discarded"
                );
                arrival.start_over(site, now)?;
            }
        }
        replay(site, log, &mut arrivals, now)?;
        for arrival in &mut arrivals {
            arrival.complete(site, log, now)?;
        }
        idle::prepare(log.as_ref(), arrivals.iter_mut().map(|arrival| &mut arrival.task))?;
        Ok(arrivals.into_iter().map(|arrival| arrival.task).collect())
    }
}

impl<D: Dataflow> Arrival<D> {
    fn new(
        site: &TaskSite<D>,
        subtopology: usize,
        partition: u32,
        is_trusted: bool,
        now: Now,
    ) -> Result<Self, TaskError> {
        let (task, checkpoint_next) = Task::from_checkpoint(site, subtopology, partition, is_trusted, now)?;
        let changelog = task.changelog();
        Ok(Self { task, changelog, checkpoint_next, start: 0, end: 0, next: 0, is_between_commits: true })
    }

    fn is_out_of_range(&self) -> bool {
        self.checkpoint_next.is_some_and(|next| next < self.start || next > self.end)
    }

    /// Keeps the state of tasks that are being restored within the memory that it may take: what was replayed last is
    /// written to the checkpoint, and then evicted. Returns an error if the disk takes no checkpoint, or if one cannot be
    /// read, with the place of its arrival: any task may have to evict.
    fn spill(arrivals: &mut [Self], index: usize, share: &mut MemoryShare, now: Now) -> Result<(), (usize, TaskError)> {
        let make_room = |arrivals: &mut [Self], share: &mut MemoryShare| {
            let mut tasks: Vec<_> = arrivals.iter_mut().map(|arrival| &mut arrival.task).collect();
            share.make_room(&mut tasks)
        };
        make_room(arrivals, share)?;
        let Self { task, next, end, checkpoint_next, is_between_commits, .. } = &mut arrivals[index];
        let is_due = *is_between_commits && task.wants_spill(share.checkpoint_bytes(usize::MAX));
        if !share.is_over() || !is_due {
            return Ok(());
        }
        let next = *next.min(end);
        if !task.spill(next, now).map_err(|error| (index, error))? {
            let fault = task.checkpoint_fault().map(ToString::to_string).unwrap_or_default();
            let reason = format!("{fault}; and more state is to be restored than memory may hold");
            return Err((index, StoreError::Unwritten(reason).into()));
        }
        *checkpoint_next = Some(next);
        make_room(arrivals, share).map(drop)
    }

    /// Restarts from the changelog's start, without the checkpoint.
    fn start_over(&mut self, site: &TaskSite<D>, now: Now) -> Result<(), TaskError> {
        self.task.release_checkpoint();
        let index = site.topology.subtopologies.iter().position(|known| Arc::ptr_eq(known, &self.task.subtopology));
        let partition = self.task.partition;
        let (start, end) = (self.start, self.end);
        *self = Self::new(site, index.unwrap_or_default(), partition, false, now)?;
        (self.start, self.end, self.next) = (start, end, start);
        Ok(())
    }

    /// Whether the changelog was written to meanwhile: then the mismatch is not due to the checkpoint.
    fn has_moved(&self, log: &dyn Log) -> Result<bool, TaskError> {
        Ok(log.ends(std::slice::from_ref(&self.changelog))?.first().is_some_and(|end| *end > self.end))
    }

    /// Compares the task with the group's offset and the source.
    fn complete(&mut self, site: &TaskSite<D>, log: &Arc<dyn Log>, now: Now) -> Result<(), TaskError> {
        let group = &site.topology.settings.application;
        loop {
            let has_run = self.start < self.end || self.checkpoint_next.is_some();
            match self.task.check_position(log.as_ref(), group, has_run) {
                Ok(()) => break,
                Err(error) if self.checkpoint_next.is_none() || self.has_moved(log.as_ref())? => return Err(error),
                Err(error) => {
                    tracing::warn!(task = self.task.name(), %error, "the checkpoint does not fit; reading the changelog from its start");
                    self.start_over(site, now)?;
                    replay(site, log, std::slice::from_mut(self), now)?;
                }
            }
        }
        self.task.committed = self.task.position.clone();
        Ok(())
    }
}

/// Fences former owners, and waits until everything below the present written ends is decided.
fn settle<D: Dataflow>(site: &TaskSite<D>, log: &Arc<dyn Log>, arrivals: &mut [Arrival<D>]) -> Result<(), TaskError> {
    let mut places: Vec<_> = arrivals.iter().map(|arrival| arrival.changelog.clone()).collect();
    places.extend(arrivals.iter().filter_map(|arrival| arrival.task.moves_at()));
    let decided = log.written_ends(&places)?;
    for owner in former_owners(site, log.as_ref(), arrivals)? {
        fence(log, owner);
    }
    let deadline = Instant::now() + PATIENCE;
    let ends = loop {
        let ends = log.ends(&places)?;
        if ends.iter().zip(&decided).all(|(end, decided)| end >= decided) {
            break ends;
        }
        if Instant::now() > deadline {
            let why = "the transactions of a task's former owner are still open";
            return Err(LogError::Unavailable(why.to_owned()).into());
        }
        std::thread::sleep(SETTLE_STEP);
    };
    for (arrival, end) in arrivals.iter_mut().zip(ends) {
        (arrival.start, arrival.end) = (log.bounds(&arrival.changelog)?.0, end);
        arrival.next = arrival.checkpoint_next.unwrap_or(arrival.start);
    }
    Ok(())
}

/// Former owners that may have left a transaction open for these tasks, without this process's threads.
fn former_owners<D: Dataflow>(
    site: &TaskSite<D>,
    log: &dyn Log,
    arrivals: &[Arrival<D>],
) -> Result<BTreeSet<String>, TaskError> {
    let mut owners = BTreeSet::new();
    let group = &site.topology.settings.application;
    let mut places = BTreeSet::new();
    for Arrival { task, changelog, .. } in arrivals {
        // No name: the task was given back.
        owners.extend(log.committed(group, &task.source())?.map(|committed| committed.metadata));
        places.insert(changelog.clone());
        for hop in &task.subtopology.hops {
            places.extend((0..hop.partitions).map(|partition| TopicPartition::new(hop.topic.clone(), partition)));
        }
    }
    for (place, value) in log.unsettled(&Vec::from_iter(places))? {
        // An invalid envelope is reported where the changelog is read.
        let Ok((envelope, _)) = Envelope::decode(&value) else { continue };
        let is_ours = |arrival: &Arrival<D>| {
            let hops = &arrival.task.subtopology.hops;
            envelope.task == arrival.task.partition
                && (place.topic == arrival.changelog.topic || hops.iter().any(|hop| *hop.topic == *place.topic))
        };
        if arrivals.iter().any(is_ours) {
            owners.insert(envelope.owner.to_owned());
        }
    }
    owners.retain(|owner| !owner.is_empty() && !site.siblings.iter().any(|sibling| **sibling == **owner));
    Ok(owners)
}

/// Ends an owner's open transaction. On a thread of its own: the call takes half a second or more, its effect some
/// milliseconds.
fn fence(log: &Arc<dyn Log>, owner: String) {
    let log = log.clone();
    std::thread::spawn(move || match log.producer(&owner) {
        Ok(_) => tracing::info!(owner, "fenced the former owner of a task"),
        // Its transaction ends by itself when it times out.
        Err(error) => tracing::warn!(owner, %error, "the former owner of a task could not be fenced"),
    });
}

/// Reads every changelog up to its end.
fn replay<D: Dataflow>(
    site: &TaskSite<D>,
    log: &Arc<dyn Log>,
    arrivals: &mut [Arrival<D>],
    now: Now,
) -> Result<(), TaskError> {
    let mut left: HashMap<TopicPartition, usize> = HashMap::new();
    left.extend((0..).zip(&*arrivals).filter(|(_, a)| a.next < a.end).map(|(index, a)| (a.changelog.clone(), index)));
    if left.is_empty() {
        return Ok(());
    }
    let mut consumer = log.consumer("")?;
    for (changelog, index) in &left {
        consumer.assign(changelog, arrivals[*index].next)?;
    }
    let mut share = MemoryShare::new(site.memory.clone());
    let mut moved_at = Instant::now();
    while !left.is_empty() {
        let Some((index, doubt)) = replay_batch(consumer.as_mut(), &left, arrivals)? else {
            if moved_at.elapsed() > PATIENCE {
                let reason = format!("{} changelogs gave nothing for {} s", left.len(), PATIENCE.as_secs());
                return Err(LogError::Unavailable(reason).into());
            }
            continue;
        };
        moved_at = Instant::now();
        let doubt = match doubt {
            None => Arrival::spill(arrivals, index, &mut share, now)
                .err()
                .map(|(at, error)| (at, arrivals[at].doubt(error))),
            Some(doubt) => Some((index, doubt)),
        };
        if let Some((at, doubt)) = doubt {
            let arrival = &mut arrivals[at];
            match doubt {
                Doubt::Checkpoint(reason) => {
                    tracing::warn!(task = arrival.task.name(), reason, "the checkpoint is discarded");
                }
                Doubt::Shortened(start) => {
                    tracing::info!(
                        task = arrival.task.name(),
                        start,
                        "its changelog was shortened; reading it from the new start"
                    );
                    arrival.start = start;
                }
                Doubt::Task(error) => return Err(error),
            }
            arrival.start_over(site, now)?;
            // It may have been at its end already.
            consumer.assign(&arrival.changelog, arrival.next)?;
            left.insert(arrival.changelog.clone(), at);
        }
        let arrival = &arrivals[index];
        if arrival.next >= arrival.end {
            consumer.unassign(&arrival.changelog);
            left.remove(&arrival.changelog);
        }
    }
    Ok(())
}

/// Applies the result of a poll. Returns the arrival that it was for, and its error if any.
fn replay_batch<D: Dataflow>(
    consumer: &mut dyn Consumer,
    left: &HashMap<TopicPartition, usize>,
    arrivals: &mut [Arrival<D>],
) -> Result<Option<(usize, Option<Doubt>)>, TaskError> {
    let (from, records, next_offset) = match consumer.poll(Duration::from_millis(100)) {
        Ok(Polled::Records { from, records, next_offset }) => (from, records, next_offset),
        Ok(_) => return Ok(None),
        Err(LogError::OutOfRange { partition, offset, start, .. }) if offset < start => {
            return match left.get(&partition) {
                Some(&index) => Ok(Some((index, Some(arrivals[index].shortened(start))))),
                None => Ok(None),
            };
        }
        Err(error) => return Err(error.into()),
    };
    let Some(&index) = left.get(from) else { return Ok(None) };
    let arrival = &mut arrivals[index];
    for record in records {
        let record = record?;
        if record.offset >= arrival.end {
            break;
        }
        if let Err(doubt) = arrival.replay_record(&record) {
            return Ok(Some((index, Some(doubt))));
        }
    }
    arrival.next = next_offset;
    Ok(Some((index, None)))
}

impl<D: Dataflow> Arrival<D> {
    /// What it means that the changelog starts behind what is to be read next.
    fn shortened(&self, start: u64) -> Doubt {
        if start < self.end {
            return Doubt::Shortened(start);
        }
        let reason = format!("records up to it were deleted while those up to {} were read", self.end);
        let address = format!("{}@{start}", self.changelog);
        Doubt::Task(TaskError::Halt { address, reason })
    }

    fn replay_record(&mut self, record: &crate::log::Record<'_>) -> Result<(), Doubt> {
        let address = || format!("{}@{}", self.changelog, record.offset);
        let halt = |reason: String| TaskError::Halt { address: address(), reason };
        let (envelope, body) =
            Envelope::decode(record.value.unwrap_or_default()).map_err(|error| halt(error.to_string()))?;
        if envelope.generation != self.task.generation {
            return Err(halt(format!("written by generation {}", envelope.generation)).into());
        }
        // The changelog of a task has every commit; only its beginning may have been deleted.
        let (before, commit) = (self.task.commit, envelope.commit);
        if before > 0 && commit != before + 1 {
            let reason = format!("{}: commit {commit} follows commit {before}", address());
            return Err(match self.checkpoint_next {
                Some(_) => Doubt::Checkpoint(reason),
                None => halt(format!(
                    "commit {commit} follows commit {before}: records are missing. They were deleted, or {ABORTED_BY_HAND}; \
                     start a new generation"
                ))
                .into(),
            });
        }
        self.is_between_commits = envelope.part + 1 == envelope.parts;
        self.task.restored_records += 1;
        self.task.snapshots.read(record.value.unwrap_or_default().len());
        self.task.replay(&envelope, body).map_err(|error| match error {
            TaskError::Halt { reason, .. } => halt(reason).into(),
            other => self.doubt(other),
        })
    }

    fn doubt(&self, error: TaskError) -> Doubt {
        match error {
            TaskError::Store(StoreError::Unwritten(_)) => Doubt::Task(error),
            // A store reads what the checkpoint has of a key before it changes it.
            TaskError::Store(fault) if self.checkpoint_next.is_some() => Doubt::Checkpoint(fault.to_string()),
            other => Doubt::Task(other),
        }
    }
}
