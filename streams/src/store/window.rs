//! A store whose entries are kept until a time, and then dropped by whole segments.

use super::changelog::ChangelogEntry;
use super::codec::{StoreKey, StoreValue};
use super::entries::{Entries, Entry};
use super::kind::StoreKind;
use super::{StateStore, StoreError};
use std::num::NonZero;

/// A value and the segment of time that it expires with.
#[derive(Clone)]
pub(super) struct Windowed<V> {
    value: V,
    segment: Segment,
}

/// A segment, in four bytes also where there may be none. The last two are one: no time lies in them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Segment(NonZero<u32>);

impl Segment {
    fn new(segment: u32) -> Self {
        Self(NonZero::<u32>::MIN.saturating_add(segment))
    }

    fn number(self) -> u64 {
        u64::from(self.0.get() - 1)
    }
}

/// The segment (u64 BE) precedes the stored key, so that a segment is a range of keys.
impl<K: StoreKey, V: StoreValue> Entry<K> for Windowed<V> {
    fn segment(&self, _key: &K) -> u64 {
        self.segment.number()
    }

    fn encode_key(key: &K, segment: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&segment.to_be_bytes());
        key.encode(out);
    }

    fn decode_key(stored: &[u8]) -> Option<(u64, K)> {
        let (segment, key) = stored.split_first_chunk::<8>()?;
        let segment = u32::try_from(u64::from_be_bytes(*segment)).ok()?;
        Some((segment.into(), K::decode(key)?))
    }

    fn encode_value(&self, out: &mut Vec<u8>) {
        self.value.encode(out);
    }

    fn decode_value(segment: u64, bytes: &[u8]) -> Option<Self> {
        Some(Self { value: V::decode(bytes)?, segment: Segment::new(u32::try_from(segment).ok()?) })
    }
}

/// Keys and values, each kept until a time, in segments of `SEGMENT_MS`. A key keeps the segment it was first written
/// with until it expires.
pub struct WindowStore<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> {
    entries: Entries<K, Windowed<V>>,
}

impl<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> Default for WindowStore<K, V, SEGMENT_MS> {
    fn default() -> Self {
        Self { entries: Entries::default() }
    }
}

impl<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> WindowStore<K, V, SEGMENT_MS> {
    /// For [`super::super::topology::StoreSpec::make`].
    pub fn make() -> Box<dyn StateStore> {
        Box::new(Self::default())
    }

    /// The value of a key, unless it has expired.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|windowed| &windowed.value)
    }

    /// Changes the value of a key, or sets one that expires some time after `keep_until_ms`: when the clock passes the
    /// end of the segment that holds this time.
    pub fn upsert(&mut self, key: &K, keep_until_ms: i64, new: V, change: impl FnOnce(&mut V)) {
        let segment = self.segment_at(keep_until_ms);
        match self.entries.write(key) {
            Some(windowed) => change(&mut windowed.value),
            slot => *slot = Some(Windowed { value: new, segment }),
        }
    }

    /// Sets the value of a key that has none; returns whether it had none.
    pub fn insert(&mut self, key: &K, keep_until_ms: i64, value: V) -> bool {
        let found = self.entries.find(key);
        if self.entries.at(found, key).is_some() {
            return false;
        }
        let segment = self.segment_at(keep_until_ms);
        *self.entries.write_at(found, key) = Some(Windowed { value, segment });
        true
    }

    /// Drops the segments that end at or before the clock.
    pub fn expire(&mut self, clock_ms: i64) {
        self.entries.expire(segment_of::<SEGMENT_MS>(clock_ms).into());
    }

    /// The segment of a new entry: the first one that has not expired, where its own has.
    fn segment_at(&self, keep_until_ms: i64) -> Segment {
        let first = u32::try_from(self.entries.first_segment()).unwrap_or(u32::MAX);
        Segment::new(segment_of::<SEGMENT_MS>(keep_until_ms).max(first))
    }
}

/// The segment that holds a time. Times before 1970 share the first.
fn segment_of<const SEGMENT_MS: i64>(time_ms: i64) -> u32 {
    u32::try_from((time_ms / SEGMENT_MS).max(0)).unwrap_or(u32::MAX)
}

impl<K: StoreKey, V: StoreValue, const SEGMENT_MS: i64> StoreKind for WindowStore<K, V, SEGMENT_MS> {
    type Key = K;
    type Entry = Windowed<V>;

    fn entries(&self) -> &Entries<K, Windowed<V>> {
        &self.entries
    }

    fn entries_mut(&mut self) -> &mut Entries<K, Windowed<V>> {
        &mut self.entries
    }

    fn replay(&mut self, entry: &ChangelogEntry<'_>) -> Result<(), StoreError> {
        match entry {
            ChangelogEntry::DropSegments { before } => {
                u32::try_from(*before).map_err(|_| self.entries.corrupt("a segment"))?;
                self.entries.expire(*before);
                Ok(())
            }
            ChangelogEntry::Delete { .. } => Err(self.entries.unexpected(entry)),
            entry => self.entries.replay_value(entry),
        }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
