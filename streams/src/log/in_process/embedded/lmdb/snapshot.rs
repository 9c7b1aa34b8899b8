//! One moment of a log, read while another process writes.

use std::path::Path;

use heed::{RoTxn, WithoutTls};

use super::{LmdbStorage, VALUE_BYTES_MAX, offset, unread, usage};
use crate::log::LogError;
use crate::log::in_process::storage::PartitionId;

/// A key of the log itself, and its value.
pub(in super::super) type KeyValue = (Vec<u8>, Vec<u8>);

/// One moment of a log. As long as it lives, pages that the log frees cannot be used again, so that the file grows with
/// every commit.
pub(in super::super) struct Snapshot<'a> {
    storage: &'a LmdbStorage,
    txn: RoTxn<'a, WithoutTls>,
}

impl LmdbStorage {
    /// The log as of now.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, LogError> {
        let txn = self.env.read_txn().map_err(|e| unread(&e))?;
        Ok(Snapshot { storage: self, txn })
    }

    /// Closes the log, and cuts off the part of its file that was only made in advance.
    pub fn close_trimmed(self, file: &Path) -> std::io::Result<()> {
        let used_bytes = usage(&self.env, self.page_bytes).used_bytes;
        // The directory stays locked until the file has its length.
        let Self { env, _directory: directory, .. } = self;
        env.prepare_for_closing().wait();
        let file = std::fs::OpenOptions::new().write(true).open(file)?;
        if file.metadata()?.len() > used_bytes {
            file.set_len(used_bytes)?;
        }
        file.sync_all()?;
        drop(directory);
        Ok(())
    }
}

impl Snapshot<'_> {
    /// Every batch of a partition, ascending.
    pub fn batches(
        &self,
        partition: PartitionId,
        mut each: impl FnMut(u64, &[u8]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        for batch in self.storage.partition(partition).iter(&self.txn).map_err(|e| unread(&e))? {
            let (at, value) = batch.map_err(|e| unread(&e))?;
            if value.len() as u64 > VALUE_BYTES_MAX {
                // Its length is damaged: the bytes may lie beyond the file.
                return Err(unread(&heed::Error::Mdb(heed::MdbError::Corrupted)));
            }
            each(offset(at), value)?;
        }
        Ok(())
    }

    /// The log's own keys with their values.
    pub fn keys(&self) -> Result<Vec<KeyValue>, LogError> {
        let keys = self.storage.keys.iter(&self.txn).map_err(|e| unread(&e))?;
        keys.map(|key| key.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(|e| unread(&e))).collect()
    }
}
