//! The keys and values of a table: slots in chunks that never move, and an index of their keys.
//!
//! A slot keeps its place until it is removed, so that lists of changed entries hold places and nothing is looked up
//! twice. Growth moves nothing but one of the many small tables of the index. Only [`Slots::sweep`] and [`Slots::trim`]
//! move slots, to free memory, and keep their order.

use super::codec::StoreKey;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::ops::Range;

/// Slots of a chunk.
const CHUNK: usize = 1 << CHUNK_BITS;
/// Small in tests, so that they go through every case.
const CHUNK_BITS: u32 = if cfg!(test) { 2 } else { 10 };
/// Tables of the index, chosen by the hash: each grows by itself.
const SHARDS: usize = if cfg!(test) { 4 } else { 64 };
/// So much is kept without a use before slots are moved.
const SPARE: usize = if cfg!(test) { 2 } else { 1 << 12 };
/// The transaction of a slot that was removed.
const REMOVED: u32 = u32::MAX;

/// A key and its value, or None for a deleted key; and the transaction that wrote it last.
pub(super) struct Slot<K, V> {
    /// That of a removed slot means nothing.
    pub key: K,
    pub value: Option<V>,
    pub transaction: u32,
}

/// The place of a slot: valid until [`Slots::remove`], [`Slots::sweep`] or [`Slots::trim`].
pub(super) type Place = u32;

/// The result of a search: the place of a key, or where to insert it.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub place: Option<Place>,
    pub hash: u64,
}

/// A place in the index, with 32 bits of its key's hash: neither a search for another key nor growth looks at the slot.
struct Indexed {
    place: Place,
    tag: u32,
}

struct Chunk<K, V> {
    slots: Vec<Slot<K, V>>,
    /// How many of them were not removed.
    live: usize,
}

/// See the module.
pub(super) struct Slots<K: StoreKey, V> {
    chunks: Vec<Chunk<K, V>>,
    index: Vec<HashTable<Indexed>>,
    hasher: K::Hasher,
    /// Slots that were not removed.
    len: usize,
    /// Slots in memory, removed ones included.
    kept: usize,
}

impl<K: StoreKey, V> Default for Slots<K, V> {
    fn default() -> Self {
        let index = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self { chunks: Vec::new(), index, hasher: K::Hasher::default(), len: 0, kept: 0 }
    }
}

impl<K: StoreKey, V> Slots<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether slots that were removed are still in memory.
    pub fn has_removed(&self) -> bool {
        self.kept > self.len
    }

    pub fn find(&self, key: &K) -> Found {
        let hash = self.hasher.hash_one(key);
        let tag = tag(hash);
        let is_it = |indexed: &Indexed| indexed.tag == tag && self.get(indexed.place).key == *key;
        let place = self.index[shard(hash)].find(spread(tag), is_it).map(|indexed| indexed.place);
        Found { place, hash }
    }

    pub fn get(&self, place: Place) -> &Slot<K, V> {
        &self.chunks[(place >> CHUNK_BITS) as usize].slots[place as usize & (CHUNK - 1)]
    }

    /// None: it was removed.
    pub fn get_live(&self, place: Place) -> Option<&Slot<K, V>> {
        let slot = self.chunks.get((place >> CHUNK_BITS) as usize)?.slots.get(place as usize & (CHUNK - 1))?;
        (slot.transaction != REMOVED).then_some(slot)
    }

    pub fn get_mut(&mut self, place: Place) -> &mut Slot<K, V> {
        &mut self.chunks[(place >> CHUNK_BITS) as usize].slots[place as usize & (CHUNK - 1)]
    }

    /// Adds the slot of a key that was not found.
    pub fn insert(&mut self, found: Found, slot: Slot<K, V>) -> Place {
        let place = self.push(slot);
        let tag = tag(found.hash);
        self.index[shard(found.hash)].insert_unique(spread(tag), Indexed { place, tag }, |known| spread(known.tag));
        place
    }

    fn push(&mut self, slot: Slot<K, V>) -> Place {
        if self.chunks.last().is_none_or(|chunk| chunk.slots.len() == CHUNK) {
            // The first one grows with a small table; the rest are filled.
            let slots = Vec::with_capacity(if self.chunks.is_empty() { 0 } else { CHUNK });
            self.chunks.push(Chunk { slots, live: 0 });
        }
        let at = self.chunks.len() - 1;
        let chunk = &mut self.chunks[at];
        let place = (at << CHUNK_BITS | chunk.slots.len()) as Place;
        chunk.slots.push(slot);
        chunk.live += 1;
        (self.len, self.kept) = (self.len + 1, self.kept + 1);
        place
    }

    /// Removes a slot.
    pub fn remove(&mut self, place: Place) {
        let hash = self.hasher.hash_one(&self.get(place).key);
        if let Ok(indexed) = self.index[shard(hash)].find_entry(spread(tag(hash)), |known| known.place == place) {
            indexed.remove();
        }
        let slot = self.get_mut(place);
        (slot.value, slot.transaction) = (None, REMOVED);
        self.len -= 1;
        let at = (place >> CHUNK_BITS) as usize;
        let is_last = at + 1 == self.chunks.len();
        let chunk = &mut self.chunks[at];
        chunk.live -= 1;
        if chunk.live == 0 && !is_last {
            self.kept -= chunk.slots.len();
            chunk.slots = Vec::new();
        }
    }

    /// All slots, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Place, &Slot<K, V>)> {
        self.range(0..Place::MAX)
    }

    /// The slots at these places, the oldest first.
    pub fn range(&self, places: Range<Place>) -> impl Iterator<Item = (Place, &Slot<K, V>)> {
        let chunks = (0..).step_by(CHUNK).zip(&self.chunks).skip((places.start >> CHUNK_BITS) as usize);
        let chunks = chunks.take_while(move |(first, _)| *first < places.end);
        let slots = chunks.flat_map(move |(first, chunk): (Place, _)| {
            let at = |place: Place| (place.saturating_sub(first) as usize).min(chunk.slots.len());
            (first.max(places.start)..).zip(&chunk.slots[at(places.start)..at(places.end)])
        });
        slots.filter(|(_, slot)| slot.transaction != REMOVED)
    }

    /// The place of the next slot that is added.
    pub fn end(&self) -> Place {
        let Some(last) = self.chunks.last() else { return 0 };
        match last.slots.len() {
            CHUNK => (self.chunks.len() << CHUNK_BITS) as Place,
            len => ((self.chunks.len() - 1) << CHUNK_BITS | len) as Place,
        }
    }

    /// What slots and index take in memory, without the heap of keys and values.
    pub fn size_bytes(&self) -> usize {
        let indexed: usize = self.index.iter().map(HashTable::capacity).sum();
        self.kept * size_of::<Slot<K, V>>() + indexed * (size_of::<Indexed>() + 1)
    }

    /// The number of chunks.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Removes the slots of these chunks that `leaves` returns true for, and moves the others together if that frees enough
    /// memory. Returns how many were removed. Slots keep their order, and each of the marks afterwards has the same slots
    /// before it. `moved` gets the new place of a slot that was moved.
    pub fn sweep(
        &mut self,
        chunks: Range<usize>,
        leaves: impl Fn(&Slot<K, V>) -> bool,
        mut moved: impl FnMut(&Slot<K, V>, Place),
        marks: &mut [Place],
    ) -> usize {
        let before = self.len;
        if chunks.end == self.chunks.len() && self.chunks.last().is_some_and(|last| !last.slots.is_empty()) {
            // What is added later gets later places.
            self.chunks.push(Chunk { slots: Vec::new(), live: 0 });
        }
        let is_gone = |slot: &Slot<K, V>| slot.transaction == REMOVED || leaves(slot);
        let mut mapped: Vec<(Place, Option<Place>)> = marks.iter().map(|mark| (*mark, None)).collect();
        // The chunk that is filled.
        let mut to = chunks.start;
        for from in chunks.clone() {
            let gone = self.chunks[from].slots.iter().filter(|slot| is_gone(slot)).count();
            if gone * 8 < self.chunks[from].slots.len() {
                // Moving most of it would free little.
                self.chunks[to].slots.shrink_to_fit();
                to = from + 1;
                continue;
            }
            let was = std::mem::replace(&mut self.chunks[from], Chunk { slots: Vec::new(), live: 0 });
            self.kept -= was.slots.len();
            for (at, slot) in was.slots.into_iter().enumerate().filter(|(_, slot)| slot.transaction != REMOVED) {
                let place = (from << CHUNK_BITS | at) as Place;
                let hash = self.hasher.hash_one(&slot.key);
                let indexed = self.index[shard(hash)].find_entry(spread(tag(hash)), |known| known.place == place);
                if leaves(&slot) {
                    if let Ok(indexed) = indexed {
                        indexed.remove();
                    }
                    self.len -= 1;
                    continue;
                }
                if self.chunks[to].slots.len() == CHUNK {
                    to += 1;
                }
                let chunk = &mut self.chunks[to];
                if chunk.slots.is_empty() {
                    chunk.slots.reserve_exact(CHUNK);
                }
                let next = (to << CHUNK_BITS | chunk.slots.len()) as Place;
                if let Ok(mut indexed) = indexed {
                    indexed.get_mut().place = next;
                }
                moved(&slot, next);
                chunk.slots.push(slot);
                chunk.live += 1;
                self.kept += 1;
                // A mark goes with the first slot behind it.
                for (mark, new) in mapped.iter_mut().filter(|(mark, new)| new.is_none() && *mark <= place) {
                    *new = Some(next.min(*mark));
                }
            }
        }
        if let Some(last) = self.chunks.get_mut(to) {
            last.slots.shrink_to_fit();
        }
        for (mark, (_, new)) in marks.iter_mut().zip(mapped) {
            *mark = new.unwrap_or(*mark);
        }
        for table in &mut self.index {
            if table.capacity() > 3 * table.len() + SPARE / SHARDS {
                table.shrink_to(table.len() * 3 / 2, |known| spread(known.tag));
            }
        }
        before - self.len
    }

    /// Frees memory if much more is allocated than used; returns whether that moved slots. Slots keep their order, and each of
    /// the marks afterwards has the same slots before it.
    pub fn trim(&mut self, marks: &mut [Place]) -> bool {
        let chunks = self.kept.div_ceil(CHUNK);
        let indexed: usize = self.index.iter().map(HashTable::capacity).sum();
        let is_sparse = self.kept > 2 * self.len + SPARE || self.chunks.len() > 4 * chunks + SPARE;
        if !is_sparse && indexed <= 8 * self.len + SPARE {
            return false;
        }
        for mark in marks {
            *mark = self.range(0..*mark).count() as Place;
        }
        let chunks = std::mem::take(&mut self.chunks);
        (self.len, self.kept) = (0, 0);
        self.index.iter_mut().for_each(|table| *table = HashTable::new());
        for slot in chunks.into_iter().flat_map(|chunk| chunk.slots).filter(|slot| slot.transaction != REMOVED) {
            let found = Found { place: None, hash: self.hasher.hash_one(&slot.key) };
            self.insert(found, slot);
        }
        true
    }
}

/// Other bits than those of the tag.
fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

fn tag(hash: u64) -> u32 {
    hash as u32
}

/// The hash of an entry of the index: its upper bits differ, too.
fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn key(n: u32) -> Arc<str> {
        n.to_string().into()
    }

    fn values(slots: &Slots<Arc<str>, u32>) -> BTreeMap<String, u32> {
        slots.iter().map(|(_, slot)| (slot.key.to_string(), slot.value.unwrap())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_slot_is_where_it_was_until_slots_are_moved(
            steps in prop::collection::vec((0..5u8, 0..6_000u32, 1..2_500u32), 0..16)
        ) {
            let mut slots: Slots<Arc<str>, u32> = Slots::default();
            let mut places: BTreeMap<u32, Place> = BTreeMap::new();
            for (step, first, count) in steps {
                // The slots before it, and the order of all.
                let mut mark = (u64::from(slots.end()) * u64::from(first) / 6_000) as Place;
                let order = |slots: &Slots<Arc<str>, u32>, mark: Place| -> (Vec<u32>, usize) {
                    let values = slots.iter().map(|(_, slot)| slot.value.unwrap());
                    (values.collect(), slots.range(0..mark).count())
                };
                let (before, was_before) = order(&slots, mark);
                match step {
                    0 => for n in first..first + count {
                        let found = slots.find(&key(n));
                        prop_assert_eq!(found.place, places.get(&n).copied());
                        if found.place.is_none() {
                            let slot = Slot { key: key(n), value: Some(n), transaction: 1 };
                            places.insert(n, slots.insert(found, slot));
                        }
                    },
                    1 => places.retain(|n, place| {
                        let keep = !(first..first + count).contains(n);
                        if !keep {
                            slots.remove(*place);
                        }
                        keep
                    }),
                    2 => if slots.trim(std::slice::from_mut(&mut mark)) {
                        prop_assert_eq!(slots.kept, slots.len());
                        places = slots.iter().map(|(place, slot)| (slot.value.unwrap(), place)).collect();
                        prop_assert_eq!(order(&slots, mark), (before, was_before));
                    },
                    _ => {
                        let chunks = slots.chunks();
                        let from = chunks * first as usize / 6_000;
                        let to = if step == 3 { chunks } else { (from + count as usize).min(chunks) };
                        let leaves = |slot: &Slot<Arc<str>, u32>| slot.value.is_some_and(|n| (n + first) % 5 < count % 6);
                        let mut moved = BTreeMap::new();
                        let marks = std::slice::from_mut(&mut mark);
                        let removed = slots.sweep(from..to, leaves, |slot, at| _ = moved.insert(slot.value.unwrap(), at), marks);
                        places.extend(moved);
                        let kept: std::collections::BTreeSet<_> = slots.iter().map(|(_, slot)| slot.value.unwrap()).collect();
                        places.retain(|n, _| kept.contains(n));
                        prop_assert_eq!(before.len() - removed, slots.len());
                        let was_before = before[..was_before].iter().filter(|n| kept.contains(n)).count();
                        let left = before.into_iter().filter(|n| kept.contains(n)).collect::<Vec<_>>();
                        prop_assert_eq!(order(&slots, mark), (left, was_before));
                        // What was seldom in the swept chunks may stay.
                        let stay = (from..to).flat_map(|at| &slots.chunks[at].slots).filter(|slot| leaves(slot)).count();
                        prop_assert!(stay * 7 <= (to - from) * CHUNK, "{stay} stay in {from}..{to}");
                    }
                }
                prop_assert_eq!(slots.kept, slots.chunks.iter().map(|chunk| chunk.slots.len()).sum::<usize>());
                prop_assert_eq!(slots.len(), places.len());
                let expected: BTreeMap<_, _> = places.keys().map(|n| (n.to_string(), *n)).collect();
                prop_assert_eq!(values(&slots), expected);
                for (n, place) in &places {
                    prop_assert_eq!(slots.get(*place).value, Some(*n));
                    prop_assert_eq!(slots.find(&key(*n)).place, Some(*place));
                }
            }
        }
    }

    #[test]
    fn a_table_that_slides_along_does_not_grow() {
        let mut slots: Slots<Arc<str>, u32> = Slots::default();
        for n in 0..200_000u32 {
            let found = slots.find(&key(n));
            slots.insert(found, Slot { key: key(n), value: Some(n), transaction: 1 });
            if let Some(place) = n.checked_sub(3_000).and_then(|old| slots.find(&key(old)).place) {
                slots.remove(place);
            }
            if n % 1_000 == 0 {
                slots.trim(&mut []);
            }
            assert!(slots.kept <= 3_001 + 2 * CHUNK, "{} slots at {n}", slots.kept);
            assert!(slots.chunks.len() <= 4 * 760 + SPARE + 1_000 / CHUNK, "{} chunks at {n}", slots.chunks.len());
        }
        assert_eq!(slots.len(), 3_000);
    }
}
