//! A thread's state in memory: eviction above the budget, and what happens when the disk takes no checkpoints and nothing can
//! be evicted any more.

use super::StreamThread;
use crate::log::Now;
use crate::processor::Dataflow;
use crate::task::{Task, TaskError};

impl<D: Dataflow> StreamThread<D> {
    /// Whether it takes in no records until checkpoints can be written: its state has all the memory that it may have.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Keeps the state of its tasks within the budget. Where nothing is left that could be evicted because checkpoints fail,
    /// it takes in nothing more until one succeeds.
    pub(super) fn make_room(&mut self) -> Result<(), TaskError> {
        let evicted = self.share.make_room(&mut self.tasks.values_mut().collect::<Vec<_>>());
        let evicted = evicted.map_err(|(_, error)| error)?;
        self.report_memory();
        self.metrics.state_evictions.inc_by(evicted);
        let fault = self.tasks.values().find_map(Task::checkpoint_fault).filter(|_| self.share.is_over());
        match (self.is_held, fault) {
            (false, Some(fault)) => {
                tracing::error!(
                    owner = %self.site.owner,
                    error = %fault,
                    "nothing more is counted until checkpoints can be written: state in memory has reached --state-mib"
                );
                self.is_held = true;
                for source in self.tasks.keys() {
                    self.consumer.unassign(source);
                }
            }
            (true, None) => {
                tracing::info!(owner = %self.site.owner, "counting goes on: there is room for state in memory");
                self.is_held = false;
                for (source, task) in &self.tasks {
                    if !self.ahead.contains_key(source) {
                        self.consumer.assign(source, task.position().input_next)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reports what the state of its tasks takes, as it was measured last.
    pub(super) fn report_memory(&self) {
        self.metrics.state_bytes.with_label_values(&[&*self.site.owner]).set(self.share.bytes() as i64);
    }

    /// While it is held: tries checkpoints that are due. There may be an open transaction, but then its commit is near.
    pub(super) fn relieve(&mut self, now: Now) -> Result<(), TaskError> {
        if !self.is_held || self.tasks.values_mut().any(|task| !task.is_settled()) {
            return Ok(());
        }
        self.checkpoint(now)?;
        self.make_room()
    }
}
