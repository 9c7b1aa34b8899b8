//! Reading a store's part of a checkpoint: one key, or all in turn.

use super::block::Block;
use super::runs::{Merged, Place, Run, block_key, read_block_key, segment_bytes};
use super::{CHECKSUM_BYTES, Checkpoint, StoreError, failed, unseal, wrong};
use std::sync::Arc;

/// A store's entries in a checkpoint, as of the last [`CheckpointReader::refresh`].
pub(in crate::store) struct CheckpointReader {
    checkpoint: Arc<Checkpoint>,
    index: usize,
    /// Ascending.
    segments: Vec<Segment>,
    /// The segment and key of the entry that [`CheckpointReader::next`] returned last.
    read: Option<(u64, Vec<u8>)>,
}

struct Segment {
    number: u64,
    /// The newest first.
    runs: Vec<IndexedRun>,
}

struct IndexedRun {
    run: Run,
    blocks: Vec<IndexedBlock>,
}

struct IndexedBlock {
    first: Box<[u8]>,
    is_checked: bool,
}

impl IndexedRun {
    /// The block that has a key, if any has.
    fn block_of(&self, key: &[u8]) -> Option<usize> {
        self.blocks.partition_point(|block| *block.first <= *key).checked_sub(1)
    }
}

impl CheckpointReader {
    /// A reader of the store at `index`.
    pub fn new(checkpoint: Arc<Checkpoint>, index: usize) -> Result<Self, StoreError> {
        let mut reader = Self { checkpoint, index, segments: Vec::new(), read: None };
        reader.refresh()?;
        Ok(reader)
    }

    /// Looks again at what there is: a checkpoint was written. Segments that were forgotten stay so only if it dropped them.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        let Checkpoint { env, dir, .. } = &*self.checkpoint;
        let txn = env.read_txn().map_err(|e| failed(dir, e))?;
        let damaged = || wrong(dir, &"a block cannot be read");
        let mut segments: Vec<Segment> = Vec::new();
        for entry in self.checkpoint.store(self.index)?.iter(&txn).map_err(|e| failed(dir, e))? {
            let (key, sealed) = entry.map_err(|e| failed(dir, e))?;
            let (segment, number, block) = read_block_key(key).ok_or_else(damaged)?;
            if segments.last().is_none_or(|last| last.number != segment) {
                segments.push(Segment { number: segment, runs: Vec::new() });
            }
            let runs = segments.last_mut().map(|segment| &mut segment.runs).ok_or_else(damaged)?;
            if runs.last().is_none_or(|last| last.run.number != number) {
                runs.push(IndexedRun { run: Run { number, blocks: 0 }, blocks: Vec::new() });
            }
            let run = runs.last_mut().filter(|run| run.run.blocks == block).ok_or_else(damaged)?;
            let bytes = sealed.get(CHECKSUM_BYTES..).and_then(Block::read);
            let (first, _) = bytes.and_then(|block| block.entry(0)).ok_or_else(damaged)?;
            run.run.blocks += 1;
            run.blocks.push(IndexedBlock { first: first.into(), is_checked: false });
        }
        segments.iter_mut().for_each(|segment| segment.runs.reverse());
        self.segments = segments;
        Ok(())
    }

    /// Its segments, ascending.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.segments.iter().map(|segment| segment.number)
    }

    /// Forgets the segments below this one.
    pub fn forget_below(&mut self, first: u64) {
        self.segments.retain(|segment| segment.number >= first);
    }

    /// The value of a key in a segment. The key begins with it.
    pub fn get(&mut self, segment: u64, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key.get(segment_bytes(segment)..).unwrap_or_default();
        let Checkpoint { env, dir, .. } = &*self.checkpoint;
        let Ok(at) = self.segments.binary_search_by_key(&segment, |segment| segment.number) else { return Ok(None) };
        let txn = env.read_txn().map_err(|e| failed(dir, e))?;
        let damaged = || wrong(dir, &"a block does not match its checksum");
        for run in &mut self.segments[at].runs {
            let Some(at) = run.block_of(key) else { continue };
            let block_key = block_key(segment, run.run.number, at as u32);
            let sealed = self.checkpoint.store(self.index)?.get(&txn, &block_key[..]).map_err(|e| failed(dir, e))?;
            let sealed = sealed.ok_or_else(damaged)?;
            let bytes = match run.blocks[at].is_checked {
                true => sealed.get(CHECKSUM_BYTES..),
                false => unseal(&block_key, sealed),
            };
            let block = bytes.and_then(Block::read).ok_or_else(damaged)?;
            run.blocks[at].is_checked = true;
            let at = block.search(key).ok_or_else(damaged)?;
            if at == block.len() {
                continue;
            }
            let (found, value) = block.entry(at).ok_or_else(damaged)?;
            if found == key {
                return Ok(value.map(<[u8]>::to_vec));
            }
        }
        Ok(None)
    }

    /// Calls `each` with segment, key and value of up to `entries_max` entries, by segment and key, and goes on behind them
    /// the next time. Ok(true): there are more.
    pub fn next(
        &mut self,
        entries_max: usize,
        mut each: impl FnMut(u64, &[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let Checkpoint { env, dir, .. } = &*self.checkpoint;
        let txn = env.read_txn().map_err(|e| failed(dir, e))?;
        let read = self.read.take();
        let (from, after) = read.as_ref().map_or((0, None), |(segment, key)| (*segment, Some(key.as_slice())));
        let (mut left, mut stored) = (entries_max, Vec::new());
        for segment in self.segments.iter().filter(|segment| segment.number >= from) {
            let after = after.filter(|_| segment.number == from);
            let begin = |run: &IndexedRun| (run.run, after.and_then(|key| run.block_of(key)).unwrap_or(0) as u32);
            let mut merged = Merged::new(segment.runs.iter().map(begin));
            stored.clear();
            stored.extend_from_slice(&segment.number.to_be_bytes()[..segment_bytes(segment.number)]);
            let place = Place { checkpoint: &self.checkpoint, index: self.index, segment: segment.number };
            while merged.next(&place, &txn)? {
                let (key, Some(value)) = merged.entry() else { continue };
                if after.is_some_and(|after| key <= after) {
                    continue;
                }
                stored.truncate(segment_bytes(segment.number));
                stored.extend_from_slice(key);
                each(segment.number, &stored, value)?;
                left -= 1;
                if left == 0 {
                    self.read = Some((segment.number, key.to_vec()));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
