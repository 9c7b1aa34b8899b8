//! Reading a store's part of a checkpoint: one key, or all in turn.

use super::block::Block;
use super::directory::{DIRECTORY, Directory, Tail};
use super::filter::{self, Filter};
use super::first_keys::FirstKeys;
use super::merged::Merged;
use super::runs::{FoundRun, Place, Run, block_key, is_order, last_run, read_block, segment_bytes};
use super::{CHECKSUM_BYTES, Checkpoint, RANKS, StoreError, failed, unseal, wrong};
use heed::RoTxn;
use std::sync::Arc;

/// What a block takes at most, about.
const BLOCK_BYTES: u64 = 16 << 10;

/// A store's entries in a checkpoint, as of the last [`CheckpointReader::refresh`]. Filter and first keys of every run are in
/// memory; blocks are read, and their checksums verified, as they are needed.
pub(in crate::store) struct CheckpointReader {
    checkpoint: Arc<Checkpoint>,
    index: usize,
    /// The order that it reads; None: the entries.
    order: Option<u64>,
    /// Ascending.
    segments: Vec<Segment>,
}

struct Segment {
    number: u64,
    /// The newest first.
    runs: Vec<IndexedRun>,
}

struct IndexedRun {
    run: Run,
    /// None: the run is of a format without directories.
    tail: Option<Tail>,
    filter: Option<Filter>,
    firsts: FirstKeys,
    /// By block, whether its checksum was verified.
    is_checked: Vec<bool>,
    /// What filter and first keys take in memory. They never change, and the sum is needed after every commit.
    memory_bytes: usize,
}

/// The segment and key of the entry that was read last.
pub(in crate::store) type Cursor = Option<(u64, Vec<u8>)>;

impl IndexedRun {
    fn new(run: Run, tail: Option<Tail>, filter: Option<Filter>, firsts: FirstKeys) -> Self {
        let of_filter = filter.as_ref().map_or(0, Filter::size_bytes);
        // A run without a filter was read whole.
        let is_checked = vec![filter.is_none(); firsts.len()];
        let memory_bytes = of_filter + firsts.size_bytes() + is_checked.len();
        Self { run, tail, filter, firsts, is_checked, memory_bytes }
    }

    fn may_have(&self, hash: u64) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_have(hash))
    }
}

impl CheckpointReader {
    /// A reader of the entries of the store at `index`.
    pub fn new(checkpoint: Arc<Checkpoint>, index: usize) -> Result<Self, StoreError> {
        Self::begin(checkpoint, index, None)
    }

    /// A reader of an order of the store at `index`: [`super::TIMES`] or [`RANKS`].
    pub fn of_order(checkpoint: Arc<Checkpoint>, index: usize, order: u64) -> Result<Self, StoreError> {
        Self::begin(checkpoint, index, Some(order))
    }

    fn begin(checkpoint: Arc<Checkpoint>, index: usize, order: Option<u64>) -> Result<Self, StoreError> {
        let mut reader = Self { checkpoint, index, order, segments: Vec::new() };
        reader.refresh()?;
        Ok(reader)
    }

    /// Looks again at what there is: a checkpoint was written. Segments that were forgotten stay so only if it dropped them.
    /// Reads the directories of new runs, and no block of a run that has one.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        let mut known = std::mem::take(&mut self.segments);
        let checkpoint = &*self.checkpoint;
        let txn = checkpoint.env.read_txn().map_err(|e| failed(&checkpoint.dir, e))?;
        let mut segments: Vec<Segment> = Vec::new();
        let mut up_to = Some(block_key(self.order.unwrap_or(u64::MAX), u32::MAX, u32::MAX));
        while let Some(key) = up_to
            && let Some(found) = last_run(checkpoint, &txn, self.index, &key)?
        {
            let (segment, number) = (found.segment, found.run.number);
            if self.order.is_some_and(|order| order != segment) {
                break;
            }
            if self.order.is_none() && is_order(segment) {
                up_to = Some(block_key(RANKS - 1, u32::MAX, u32::MAX));
                continue;
            }
            up_to = match number.checked_sub(1) {
                Some(before) => Some(block_key(segment, before, u32::MAX)),
                None => segment.checked_sub(1).map(|before| block_key(before, u32::MAX, u32::MAX)),
            };
            let run = match take_known(&mut known, &found) {
                Some(run) => run,
                None => index_run(checkpoint, &txn, self.index, &found)?,
            };
            match segments.last_mut().filter(|last| last.number == segment) {
                Some(last) => last.runs.push(run),
                None => segments.push(Segment { number: segment, runs: vec![run] }),
            }
        }
        segments.reverse();
        self.segments = segments;
        Ok(())
    }

    /// One of its segments, for the form of its keys; None where there are none.
    pub fn any_segment(&self) -> Option<u64> {
        self.segments.last().map(|segment| segment.number)
    }

    /// Forgets the segments below this one.
    pub fn forget_below(&mut self, first: u64) {
        self.segments.retain(|segment| segment.number >= first);
    }

    /// How many bytes its blocks take, at most.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.iter().flat_map(|segment| &segment.runs).map(|run| u64::from(run.run.blocks) * BLOCK_BYTES).sum()
    }

    /// What filters and first keys take in memory.
    pub fn memory_bytes(&self) -> usize {
        self.segments.iter().flat_map(|segment| &segment.runs).map(|run| run.memory_bytes).sum()
    }

    /// The value of a key, and its segment: in its own segment where it has one, else in the newest that has it. The key
    /// comes without a segment. Neither a key that no run has nor a run that lacks the key costs a look-up, but for the
    /// few that a filter takes for others.
    pub fn get(&mut self, own: Option<u64>, key: &[u8]) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let (checkpoint, hash) = (&*self.checkpoint, filter::hash(key));
        let segments = match own {
            None => &mut self.segments[..],
            Some(own) => match self.segments.binary_search_by_key(&own, |segment| segment.number) {
                Ok(at) => &mut self.segments[at..=at],
                Err(_) => &mut [],
            },
        };
        let mut txn = None;
        for segment in segments.iter_mut().rev() {
            for run in segment.runs.iter_mut().filter(|run| run.may_have(hash)) {
                let txn = match &txn {
                    Some(txn) => txn,
                    None => txn.insert(checkpoint.env.read_txn().map_err(|e| failed(&checkpoint.dir, e))?),
                };
                let place = Place { checkpoint, index: self.index, segment: segment.number };
                match run.get(&place, txn, key)? {
                    Some(Some(value)) => return Ok(Some((segment.number, value.to_vec()))),
                    // Deleted: older runs have nothing to say.
                    Some(None) => break,
                    None => {}
                }
            }
        }
        Ok(None)
    }

    /// Calls `each` with segment, stored key and value of up to `entries_max` entries, by segment and key, behind the
    /// cursor, until it returns false. The cursor then stands at the last of them. Ok(true): there may be more.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        entries_max: usize,
        each: impl FnMut(u64, &[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let Checkpoint { env, dir, .. } = &*self.checkpoint;
        let txn = env.read_txn().map_err(|e| failed(dir, e))?;
        self.read_in(&txn, cursor, entries_max, each)
    }

    /// [`CheckpointReader::read`] in a transaction.
    pub(super) fn read_in(
        &self,
        txn: &RoTxn<'_>,
        cursor: &mut Cursor,
        entries_max: usize,
        mut each: impl FnMut(u64, &[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let read = cursor.take();
        let (from, after) = read.as_ref().map_or((0, None), |(segment, key)| (*segment, Some(key.as_slice())));
        let (mut left, mut stored) = (entries_max, Vec::new());
        for segment in self.segments.iter().filter(|segment| segment.number >= from) {
            let after = after.filter(|_| segment.number == from);
            let begin =
                |run: &IndexedRun| (run.run, after.and_then(|key| run.firsts.block_of(key)).unwrap_or(0) as u32);
            let mut merged = Merged::new(segment.runs.iter().map(begin));
            stored.clear();
            stored.extend_from_slice(&segment.number.to_be_bytes()[..segment_bytes(segment.number)]);
            let place = Place { checkpoint: &self.checkpoint, index: self.index, segment: segment.number };
            while merged.next(&place, txn)? {
                let (key, Some(value)) = merged.entry() else { continue };
                if after.is_some_and(|after| key <= after) {
                    continue;
                }
                stored.truncate(segment_bytes(segment.number));
                stored.extend_from_slice(key);
                let goes_on = each(segment.number, &stored, value)?;
                left -= 1;
                if left == 0 || !goes_on {
                    *cursor = Some((segment.number, key.to_vec()));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl IndexedRun {
    /// None: it has no such key. `Some(None)`: it has deleted it.
    fn get<'t>(
        &mut self,
        place: &Place<'_>,
        txn: &'t RoTxn<'_>,
        key: &[u8],
    ) -> Result<Option<Option<&'t [u8]>>, StoreError> {
        let Place { checkpoint, index, segment } = *place;
        let damaged = || wrong(&checkpoint.dir, &"a block does not match its checksum");
        let Some(at) = self.firsts.block_of(key) else { return Ok(None) };
        let block_key = block_key(segment, self.run.number, at as u32);
        let sealed = checkpoint.sealed_block(txn, index, &block_key)?.ok_or_else(damaged)?;
        let bytes = match self.is_checked[at] {
            true => sealed.get(CHECKSUM_BYTES..),
            false => unseal(&block_key, sealed),
        };
        let block = bytes.and_then(Block::read).ok_or_else(damaged)?;
        self.is_checked[at] = true;
        let at = block.search(key).ok_or_else(damaged)?;
        if at == block.len() {
            return Ok(None);
        }
        let (found, value) = block.entry(at).ok_or_else(damaged)?;
        Ok((found == key).then_some(value))
    }
}

/// The index of a run that is still what it was.
fn take_known(known: &mut [Segment], found: &FoundRun) -> Option<IndexedRun> {
    let segment = known.iter_mut().rev().find(|segment| segment.number == found.segment)?;
    let is_it = |run: &IndexedRun| run.run == found.run && run.tail == found.tail;
    let at = segment.runs.iter().position(is_it)?;
    Some(segment.runs.remove(at))
}

fn index_run(
    checkpoint: &Checkpoint,
    txn: &RoTxn<'_>,
    index: usize,
    found: &FoundRun,
) -> Result<IndexedRun, StoreError> {
    let damaged = || wrong(&checkpoint.dir, &"a run cannot be read");
    let FoundRun { segment, run, tail, parts } = *found;
    if tail.is_none() {
        let first = |block| {
            let bytes = read_block(checkpoint, txn, index, &block_key(segment, run.number, block))?;
            let (first, _) = Block::read(bytes).and_then(|block| block.entry(0)).ok_or_else(damaged)?;
            Ok(first)
        };
        let firsts = (0..run.blocks).map(first).collect::<Result<Vec<_>, StoreError>>()?;
        return Ok(IndexedRun::new(run, tail, None, FirstKeys::new(firsts)));
    }
    let mut bytes = Vec::new();
    for part in 0..parts {
        bytes.extend_from_slice(read_block(checkpoint, txn, index, &block_key(segment, run.number, DIRECTORY + part))?);
    }
    let Directory { tail, filter, firsts } = Directory::read(&bytes).ok_or_else(damaged)?;
    if tail.blocks != run.blocks {
        return Err(damaged());
    }
    Ok(IndexedRun::new(run, Some(tail), Some(filter), firsts))
}
