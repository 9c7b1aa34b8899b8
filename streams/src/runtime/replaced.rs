//! Deletes replaced records from the internal topic of progress, since readers start from its beginning.
//!
//! Compaction would be enough, but may lag for days, and the embedded log has none.

use crate::log::{Log, LogError, TopicPartition};
use crate::processor::Dataflow;
use crate::task::Task;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Per partition of the topic, the awaited position.
#[derive(Default)]
pub(super) struct Replaced(BTreeMap<u32, Waiting>);

/// A task's source, and how often the task had published its progress.
type Published = BTreeMap<TopicPartition, u64>;

struct Waiting {
    /// What lies below was replaced, once every task has published its progress again
    end: u64,
    published: Published,
    /// and readers see what replaced it: up to here.
    visible_from: Option<u64>,
}

impl Replaced {
    /// Deletes replaced records; to be called at intervals. The newest record of every task stays, and is visible:
    /// nothing is deleted while a transaction is open in the topic. `complete` is the number of tasks that write to a
    /// partition: nothing is deleted while one of them is not in this process.
    pub fn delete<'a, D: Dataflow>(
        &mut self,
        log: &dyn Log,
        topic: &Arc<str>,
        tasks: impl Iterator<Item = (&'a TopicPartition, &'a Task<D>)>,
        complete: impl Fn(u32) -> usize,
    ) -> Result<(), LogError> {
        let mut published = BTreeMap::<u32, Published>::new();
        for (source, task) in tasks {
            published.entry(source.partition).or_default().insert(source.clone(), task.marks());
        }
        published.retain(|partition, published| {
            published.len() == complete(*partition) && published.values().all(|times| *times > 0)
        });
        if published.is_empty() {
            return Ok(());
        }
        self.0.retain(|partition, waiting| {
            published.get(partition).is_some_and(|published| published.keys().eq(waiting.published.keys()))
        });
        let addresses: Vec<_> = published.keys().map(|number| TopicPartition::new(topic.clone(), *number)).collect();
        let (visible, written) = (log.ends(&addresses)?, log.written_ends(&addresses)?);
        for (((number, published), address), (visible, written)) in
            published.into_iter().zip(&addresses).zip(visible.into_iter().zip(written))
        {
            let begin = |published| Waiting { end: written, published, visible_from: None };
            let Some(waiting) = self.0.get_mut(&number) else {
                self.0.insert(number, begin(published));
                continue;
            };
            let mut then = published.values().zip(waiting.published.values());
            if then.clone().any(|(now, then)| now < then) {
                // A task was reopened, and counts from the start.
                *waiting = begin(published);
                continue;
            }
            match waiting.visible_from {
                None if then.all(|(now, then)| now > then) => waiting.visible_from = Some(written),
                Some(from) if visible >= from => {
                    log.delete_records(address, waiting.end)?;
                    *waiting = begin(published);
                }
                None | Some(_) => {}
            }
        }
        Ok(())
    }
}
