//! How far the sinks are, as `sink_progress` has it: one view that all readers share, and one reader for all who wait.

use super::{Columns, DatabaseError, ReadDatabase};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tally_model::RootPosition;

/// How often progress is read while requests wait for it.
const POLL: Duration = Duration::from_millis(15);
/// How old the progress behind an `as_of` may be.
const PROGRESS_AGE_MAX: Duration = Duration::from_millis(100);

/// `sink_progress` at one moment.
#[derive(Default)]
pub struct DatabaseProgress {
    read_at: Option<Instant>,
    roots: HashMap<String, HashMap<u32, Stored>>,
}

struct Stored {
    next_offset: u64,
    text: String,
    roots: Arc<[RootPosition]>,
}

impl DatabaseProgress {
    /// How far the input is contained in what came from a partition of an output topic.
    pub fn roots(&self, topic: &str, partition: u32) -> Arc<[RootPosition]> {
        let stored = self.roots.get(topic).and_then(|partitions| partitions.get(&partition));
        stored.map_or_else(|| Arc::from([]), |stored| stored.roots.clone())
    }

    /// Below which offset everything in a partition of an output topic is contained.
    pub fn next_offset(&self, topic: &str, partition: u32) -> Option<u64> {
        let stored = self.roots.get(topic).and_then(|partitions| partitions.get(&partition));
        stored.map(|stored| stored.next_offset)
    }
}

impl ReadDatabase {
    /// Progress that is at most a tenth of a second old. Rows read afterwards are at least as new.
    pub async fn progress(&self) -> Result<Arc<DatabaseProgress>, DatabaseError> {
        self.progress_within(PROGRESS_AGE_MAX).await
    }

    /// Progress as of now.
    pub async fn progress_now(&self) -> Result<Arc<DatabaseProgress>, DatabaseError> {
        self.progress_within(Duration::ZERO).await
    }

    /// Progress as of now, which is not kept: a sample makes no other answer older.
    pub async fn progress_aside(&self) -> Result<Arc<DatabaseProgress>, DatabaseError> {
        self.read_progress(&self.last()).await.map(Arc::new)
    }

    /// Waits until progress satisfies, or the deadline. All waiting requests share one reader.
    pub async fn wait(
        self: &Arc<Self>,
        deadline: Instant,
        satisfied: impl Fn(&DatabaseProgress) -> bool,
    ) -> Result<bool, DatabaseError> {
        if satisfied(&*self.progress_within(POLL).await?) {
            return Ok(true);
        }
        let mut refreshed = self.refreshed.subscribe();
        while Instant::now() < deadline {
            self.poll_progress();
            let changed = tokio::time::timeout_at(deadline.into(), refreshed.changed()).await;
            if satisfied(&self.last()) {
                return Ok(true);
            }
            if changed.is_err() {
                break;
            }
        }
        Ok(false)
    }

    /// Starts the reader that serves all waiting requests, unless it runs. It ends when no request waits any more.
    fn poll_progress(self: &Arc<Self>) {
        if self.polling.swap(true, Ordering::AcqRel) {
            return;
        }
        let database = self.clone();
        tokio::spawn(async move {
            while database.refreshed.receiver_count() > 0 {
                tokio::time::sleep(POLL).await;
                // The next read reports the failure; waiting requests keep waiting.
                if let Err(error) = database.progress_within(Duration::ZERO).await {
                    tracing::warn!("sink_progress: {}", error.0);
                    database.refreshed.send_modify(|times| *times += 1);
                }
            }
            // A request that came in between saw the reader running: the next change, or its own time-out, wakes it.
            database.polling.store(false, Ordering::Release);
            if database.refreshed.receiver_count() > 0 {
                database.refreshed.send_modify(|times| *times += 1);
            }
        });
    }

    fn last(&self) -> Arc<DatabaseProgress> {
        self.progress.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn progress_within(&self, age_max: Duration) -> Result<Arc<DatabaseProgress>, DatabaseError> {
        let fresh = |progress: &Arc<DatabaseProgress>| progress.read_at.is_some_and(|at| at.elapsed() < age_max);
        let last = self.last();
        if fresh(&last) {
            return Ok(last);
        }
        let asked_at = Instant::now();
        let mut failed = self.refreshing.lock().await;
        let last = self.last();
        // A read that began after this call answers it as well, whichever request began it.
        if fresh(&last) || last.read_at.is_some_and(|read_at| read_at >= asked_at) {
            return Ok(last);
        }
        // Its failure answers it too: otherwise each would wait for an unavailable server, one after the other.
        if let Some((_, cause)) = failed.as_ref().filter(|(began_at, _)| *began_at >= asked_at) {
            return Err(sqlx::Error::Io(std::io::Error::other(cause.clone())).into());
        }
        let began_at = Instant::now();
        let read = self.read_progress(&last).await;
        *failed = read.as_ref().err().map(|error| (began_at, error.0.to_string()));
        let next = Arc::new(read?);
        *self.progress.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        self.refreshed.send_modify(|times| *times += 1);
        Ok(next)
    }

    async fn read_progress(&self, last: &DatabaseProgress) -> Result<DatabaseProgress, DatabaseError> {
        let mut progress = DatabaseProgress { read_at: Some(Instant::now()), roots: HashMap::new() };
        let sql = "SELECT topic, `partition`, next_offset, roots FROM sink_progress";
        let read = |row: &dyn Columns| Ok((row.text(0)?, row.int(1)? as u32, row.int(2)? as u64, row.text(3)?));
        for (topic, partition, next_offset, text) in self.fetch(sql, &[], read).await? {
            let known = last.roots.get(&topic).and_then(|partitions| partitions.get(&partition));
            let roots = match known.filter(|known| known.text == text) {
                Some(known) => known.roots.clone(),
                None => merged(serde_json::from_str(&text).map_err(|e| sqlx::Error::Decode(e.into()))?),
            };
            progress.roots.entry(topic).or_default().insert(partition, Stored { next_offset, text, roots });
        }
        Ok(progress)
    }
}

/// The least of several lines for the same root partition, ascending by partition.
fn merged(mut lines: Vec<RootPosition>) -> Arc<[RootPosition]> {
    lines.sort_unstable_by_key(|root| root.partition);
    lines.dedup_by(|next, kept| {
        let same = next.partition == kept.partition;
        if same {
            kept.next_offset = kept.next_offset.min(next.next_offset);
            kept.clock_ms = kept.clock_ms.min(next.clock_ms);
        }
        same
    });
    lines.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_tasks_become_their_minimum() {
        let root = |partition, next_offset| RootPosition { partition, next_offset, clock_ms: next_offset as i64 };
        let lines = vec![root(1, 7), root(0, 3), root(1, 5), root(0, 9)];
        assert_eq!(*merged(lines), [root(0, 3), root(1, 5)]);
    }
}
