//! A store whose entries are kept until a time, and then forgotten by whole segments.

use super::changelog::{ChangelogEntry, ChangelogWriter};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::codec::{StoreKey, StoreValue};
use super::key_value::corrupt;
use super::table::Table;
use super::{StateStore, StoreError};
use std::ops::Bound;
use std::sync::Arc;

/// A value and the segment of time that it expires with.
#[derive(Clone)]
struct Windowed<V> {
    value: V,
    segment: u32,
}

/// Keys and values, each kept until a time, in segments of `SEGMENT_MS`. A key keeps the segment it first came with
/// until it expires. In checkpoint and changelog the segment (u64 BE) precedes the key, so that a segment is a range.
pub struct WindowStore<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> {
    name: String,
    table: Table<K, Windowed<V>>,
    /// Segments below are gone for good.
    dropped: u32,
    /// Segments below are gone if the open transaction commits.
    dropping: u32,
    /// Where the checkpoint still has dropped segments.
    dropped_on_disk: u32,
    /// Where entries may be that are not in memory, and in which segments; None once all are.
    behind: Option<(Arc<Checkpoint>, Vec<u32>)>,
    hydrated: Option<Vec<u8>>,
    index: usize,
    fault: Option<StoreError>,
    bytes: (Vec<u8>, Vec<u8>),
}

impl<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> Default for WindowStore<K, V, SEGMENT_MS> {
    fn default() -> Self {
        Self {
            name: String::new(),
            table: Table::default(),
            dropped: 0,
            dropping: 0,
            dropped_on_disk: 0,
            behind: None,
            hydrated: None,
            index: 0,
            fault: None,
            bytes: Default::default(),
        }
    }
}

impl<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> WindowStore<K, V, SEGMENT_MS> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The value of a key, unless it has expired.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.fetch(key);
        let live = self.dropping;
        self.table.get(key).flatten().filter(|windowed| windowed.segment >= live).map(|windowed| &windowed.value)
    }

    /// Changes the value of a key, or gives it one that expires some time after `keep_until_ms`: when the clock passes
    /// the end of the segment that holds this time.
    pub fn upsert(&mut self, key: &K, keep_until_ms: i64, new: V, change: impl FnOnce(&mut V)) {
        self.fetch(key);
        let (segment, live) = (segment_of::<SEGMENT_MS>(keep_until_ms), self.dropping);
        match self.table.write(key) {
            Some(windowed) if windowed.segment >= live => change(&mut windowed.value),
            slot => *slot = Some(Windowed { value: new, segment: segment.max(live) }),
        }
    }

    /// Gives a key a value if it has none; true where it had none.
    pub fn insert(&mut self, key: &K, keep_until_ms: i64, value: V) -> bool {
        if self.get(key).is_some() {
            return false;
        }
        let segment = segment_of::<SEGMENT_MS>(keep_until_ms).max(self.dropping);
        *self.table.write(key) = Some(Windowed { value, segment });
        true
    }

    /// Forgets the segments that end at or before the clock.
    pub fn expire(&mut self, clock_ms: i64) {
        self.dropping = self.dropping.max(segment_of::<SEGMENT_MS>(clock_ms));
    }

    fn fetch(&mut self, key: &K) {
        let Some((checkpoint, segments)) = &self.behind else { return };
        if self.table.get(key).is_some() {
            return;
        }
        for segment in segments.iter().rev() {
            let bytes = &mut self.bytes.0;
            stored_key(*segment, key, bytes);
            let found = checkpoint.get(self.index, bytes).and_then(|found| match found {
                Some(bytes) => V::decode(&bytes).map(Some).ok_or_else(|| corrupt(&self.name, "a value")),
                None => Ok(None),
            });
            match found {
                Ok(Some(value)) => return self.table.load(key.clone(), Windowed { value, segment: *segment }),
                Ok(None) => {}
                Err(fault) => self.fault = Some(fault),
            }
        }
    }
}

/// The segment that holds a time. Times before 1970 share the first.
fn segment_of<const SEGMENT_MS: i64>(time_ms: i64) -> u32 {
    u32::try_from((time_ms / SEGMENT_MS).max(0)).unwrap_or(u32::MAX)
}

fn stored_key<K: StoreKey>(segment: u32, key: &K, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&u64::from(segment).to_be_bytes());
    key.encode(out);
}

fn split_key<K: StoreKey>(stored: &[u8]) -> Option<(u32, K)> {
    let (segment, key) = stored.split_first_chunk::<8>()?;
    Some((u32::try_from(u64::from_be_bytes(*segment)).ok()?, K::decode(key)?))
}

impl<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> StateStore for WindowStore<K, V, SEGMENT_MS> {
    fn open(&mut self, name: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<(), StoreError> {
        self.name = name.to_owned();
        self.index = index;
        let Some(checkpoint) = behind else { return Ok(()) };
        // Seeks from segment to segment: there are few.
        let mut segments: Vec<u32> = Vec::new();
        loop {
            let from = segments.last().map_or(0, |last| u64::from(*last) + 1).to_be_bytes();
            let mut next = None;
            checkpoint.scan(index, Bound::Included(&from), 1, |key, _| {
                let segment = key.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
                next = Some(segment.and_then(|s| u32::try_from(s).ok()).ok_or_else(|| corrupt(name, "a key"))?);
                Ok(())
            })?;
            match next {
                Some(segment) => segments.push(segment),
                None => break,
            }
        }
        self.behind = Some((checkpoint, segments));
        Ok(())
    }

    fn write_changes(&mut self, out: &mut ChangelogWriter) {
        let (key_bytes, value_bytes) = &mut self.bytes;
        out.begin(&self.name);
        if self.dropping > self.dropped {
            out.drop_segments(u64::from(self.dropping));
        }
        for (key, windowed) in self.table.changes() {
            let Some(windowed) = windowed else { continue };
            stored_key(windowed.segment, key, key_bytes);
            value_bytes.clear();
            windowed.value.encode(value_bytes);
            out.put(key_bytes, value_bytes);
        }
    }

    fn has_changes(&self) -> bool {
        self.table.has_changes() || self.dropping > self.dropped
    }

    fn commit(&mut self) {
        self.table.commit();
        if self.dropping > self.dropped {
            self.dropped = self.dropping;
            let dropped = self.dropped;
            self.table.retain(|windowed| windowed.segment >= dropped);
            if let Some((_, segments)) = &mut self.behind {
                segments.retain(|segment| *segment >= dropped);
            }
        }
    }

    fn rollback(&mut self) {
        self.table.rollback();
        self.dropping = self.dropped;
    }

    fn restore(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        match entry {
            ChangelogEntry::Put { key, value } => {
                let (segment, key) = split_key(key).ok_or_else(|| corrupt(&self.name, "a key"))?;
                let value = V::decode(value).ok_or_else(|| corrupt(&self.name, "a value"))?;
                *self.table.write(&key) = Some(Windowed { value, segment });
            }
            ChangelogEntry::DropSegments { before } => {
                let before = u32::try_from(*before).map_err(|_| corrupt(&self.name, "a segment"))?;
                self.dropping = self.dropping.max(before);
            }
            other => return Err(corrupt(&self.name, format!("a window store has no {other:?}"))),
        }
        Ok(())
    }

    fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        out.begin(self.index);
        if self.dropped > self.dropped_on_disk {
            out.delete_below(&u64::from(self.dropped).to_be_bytes())?;
        }
        let mut value_bytes = Vec::new();
        let stored = |key: &K, windowed: Option<&Windowed<V>>| {
            let mut bytes = Vec::with_capacity(24);
            stored_key(windowed.map_or(0, |windowed| windowed.segment), key, &mut bytes);
            bytes
        };
        self.table.checkpoint(stored, |key, windowed| {
            let Some(windowed) = windowed else { return Ok(()) };
            value_bytes.clear();
            windowed.value.encode(&mut value_bytes);
            out.put(key, &value_bytes)
        })
    }

    fn checkpointed(&mut self) {
        self.dropped_on_disk = self.dropped;
        self.table.checkpointed();
    }

    fn hydrate(&mut self, entries_max: usize) -> Result<bool, StoreError> {
        let Some((checkpoint, segments)) = &mut self.behind else { return Ok(false) };
        let after = self.hydrated.take();
        let after = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (table, name, live, mut last) = (&mut self.table, &self.name, self.dropped, None);
        let more = checkpoint.scan(self.index, after, entries_max, |stored, value| {
            last = Some(stored.to_vec());
            let (segment, key) = split_key(stored).ok_or_else(|| corrupt(name, "a key"))?;
            if segment >= live {
                let value = V::decode(value).ok_or_else(|| corrupt(name, "a value"))?;
                table.load(key, Windowed { value, segment });
            }
            Ok(())
        })?;
        if let Some(reached) = last.as_deref().and_then(|key| key.first_chunk::<8>()) {
            let reached = u64::from_be_bytes(*reached);
            segments.retain(|segment| u64::from(*segment) >= reached);
        }
        self.hydrated = last;
        if !more {
            self.behind = None;
        }
        Ok(more)
    }

    fn take_fault(&mut self) -> Option<StoreError> {
        self.fault.take()
    }

    fn len(&self) -> usize {
        self.table.len()
    }
}
