//! The runs of a store: what each checkpoint wrote of it, as sorted blocks.
//!
//! A checkpoint adds a run to each segment that changed; the newest run that has a key decides. Where the newest runs of a
//! segment are of about one size and many, they are merged into one: so every entry is written a few times in all, and a
//! segment has few runs. Random keys are thus written in long sequences, and a segment is dropped as a range. A key that is
//! nowhere queries the filters of all runs: so the runs of a segment that is not written any more become one.
//!
//! The key of a block is segment (u64 BE), number of the run (u32 BE, rising), number of the block (u32 BE, from 0). Behind
//! its blocks a run has a directory (`directory.rs`). Runs of format 2 have none.

use super::block::{Block, BlockBuilder};
use super::directory::{DIRECTORY, DirectoryBuilder, Tail};
use super::merged::Merged;
use super::{Checkpoint, RANKS, StoreError, TIMES, failed, seal, unseal, wrong};
use heed::{RoTxn, RwTxn};
use std::ops::Bound;

/// The number of runs of about one size that are merged.
const MERGED_RUNS: usize = 8;
/// About one size: a power of this in blocks.
const SIZE_STEP_BITS: u32 = 3;
/// A segment that was not written for so many checkpoints is quiet: so many runs of it are merged, …
const QUIET: u64 = if cfg!(test) { 3 } else { 64 };
const QUIET_RUNS: usize = 4;
/// … if they have at most so many blocks, since nothing else is done meanwhile.
const QUIET_BLOCKS_MAX: u32 = 4_096;
/// A run is written at the latest when its entries take this much memory.
#[cfg(not(test))]
const RUN_BYTES_MAX: usize = 64 << 20;
#[cfg(test)]
const RUN_BYTES_MAX: usize = 64 << 10;

/// A run of a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub number: u32,
    pub blocks: u32,
}

impl Run {
    fn size(self) -> u32 {
        self.blocks.max(1).ilog2() / SIZE_STEP_BITS
    }
}

pub(super) type BlockKey = [u8; 16];

pub(super) fn block_key(segment: u64, run: u32, block: u32) -> BlockKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&segment.to_be_bytes());
    key[8..12].copy_from_slice(&run.to_be_bytes());
    key[12..].copy_from_slice(&block.to_be_bytes());
    key
}

/// Segment, run, block.
pub(super) fn read_block_key(key: &[u8]) -> Option<(u64, u32, u32)> {
    let (segment, rest) = key.split_first_chunk::<8>()?;
    let (run, block) = rest.split_first_chunk::<4>()?;
    let block = u32::from_be_bytes(block.try_into().ok()?);
    Some((u64::from_be_bytes(*segment), u32::from_be_bytes(*run), block))
}

/// A block of a store at `index`, checked.
pub(super) fn read_block<'t>(
    checkpoint: &Checkpoint,
    txn: &'t RoTxn<'_>,
    index: usize,
    key: &BlockKey,
) -> Result<&'t [u8], StoreError> {
    let sealed = checkpoint.sealed_block(txn, index, key)?;
    let sealed = sealed.ok_or_else(|| wrong(&checkpoint.dir, &"a block is missing"))?;
    unseal(key, sealed).ok_or_else(|| wrong(&checkpoint.dir, &"a block does not match its checksum"))
}

/// An entry that a run will have: its bytes are in [`RunBuilder::bytes`], the value behind the key.
struct Unsorted {
    segment: u64,
    /// The key's first bytes: they nearly always decide its order.
    prefix: u64,
    begin: u32,
    key_bytes: u32,
    /// None is a deleted one.
    value_bytes: Option<u32>,
}

/// Collects what a checkpoint writes of a store, in any order.
#[derive(Default)]
pub(super) struct RunBuilder {
    entries: Vec<Unsorted>,
    bytes: Vec<u8>,
    block: BlockBuilder,
    unsealed: Vec<u8>,
    sealed: Vec<u8>,
}

impl RunBuilder {
    /// Adds an entry of a segment. Of entries with equal keys, any one is kept.
    pub fn add(&mut self, segment: u64, key: impl FnOnce(&mut Vec<u8>), value: Option<impl FnOnce(&mut Vec<u8>)>) {
        let begin = self.bytes.len();
        key(&mut self.bytes);
        let key_end = self.bytes.len();
        let begin = (begin + segment_bytes(segment)).min(key_end);
        let value_bytes = value.map(|value| {
            value(&mut self.bytes);
            (self.bytes.len() - key_end) as u32
        });
        let prefix = prefix(&self.bytes[begin..key_end]);
        let (begin, key_bytes) = (begin as u32, (key_end - begin) as u32);
        self.entries.push(Unsorted { segment, prefix, begin, key_bytes, value_bytes });
    }

    /// Whether it takes so much memory that it should be written.
    pub fn is_full(&self) -> bool {
        self.bytes.len() + self.entries.len() * size_of::<Unsorted>() >= RUN_BYTES_MAX
    }

    /// Writes a run of each segment that has entries, and merges runs where there are many. Empty afterwards.
    pub fn write(&mut self, checkpoint: &Checkpoint, txn: &mut RwTxn<'_>, index: usize) -> Result<(), StoreError> {
        let (mut entries, bytes) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.bytes));
        let key = |entry: &Unsorted| &bytes[entry.begin as usize..][..entry.key_bytes as usize];
        entries.sort_unstable_by(|a, b| {
            let order = (a.segment, a.prefix).cmp(&(b.segment, b.prefix));
            order.then_with(|| key(a).cmp(key(b)))
        });
        for entries in entries.chunk_by(|a, b| a.segment == b.segment) {
            let segment = entries[0].segment;
            let newest = newest_below(checkpoint, txn, index, segment, u32::MAX)?;
            let place = Place { checkpoint, index, segment };
            let mut run = RunWriter::new(self, place, newest.map_or(0, |run| run.number + 1), entries.len() as u64);
            let mut last = None;
            for entry in entries {
                // A deleted entry only hides what is in older runs.
                let is_needless = entry.value_bytes.is_none() && newest.is_none();
                if is_needless || last.replace(key(entry)) == Some(key(entry)) {
                    continue;
                }
                let value =
                    entry.value_bytes.map(|len| &bytes[(entry.begin + entry.key_bytes) as usize..][..len as usize]);
                run.push(txn, key(entry), value)?;
            }
            run.finish(txn)?;
            while self.merge(checkpoint, txn, index, segment)? {}
        }
        (self.entries, self.bytes) = (entries, bytes);
        self.entries.clear();
        self.bytes.clear();
        Ok(())
    }

    /// Merges the newest runs of a segment, if they are of about one size and many.
    fn merge(
        &mut self,
        checkpoint: &Checkpoint,
        txn: &mut RwTxn<'_>,
        index: usize,
        segment: u64,
    ) -> Result<bool, StoreError> {
        let mut runs = Vec::new();
        let mut oldest = newest_below(checkpoint, txn, index, segment, u32::MAX)?;
        while let Some(run) = oldest
            && run.size() <= runs.first().unwrap_or(&run).size()
        {
            runs.push(run);
            oldest = match run.number.checked_sub(1) {
                Some(before) => newest_below(checkpoint, txn, index, segment, before)?,
                None => None,
            };
        }
        if runs.len() < MERGED_RUNS {
            return Ok(false);
        }
        let place = Place { checkpoint, index, segment };
        self.merge_runs(txn, &place, &runs, oldest.is_some()).map(|()| true)
    }

    /// Merges the runs of a quiet segment, if a store has one with many.
    pub fn merge_quiet(
        &mut self,
        checkpoint: &Checkpoint,
        txn: &mut RwTxn<'_>,
        index: usize,
    ) -> Result<(), StoreError> {
        let mut up_to = Some(u64::MAX);
        while let Some(segment) = up_to
            && let Some(newest) = last_run(checkpoint, txn, index, &block_key(segment, u32::MAX, u32::MAX))?
        {
            let segment = newest.segment;
            up_to = segment.checked_sub(1);
            let is_quiet = newest.tail.is_none_or(|tail| tail.transaction + QUIET <= txn.id() as u64);
            if !is_quiet || segment >= RANKS {
                continue;
            }
            let mut runs = vec![newest.run];
            while let Some(before) = runs[runs.len() - 1].number.checked_sub(1)
                && let Some(run) = newest_below(checkpoint, txn, index, segment, before)?
            {
                runs.push(run);
            }
            if runs.len() >= QUIET_RUNS && runs.iter().map(|run| run.blocks).sum::<u32>() <= QUIET_BLOCKS_MAX {
                return self.merge_runs(txn, &Place { checkpoint, index, segment }, &runs, false);
            }
        }
        Ok(())
    }

    /// Merges consecutive runs, the newest first. `is_above`: there are older ones.
    fn merge_runs(
        &mut self,
        txn: &mut RwTxn<'_>,
        place: &Place<'_>,
        runs: &[Run],
        is_above: bool,
    ) -> Result<(), StoreError> {
        let Place { checkpoint, index, segment } = *place;
        let [newest, .., last] = runs else { return Ok(()) };
        let entries = runs.iter().map(|run| place.entries_of(txn, *run)).sum::<Result<u64, StoreError>>()?;
        let mut merged = Merged::new(runs.iter().map(|run| (*run, 0)));
        let mut run = RunWriter::new(self, *place, newest.number + 1, entries);
        while merged.next(place, txn)? {
            let (key, value) = merged.entry();
            if value.is_some() || is_above {
                run.push(txn, key, value)?;
            }
        }
        run.finish(txn)?;
        let (first, end) = (block_key(segment, last.number, 0), block_key(segment, newest.number, u32::MAX));
        let range = (Bound::Included(&first[..]), Bound::Included(&end[..]));
        checkpoint.store(index)?.delete_range(txn, &range).map(drop).map_err(|e| failed(&checkpoint.dir, e))
    }
}

/// How many bytes of the segment the key of an entry begins with: blocks do not repeat them.
pub(in crate::store) fn segment_bytes(segment: u64) -> usize {
    if segment >= RANKS { 0 } else { size_of::<u64>() }
}

/// Whether a segment has places in an order, rather than entries.
pub(super) fn is_order(segment: u64) -> bool {
    (RANKS..=TIMES).contains(&segment)
}

/// The first bytes of a key.
pub(super) fn prefix(key: &[u8]) -> u64 {
    let mut prefix = [0; 8];
    let len = key.len().min(8);
    prefix[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(prefix)
}

/// The newest run of a segment with at most this number.
fn newest_below(
    checkpoint: &Checkpoint,
    txn: &RoTxn<'_>,
    index: usize,
    segment: u64,
    number: u32,
) -> Result<Option<Run>, StoreError> {
    let found = last_run(checkpoint, txn, index, &block_key(segment, number, u32::MAX))?;
    Ok(found.filter(|found| found.segment == segment).map(|found| found.run))
}

/// A run that was looked for from its end.
pub(super) struct FoundRun {
    pub segment: u64,
    pub run: Run,
    /// The tail of its directory; None where it has none.
    pub tail: Option<Tail>,
    /// How many parts the directory has.
    pub parts: u32,
}

/// The run of a store that has the last block, or part of a directory, up to a key.
pub(super) fn last_run(
    checkpoint: &Checkpoint,
    txn: &RoTxn<'_>,
    index: usize,
    key: &BlockKey,
) -> Result<Option<FoundRun>, StoreError> {
    let damaged = || wrong(&checkpoint.dir, &"a block has a wrong key");
    let store = checkpoint.store(index)?;
    let found = store.get_lower_than_or_equal_to(txn, &key[..]).map_err(|e| failed(&checkpoint.dir, e))?;
    let Some((key, sealed)) = found else { return Ok(None) };
    let (segment, number, last) = read_block_key(key).ok_or_else(damaged)?;
    let run = |last: u32| Run { number, blocks: last + 1 };
    let Some(parts) = last.checked_sub(DIRECTORY) else {
        return Ok(Some(FoundRun { segment, run: run(last), tail: None, parts: 0 }));
    };
    let directory = block_key(segment, number, DIRECTORY);
    let block = store.get_lower_than(txn, &directory[..]).map_err(|e| failed(&checkpoint.dir, e))?;
    let last = block.and_then(|(key, _)| read_block_key(key)).filter(|(of, run, _)| (*of, *run) == (segment, number));
    let (.., last) = last.ok_or_else(damaged)?;
    let tail = unseal(key, sealed).and_then(Tail::read);
    let tail = tail.ok_or_else(|| wrong(&checkpoint.dir, &"a directory does not match its checksum"))?;
    Ok(Some(FoundRun { segment, run: run(last), tail: Some(tail), parts: parts.saturating_add(1) }))
}

/// Writes the blocks and the directory of a run.
struct RunWriter<'a, 'c> {
    builder: &'a mut RunBuilder,
    place: Place<'c>,
    run: Run,
    directory: DirectoryBuilder,
}

impl<'a, 'c> RunWriter<'a, 'c> {
    fn new(builder: &'a mut RunBuilder, place: Place<'c>, number: u32, entries_max: u64) -> Self {
        let filtered = if is_order(place.segment) { 0 } else { entries_max };
        Self { builder, place, run: Run { number, blocks: 0 }, directory: DirectoryBuilder::new(filtered) }
    }

    fn push(&mut self, txn: &mut RwTxn<'_>, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        if !self.builder.block.has_room(key, value) {
            self.finish_block(txn)?;
        }
        self.directory.add(key, self.builder.block.is_empty());
        self.builder.block.push(key, value);
        Ok(())
    }

    fn finish_block(&mut self, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
        let RunBuilder { block, unsealed, .. } = &mut *self.builder;
        block.finish(unsealed);
        self.run.blocks += 1;
        self.put(txn, self.run.blocks - 1)
    }

    /// A run without entries leaves nothing.
    fn finish(mut self, txn: &mut RwTxn<'_>) -> Result<(), StoreError> {
        if self.builder.block.is_empty() {
            return Ok(());
        }
        self.finish_block(txn)?;
        let directory = std::mem::replace(&mut self.directory, DirectoryBuilder::new(0));
        for (number, part) in (DIRECTORY..).zip(directory.finish(txn.id() as u64)) {
            self.builder.unsealed = part;
            self.put(txn, number)?;
        }
        Ok(())
    }

    /// Writes what [`RunBuilder::unsealed`] holds.
    fn put(&mut self, txn: &mut RwTxn<'_>, number: u32) -> Result<(), StoreError> {
        let Place { checkpoint, index, segment } = self.place;
        let key = block_key(segment, self.run.number, number);
        let RunBuilder { unsealed, sealed, .. } = &mut *self.builder;
        seal(&key, unsealed, sealed);
        checkpoint.store(index)?.put(txn, &key[..], sealed).map_err(|e| failed(&checkpoint.dir, e))
    }
}

/// Where runs are.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub checkpoint: &'a Checkpoint,
    pub index: usize,
    pub segment: u64,
}

impl Place<'_> {
    /// How many entries a run has.
    fn entries_of(&self, txn: &RoTxn<'_>, run: Run) -> Result<u64, StoreError> {
        let Place { checkpoint, index, segment } = *self;
        let last = last_run(checkpoint, txn, index, &block_key(segment, run.number, u32::MAX))?;
        if let Some(tail) = last.and_then(|found| found.tail) {
            return Ok(tail.entries);
        }
        let count = |block| {
            let bytes = read_block(checkpoint, txn, index, &block_key(segment, run.number, block))?;
            Ok(Block::read(bytes).map_or(0, Block::len) as u64)
        };
        (0..run.blocks).map(count).sum()
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
