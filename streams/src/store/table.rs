//! The entries of every store in memory, with their undo log.

use super::codec::StoreKey;
use super::slots::{Found, Place, Slot, Slots};

/// What a slot was before the open transaction touched it.
struct Undo<V> {
    place: Place,
    before: Before<V>,
}

enum Before<V> {
    Absent,
    Was { value: Option<V>, transaction: u32 },
}

/// A pass over the entries of a table, in the order of their places.
#[derive(Clone, Copy)]
struct Scan {
    /// Where it goes on, as of the last commit and in the open transaction.
    committed: Place,
    next: Place,
    /// Entries from here on were added after it had begun.
    end: Place,
}

/// Where [`Table::evict`] goes on.
#[derive(Default)]
struct Hand {
    chunk: usize,
    /// Entries that were last written by later transactions stay; None at the end of a round.
    cold_until: Option<u32>,
}

/// Chunks that are swept at once.
const SWEPT_CHUNKS: usize = 64;
/// So many entries show which are the coldest.
const COLD_SAMPLES: u32 = 512;
/// At least this part of the checkpointed entries leaves in a round, the coldest, so that a round is not about a few.
const COLD_PART: f64 = 1.0 / 8.0;

/// So many entries of an undo log keep their memory.
const UNDO_KEPT: usize = 1_024;

/// Empties the undo log of a transaction that has ended. The memory of a large one is freed.
pub(super) fn end_undo<T>(undo: &mut Vec<T>) {
    undo.clear();
    undo.shrink_to(UNDO_KEPT);
}

/// A map whose entries are checkpointed, committed, or of the open transaction: each has the number of the transaction
/// that wrote it last, so that a commit costs nothing per entry.
pub(super) struct Table<K: StoreKey, V> {
    slots: Slots<K, V>,
    undo: Vec<Undo<V>>,
    /// Entries written since the last checkpoint; some may have been rolled back or removed since.
    dirty: Vec<Place>,
    /// The open transaction changed a value that the caller rolls back itself.
    changed_in_place: bool,
    /// The open transaction. Entries of smaller numbers are committed.
    transaction: u32,
    /// Entries up to this number are checkpointed.
    checkpointed: u32,
    scan: Option<Scan>,
    hand: Hand,
}

impl<K: StoreKey, V: Clone> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            undo: Vec::new(),
            dirty: Vec::new(),
            changed_in_place: false,
            transaction: 1,
            checkpointed: 0,
            scan: None,
            hand: Hand::default(),
        }
    }
}

impl<K: StoreKey, V: Clone> Table<K, V> {
    /// Where a key is, for [`Table::at`] and [`Table::write_at`]. Valid until the table changes otherwise.
    pub fn find(&self, key: &K) -> Found {
        self.slots.find(key)
    }

    /// None: not in memory. `Some(None)`: known to be absent.
    pub fn at(&self, found: Found) -> Option<Option<&V>> {
        found.place.map(|place| self.slots.get(place).value.as_ref())
    }

    /// None: not in memory. `Some(None)`: known to be absent.
    pub fn get(&self, key: &K) -> Option<Option<&V>> {
        self.at(self.find(key))
    }

    /// Entries in memory.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Loads an entry of the checkpoint, whose key is not in memory.
    pub fn load(&mut self, found: Found, key: K, value: V) -> Found {
        let place = self.slots.insert(found, Slot { key, value: Some(value), transaction: self.checkpointed });
        Found { place: Some(place), ..found }
    }

    /// The value, to be changed in the open transaction. The former value is kept once per key and transaction.
    pub fn write(&mut self, key: &K) -> &mut Option<V> {
        self.write_at(self.find(key), key)
    }

    /// [`Table::write`] of a key that was looked for.
    pub fn write_at(&mut self, found: Found, key: &K) -> &mut Option<V> {
        let transaction = self.transaction;
        let place = match found.place {
            Some(place) => {
                let slot = self.slots.get_mut(place);
                if slot.transaction != transaction {
                    if slot.transaction <= self.checkpointed {
                        self.dirty.push(place);
                    }
                    let before = Before::Was { value: slot.value.clone(), transaction: slot.transaction };
                    self.undo.push(Undo { place, before });
                    slot.transaction = transaction;
                }
                place
            }
            None => {
                let place = self.slots.insert(found, Slot { key: key.clone(), value: None, transaction });
                self.dirty.push(place);
                self.undo.push(Undo { place, before: Before::Absent });
                place
            }
        };
        &mut self.slots.get_mut(place).value
    }

    /// Changes a value without a copy of it for [`Table::rollback`]: the caller undoes the change through
    /// [`Table::get_mut`] before that. Begins with a default value where the key has none. `change` returns whether it
    /// changed anything; only then the value is returned.
    pub fn change_in_place(&mut self, found: Found, key: &K, change: impl FnOnce(Place, &mut V) -> bool) -> Option<&V>
    where
        V: Default,
    {
        let (transaction, checkpointed) = (self.transaction, self.checkpointed);
        let place = found.place.unwrap_or_else(|| {
            self.slots.insert(found, Slot { key: key.clone(), value: None, transaction: checkpointed })
        });
        let slot = self.slots.get_mut(place);
        let value = slot.value.get_or_insert_default();
        if !change(place, value) {
            return None;
        }
        if slot.transaction <= checkpointed {
            self.dirty.push(place);
        }
        slot.transaction = transaction;
        self.changed_in_place = true;
        Some(value)
    }

    /// The value at a place, to undo [`Table::change_in_place`].
    pub fn get_mut(&mut self, place: Place) -> Option<&mut V> {
        self.slots.get_mut(place).value.as_mut()
    }

    /// The key at a place that the open transaction changed.
    pub fn key(&self, place: Place) -> &K {
        &self.slots.get(place).key
    }

    /// What the open transaction changed by [`Table::write`], in the order of first change.
    pub fn changes(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        self.differences().map(|(key, _, now)| (key, now))
    }

    /// What the open transaction changed: key, what it was, what it is.
    pub fn differences(&self) -> impl Iterator<Item = (&K, Option<&V>, Option<&V>)> {
        self.undo.iter().map(|undo| {
            let before = match &undo.before {
                Before::Absent => None,
                Before::Was { value, .. } => value.as_ref(),
            };
            let slot = self.slots.get(undo.place);
            (&slot.key, before, slot.value.as_ref())
        })
    }

    /// Every value in memory.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots.iter().filter_map(|(_, slot)| Some((&slot.key, slot.value.as_ref()?)))
    }

    /// Up to about `count` values, evenly from the whole table.
    pub fn sample(&self, count: u32) -> impl Iterator<Item = (&K, &V)> {
        let places = (0..self.slots.end()).step_by((self.slots.end() / count).max(1) as usize);
        let slots = places.filter_map(|place| self.slots.get_live(place));
        slots.filter_map(|slot| Some((&slot.key, slot.value.as_ref()?)))
    }

    /// Begins a pass over the entries that are in memory now. There is no open transaction.
    pub fn begin_scan(&mut self) {
        self.scan = Some(Scan { committed: 0, next: 0, end: self.slots.end() });
    }

    /// Whether the pass has not come to an entry yet.
    pub fn is_scan_at_start(&self) -> bool {
        self.scan.is_some_and(|scan| scan.next == 0)
    }

    /// Goes on with the pass, for as long as `each` returns true; true where there may be more. What the pass did in a
    /// transaction that is rolled back, it does again. It comes to every entry that it began with and that is not deleted
    /// meanwhile: entries never move, or keep their order.
    pub fn scan(&mut self, mut each: impl FnMut(&K, &V) -> bool) -> bool {
        let Some(scan) = &mut self.scan else { return false };
        for (place, slot) in self.slots.range(scan.next..scan.end) {
            if let Some(value) = &slot.value
                && !each(&slot.key, value)
            {
                scan.next = place + 1;
                return true;
            }
        }
        scan.next = scan.end;
        false
    }

    /// Whether the pass began with the entry that is found here, and comes or came to it.
    pub fn is_in_scan(&self, found: Found) -> bool {
        found.place.zip(self.scan).is_some_and(|(place, scan)| place < scan.end)
    }

    /// What the entries take in memory, without the heap of keys and values.
    pub fn size_bytes(&self) -> usize {
        self.slots.size_bytes() + self.dirty.capacity() * size_of::<Place>()
    }

    /// How many entries are checkpointed, at least.
    pub fn clean(&self) -> usize {
        self.slots.len().saturating_sub(self.dirty.len())
    }

    /// Whether [`Table::evict`] can free memory: that of checkpointed entries, or of entries that are gone.
    pub fn can_shrink(&self) -> bool {
        self.clean() > 0 || self.slots.has_removed()
    }

    /// Removes checkpointed entries from memory, those that were written longest ago first, until `is_enough` of the table
    /// or none is left. Returns how many. There is no open transaction. `part` is about the part of the entries that has to
    /// leave.
    ///
    /// The number of the transaction that wrote an entry is its age: an access costs nothing.
    pub fn evict(&mut self, part: f64, is_enough: impl Fn(&Self) -> bool) -> usize {
        debug_assert!(!self.has_changes());
        let (mut evicted, mut rounds) = (0, 0);
        while !is_enough(self) {
            let Some(cold_until) = self.hand.cold_until else {
                // The first round may begin in the middle, and the last one takes all.
                rounds += 1;
                if rounds > 3 {
                    break;
                }
                let cold_until = if rounds < 3 { self.coldest(part.max(COLD_PART)) } else { u32::MAX };
                self.hand = Hand { chunk: 0, cold_until: Some(cold_until) };
                continue;
            };
            let (from, checkpointed) = (self.hand.chunk, self.checkpointed);
            let chunks = self.slots.chunks();
            let to = (from + SWEPT_CHUNKS).min(chunks);
            let mut marks = self.scan.map_or([0, 0], |scan| [scan.next, scan.end]);
            let dirty = &mut self.dirty;
            let leaves = |slot: &Slot<K, V>| slot.transaction <= checkpointed.min(cold_until) && slot.value.is_some();
            let moved = |slot: &Slot<K, V>, place| {
                if slot.transaction > checkpointed {
                    dirty.push(place);
                }
            };
            evicted += self.slots.sweep(from..to, leaves, moved, &mut marks);
            let [next, end] = marks;
            self.scan = self.scan.map(|_| Scan { committed: next, next, end });
            self.hand = Hand { chunk: to, cold_until: Some(cold_until).filter(|_| to < chunks) };
        }
        if self.dirty.len() > 2 * self.slots.len() + COLD_SAMPLES as usize {
            self.find_dirty();
        }
        self.trim();
        evicted
    }

    /// The transaction up to which the coldest part of the checkpointed entries was written.
    fn coldest(&self, part: f64) -> u32 {
        let step = (self.slots.end() / COLD_SAMPLES).max(1);
        let sampled = (0..self.slots.end()).step_by(step as usize).filter_map(|place| self.slots.get_live(place));
        let clean = sampled.map(|slot| slot.transaction).filter(|transaction| *transaction <= self.checkpointed);
        let mut clean: Vec<_> = clean.collect();
        clean.sort_unstable();
        clean.get((clean.len() as f64 * part) as usize).copied().unwrap_or(u32::MAX)
    }

    pub fn has_changes(&self) -> bool {
        !self.undo.is_empty() || self.changed_in_place
    }

    pub fn commit(&mut self) {
        if let Some(scan) = &mut self.scan {
            scan.committed = scan.next;
        }
        self.end_transaction();
    }

    pub fn rollback(&mut self) {
        for Undo { place, before } in self.undo.drain(..) {
            match before {
                Before::Absent => self.slots.remove(place),
                Before::Was { value, transaction } => {
                    let slot = self.slots.get_mut(place);
                    (slot.value, slot.transaction) = (value, transaction);
                }
            }
        }
        if let Some(scan) = &mut self.scan {
            scan.next = scan.committed;
        }
        // Values that were changed in place keep the number of this transaction: the next one has to be another.
        self.end_transaction();
        self.trim();
    }

    fn end_transaction(&mut self) {
        end_undo(&mut self.undo);
        self.transaction += 1;
        self.changed_in_place = false;
    }

    /// What was committed since the last checkpoint. An entry may come twice.
    pub fn unwritten(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        let slots = self.dirty.iter().filter_map(|place| self.slots.get_live(*place));
        slots.filter(|slot| slot.transaction > self.checkpointed).map(|slot| (&slot.key, slot.value.as_ref()))
    }

    /// What [`Table::unwritten`] returned last is checkpointed. Nothing was changed in between.
    pub fn checkpointed(&mut self) {
        for place in self.dirty.drain(..) {
            if self.slots.get_live(place).is_some_and(|slot| slot.value.is_none()) {
                self.slots.remove(place);
            }
        }
        self.checkpointed = self.transaction - 1;
        self.trim();
    }

    /// Removes entries from memory without a trace: they have expired, and the checkpoint drops them by range.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let gone =
            self.slots.iter().filter(|(_, slot)| slot.value.as_ref().is_some_and(|value| !keep(&slot.key, value)));
        for place in gone.map(|(place, _)| place).collect::<Vec<_>>() {
            self.slots.remove(place);
        }
        self.trim();
    }

    /// Only between transactions: places change.
    fn trim(&mut self) {
        let mut marks = self.scan.map_or([0, 0], |scan| [scan.next, scan.end]);
        if self.slots.trim(&mut marks) {
            let [next, end] = marks;
            self.scan = self.scan.map(|_| Scan { committed: next, next, end });
            self.hand = Hand::default();
            self.find_dirty();
        }
    }

    fn find_dirty(&mut self) {
        let dirty = self.slots.iter().filter(|(_, slot)| slot.transaction > self.checkpointed);
        self.dirty = dirty.map(|(place, _)| place).collect();
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
