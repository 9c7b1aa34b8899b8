//! A copy of a log while another process writes it.
//!
//! A transaction that reads keeps LMDB from using pages again that commits free meanwhile, and the file never shrinks. A
//! copy in one transaction, as LMDB itself makes it, would thus let the file grow by all that is written until the copy
//! is done. So there are two passes. The first copies all batches in short transactions, each of which sees another moment.
//! The second compares one snapshot with what was copied, by the position, length and checksum of every batch, and writes only
//! what differs. The copy is then that snapshot, and the snapshot lived only as long as the second pass.

use std::fs;
use std::path::{Path, PathBuf};

use super::lmdb::{LmdbStorage, Snapshot};
use super::offline::OfflineLog;
use super::options::EmbeddedOptions;
use crate::log::LogError;
use crate::log::in_process::batch::Head;
use crate::log::in_process::keys;
use crate::log::in_process::registry::Registry;
use crate::log::in_process::storage::{Op, PartitionId, Storage};

/// What is read in one transaction, and written in one commit: at most so many bytes and batches. The file of the copy grows
/// in advance by a page for each batch.
const STEP_BYTES_MAX: usize = 8 << 20;
const STEP_BATCHES_MAX: usize = 512;

/// What LMDB and the lock leave beside the data.
const BESIDE: [&str; 2] = ["lock.mdb", "owner.lock"];

/// A copy that has all batches, of different moments.
pub struct LogCopy<'a> {
    source: &'a LmdbStorage,
    target: LmdbStorage,
    dir: PathBuf,
    /// By partition, ascending.
    copied: Vec<Vec<Stamp>>,
}

/// A copy that will be that of one moment.
pub struct FixedCopy<'a> {
    copy: LogCopy<'a>,
    snapshot: Snapshot<'a>,
}

/// Identifies the content of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    base: u64,
    len_bytes: usize,
    /// Covers the rest of the batch.
    checksum: Option<[u8; 4]>,
}

impl Stamp {
    fn of(base: u64, value: &[u8]) -> Self {
        Self { base, len_bytes: value.len(), checksum: value.first_chunk().copied() }
    }
}

impl OfflineLog {
    /// Copies all batches to a new log in `dir`, which is created. Only [`FixedCopy::finish`] makes it a log that can be used.
    pub fn copy_to(&self, dir: &Path) -> Result<LogCopy<'_>, LogError> {
        let (source, partitions) = (self.storage(), self.registry().partitions());
        let target = LmdbStorage::open(dir, &EmbeddedOptions::default())?;
        target.commit(&(0..partitions).map(Op::Create).collect::<Vec<_>>())?;
        let copied = (0..partitions).map(|id| copy_partition(source, &target, id)).collect::<Result<_, _>>()?;
        Ok(LogCopy { source, target, dir: dir.to_owned(), copied })
    }
}

fn copy_partition(source: &LmdbStorage, target: &LmdbStorage, id: PartitionId) -> Result<Vec<Stamp>, LogError> {
    let (mut copied, mut next) = (Vec::new(), 0);
    loop {
        let (mut step, mut bytes) = (Vec::new(), 0);
        source.scan(id, next, &mut |base, value| {
            // What was merged meanwhile may reach back. The second pass replaces it.
            if base >= next {
                bytes += value.len();
                step.push((base, value.to_vec()));
            }
            step.len() < STEP_BATCHES_MAX && bytes < STEP_BYTES_MAX
        })?;
        let Some((base, value)) = step.last() else { return Ok(copied) };
        next = Head::decode(value).map_or(base + 1, |head| head.end(*base));
        copied.extend(step.iter().map(|(base, value)| Stamp::of(*base, value)));
        let ops = step.iter().map(|(base, value)| Op::Append { partition: id, base: *base, value });
        target.commit(&ops.collect::<Vec<_>>())?;
    }
}

impl<'a> LogCopy<'a> {
    /// The moment of the copy is now.
    pub fn fix(self) -> Result<FixedCopy<'a>, LogError> {
        let snapshot = self.source.snapshot()?;
        Ok(FixedCopy { copy: self, snapshot })
    }
}

impl FixedCopy<'_> {
    /// Makes the copy that of its moment, durable, and free for others.
    pub fn finish(self) -> Result<(), LogError> {
        let Self { copy: LogCopy { target, dir, mut copied, .. }, snapshot } = self;
        let keys = snapshot.keys()?;
        let topics = keys.iter().find(|(key, _)| key == keys::TOPICS);
        let registry = topics.map(|(_, value)| Registry::decode(value)).transpose()?.unwrap_or_default();
        if registry.partitions() as usize != copied.len() {
            return Err(LogError::Unavailable("topics were created while the log was copied: try again".to_owned()));
        }
        for (id, copied) in (0..).zip(&mut copied) {
            let mut repair = Repair::new(&target, id, std::mem::take(copied));
            snapshot.batches(id, |base, value| repair.take(base, value))?;
            repair.finish()?;
        }
        drop(snapshot);
        target.commit(&keys.into_iter().map(|(key, value)| Op::Put { key, value }).collect::<Vec<_>>())?;
        let wrong = |e: std::io::Error| LogError::Fatal(format!("cannot write {}: {e}", dir.display()));
        target.close_trimmed(&dir.join("data.mdb")).map_err(wrong)?;
        remove_locks(&dir).map_err(wrong)
    }
}

/// Removes what a process leaves beside the data of a log that it has closed.
pub(super) fn remove_locks(dir: &Path) -> std::io::Result<()> {
    BESIDE.iter().try_for_each(|name| match fs::remove_file(dir.join(name)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    })
}

/// Replaces what differs in a partition of the copy. What lies between two batches that are equal is replaced as a whole.
struct Repair<'a> {
    target: &'a LmdbStorage,
    partition: PartitionId,
    copied: std::iter::Peekable<std::vec::IntoIter<Stamp>>,
    /// Where the difference begins.
    from: Option<u64>,
    blocks: Vec<(u64, Vec<u8>)>,
    bytes: usize,
}

impl<'a> Repair<'a> {
    fn new(target: &'a LmdbStorage, partition: PartitionId, copied: Vec<Stamp>) -> Self {
        Self { target, partition, copied: copied.into_iter().peekable(), from: None, blocks: Vec::new(), bytes: 0 }
    }

    /// The next batch of the snapshot.
    fn take(&mut self, base: u64, value: &[u8]) -> Result<(), LogError> {
        while let Some(gone) = self.copied.next_if(|stamp| stamp.base < base) {
            self.from.get_or_insert(gone.base);
        }
        let stamp = Stamp::of(base, value);
        if self.copied.next_if(|copied| copied.base == base) == Some(stamp) {
            return self.replace(base);
        }
        if self.blocks.len() == STEP_BATCHES_MAX || self.bytes >= STEP_BYTES_MAX {
            self.replace(base)?;
        }
        self.from.get_or_insert(base);
        self.bytes += value.len();
        self.blocks.push((base, value.to_vec()));
        Ok(())
    }

    /// What is left of the copy is not in the snapshot.
    fn finish(mut self) -> Result<(), LogError> {
        if let Some(gone) = self.copied.next() {
            self.from.get_or_insert(gone.base);
        }
        self.replace(u64::MAX)
    }

    /// Writes the difference before `to`, if there is one.
    fn replace(&mut self, to: u64) -> Result<(), LogError> {
        let Some(from) = self.from.take() else { return Ok(()) };
        let (partition, blocks) = (self.partition, std::mem::take(&mut self.blocks));
        self.bytes = 0;
        self.target.commit(&[Op::Replace { partition, from, to, blocks: &blocks }])
    }
}

#[cfg(test)]
#[path = "copying_tests.rs"]
mod tests;
