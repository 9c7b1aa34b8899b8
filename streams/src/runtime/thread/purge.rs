//! Deletion of records of internal topics that were processed or replaced.

use super::StreamThread;
use crate::log::Now;
use crate::processor::Dataflow;
use crate::task::TaskError;

impl<D: Dataflow> StreamThread<D> {
    /// Deletes processed records of repartition topics, progress that was replaced, and clock moves older than their source.
    pub(super) fn purge(&mut self, now: Now) -> Result<(), TaskError> {
        if now.since_ms(self.purged_at_ms) < self.limits.purge_interval.as_millis() as i64 {
            return Ok(());
        }
        self.purged_at_ms = now.monotonic_ms;
        for (source, task) in self.tasks.iter().filter(|(_, task)| task.subtopology().upstream.is_some()) {
            let next = task.committed_next();
            if self.purged.insert(source.clone(), next) != Some(next) {
                self.log.delete_records(source, next)?;
            }
        }
        let topology = &self.site.topology;
        let complete = |number| topology.subtopologies.iter().filter(|known| number < known.partitions).count();
        let topic = topology.progress_topic().into();
        self.replaced.delete(self.log.as_ref(), &topic, self.tasks.iter(), complete)?;
        let roots =
            self.tasks.iter().filter(|(_, task)| task.subtopology().upstream.is_none()).map(|(source, _)| source);
        self.expired.delete(self.log.as_ref(), &topology.idle_topic().into(), roots, now)
    }
}
