//! What of a store is in memory: loading its checkpoint, and evicting entries that the checkpoint has.

use super::{Entries, Entry, Pass, SAMPLES, corrupt};
use crate::store::StoreError;
use crate::store::checkpoint::{Checkpoint, CheckpointReader, CheckpointWriter, Cursor};
use crate::store::codec::StoreKey;
use crate::store::table::Table;
use std::sync::Arc;

/// What an allocation takes beside the bytes of a key or value, about.
const ALLOCATION_BYTES: usize = 16;

/// So many entries of the checkpoint are read at once.
const READ_AT_ONCE: usize = 16_384;

/// Whether the entries of the checkpoint are being loaded into memory.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Loading {
    Going,
    /// All are in memory.
    Done,
    /// Some were evicted: there is no end to it.
    Abandoned,
}

impl<K: StoreKey, E: Entry<K>> Entries<K, E> {
    /// See [`crate::store::StateStore::hydrate`].
    pub fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError> {
        let Some(behind) = self.behind.as_mut().filter(|_| self.loading == Loading::Going) else { return Ok(false) };
        let (table, name) = (&mut self.table, &self.name);
        behind.forget_below(self.dropped);
        let more = behind.read(&mut self.loaded, entries_max, |segment, key, value| {
            let (_, key) = E::decode_key(key).ok_or_else(|| corrupt(name, "a key"))?;
            let found = table.find(&key);
            if found.place.is_none() {
                table.load(found, key, E::decode_value(segment, value).ok_or_else(|| corrupt(name, "a value"))?);
            }
            Ok(true)
        })?;
        if !more {
            self.loading = Loading::Done;
            self.let_go();
        }
        Ok(more)
    }

    /// Whether there are no entries, neither in memory nor in the checkpoint.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0 && self.behind.as_ref().is_none_or(|behind| behind.any_segment().is_none())
    }

    /// Calls `each` with some of the entries that only the checkpoint has, by key, behind the cursor; true where there may be
    /// more. `writer`: what the next checkpoint is being written to, before the entries are.
    pub fn read_behind(
        &self,
        cursor: &mut Cursor,
        writer: Option<&CheckpointWriter<'_>>,
        mut each: impl FnMut(K, E),
    ) -> Result<bool, StoreError> {
        let Some(behind) = &self.behind else { return Ok(false) };
        let each = |segment: u64, stored: &[u8], value: &[u8]| {
            let (_, key) = E::decode_key(stored).ok_or_else(|| self.corrupt("a key"))?;
            if self.table.get(&key).is_none() {
                each(key, E::decode_value(segment, value).ok_or_else(|| self.corrupt("a value"))?);
            }
            Ok(true)
        };
        match writer {
            Some(writer) => writer.read(behind, cursor, READ_AT_ONCE, each),
            None => behind.read(cursor, READ_AT_ONCE, each),
        }
    }

    /// Lets go of a checkpoint that nothing is read from any more. A snapshot that is being written reads all of it.
    pub(super) fn let_go(&mut self) {
        if self.loading == Loading::Done && self.committed_pass == Pass::Over {
            self.behind = None;
        }
    }

    /// See [`crate::store::StateStore::memory_bytes`].
    pub fn memory_bytes(&mut self) -> usize {
        if self.table.len().abs_diff(self.heap_samples_of) > self.heap_samples_of / 8 {
            self.sample_heap();
        }
        let read = self.behind.as_ref().map_or(0, CheckpointReader::memory_bytes);
        self.table.size_bytes() + self.table.len() * self.heap_bytes + read
    }

    /// Keys and values with a heap take about as much of it as they take when they are stored.
    pub(super) fn sample_heap(&mut self) {
        let (mut bytes, mut count) = (Vec::new(), 0);
        let has_heap = [std::mem::needs_drop::<K>(), std::mem::needs_drop::<E>()];
        if has_heap != [false, false] {
            for (key, entry) in self.table.sample(SAMPLES) {
                if has_heap[0] {
                    key.encode(&mut bytes);
                }
                if has_heap[1] {
                    entry.encode_value(&mut bytes);
                }
                count += 1;
            }
        }
        let allocations = has_heap.into_iter().filter(|has_heap| *has_heap).count() * ALLOCATION_BYTES;
        self.heap_bytes = bytes.len().checked_div(count).map_or(0, |average| average + allocations);
        self.heap_samples_of = self.table.len();
    }

    /// See [`crate::store::StateStore::evict`].
    pub fn evict(&mut self, checkpoint: &Arc<Checkpoint>, bytes_max: usize) -> Result<usize, StoreError> {
        let bytes = self.memory_bytes();
        if bytes <= bytes_max || !self.table.can_shrink() {
            return Ok(0);
        }
        let behind = match &mut self.behind {
            Some(behind) => behind,
            None => self.behind.insert(CheckpointReader::new(checkpoint.clone(), self.index)?),
        };
        behind.forget_below(self.dropped);
        self.loading = Loading::Abandoned;
        let (read, heap_bytes) = (behind.memory_bytes(), self.heap_bytes);
        let part = 1.0 - bytes_max as f64 / bytes as f64;
        let is_enough = |table: &Table<K, E>| table.size_bytes() + table.len() * heap_bytes + read <= bytes_max;
        Ok(self.table.evict(part, is_enough))
    }

    /// How many entries were read through since the last call.
    pub fn take_reads(&mut self) -> u64 {
        std::mem::take(&mut self.reads)
    }
}
