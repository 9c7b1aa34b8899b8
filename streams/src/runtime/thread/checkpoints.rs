//! A thread's checkpoints and snapshots. A disk that takes none is reported once when it begins and once when it is over, however often
//! it is tried.

use super::{Limits, StreamThread};
use crate::log::Now;
use crate::processor::Dataflow;
use crate::runtime::StreamMetrics;
use crate::task::{Task, TaskError};
use std::time::Instant;

/// The last report of a thread.
#[derive(Default)]
pub(super) struct CheckpointFaults {
    failing: usize,
}

impl CheckpointFaults {
    /// Reports the tasks of a thread.
    pub fn report<'a, D: Dataflow>(
        &mut self,
        owner: &str,
        tasks: impl Iterator<Item = &'a Task<D>>,
        metrics: &StreamMetrics,
    ) {
        let faults: Vec<_> = tasks.filter_map(Task::checkpoint_fault).collect();
        let before = std::mem::replace(&mut self.failing, faults.len());
        metrics.checkpoints_failing.with_label_values(&[owner]).set(faults.len() as i64);
        match (before, faults.first()) {
            (0, Some(fault)) => tracing::warn!(
                owner,
                error = %fault,
                tasks = faults.len(),
                "checkpoints cannot be written; counting goes on without them, and a restart replays more of the changelogs"
            ),
            (1.., None) => tracing::info!(owner, "checkpoints are written again"),
            _ => {}
        }
    }
}

impl<D: Dataflow> StreamThread<D> {
    /// At most one of those that are due: nothing else is done meanwhile, and the next commit is soon.
    pub(super) fn checkpoint(&mut self, now: Now) -> Result<(), TaskError> {
        let bytes = self.share.checkpoint_bytes(self.limits.checkpoint_bytes);
        let age_ms = self.limits.checkpoint_age.as_millis() as i64;
        let due = self.tasks.values_mut().filter(|task| task.wants_checkpoint(now, bytes, age_ms));
        let Some(task) = due.min_by_key(|task| task.checkpointed_at_ms()) else { return Ok(()) };
        let started = Instant::now();
        match task.write_checkpoint(self.log.as_ref(), now)? {
            true => self.metrics.checkpoint_seconds.observe(started.elapsed().as_secs_f64()),
            false => self.metrics.checkpoint_failures.inc(),
        }
        self.report_checkpoints();
        Ok(())
    }

    /// Deletes what complete snapshots have replaced in changelogs, and begins those that are due.
    pub(super) fn shorten_changelogs(&mut self) -> Result<(), TaskError> {
        let Limits { snapshot_tail_bytes, snapshot_step_bytes, .. } = self.limits;
        for task in self.tasks.values_mut() {
            if task.shorten_changelog(self.log.as_ref())? {
                self.metrics.snapshots.inc();
            }
            task.begin_snapshot(self.log.as_ref(), snapshot_tail_bytes, snapshot_step_bytes)?;
        }
        Ok(())
    }

    pub(super) fn close_all(&mut self, now: Now) -> Result<(), TaskError> {
        for (_, mut task) in std::mem::take(&mut self.tasks) {
            self.close(&mut task, now)?;
        }
        self.producer = None;
        Ok(())
    }

    pub(super) fn close(&mut self, task: &mut Task<D>, now: Now) -> Result<(), TaskError> {
        task.write_checkpoint(self.log.as_ref(), now)?;
        task.close();
        if let Some(error) = task.checkpoint_fault() {
            self.metrics.checkpoint_failures.inc();
            tracing::warn!(task = task.name(), %error, "no last checkpoint; the next start replays more of the changelog");
        }
        Ok(())
    }

    pub(super) fn hydrate(&mut self) -> Result<(), TaskError> {
        if !self.hydrating {
            return Ok(());
        }
        self.make_room()?;
        if !self.share.has_room() {
            // What is not there is read through.
            self.hydrating = false;
            return Ok(());
        }
        for task in self.tasks.values_mut() {
            if task.hydrate(self.limits.hydrate_entries)? {
                return Ok(());
            }
        }
        self.hydrating = false;
        Ok(())
    }

    pub(super) fn report_checkpoints(&mut self) {
        self.checkpoint_faults.report(&self.site.owner, self.tasks.values(), &self.metrics);
    }
}
