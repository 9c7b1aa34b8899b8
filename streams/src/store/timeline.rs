//! The keys of a store by the time at which each is due: those that are due first come first. Times are numbers in the
//! unit of the store.
//!
//! Only the earliest places are in memory (the head), and what has changed since the last checkpoint. The checkpoint has
//! all places in their order, in a segment of its own ([`TIMES`]): when the head is used up, the next page is read from
//! there.
//!
//! The head and the changes depend on nothing but the present set of places and that of the checkpoint. So a rollback has
//! to take back each change of the set, and needs no copy of either.

use super::StoreError;
use super::checkpoint::{Checkpoint, CheckpointReader, CheckpointWriter, TIMES};
use super::codec::StoreKey;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// So many places are read at once. A head that has grown to four times as many is cut to twice as many.
const PAGE: usize = if cfg!(test) { 3 } else { 256 };

/// The key under which a checkpoint has the first place, or nothing if there are none: earlier ones that it still has are
/// gone, and are not read. Every place is longer.
const FIRST: &[u8] = b"";

/// When a key is due, and the key.
pub(super) type Place<K> = (i64, K);

/// Which places the head has.
enum Horizon<K> {
    /// Those before this one. Nothing was read from the checkpoint yet, where no place lies before it.
    Before(Place<K>),
    /// Those up to this one.
    UpTo(Place<K>),
    All,
}

/// See the module.
pub(super) struct Timeline<K> {
    store: String,
    index: usize,
    head: BTreeSet<Place<K>>,
    horizon: Horizon<K>,
    /// The places that the checkpoint lacks (true), and those that it has and that are gone (false).
    changes: BTreeMap<Place<K>, bool>,
    /// None while the checkpoint has no places.
    behind: Option<CheckpointReader>,
}

impl<K> Default for Timeline<K> {
    fn default() -> Self {
        Self::new("", 0)
    }
}

impl<K> Timeline<K> {
    /// Without places, of the store at `index`.
    pub fn new(store: &str, index: usize) -> Self {
        Self {
            store: store.to_owned(),
            index,
            head: BTreeSet::new(),
            horizon: Horizon::All,
            changes: BTreeMap::new(),
            behind: None,
        }
    }
}

impl<K: StoreKey + Ord> Timeline<K> {
    /// Begins with the places of a checkpoint; None: it is empty. Returns whether it has the places of its entries: a
    /// former format has none.
    pub fn open(&mut self, store: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<bool, StoreError> {
        *self = Self::new(store, index);
        let Some(checkpoint) = behind else { return Ok(true) };
        let mut behind = CheckpointReader::of_order(checkpoint, index, TIMES)?;
        let first = behind.get(Some(TIMES), FIRST)?;
        self.behind = Some(behind);
        let Some((_, first)) = first else { return Ok(false) };
        if !first.is_empty() {
            self.horizon = Horizon::Before(decode(&first).ok_or_else(|| self.corrupt())?);
        }
        Ok(true)
    }

    /// A key that was due at one time is due at another now; None: it has no place.
    pub fn change(&mut self, key: &K, from: Option<i64>, to: Option<i64>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            let place = (from, key.clone());
            self.head.remove(&place);
            self.note(place, false);
        }
        if let Some(to) = to {
            let place = (to, key.clone());
            if self.is_in_head(&place) {
                self.head.insert(place.clone());
                self.cut();
            }
            self.note(place, true);
        }
    }

    /// A change that is taken back leaves nothing.
    fn note(&mut self, place: Place<K>, is_there: bool) {
        if self.changes.get(&place) == Some(&!is_there) {
            self.changes.remove(&place);
        } else {
            self.changes.insert(place, is_there);
        }
    }

    fn is_in_head(&self, place: &Place<K>) -> bool {
        match &self.horizon {
            Horizon::Before(first) => place < first,
            Horizon::UpTo(last) => place <= last,
            Horizon::All => true,
        }
    }

    /// The first place, if that is at or before the clock.
    pub fn first_due(&mut self, clock: i64) -> Result<Option<&Place<K>>, StoreError> {
        while self.head.is_empty() {
            match &self.horizon {
                // All others are later still.
                Horizon::Before((due, _)) | Horizon::UpTo((due, _)) if *due > clock => return Ok(None),
                Horizon::All => return Ok(None),
                _ => self.read_page()?,
            }
        }
        Ok(self.head.first().filter(|(due, _)| *due <= clock))
    }

    /// Extends an empty head by the places that come next.
    fn read_page(&mut self) -> Result<(), StoreError> {
        let (from, cursor) = match &self.horizon {
            Horizon::Before(first) => {
                // Reading begins behind its cursor: a shorter one lies before the first place.
                let mut cursor = encode(first);
                cursor.pop();
                (Bound::Included(first), cursor)
            }
            Horizon::UpTo(last) => (Bound::Excluded(last), encode(last)),
            Horizon::All => return Ok(()),
        };
        let (mut page, mut last) = (BTreeSet::new(), None);
        let each = |_: u64, stored: &[u8], _: &[u8]| {
            let place = decode(stored).ok_or_else(|| self.corrupt())?;
            if self.changes.get(&place) != Some(&false) {
                page.insert(place.clone());
            }
            last = Some(place);
            Ok(true)
        };
        let more = match &self.behind {
            Some(behind) => behind.read(&mut Some((TIMES, cursor)), PAGE, each)?,
            None => false,
        };
        let mut last = last.filter(|_| more);
        let to = last.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let mut added = self.changes.range((from, to)).filter(|(_, is_there)| **is_there).map(|(place, _)| place);
        page.extend(added.by_ref().take(PAGE).cloned());
        if let Some(next) = added.next() {
            // More were added than belong into a page.
            page.split_off(next);
            last = page.last().cloned();
        }
        self.horizon = last.map_or(Horizon::All, Horizon::UpTo);
        self.head = page;
        Ok(())
    }

    /// Cuts a head that has become long.
    fn cut(&mut self) {
        if self.head.len() < 4 * PAGE {
            return;
        }
        while self.head.len() > 2 * PAGE {
            self.head.pop_last();
        }
        self.horizon = self.head.last().cloned().map_or(Horizon::All, Horizon::UpTo);
    }

    /// Writes what has changed since the last checkpoint, into the section of its store.
    pub fn checkpoint(&self, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        for (place, is_there) in &self.changes {
            put(place, *is_there, out)?;
        }
        let first = match (self.head.first(), &self.horizon) {
            (Some(first), _) => Some(first),
            (None, Horizon::Before(before) | Horizon::UpTo(before)) => Some(before),
            (None, Horizon::All) => None,
        };
        put_first(first, out)
    }

    /// What [`Timeline::checkpoint`] wrote last is written.
    pub fn checkpointed(&mut self, checkpoint: &Arc<Checkpoint>) -> Result<(), StoreError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        self.changes = BTreeMap::new();
        match &mut self.behind {
            Some(behind) => behind.refresh(),
            None => {
                self.behind = Some(CheckpointReader::of_order(checkpoint.clone(), self.index, TIMES)?);
                Ok(())
            }
        }
    }

    /// How much memory it takes, about, in bytes. Nodes of the trees are two thirds full.
    pub fn memory_bytes(&self) -> usize {
        let places = (self.head.len() + self.changes.len()) * size_of::<Place<K>>() * 3 / 2;
        places + self.behind.as_ref().map_or(0, CheckpointReader::memory_bytes)
    }

    fn corrupt(&self) -> StoreError {
        StoreError::Corrupt { store: self.store.clone(), detail: "a place".to_owned() }
    }
}

/// Writes a place, or that it is gone.
pub(super) fn put<K: StoreKey>(
    place: &Place<K>,
    is_there: bool,
    out: &mut CheckpointWriter<'_>,
) -> Result<(), StoreError> {
    let nothing = is_there.then_some(|_: &mut Vec<u8>| {});
    out.put(TIMES, |out| out.extend_from_slice(&encode(place)), nothing)
}

/// Writes which place is the first.
pub(super) fn put_first<K: StoreKey>(
    first: Option<&Place<K>>,
    out: &mut CheckpointWriter<'_>,
) -> Result<(), StoreError> {
    let first = first.map(encode).unwrap_or_default();
    out.put(TIMES, |out| out.extend_from_slice(FIRST), Some(|out: &mut Vec<u8>| out.extend_from_slice(&first)))
}

/// The stored form: the time, so that its bytes have its order (u64 BE, from `i64::MIN` on), then the key.
fn encode<K: StoreKey>((due, key): &Place<K>) -> Vec<u8> {
    let mut stored = due.wrapping_sub(i64::MIN).to_be_bytes().to_vec();
    key.encode(&mut stored);
    stored
}

fn decode<K: StoreKey>(stored: &[u8]) -> Option<Place<K>> {
    let (due, key) = stored.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*due).wrapping_add(i64::MIN), K::decode(key)?))
}
