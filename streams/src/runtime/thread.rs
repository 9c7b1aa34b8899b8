//! A stream thread: one consumer, one transactional producer, and the tasks of the partitions it was given.
//!
//! It is a state machine: its owner, a real thread or a simulation, calls [`StreamThread::poll_once`] in a loop and
//! passes the time. All durations use the monotonic clock: setting the wall clock changes no wait.

mod checkpoints;
mod intake;
mod memory;
mod purge;

use super::expired_moves::ExpiredMoves;
use super::limits::Limits;
use super::metrics::StreamMetrics;
use super::replaced::Replaced;
use crate::log::{Consumer, Log, LogError, Now, Reading, TopicPartition, TransactionalProducer};
use crate::processor::Dataflow;
use crate::task::{MemoryShare, Task, TaskError, TaskSite};
use checkpoints::CheckpointFaults;
use intake::Taken;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The result of a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polling {
    /// There was nothing to do.
    Idle,
    /// A record was processed, or a transaction committed.
    Worked,
    /// It pauses after a failure; this poll did not block.
    Paused,
    /// The thread has left its group and holds nothing any more.
    Left,
}

/// See the module.
pub struct StreamThread<D: Dataflow> {
    log: Arc<dyn Log>,
    site: TaskSite<D>,
    limits: Limits,
    metrics: StreamMetrics,
    consumer: Box<dyn Consumer>,
    producer: Option<Box<dyn TransactionalProducer>>,
    /// By source topic and partition.
    tasks: BTreeMap<TopicPartition, Task<D>>,
    /// Partitions of the driver that are ours.
    assigned: Vec<u32>,
    /// The group has reported an assignment at least once.
    joined: bool,
    leaving: bool,
    /// By the monotonic clock, like every `_at_ms` and `_until_ms` here.
    committed_at_ms: i64,
    /// The earliest append time with which a poll ended since the last commit, unless a poll has found nothing since.
    read_up_to_ms: i64,
    purged_at_ms: i64,
    /// Up to where records of repartition topics were deleted.
    purged: BTreeMap<TopicPartition, u64>,
    /// What can be deleted of the internal topic of progress.
    replaced: Replaced,
    /// What can be deleted of the internal topic of clock moves.
    expired: ExpiredMoves,
    /// Until when nothing is tried after a failure, and how long the next pause is.
    pause_until_ms: i64,
    pause_ms: i64,
    hydrating: bool,
    /// When tasks are opened that another thread of this process had not released yet.
    reopen_at_ms: Option<i64>,
    /// Sources of root tasks whose next record is ahead of the clock, with its append time: they wait for it.
    ahead: BTreeMap<TopicPartition, i64>,
    /// Whether tasks are being opened, and how often in a row they did not fit the log.
    opening: bool,
    misfits: u32,
    checkpoint_faults: CheckpointFaults,
    /// What the state of its tasks takes of the process's memory.
    share: MemoryShare,
    /// State takes all the memory that it may, and checkpoints cannot be written: no records are taken in.
    is_held: bool,
}

const PAUSE_FIRST_MS: i64 = 20;
const PAUSE_LAST_MS: i64 = 5_000;
const REOPEN_AFTER_MS: i64 = 100;
/// A thread that was suspended may not know yet that it has lost its partitions, and one that reads a broker which has
/// just restarted may see an older end. So tasks that do not fit the log are opened again, this often.
const MISFITS_MAX: u32 = 10;

impl<D: Dataflow> StreamThread<D> {
    /// Joins the group. `site.owner` is the transactional id: it must be this thread's alone.
    pub fn new(
        log: Arc<dyn Log>,
        site: TaskSite<D>,
        limits: Limits,
        metrics: StreamMetrics,
    ) -> Result<Self, TaskError> {
        let mut consumer = log.consumer(&site.topology.settings.application)?;
        consumer.subscribe(&site.topology.root, &site.owner)?;
        let share = MemoryShare::new(site.memory.clone());
        Ok(Self {
            log,
            site,
            limits,
            metrics,
            consumer,
            producer: None,
            tasks: BTreeMap::new(),
            assigned: Vec::new(),
            joined: false,
            leaving: false,
            committed_at_ms: i64::MIN,
            read_up_to_ms: i64::MAX,
            purged_at_ms: i64::MIN,
            purged: BTreeMap::new(),
            replaced: Replaced::default(),
            expired: ExpiredMoves::default(),
            pause_until_ms: i64::MIN,
            pause_ms: PAUSE_FIRST_MS,
            hydrating: false,
            reopen_at_ms: None,
            ahead: BTreeMap::new(),
            opening: false,
            misfits: 0,
            checkpoint_faults: CheckpointFaults::default(),
            share,
            is_held: false,
        })
    }

    /// The tasks that it has now.
    pub fn tasks(&mut self) -> impl Iterator<Item = &mut Task<D>> {
        self.tasks.values_mut()
    }

    /// Whether it works: the group has reported an assignment, perhaps an empty one, and its tasks are open.
    pub fn is_working(&self) -> bool {
        let is_open = |partition: &u32| self.tasks.keys().any(|source| source.partition == *partition);
        let is_waiting = self.reopen_at_ms.is_some();
        self.joined
            && self.producer.is_some()
            && !is_waiting
            && self.ahead.is_empty()
            && !self.is_held
            && self.assigned.iter().all(is_open)
    }

    /// Commits, gives up its tasks and leaves the group; poll until [`Polling::Left`].
    pub fn leave(&mut self) -> Result<(), TaskError> {
        self.leaving = true;
        Ok(self.consumer.unsubscribe()?)
    }

    /// One step: waits up to `wait` for records, processes them, commits when due. While the wall clock is in doubt it
    /// moves no clock, and a record that lies ahead of it is waited for. An error is final and needs an operator.
    pub fn poll_once(&mut self, reading: impl Into<Reading>, wait: Duration) -> Result<Polling, TaskError> {
        let reading = reading.into();
        let now = reading.now;
        if now.monotonic_ms < self.pause_until_ms {
            return Ok(Polling::Paused);
        }
        match self.step(&reading, wait) {
            Ok(polling) => Ok(polling),
            Err(error) => self.recover(error, now).map(|()| Polling::Worked),
        }
    }

    fn step(&mut self, reading: &Reading, wait: Duration) -> Result<Polling, TaskError> {
        let now = reading.now;
        if self.producer.is_none() {
            self.producer = Some(self.log.producer(&self.site.owner)?);
            self.follow_assignment()?;
            self.open_tasks(now)?;
        }
        if !self.can_begin()? {
            return Ok(Polling::Paused);
        }
        if self.reopen_at_ms.is_some_and(|at_ms| now.monotonic_ms >= at_ms) {
            self.open_tasks(now)?;
        }
        self.go_on(reading.latest_ms)?;
        let wait = wait.min(self.until_commit(now));
        let polling = match self.take_in(if self.hydrating { Duration::ZERO } else { wait }, reading.latest_ms)? {
            Taken::Records => Polling::Worked,
            Taken::Nothing if self.leaving => {
                self.close_all(now)?;
                return Ok(Polling::Left);
            }
            Taken::Nothing => {
                self.read_up_to_ms = i64::MAX;
                self.idle(reading)?;
                Polling::Idle
            }
            Taken::Assigned(partitions) => {
                self.joined = true;
                self.assigned.extend(partitions);
                self.open_tasks(now)?;
                Polling::Worked
            }
            Taken::Revoked { partitions, lost } => {
                self.revoke(&partitions, lost, now)?;
                Polling::Worked
            }
        };
        let due = now.since_ms(self.committed_at_ms) >= self.commit_interval_ms(now);
        let full = self.tasks.values().map(Task::open_bytes).sum::<usize>() > self.limits.transaction_bytes_max;
        if (due || full) && self.tasks.values().any(|task| task.wants_commit(now)) {
            self.commit(now, &[])?;
        }
        self.relieve(now)?;
        self.hydrate()?;
        self.purge(now)?;
        Ok(polling)
    }

    /// Applies changes of the assignment before tasks are opened: tasks of other members must not be opened.
    fn follow_assignment(&mut self) -> Result<(), TaskError> {
        loop {
            match self.take_in(Duration::ZERO, i64::MAX)? {
                Taken::Nothing => return Ok(()),
                Taken::Records => {}
                Taken::Assigned(partitions) => {
                    self.joined = true;
                    self.assigned.extend(partitions);
                }
                Taken::Revoked { partitions, .. } => self.assigned.retain(|partition| !partitions.contains(partition)),
            }
        }
    }

    /// A commit costs the same for many records as for few, and combines changes: a thread that is behind catches up
    /// sooner with fewer commits, and its results are late anyway.
    fn commit_interval_ms(&self, now: Now) -> i64 {
        let Limits { behind, behind_commit_interval, .. } = self.limits;
        let interval = self.site.topology.settings.commit_interval;
        let is_behind = now.wall_ms.saturating_sub(self.read_up_to_ms) >= behind.as_millis() as i64;
        let interval = if is_behind { interval.max(behind_commit_interval) } else { interval };
        interval.as_millis() as i64
    }

    fn until_commit(&self, now: Now) -> Duration {
        let due_in_ms = self.commit_interval_ms(now).saturating_sub(now.since_ms(self.committed_at_ms));
        match self.tasks.values().any(|task| task.wants_commit(now)) {
            true => Duration::from_millis(due_in_ms.clamp(0, 10_000) as u64),
            // Progress that is still owed comes due within this time.
            false => Duration::from_millis(100),
        }
    }

    /// One transaction, atomic across all tasks. Tasks of `releasing` are given back with it: their offsets are
    /// committed without an owner, so that this thread need not be fenced.
    fn commit(&mut self, now: Now, releasing: &[u32]) -> Result<(), TaskError> {
        let started = Instant::now();
        let Some(producer) = self.producer.as_mut() else { return Ok(()) };
        let (mut offsets, mut committing) = (Vec::new(), Vec::new());
        for (source, task) in &mut self.tasks {
            let release = releasing.contains(&source.partition);
            if release || task.wants_commit(now) {
                let (at, mut offset) = task.prepare_commit(now, producer.as_mut())?;
                if release {
                    offset.metadata.clear();
                }
                offsets.push((at, offset));
                committing.push(source.clone());
            }
        }
        if committing.is_empty() {
            return Ok(());
        }
        producer.send_offsets(&self.consumer.group_metadata(), &offsets)?;
        producer.commit()?;
        for source in &committing {
            if let Some(task) = self.tasks.get_mut(source) {
                task.committed(now);
            }
        }
        (self.committed_at_ms, self.read_up_to_ms) = (now.monotonic_ms, i64::MAX);
        self.pause_ms = PAUSE_FIRST_MS;
        self.misfits = 0;
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.report();
        self.shorten_changelogs()?;
        self.checkpoint(now)?;
        self.make_room()
    }

    /// Time passes for root tasks that have read everything.
    fn idle(&mut self, reading: &Reading) -> Result<(), TaskError> {
        let now = reading.now;
        let Some(producer) = self.producer.as_mut() else { return Ok(()) };
        let is_root = |task: &Task<D>| task.subtopology().upstream.is_none();
        let roots: Vec<_> = self.tasks.iter().filter(|(_, task)| is_root(task)).map(|(at, _)| at.clone()).collect();
        // Queried after `now`, so all records appended before `now` are below this end, including those of open
        // transactions, which may become visible later with an older append time.
        let mut ends = self.log.written_ends(&roots)?.into_iter();
        for task in self.tasks.values_mut() {
            if reading.doubt.is_none()
                && is_root(task)
                && ends.next().is_some_and(|end| end <= task.position().input_next)
            {
                task.idle(now, producer.as_mut())?;
            }
            task.punctuate_wall(now, producer.as_mut())?;
        }
        Ok(())
    }

    /// Opens the tasks of assigned partitions that are not open yet, and continues reading at their positions.
    fn open_tasks(&mut self, now: Now) -> Result<(), TaskError> {
        let has_waited = self.reopen_at_ms.take().is_some();
        let mut wanted = Vec::new();
        for (index, subtopology) in self.site.topology.subtopologies.iter().enumerate() {
            for partition in self.assigned.iter().filter(|partition| **partition < subtopology.partitions) {
                let source = TopicPartition::new(subtopology.source.clone(), *partition);
                if !self.tasks.contains_key(&source) {
                    wanted.push((index, *partition));
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        self.opening = true;
        let opened = Task::take_over(&self.site, &self.log, &wanted, now)?;
        if opened.len() < wanted.len() {
            self.reopen_at_ms = Some(now.monotonic_ms + REOPEN_AFTER_MS);
            if !has_waited {
                let tasks = wanted.len() - opened.len();
                tracing::warn!(owner = %self.site.owner, tasks, "another thread of this process is not done with them yet");
            }
        }
        for task in opened {
            if !self.is_held {
                self.consumer.assign(&task.source(), task.position().input_next)?;
            }
            self.metrics.restored_records.inc_by(task.restored_records());
            self.metrics.checkpoint_failures.inc_by(task.checkpoint_fault().is_some().into());
            self.tasks.insert(task.source(), task);
        }
        self.opening = false;
        self.metrics.restore_seconds.observe(started.elapsed().as_secs_f64());
        self.hydrating = true;
        self.report();
        Ok(())
    }

    fn revoke(&mut self, partitions: &[u32], lost: bool, now: Now) -> Result<(), TaskError> {
        // These partitions are lost whatever happens below: their tasks must not be opened again.
        self.assigned.retain(|partition| !partitions.contains(partition));
        let settled = match lost {
            true => self.rollback(),
            false => self.commit(now, partitions),
        };
        let revoked = |source: &&TopicPartition| partitions.contains(&source.partition);
        let sources: Vec<_> = self.tasks.keys().filter(revoked).cloned().collect();
        for source in sources {
            self.consumer.unassign(&source);
            self.ahead.remove(&source);
            if let Some(mut task) = self.tasks.remove(&source)
                && settled.is_ok()
                && !lost
            {
                self.close(&mut task, now)?;
            }
        }
        self.report();
        settled
    }

    /// Rolls the open transaction back, in memory and in the log, and continues reading from the last commit.
    fn rollback(&mut self) -> Result<(), TaskError> {
        if let Some(producer) = self.producer.as_mut() {
            producer.abort()?;
        }
        self.ahead.clear();
        for (source, task) in &mut self.tasks {
            task.rollback();
            if !self.is_held {
                self.consumer.assign(source, task.position().input_next)?;
            }
        }
        self.metrics.aborts.inc();
        Ok(())
    }

    /// Reacts to an error: rolls back, rebuilds, or ends the thread.
    fn recover(&mut self, error: TaskError, now: Now) -> Result<(), TaskError> {
        let opening = std::mem::take(&mut self.opening);
        if opening {
            // Its partitions stay assigned, and no rebalance would open their tasks.
            self.reopen_at_ms = Some(now.monotonic_ms);
        }
        let again = match &error {
            TaskError::Halt { .. } if opening && self.misfits < MISFITS_MAX => {
                self.misfits += 1;
                self.forget();
                Ok(())
            }
            TaskError::Halt { .. } => return Err(error),
            TaskError::Log(LogError::Aborted(_) | LogError::Busy | LogError::Full(_) | LogError::Unavailable(_)) => {
                self.rollback()
            }
            TaskError::Log(LogError::Uncertain(_) | LogError::Fenced(_)) | TaskError::Store(_) => {
                self.forget();
                Ok(())
            }
            TaskError::Log(_) => return Err(error),
        };
        self.pause_until_ms = now.monotonic_ms + self.pause_ms;
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_LAST_MS);
        tracing::warn!(%error, owner = %self.site.owner, pause_ms = self.pause_ms, "a transaction failed; retrying");
        if let Err(error) = again {
            tracing::warn!(%error, owner = %self.site.owner, "the rollback failed; rebuilding from the log");
            self.forget();
        }
        Ok(())
    }

    /// Drops all state in memory: the next poll rebuilds it from the log.
    fn forget(&mut self) {
        for (source, _) in std::mem::take(&mut self.tasks) {
            self.consumer.unassign(&source);
        }
        self.ahead.clear();
        self.producer = None;
        self.share.clear();
        self.report_memory();
        self.metrics.rebuilds.inc();
    }

    fn report(&mut self) {
        self.metrics.report(&self.site.owner, &self.site.topology.subtopologies, self.tasks.values_mut());
        self.metrics.ahead.with_label_values(&[&*self.site.owner]).set(self.ahead.len() as i64);
        self.report_checkpoints();
    }
}
