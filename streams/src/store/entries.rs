//! The core of every store: entries in memory, the checkpoint that they are read through to, and the segments that expire.
//!
//! Entries that are checkpointed may be evicted from memory. An entry that is not in memory is therefore as the checkpoint
//! has it, and one that is in memory is as memory has it.

mod memory;
mod snapshot;

use super::StoreError;
use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointReader, CheckpointWriter, Cursor, NO_SEGMENT, segment_bytes};
use super::codec::{StoreKey, StoreValue};
use super::slots::{Found, Place};
use super::table::Table;
use memory::Loading;
use snapshot::Pass;
use std::sync::Arc;

/// So many entries show how large those of a store are. A few large ones, such as sketches, may take most of the memory.
const SAMPLES: u32 = 1_024;

/// What a table holds under a key, and its form in checkpoint and changelog.
pub(super) trait Entry<K: StoreKey>: Clone + Send + 'static {
    /// The segment that the entry expires with.
    fn segment(&self, key: &K) -> u64;
    /// Appends the stored key. That of an entry with a segment begins with it (u64 BE).
    fn encode_key(key: &K, segment: u64, out: &mut Vec<u8>);
    /// Reads what [`Entry::encode_key`] wrote.
    fn decode_key(stored: &[u8]) -> Option<(u64, K)>;
    /// Appends the stored value.
    fn encode_value(&self, out: &mut Vec<u8>);
    /// Reads what [`Entry::encode_value`] wrote.
    fn decode_value(segment: u64, bytes: &[u8]) -> Option<Self>;
}

/// A plain value: the key decides about the segment.
impl<K: StoreKey, V: StoreValue> Entry<K> for V {
    fn segment(&self, key: &K) -> u64 {
        key.segment().unwrap_or(NO_SEGMENT)
    }

    fn encode_key(key: &K, _segment: u64, out: &mut Vec<u8>) {
        key.encode(out);
    }

    fn decode_key(stored: &[u8]) -> Option<(u64, K)> {
        let key = K::decode(stored)?;
        Some((key.segment().unwrap_or(NO_SEGMENT), key))
    }

    fn encode_value(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn decode_value(_segment: u64, bytes: &[u8]) -> Option<Self> {
        V::decode(bytes)
    }
}

/// The entries of a store.
pub(super) struct Entries<K: StoreKey, E: Entry<K>> {
    name: String,
    /// The store's place among the checkpoint's databases.
    index: usize,
    /// The entries in memory.
    pub table: Table<K, E>,
    /// The checkpoint that entries are read through to; None while all of them are in memory.
    behind: Option<CheckpointReader>,
    /// Up to where it was loaded into memory, and how far that is to go.
    loaded: Cursor,
    loading: Loading,
    /// The pass of a snapshot over the checkpoint, behind that over the memory; as of the open transaction and of the last
    /// commit.
    pass: Pass,
    committed_pass: Pass,
    /// The heap of an entry, about, and of how many entries in memory it was sampled.
    heap_bytes: usize,
    heap_samples_of: usize,
    /// Entries that were read through since the last query.
    reads: u64,
    /// What went wrong while an entry was read through.
    fault: Option<StoreError>,
    /// Segments below are dropped, and the drop is committed.
    dropped: u64,
    /// Segments below are dropped if the open transaction commits.
    dropping: u64,
    /// Segments below are dropped from the checkpoint.
    dropped_on_disk: u64,
    key_bytes: Vec<u8>,
}

impl<K: StoreKey, E: Entry<K>> Default for Entries<K, E> {
    fn default() -> Self {
        Self {
            name: String::new(),
            index: 0,
            table: Table::default(),
            behind: None,
            loaded: None,
            loading: Loading::Done,
            pass: Pass::Over,
            committed_pass: Pass::Over,
            heap_bytes: 0,
            heap_samples_of: 0,
            reads: 0,
            fault: None,
            dropped: 0,
            dropping: 0,
            dropped_on_disk: 0,
            key_bytes: Vec::new(),
        }
    }
}

impl<K: StoreKey, E: Entry<K>> Entries<K, E> {
    /// See [`super::StateStore::open`].
    pub fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        (self.name, self.index) = (name.to_owned(), index);
        self.behind = behind.map(|checkpoint| CheckpointReader::new(checkpoint, index)).transpose()?;
        self.loading = if self.behind.is_some() { Loading::Going } else { Loading::Done };
        Ok(())
    }

    /// The store's place among the checkpoint's databases.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where a key is, for [`Entries::at`] and [`Entries::write_at`]. Valid until the store changes otherwise.
    pub fn find(&mut self, key: &K) -> Found {
        let found = self.table.find(key);
        match found.place {
            None if self.behind.is_some() => self.load(key, found),
            _ => found,
        }
    }

    /// The entry of a key that was looked for, unless it has expired.
    pub fn at(&self, found: Found, key: &K) -> Option<&E> {
        self.table.at(found).flatten().filter(|entry| entry.segment(key) >= self.dropping)
    }

    /// [`Entries::write`] of a key that was looked for.
    pub fn write_at(&mut self, found: Found, key: &K) -> &mut Option<E> {
        let dropping = self.dropping;
        let slot = self.table.write_at(found, key);
        slot.take_if(|entry| entry.segment(key) < dropping);
        slot
    }

    /// The entry of a key, unless it has expired.
    pub fn get(&mut self, key: &K) -> Option<&E> {
        let found = self.find(key);
        self.at(found, key)
    }

    /// The entry of a key, to be changed or removed in place. An expired entry reads as none.
    pub fn write(&mut self, key: &K) -> &mut Option<E> {
        let found = self.find(key);
        self.write_at(found, key)
    }

    /// See [`Table::change_in_place`]. The entry of an expired key is not changed.
    pub fn change_in_place(&mut self, key: &K, change: impl FnOnce(Place, &mut E) -> bool) -> Option<&E>
    where
        E: Default,
    {
        if self.has_expired(key) {
            return None;
        }
        let found = self.find(key);
        self.table.change_in_place(found, key, change)
    }

    /// Whether the segment of a key has expired.
    pub fn has_expired(&self, key: &K) -> bool {
        key.segment().is_some_and(|segment| segment < self.dropping)
    }

    /// The first segment that has not expired.
    pub fn first_segment(&self) -> u64 {
        self.dropping
    }

    /// Drops the segments before this one when the open transaction commits.
    pub fn expire(&mut self, segment: u64) {
        self.dropping = self.dropping.max(segment);
    }

    /// Loads a key that is not in memory from the checkpoint.
    #[cold]
    fn load(&mut self, key: &K, found: Found) -> Found {
        let Some(behind) = &mut self.behind else { return found };
        let own = key.segment();
        let Some(segment) = own.or_else(|| behind.any_segment()) else { return found };
        self.key_bytes.clear();
        E::encode_key(key, segment, &mut self.key_bytes);
        let stored = self.key_bytes.get(segment_bytes(segment)..).unwrap_or_default();
        let decode = |(segment, bytes): (u64, Vec<u8>)| {
            E::decode_value(segment, &bytes).ok_or_else(|| corrupt(&self.name, "a value"))
        };
        match behind.get(own, stored).and_then(|value| value.map(decode).transpose()) {
            Ok(Some(entry)) => {
                self.reads += 1;
                self.table.load(found, key.clone(), entry)
            }
            Ok(None) => found,
            Err(fault) => {
                self.fault = Some(fault);
                found
            }
        }
    }

    /// Begins the store's section in the changelog, with the segments that the open transaction drops.
    pub fn begin_changes(&self, out: &mut ChangelogWriter) {
        out.begin(&self.name);
        if self.dropping > self.dropped {
            out.drop_segments(self.dropping);
        }
    }

    /// Writes the entries that the open transaction changed, each as its new value.
    pub fn write_values(&self, out: &mut ChangelogWriter) {
        for (key, entry) in self.table.changes() {
            let stored_key = |out: &mut Vec<u8>| E::encode_key(key, segment_of(key, entry), out);
            match entry {
                Some(entry) => out.put(stored_key, |out| entry.encode_value(out)),
                None => out.delete(stored_key),
            }
        }
    }

    /// Applies what [`Entries::write_values`] or [`Entries::write_snapshot`] wrote.
    pub fn replay_value(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        let (key, value) = self.read_value(entry)?;
        *self.table.write(&key) = value;
        Ok(())
    }

    /// The key and value that [`Entries::replay_value`] applies.
    pub fn read_value(&self, entry: &ChangelogEntry<'_>) -> Result<(K, Option<E>), StoreError> {
        let (key, value) = match entry {
            ChangelogEntry::Put { key, value } => (*key, Some(*value)),
            ChangelogEntry::Delete { key } => (*key, None),
            other => return Err(self.unexpected(other)),
        };
        let (segment, key) = E::decode_key(key).ok_or_else(|| self.corrupt("a key"))?;
        let decode = |value| E::decode_value(segment, value).ok_or_else(|| self.corrupt("a value"));
        Ok((key, value.map(decode).transpose()?))
    }

    /// Whether the open transaction changed anything.
    pub fn has_changes(&self) -> bool {
        self.table.has_changes() || self.dropping > self.dropped
    }

    /// Ends the open transaction. Dropped segments leave the memory.
    pub fn commit(&mut self) {
        self.table.commit();
        if self.committed_pass != self.pass {
            self.committed_pass.clone_from(&self.pass);
            self.let_go();
        }
        if self.dropping > self.dropped {
            let first = self.dropping;
            self.dropped = first;
            self.table.retain(|key, entry| entry.segment(key) >= first);
            if let Some(behind) = &mut self.behind {
                behind.forget_below(first);
            }
        }
    }

    /// Undoes the open transaction.
    pub fn rollback(&mut self) {
        self.table.rollback();
        self.dropping = self.dropped;
        self.pass.clone_from(&self.committed_pass);
    }

    /// See [`super::StateStore::checkpoint`].
    pub fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        out.begin(self.index)?;
        if self.dropped > self.dropped_on_disk {
            out.delete_below(self.dropped)?;
        }
        for (key, entry) in self.table.unwritten() {
            let segment = segment_of(key, entry);
            let value = entry.map(|entry| move |out: &mut Vec<u8>| entry.encode_value(out));
            out.put(segment, |out| E::encode_key(key, segment, out), value)?;
        }
        Ok(())
    }

    /// See [`super::StateStore::checkpointed`].
    pub fn checkpointed(&mut self) {
        self.dropped_on_disk = self.dropped;
        self.table.checkpointed();
        self.sample_heap();
        if let Some(behind) = &mut self.behind
            && let Err(fault) = behind.refresh()
        {
            self.fault = Some(fault);
        }
    }

    /// See [`super::StateStore::take_fault`].
    pub fn take_fault(&mut self) -> Option<StoreError> {
        self.fault.take()
    }

    /// Something that was needed of the checkpoint could not be read. The first fault is kept.
    pub fn fail(&mut self, fault: StoreError) {
        self.fault.get_or_insert(fault);
    }

    /// An error about bytes of this store that do not decode.
    pub fn corrupt(&self, detail: impl Into<String>) -> StoreError {
        corrupt(&self.name, detail)
    }

    /// An error about a changelog entry that no store of this kind writes.
    pub fn unexpected(&self, entry: &ChangelogEntry<'_>) -> StoreError {
        self.corrupt(format!("a store of this kind has no {entry:?}"))
    }
}

/// The segment of an entry; None is a deleted one. Only entries whose key has their segment are deleted one by one, or
/// those without any.
fn segment_of<K: StoreKey, E: Entry<K>>(key: &K, entry: Option<&E>) -> u64 {
    entry.map_or_else(|| key.segment().unwrap_or(NO_SEGMENT), |entry| entry.segment(key))
}

fn corrupt(store: &str, detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { store: store.to_owned(), detail: detail.into() }
}
