//! Where the keys of a ranked store stand: by group and rank, and by the tick at which that may change.
//!
//! The checkpoint has both orders of all keys, each in a segment of its own ([`RANKS`], [`TIMES`]). In memory are the keys
//! whose standing has changed since ([`Places::moved`]) and the head of the timeline. A checkpoint may lack the orders: its
//! format is a former one, or it was written before there was a tick. Then nothing is noted here either, and the next
//! checkpoint gets them whole.

use super::StoreError;
use super::checkpoint::{Checkpoint, CheckpointReader, CheckpointWriter, RANKS, TIMES};
use super::order::{Heads, Offered};
use super::rank::{Rank, RankedKey, Standing};
use super::table::end_undo;
use super::timeline::{self, Timeline};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::sync::Arc;

/// The key under which a checkpoint has the rule and the tick of its orders. Every place is longer.
const MARK: &[u8] = b"";

/// A key whose standing may be another than that of the checkpoint.
struct Move {
    /// The rank that the checkpoint has.
    stored: Option<Rank>,
    /// Its standing as it was placed last.
    now: Standing,
    /// Whether its value has changed since.
    is_waiting: bool,
}

/// See the module.
pub(super) struct Places<K: RankedKey> {
    store: String,
    index: usize,
    /// Whether the checkpoint and what is noted here have every place.
    is_whole: bool,
    /// The ranks of the checkpoint; None while it has none.
    behind: Option<CheckpointReader>,
    /// When standings change by themselves.
    timeline: Timeline<K>,
    moved: HashMap<K, Move, K::Hasher>,
    /// Keys that are to be placed: one that changes often is placed once.
    waiting: Vec<K>,
    /// The keys that the open transaction placed, and where they stood before.
    undo: Vec<(K, Standing)>,
    /// What the checkpoint has under [`MARK`].
    mark: Vec<u8>,
}

impl<K: RankedKey> Default for Places<K> {
    fn default() -> Self {
        Self {
            store: String::new(),
            index: 0,
            is_whole: false,
            behind: None,
            timeline: Timeline::default(),
            moved: HashMap::default(),
            waiting: Vec::new(),
            undo: Vec::new(),
            mark: Vec::new(),
        }
    }
}

impl<K: RankedKey> Places<K> {
    /// Begins with the places of a checkpoint; returns its mark, if it has them.
    pub fn open(&mut self, store: &str, index: usize, behind: Option<Arc<Checkpoint>>) -> Result<&[u8], StoreError> {
        (self.store, self.index) = (store.to_owned(), index);
        let Some(checkpoint) = behind else { return Ok(&[]) };
        let mut behind = CheckpointReader::of_order(checkpoint.clone(), index, RANKS)?;
        if let Some((_, mark)) = behind.get(Some(RANKS), MARK)? {
            self.is_whole = self.timeline.open(store, index, Some(checkpoint))?;
            (self.behind, self.mark) = (Some(behind), mark);
        }
        Ok(&self.mark)
    }

    /// Forgets all places, where another order begins. `is_empty`: of no keys.
    pub fn begin(&mut self, is_empty: bool) {
        let (store, index) = (std::mem::take(&mut self.store), self.index);
        let timeline = Timeline::new(&store, index);
        *self = Self { store, index, timeline, is_whole: is_empty, ..Self::default() };
    }

    /// Whether the checkpoint and what is noted here have every place.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The value of a key is about to change: it is placed later. `standing` is its present one.
    pub fn wait(&mut self, key: &K, standing: impl FnOnce() -> Standing) {
        let moved = match self.moved.get_mut(key) {
            Some(moved) => moved,
            None => {
                let now = standing();
                self.moved.entry(key.clone()).or_insert(Move { stored: now.rank, now, is_waiting: false })
            }
        };
        if !std::mem::replace(&mut moved.is_waiting, true) {
            self.waiting.push(key.clone());
        }
    }

    /// Places the keys that wait for it. `each` gets the former and the present rank.
    pub fn place(&mut self, standing: impl Fn(&K) -> Standing, mut each: impl FnMut(&K, Option<Rank>, Option<Rank>)) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        for key in waiting.drain(..) {
            let Some(moved) = self.moved.get_mut(&key) else { continue };
            moved.is_waiting = false;
            let to = standing(&key);
            let from = std::mem::replace(&mut moved.now, to);
            if from == to {
                continue;
            }
            each(&key, from.rank, to.rank);
            if self.is_whole {
                self.timeline.change(&key, from.next_tick, to.next_tick);
                self.undo.push((key, from));
            }
        }
        self.waiting = waiting;
        if !self.is_whole {
            self.moved.clear();
        }
    }

    /// The first key whose standing may have changed by a tick, and since when. All keys are placed.
    pub fn first_due(&mut self, tick: i64) -> Result<Option<timeline::Place<K>>, StoreError> {
        self.timeline.first_due(tick).map(|place| place.cloned())
    }

    /// Places a key that is due; returns where it stood. That follows from its value and the former tick, where it has not
    /// moved.
    pub fn place_due(&mut self, key: &K, from: impl FnOnce() -> Standing, to: Standing) -> Standing {
        let moved = match self.moved.entry(key.clone()) {
            Entry::Occupied(moved) => moved.into_mut(),
            Entry::Vacant(moved) => {
                let now = from();
                moved.insert(Move { stored: now.rank, now, is_waiting: false })
            }
        };
        let from = std::mem::replace(&mut moved.now, to);
        self.timeline.change(key, from.next_tick, to.next_tick);
        self.undo.push((key.clone(), from));
        from
    }

    /// Undoes the open transaction. `each` gets the rank that a key had and the one that it has again.
    pub fn rollback(&mut self, mut each: impl FnMut(&K, Option<Rank>, Option<Rank>)) {
        for key in self.waiting.drain(..) {
            if let Some(moved) = self.moved.get_mut(&key) {
                moved.is_waiting = false;
            }
        }
        while let Some((key, before)) = self.undo.pop() {
            let Some(moved) = self.moved.get_mut(&key) else { continue };
            let was = std::mem::replace(&mut moved.now, before);
            self.timeline.change(&key, was.next_tick, before.next_tick);
            each(&key, was.rank, before.rank);
        }
        end_undo(&mut self.undo);
    }

    /// Ends the open transaction. All keys are placed.
    pub fn commit(&mut self) {
        end_undo(&mut self.undo);
    }

    /// The heads of all groups. `are_tied`: several ranks may have one score.
    pub fn heads(
        &self,
        places: usize,
        are_tied: bool,
        score: impl Fn(Rank) -> Option<i128>,
    ) -> Result<Heads<K>, StoreError> {
        let mut heads = Heads::new(places);
        for (key, moved) in &self.moved {
            if let Some(score) = moved.now.rank.and_then(&score) {
                heads.offer(key.clone(), score);
            }
        }
        let Some(behind) = &self.behind else { return Ok(heads) };
        let mut cursor = Some((RANKS, MARK.to_vec()));
        loop {
            let mut end = None;
            behind.read(&mut cursor, usize::MAX, |_, stored, _| {
                let (group, rank, key) = decode::<K>(stored).ok_or_else(|| self.corrupt("a place"))?;
                if self.moved.contains_key(&key) {
                    return Ok(true);
                }
                // Those that follow have no greater scores.
                let goes_on = score(rank).is_some_and(|score| match heads.offer(key, score) {
                    Offered::Kept => true,
                    Offered::Tied => are_tied,
                    Offered::Below => false,
                });
                if !goes_on {
                    // Places of the group have a 0 there, and those of the next one are behind this.
                    end = Some([group, &[1][..]].concat());
                }
                Ok(goes_on)
            })?;
            match end {
                Some(end) => cursor = Some((RANKS, end)),
                None => return Ok(heads),
            }
        }
    }

    /// Writes what has changed since the last checkpoint, into the section of its store.
    pub fn checkpoint(&self, mark: &[u8], out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
        if self.behind.is_none() {
            // Those of another order.
            delete(out)?;
        }
        for (key, Move { stored, now, .. }) in self.moved.iter().filter(|(_, moved)| moved.stored != moved.now.rank) {
            if let Some(rank) = stored {
                put(key, *rank, false, out)?;
            }
            if let Some(rank) = now.rank {
                put(key, rank, true, out)?;
            }
        }
        self.timeline.checkpoint(out)?;
        if self.moved.is_empty() && self.mark == mark { Ok(()) } else { put_mark(mark, out) }
    }

    /// Marks what was written last as written: all places, or what had changed.
    pub fn checkpointed(&mut self, mark: Vec<u8>, checkpoint: &Arc<Checkpoint>) -> Result<(), StoreError> {
        self.mark = mark;
        if self.is_whole {
            self.timeline.checkpointed(checkpoint)?;
            self.moved = HashMap::default();
        } else {
            let store = self.store.clone();
            self.is_whole = self.timeline.open(&store, self.index, Some(checkpoint.clone()))?;
        }
        match &mut self.behind {
            Some(behind) => behind.refresh(),
            None => {
                self.behind = Some(CheckpointReader::of_order(checkpoint.clone(), self.index, RANKS)?);
                Ok(())
            }
        }
    }

    /// How much memory it takes, about, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let moved = self.moved.capacity() * (size_of::<(K, Move)>() + 1);
        let behind = self.behind.as_ref().map_or(0, CheckpointReader::memory_bytes);
        moved + self.timeline.memory_bytes() + behind
    }

    fn corrupt(&self, detail: &str) -> StoreError {
        StoreError::Corrupt { store: self.store.clone(), detail: detail.to_owned() }
    }
}

/// Writes all places of a checkpoint that lacks them, or has others.
pub(super) struct WholeOrder<'o, 'c, K> {
    out: &'o mut CheckpointWriter<'c>,
    first: Option<timeline::Place<K>>,
}

impl<'o, 'c, K: RankedKey> WholeOrder<'o, 'c, K> {
    /// Begins in the section of the store at `index`.
    pub fn begin(index: usize, out: &'o mut CheckpointWriter<'c>) -> Result<Self, StoreError> {
        out.begin(index)?;
        delete(out)?;
        Ok(Self { out, first: None })
    }

    /// What the checkpoint is written to.
    pub fn out(&self) -> &CheckpointWriter<'c> {
        self.out
    }

    /// Writes the places of a key.
    pub fn add(&mut self, key: &K, standing: Standing) -> Result<(), StoreError> {
        if let Some(rank) = standing.rank {
            put(key, rank, true, self.out)?;
        }
        let Some(next_tick) = standing.next_tick else { return Ok(()) };
        let place = (next_tick, key.clone());
        timeline::put(&place, true, self.out)?;
        if self.first.as_ref().is_none_or(|first| place < *first) {
            self.first = Some(place);
        }
        Ok(())
    }

    /// There are no more.
    pub fn end(self, mark: &[u8]) -> Result<(), StoreError> {
        timeline::put_first(self.first.as_ref(), self.out)?;
        put_mark(mark, self.out)
    }
}

/// Deletes all places from the section of a store.
pub(super) fn delete(out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
    out.delete_segment(RANKS)?;
    out.delete_segment(TIMES)
}

fn put_mark(mark: &[u8], out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
    out.put(RANKS, |out| out.extend_from_slice(MARK), Some(|out: &mut Vec<u8>| out.extend_from_slice(mark)))
}

/// Writes a place, or that it is gone. Its stored form: the group, 0, the rank, the key.
fn put<K: RankedKey>(key: &K, rank: Rank, is_there: bool, out: &mut CheckpointWriter<'_>) -> Result<(), StoreError> {
    let stored = |out: &mut Vec<u8>| {
        out.extend_from_slice(key.group().as_bytes());
        out.push(0);
        rank.encode(out);
        key.encode(out);
    };
    out.put(RANKS, stored, is_there.then_some(|_: &mut Vec<u8>| {}))
}

/// Group, rank, key.
fn decode<K: RankedKey>(stored: &[u8]) -> Option<(&[u8], Rank, K)> {
    let (group, rest) = stored.split_at_checked(stored.iter().position(|byte| *byte == 0)?)?;
    let (rank, key) = Rank::decode(&rest[1..])?;
    Some((group, rank, K::decode(key)?))
}
