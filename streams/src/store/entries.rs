//! The core of every store: entries in memory, the checkpoint that they are read through to, and the segments that expire.

use super::StoreError;
use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::table::Table;
use std::ops::Bound;
use std::sync::Arc;

/// The segment of an entry that never expires.
const NEVER: u64 = u64::MAX;

/// What a table holds under a key, and its form in checkpoint and changelog.
pub(super) trait Entry<K: StoreKey>: Clone + Send + 'static {
    /// The segment that the entry expires with.
    fn segment(&self, key: &K) -> u64;
    /// Appends the stored key. Entries with a segment are stored in the order of their segments (u64 BE).
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
        key.segment().unwrap_or(NEVER)
    }

    fn encode_key(key: &K, _segment: u64, out: &mut Vec<u8>) {
        key.encode(out);
    }

    fn decode_key(stored: &[u8]) -> Option<(u64, K)> {
        let key = K::decode(stored)?;
        Some((key.segment().unwrap_or(NEVER), key))
    }

    fn encode_value(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn decode_value(_segment: u64, bytes: &[u8]) -> Option<Self> {
        V::decode(bytes)
    }
}

/// The part of a checkpoint that is not in memory yet.
struct Behind {
    checkpoint: Arc<Checkpoint>,
    /// The segments of its entries, ascending.
    segments: Vec<u64>,
    /// The last stored key that was loaded.
    hydrated: Option<Vec<u8>>,
}

/// The entries of a store.
pub(super) struct Entries<K: StoreKey, E: Entry<K>> {
    name: String,
    /// The store's place among the checkpoint's databases.
    index: usize,
    /// The entries in memory.
    pub table: Table<K, E>,
    /// None once all entries are in memory.
    behind: Option<Behind>,
    /// What went wrong while an entry was read through.
    fault: Option<StoreError>,
    /// Segments below are gone for good.
    dropped: u64,
    /// Segments below are gone if the open transaction commits.
    dropping: u64,
    /// Segments below are gone from the checkpoint.
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
        let Some(checkpoint) = behind else { return Ok(()) };
        // Seeks from segment to segment: there are few.
        let (mut segments, mut from) = (Vec::new(), None::<[u8; 8]>);
        loop {
            let (start, mut found) = (from.as_ref().map_or(Bound::Unbounded, |from| Bound::Included(&from[..])), None);
            checkpoint.scan(index, start, 1, |stored, _| {
                found = Some(E::decode_key(stored).ok_or_else(|| corrupt(name, "a key"))?.0);
                Ok(())
            })?;
            segments.extend(found);
            let Some(next) = found.and_then(|segment| segment.checked_add(1)) else { break };
            from = Some(next.to_be_bytes());
        }
        self.behind = Some(Behind { checkpoint, segments, hydrated: None });
        Ok(())
    }

    /// The entry of a key, unless it has expired.
    pub fn get(&mut self, key: &K) -> Option<&E> {
        self.fetch(key);
        let dropping = self.dropping;
        self.table.get(key).flatten().filter(|entry| entry.segment(key) >= dropping)
    }

    /// The entry of a key, to be changed or removed in place. An expired entry reads as none.
    pub fn write(&mut self, key: &K) -> &mut Option<E> {
        self.fetch(key);
        let dropping = self.dropping;
        let slot = self.table.write(key);
        slot.take_if(|entry| entry.segment(key) < dropping);
        slot
    }

    /// See [`Table::change_in_place`]. The entry of an expired key is not changed.
    pub fn change_in_place(&mut self, key: &K, change: impl FnOnce(&mut E) -> bool) -> Option<&E>
    where
        E: Default,
    {
        if key.segment().is_some_and(|segment| segment < self.dropping) {
            return None;
        }
        self.fetch(key);
        self.table.change_in_place(key, change)
    }

    /// The first segment that has not expired.
    pub fn first_segment(&self) -> u64 {
        self.dropping
    }

    /// Drops the segments before this one when the open transaction commits.
    pub fn expire(&mut self, segment: u64) {
        self.dropping = self.dropping.max(segment);
    }

    /// Loads a key into memory if only the checkpoint has it.
    fn fetch(&mut self, key: &K) {
        let Some(behind) = &self.behind else { return };
        if self.table.get(key).is_some() {
            return;
        }
        let own = key.segment();
        for segment in behind.segments.iter().rev().filter(|segment| own.is_none_or(|own| own == **segment)) {
            self.key_bytes.clear();
            E::encode_key(key, *segment, &mut self.key_bytes);
            let found = behind.checkpoint.get(self.index, &self.key_bytes);
            let decode =
                |bytes: Vec<u8>| E::decode_value(*segment, &bytes).ok_or_else(|| corrupt(&self.name, "a value"));
            match found.and_then(|found| found.map(decode).transpose()) {
                Ok(Some(entry)) => return self.table.load(key.clone(), entry),
                Ok(None) => {}
                Err(fault) => self.fault = Some(fault),
            }
        }
    }

    /// See [`super::StateStore::hydrate`].
    pub fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError> {
        let Some(behind) = &mut self.behind else { return Ok(false) };
        let after = behind.hydrated.take();
        let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (table, name, dropped) = (&mut self.table, &self.name, self.dropped);
        let (mut last, mut reached) = (None, 0);
        let more = behind.checkpoint.scan(self.index, after, entries_max, |stored, value| {
            last = Some(stored.to_vec());
            let (segment, key) = E::decode_key(stored).ok_or_else(|| corrupt(name, "a key"))?;
            reached = segment;
            if segment >= dropped && table.get(&key).is_none() {
                table.load(key, E::decode_value(segment, value).ok_or_else(|| corrupt(name, "a value"))?);
            }
            Ok(())
        })?;
        behind.hydrated = last;
        behind.segments.retain(|segment| *segment >= reached);
        if !more {
            self.behind = None;
        }
        Ok(more)
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
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        for (key, entry) in self.table.changes() {
            encode_key(key, entry, &mut key_bytes);
            match entry {
                Some(entry) => {
                    value_bytes.clear();
                    entry.encode_value(&mut value_bytes);
                    out.put(&key_bytes, &value_bytes);
                }
                None => out.delete(&key_bytes),
            }
        }
    }

    /// Applies what [`Entries::write_values`] wrote.
    pub fn replay_value(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        let (key, value) = match entry {
            ChangelogEntry::Put { key, value } => (*key, Some(*value)),
            ChangelogEntry::Delete { key } => (*key, None),
            other => return Err(self.unexpected(other)),
        };
        let (segment, key) = E::decode_key(key).ok_or_else(|| self.corrupt("a key"))?;
        let decode = |value| E::decode_value(segment, value).ok_or_else(|| self.corrupt("a value"));
        *self.table.write(&key) = value.map(decode).transpose()?;
        Ok(())
    }

    /// Whether the open transaction changed anything.
    pub fn has_changes(&self) -> bool {
        self.table.has_changes() || self.dropping > self.dropped
    }

    /// Ends the open transaction. Dropped segments leave the memory.
    pub fn commit(&mut self) {
        self.table.commit();
        if self.dropping > self.dropped {
            let first = self.dropping;
            self.dropped = first;
            self.table.retain(|key, entry| entry.segment(key) >= first);
            if let Some(behind) = &mut self.behind {
                behind.segments.retain(|segment| *segment >= first);
            }
        }
    }

    /// Undoes the open transaction.
    pub fn rollback(&mut self) {
        self.table.rollback();
        self.dropping = self.dropped;
    }

    /// See [`super::StateStore::checkpoint`].
    pub fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        out.begin(self.index);
        if self.dropped > self.dropped_on_disk {
            out.delete_below(&self.dropped.to_be_bytes())?;
        }
        let stored_key = |key: &K, entry: Option<&E>| {
            let mut bytes = Vec::with_capacity(24);
            encode_key(key, entry, &mut bytes);
            bytes
        };
        let mut bytes = Vec::new();
        self.table.checkpoint(stored_key, |key, entry| match entry {
            Some(entry) => {
                bytes.clear();
                entry.encode_value(&mut bytes);
                out.put(key, &bytes)
            }
            None => out.delete(key),
        })
    }

    /// See [`super::StateStore::checkpointed`].
    pub fn checkpointed(&mut self) {
        self.dropped_on_disk = self.dropped;
        self.table.checkpointed();
    }

    /// See [`super::StateStore::take_fault`].
    pub fn take_fault(&mut self) -> Option<StoreError> {
        self.fault.take()
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

/// The stored key of an entry; None is a deleted one. Entries that carry their segment are never deleted one by one, so
/// a missing entry needs no segment.
fn encode_key<K: StoreKey, E: Entry<K>>(key: &K, entry: Option<&E>, out: &mut Vec<u8>) {
    out.clear();
    E::encode_key(key, entry.map_or(NEVER, |entry| entry.segment(key)), out);
}

fn corrupt(store: &str, detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { store: store.to_owned(), detail: detail.into() }
}
