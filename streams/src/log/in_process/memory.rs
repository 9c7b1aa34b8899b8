//! The log in memory: the embedded log's twin for tests. Commits are applied at once, on the caller's thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::handle::{Handle, InProcess};
use super::request::{Request, Submit};
use super::storage::{Op, PartitionId, Storage, reaches};
use super::upkeep::UpkeepOptions;
use super::writer::Writer;
use crate::log::{Clock, LogError, TopicPartition};

/// Interval of retention by the log's clock. Without a thread, it runs at writes.
const SWEEP_INTERVAL_MS: i64 = 1_000;

/// Its content is dropped with the last handle.
pub struct MemoryLog {
    handle: Handle,
}

impl MemoryLog {
    /// An empty log. It keeps what was replaced, whatever its topics say.
    pub fn new(clock: Clock) -> Self {
        Self::begin(clock, None)
    }

    /// An empty log that merges and compacts as the embedded log does.
    pub fn with_upkeep(clock: Clock, options: UpkeepOptions) -> Self {
        Self::begin(clock, Some(options))
    }

    fn begin(clock: Clock, upkeep: Option<UpkeepOptions>) -> Self {
        let (swept_ms, has_upkeep) = (clock(), upkeep.is_some());
        // Nothing is stored yet, so there is nothing that could be damaged.
        let writer = Writer::new(Box::new(MemoryStorage::default()), clock).kept_by(upkeep.unwrap_or_default());
        let view = writer.view();
        let inline = Inline(Mutex::new(InlineWriter { writer, swept_ms, has_upkeep }));
        Self { handle: Handle { view, submit: Arc::new(inline) } }
    }

    /// From now on readers see nothing new in a partition: as in Kafka where the outcome of a transaction has not reached
    /// it yet, while it has reached others, or where a transaction was left open. Writers see what is written.
    pub fn hold(&self, partition: &TopicPartition) -> Result<(), LogError> {
        self.handle.view.hold(partition, true)
    }

    /// Ends [`MemoryLog::hold`].
    pub fn release(&self, partition: &TopicPartition) -> Result<(), LogError> {
        self.handle.view.hold(partition, false)
    }
}

impl InProcess for MemoryLog {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Runs the writer on the caller's thread.
struct Inline(Mutex<InlineWriter>);

struct InlineWriter {
    writer: Writer,
    swept_ms: i64,
    has_upkeep: bool,
}

impl Submit for Inline {
    fn submit(&self, request: Request) {
        let answers = {
            let mut inline = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let answers = inline.writer.run(vec![request]);
            inline.sweep();
            answers
        };
        for answer in answers {
            answer.deliver();
        }
    }

    fn admit(&self, _bytes: usize) -> Result<(), LogError> {
        Ok(())
    }

    fn release(&self, _bytes: usize) {}
}

impl InlineWriter {
    fn sweep(&mut self) {
        let now = (self.writer.clock)();
        if (self.swept_ms..self.swept_ms.saturating_add(SWEEP_INTERVAL_MS)).contains(&now) {
            return;
        }
        self.swept_ms = now;
        // Memory refuses nothing, so that this ends when all is done.
        while matches!(if self.has_upkeep { self.writer.upkeep() } else { self.writer.sweep() }, Ok(true)) {}
    }
}

/// Batches by base offset, and the log's keys.
#[derive(Default)]
pub(super) struct MemoryStorage(RwLock<Stored>);

#[derive(Default)]
struct Stored {
    partitions: Vec<BTreeMap<u64, Box<[u8]>>>,
    keys: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Storage for MemoryStorage {
    fn commit(&self, ops: &[Op<'_>]) -> Result<(), LogError> {
        let mut stored = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for op in ops {
            match op {
                Op::Create(_) => stored.partitions.push(BTreeMap::new()),
                Op::Append { partition, base, value } => {
                    stored.partitions[*partition as usize].insert(*base, (*value).into());
                }
                Op::Trim { partition, before } => {
                    let batches = &mut stored.partitions[*partition as usize];
                    *batches = batches.split_off(before);
                }
                Op::Replace { partition, from, to, blocks } => {
                    let batches = &mut stored.partitions[*partition as usize];
                    let behind = batches.split_off(to);
                    batches.split_off(from);
                    batches.extend(blocks.iter().map(|(base, block)| (*base, block.as_slice().into())));
                    batches.extend(behind);
                }
                Op::Put { key, value } => {
                    stored.keys.insert(key.clone(), value.clone());
                }
            }
        }
        Ok(())
    }

    fn scan(
        &self,
        partition: PartitionId,
        from: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), LogError> {
        let stored = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let batches = &stored.partitions[partition as usize];
        let first = batches.range(..=from).next_back().filter(|(base, value)| reaches(**base, value, from));
        let first = first.map_or(from, |(base, _)| *base);
        for (base, value) in batches.range(first..) {
            if !each(*base, value) {
                break;
            }
        }
        Ok(())
    }

    fn bounds(&self, partition: PartitionId) -> Result<Option<(u64, u64)>, LogError> {
        let stored = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let batches = &stored.partitions[partition as usize];
        Ok(batches.first_key_value().zip(batches.last_key_value()).map(|((first, _), (last, _))| (*first, *last)))
    }

    fn stored_bytes(&self, partition: PartitionId) -> Result<u64, LogError> {
        let stored = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(stored.partitions[partition as usize].values().map(|value| value.len() as u64).sum())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        let stored = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(stored.keys.get(key).cloned())
    }
}
