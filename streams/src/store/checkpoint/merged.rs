//! Reading several runs of a segment as one.

use super::block::Block;
use super::runs::{Place, Run, block_key, prefix, read_block};
use super::{StoreError, wrong};
use heed::RoTxn;
use std::cmp::Ordering;
use std::ops::Range;

/// Entries of several runs in the order of their keys; of equal keys that of the newest run.
pub(super) struct Merged {
    /// The newest first.
    runs: Vec<Reading>,
    /// The key that was returned last.
    key: Vec<u8>,
    /// The run that it is of.
    current: Option<usize>,
}

/// A run while it is read.
struct Reading {
    run: Run,
    next_block: u32,
    /// The present block.
    bytes: Vec<u8>,
    at: usize,
    prefix: u64,
    key: Range<usize>,
    value: Option<Range<usize>>,
    is_done: bool,
}

impl Reading {
    fn key(&self) -> &[u8] {
        &self.bytes[self.key.clone()]
    }

    /// Goes to the next entry.
    fn advance(&mut self, place: &Place<'_>, txn: &RoTxn<'_>) -> Result<(), StoreError> {
        let Place { checkpoint, index, segment } = place;
        let damaged = || wrong(&checkpoint.dir, &"an entry of a block cannot be read");
        if self.at == Block::read(&self.bytes).map_or(0, Block::len) {
            if self.next_block == self.run.blocks {
                self.is_done = true;
                return Ok(());
            }
            let key = block_key(*segment, self.run.number, self.next_block);
            self.bytes.clear();
            self.bytes.extend_from_slice(read_block(checkpoint, txn, *index, &key)?);
            (self.at, self.next_block) = (0, self.next_block + 1);
        }
        let block = Block::read(&self.bytes).ok_or_else(damaged)?;
        (self.key, self.value) = block.ranges(self.at).ok_or_else(damaged)?;
        self.prefix = prefix(self.key());
        self.at += 1;
        Ok(())
    }
}

impl Merged {
    /// Runs, the newest first, each with the block to begin with.
    pub fn new(runs: impl Iterator<Item = (Run, u32)>) -> Self {
        let reading = |(run, next_block)| Reading {
            run,
            next_block,
            bytes: Vec::new(),
            at: 0,
            prefix: 0,
            key: 0..0,
            value: None,
            is_done: false,
        };
        Self { runs: runs.map(reading).collect(), key: Vec::new(), current: None }
    }

    /// Goes to the first entry, then to the next; false at the end.
    pub fn next(&mut self, place: &Place<'_>, txn: &RoTxn<'_>) -> Result<bool, StoreError> {
        let is_first = self.current.is_none();
        let prefix = prefix(&self.key);
        for run in self.runs.iter_mut().filter(|run| !run.is_done) {
            if is_first || (run.prefix == prefix && run.key() == self.key) {
                run.advance(place, txn)?;
            }
        }
        let left = self.runs.iter().enumerate().filter(|(_, run)| !run.is_done);
        let by_key = |a: &Reading, b: &Reading| a.prefix.cmp(&b.prefix).then_with(|| a.key().cmp(b.key()));
        // With equal keys, the first run, which is the newest.
        let first = left.reduce(|a, b| if by_key(b.1, a.1) == Ordering::Less { b } else { a });
        let Some((current, run)) = first else { return Ok(false) };
        self.current = Some(current);
        self.key.clear();
        self.key.extend_from_slice(run.key());
        Ok(true)
    }

    /// The present entry: its key, and its value or None for a deleted one.
    pub fn entry(&self) -> (&[u8], Option<&[u8]>) {
        let run = self.current.map(|current| &self.runs[current]);
        (&self.key, run.and_then(|run| Some(&run.bytes[run.value.clone()?])))
    }
}
