//! Deletes recorded moves of root tasks' clocks that no replay can need any more.
//!
//! A replay begins at the start of the source at the earliest. Of the moves before it, the last one is needed: the clock was
//! exactly there, and of the records that came between, none is newer than the first one that is left. All others go.

use crate::log::{Log, Now, Polled, TopicPartition};
use crate::task::{ClockMove, TaskError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the starts of sources are looked at.
const EVERY_MS: i64 = 60_000;
/// How long the log may take for the next moves. If it takes longer, they are read again the next time.
const PATIENCE: Duration = Duration::from_secs(5);

/// The starts of sources below which moves were deleted.
#[derive(Default)]
pub(super) struct ExpiredMoves {
    starts: BTreeMap<u32, u64>,
    /// By the monotonic clock.
    looked_at_ms: Option<i64>,
}

impl ExpiredMoves {
    /// Deletes expired moves of the tasks that read `sources` from `topic`, if some time has passed since the last call.
    pub fn delete<'a>(
        &mut self,
        log: &dyn Log,
        topic: &Arc<str>,
        sources: impl Iterator<Item = &'a TopicPartition>,
        now: Now,
    ) -> Result<(), TaskError> {
        if self.looked_at_ms.is_some_and(|looked_at_ms| now.since_ms(looked_at_ms) < EVERY_MS) {
            return Ok(());
        }
        self.looked_at_ms = Some(now.monotonic_ms);
        for source in sources {
            let start = log.bounds(source)?.0;
            if self.starts.get(&source.partition).copied().unwrap_or(0) == start {
                continue;
            }
            let at = TopicPartition::new(topic.clone(), source.partition);
            if let Some(needed) = last_before(log, &at, start)? {
                log.delete_records(&at, needed)?;
                self.starts.insert(source.partition, start);
            }
        }
        Ok(())
    }
}

/// The offset of the last move that comes before the record at `start` of the source, or of the first move of all. None if
/// that cannot be read yet.
fn last_before(log: &dyn Log, at: &TopicPartition, start: u64) -> Result<Option<u64>, TaskError> {
    let (first, end) = log.bounds(at)?;
    let (mut last, mut next) = (first, first);
    let mut consumer = log.consumer("")?;
    consumer.assign(at, first)?;
    while next < end {
        let Polled::Records { records, next_offset, .. } = consumer.poll(PATIENCE)? else { return Ok(None) };
        for record in records {
            let record = record?;
            if ClockMove::read(at, &record)?.next_offset >= start {
                return Ok(Some(last));
            }
            last = record.offset;
        }
        next = next_offset;
    }
    Ok(Some(last))
}
