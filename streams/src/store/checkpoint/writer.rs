//! Writing a checkpoint, store by store.

use super::reader::{CheckpointReader, Cursor};
use super::runs::{RunBuilder, block_key};
use super::{Checkpoint, StoreError, failed};
use heed::RwTxn;
use std::ops::Bound;

/// Writes the stores' part of a checkpoint.
pub struct CheckpointWriter<'a> {
    checkpoint: &'a Checkpoint,
    txn: RwTxn<'a>,
    index: usize,
    run: RunBuilder,
}

impl<'a> CheckpointWriter<'a> {
    /// Writes in a transaction.
    pub(super) fn new(checkpoint: &'a Checkpoint, txn: RwTxn<'a>) -> Self {
        Self { checkpoint, txn, index: 0, run: RunBuilder::default() }
    }

    /// All stores are written.
    pub(super) fn end(mut self) -> Result<RwTxn<'a>, StoreError> {
        self.end_store()?;
        Ok(self.txn)
    }

    /// What follows belongs to the store at `index`.
    pub fn begin(&mut self, index: usize) -> Result<(), StoreError> {
        self.end_store()?;
        self.index = index;
        Ok(())
    }

    /// Sets the value of a key in a segment, or removes it. The two functions append key and value.
    pub fn put(
        &mut self,
        segment: u64,
        key: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) -> Result<(), StoreError> {
        self.run.add(segment, key, value);
        if self.run.is_full() { self.write_run() } else { Ok(()) }
    }

    /// Removes the segments below this one.
    pub fn delete_below(&mut self, segment: u64) -> Result<(), StoreError> {
        let end = block_key(segment, 0, 0);
        self.delete(Bound::Unbounded, Bound::Excluded(&end))
    }

    /// Removes a segment, but for what was put since [`CheckpointWriter::begin`].
    pub fn delete_segment(&mut self, segment: u64) -> Result<(), StoreError> {
        let [first, last] = [block_key(segment, 0, 0), block_key(segment, u32::MAX, u32::MAX)];
        self.delete(Bound::Included(&first), Bound::Included(&last))
    }

    fn delete(&mut self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<(), StoreError> {
        let store = self.checkpoint.store(self.index)?;
        store.delete_range(&mut self.txn, &(from, to)).map(drop).map_err(|e| failed(&self.checkpoint.dir, e))
    }

    /// [`CheckpointReader::read`] while this checkpoint is written: of segments that were not written yet.
    pub(in crate::store) fn read(
        &self,
        reader: &CheckpointReader,
        cursor: &mut Cursor,
        entries_max: usize,
        each: impl FnMut(u64, &[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        reader.read_in(&self.txn, cursor, entries_max, each)
    }

    /// What the store at hand gets is written.
    fn end_store(&mut self) -> Result<(), StoreError> {
        self.write_run()?;
        self.run.merge_quiet(self.checkpoint, &mut self.txn, self.index)
    }

    fn write_run(&mut self) -> Result<(), StoreError> {
        self.run.write(self.checkpoint, &mut self.txn, self.index)
    }
}
