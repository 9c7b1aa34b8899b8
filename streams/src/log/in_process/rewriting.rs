//! How a run of batches becomes blocks, for merging and compaction.

use std::borrow::Cow;

use super::batch::{BatchRecords, Head, Stored};
use super::block::BlockBuilder;
use super::packing::{pack, unpacked};
use super::storage::{Op, PartitionId};

/// Blocks that take the place of batches.
pub(super) struct Rewrite {
    /// Where the first of the batches begins.
    pub from: u64,
    /// Where the last one ends.
    to: u64,
    /// What is stored instead, by base offset; possibly nothing.
    blocks: Vec<(u64, Vec<u8>)>,
}

impl Rewrite {
    /// As a change of the storage.
    pub fn op(&self, partition: PartitionId) -> Op<'_> {
        Op::Replace { partition, from: self.from, to: self.to, blocks: &self.blocks }
    }

    /// Bytes of the blocks.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|(_, block)| block.len() as u64).sum()
    }
}

/// The offset of a batch or record that cannot be read. Nothing from there on is rewritten: its readers report the damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub u64);

/// A batch that was checked, and is not packed.
pub(super) struct Readable<'a> {
    /// The offset at which it begins.
    pub base: u64,
    /// Its head.
    pub head: Head,
    /// The batch itself; a copy where it was packed.
    pub value: Cow<'a, [u8]>,
    /// Bytes that are stored for it.
    stored_bytes: u64,
}

impl<'a> Readable<'a> {
    /// Checks a batch before its records are used.
    pub fn new(base: u64, value: &'a [u8]) -> Result<Self, Unreadable> {
        let stored_bytes = value.len() as u64;
        let (head, value) = unpacked(base, value).map_err(|_| Unreadable(base))?;
        Ok(Self { base, head, value, stored_bytes })
    }

    /// The offset after everything that it covers.
    pub fn end(&self) -> u64 {
        self.head.end(self.base)
    }

    /// Its records.
    pub fn records(&self) -> impl Iterator<Item = Result<Stored<'_>, Unreadable>> {
        BatchRecords::new(self.base, self.head, &self.value).map(|record| record.map_err(Unreadable))
    }
}

/// Batches that follow each other, on the way to become blocks.
pub(super) struct Run {
    from: u64,
    to: u64,
    batches: usize,
    read_bytes: u64,
    /// Whether a record was left out.
    is_thinned: bool,
    /// Whether one of the batches is not packed.
    is_loose: bool,
    block: BlockBuilder,
    full: Vec<(u64, Vec<u8>)>,
    block_bytes: usize,
}

impl Run {
    /// A run that begins with the batch at `base`, and makes blocks of at most `block_bytes`, or of one larger record.
    pub fn new(base: u64, block_bytes: usize) -> Self {
        let (block, full) = (BlockBuilder::new(base), Vec::new());
        let (is_thinned, is_loose) = (false, false);
        Self { from: base, to: base, batches: 0, read_bytes: 0, is_thinned, is_loose, block, full, block_bytes }
    }

    /// Bytes of the block that is being filled.
    pub fn len_bytes(&self) -> usize {
        self.block.len_bytes()
    }

    /// Whether it fills a block, or makes one of at least this length.
    pub fn is_long(&self, bytes_min: usize) -> bool {
        !self.full.is_empty() || self.block.len_bytes() >= bytes_min
    }

    /// Bytes of the batches, as they are stored.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Where the last batch ends.
    pub fn end(&self) -> u64 {
        self.to
    }

    /// Adds the next batch: of its records those that `is_kept`. All of it or nothing.
    pub fn add(&mut self, batch: &Readable<'_>, is_kept: impl Fn(&Stored<'_>) -> bool) -> Result<(), Unreadable> {
        for record in batch.records().collect::<Result<Vec<_>, _>>()? {
            match is_kept(&record) {
                true => self.push(&record),
                false => self.is_thinned = true,
            }
        }
        self.batches += 1;
        self.read_bytes += batch.stored_bytes;
        self.is_loose |= matches!(batch.value, Cow::Borrowed(_));
        self.to = batch.end();
        Ok(())
    }

    fn push(&mut self, record: &Stored<'_>) {
        let is_full = self.block.len_bytes() + BlockBuilder::record_bytes_max(record) > self.block_bytes;
        if (is_full && !self.block.is_empty()) || !self.block.push(record) {
            self.cut(record.offset);
            // The first record of a block fits in any case.
            let fits = self.block.push(record);
            debug_assert!(fits);
        }
    }

    fn cut(&mut self, end: u64) {
        let block = std::mem::replace(&mut self.block, BlockBuilder::new(end));
        if !block.is_empty() {
            self.full.push(block.seal(end));
        }
    }

    /// The blocks. None where the batches may stay as they are.
    pub fn finish(mut self) -> Option<Rewrite> {
        self.cut(self.to);
        let is_due = self.is_thinned || self.batches > self.full.len();
        if !is_due && !self.is_loose {
            return None;
        }
        let blocks = self.full.into_iter().map(|(base, block)| (base, pack(base, block))).collect();
        let rewrite = Rewrite { from: self.from, to: self.to, blocks };
        // A batch that is large enough, or a block of an older release, is only worth it if it shrinks.
        (is_due || rewrite.bytes() <= self.read_bytes / 8 * 7).then_some(rewrite)
    }
}
