//! A snapshot's pass over the entries of a store: those in memory, then those of the checkpoint.

use super::{Entries, Entry, SAMPLES, corrupt};
use crate::store::StoreError;
use crate::store::changelog::ChangelogWriter;
use crate::store::checkpoint::{CheckpointReader, Cursor};
use crate::store::codec::StoreKey;

/// So many entries of the checkpoint are looked at in a step of a snapshot, most of which may be in memory.
const SNAPSHOT_READS: usize = 16_384;

/// A snapshot's pass over the checkpoint.
#[derive(Clone, PartialEq)]
pub(super) enum Pass {
    /// It stands behind this entry.
    At(Cursor),
    /// It is over, or none was begun.
    Over,
}

impl<K: StoreKey, E: Entry<K>> Entries<K, E> {
    /// See [`crate::store::StateStore::begin_snapshot`].
    pub fn begin_snapshot(&mut self) {
        self.table.begin_scan();
        (self.pass, self.committed_pass) = (Pass::At(None), Pass::At(None));
    }

    /// See [`crate::store::StateStore::write_snapshot`].
    ///
    /// The pass goes over the entries in memory, then over those of the checkpoint. One that is in memory when the pass
    /// begins is written in the first part, or it is in the checkpoint afterwards: evicted, as it was then. One that is
    /// loaded or added meanwhile gets a place that the first part does not come to; the second one does if it was in the
    /// checkpoint, and writes what memory has. So no entry is written with a value that it no longer has.
    pub fn write_snapshot(&mut self, out: &mut ChangelogWriter, end_bytes: usize) -> Result<bool, StoreError> {
        out.begin(&self.name);
        let first = self.dropping;
        let Pass::At(cursor) = &mut self.pass else { return Ok(false) };
        if cursor.is_none() && self.table.is_scan_at_start() && first > 0 {
            out.drop_segments(first);
        }
        let more = self.table.scan(|key, entry| {
            let segment = entry.segment(key);
            if segment >= first {
                out.put(|out| E::encode_key(key, segment, out), |out| entry.encode_value(out));
            }
            out.len_bytes() < end_bytes
        });
        if more {
            return Ok(true);
        }
        let more = match &self.behind {
            Some(behind) => behind.read(cursor, SNAPSHOT_READS, |segment, stored, value| {
                let (_, key) = E::decode_key(stored).ok_or_else(|| corrupt(&self.name, "a key"))?;
                let found = self.table.find(&key);
                match self.table.at(found) {
                    _ if self.table.is_in_scan(found) => {}
                    Some(entry) => {
                        if let Some(entry) = entry.filter(|entry| entry.segment(&key) >= first) {
                            out.put(|out| E::encode_key(&key, entry.segment(&key), out), |out| entry.encode_value(out));
                        }
                    }
                    None if segment < first => {}
                    None => out.put(|out| out.extend_from_slice(stored), |out| out.extend_from_slice(value)),
                }
                Ok(out.len_bytes() < end_bytes)
            })?,
            None => false,
        };
        if !more {
            self.pass = Pass::Over;
        }
        Ok(more)
    }

    /// See [`crate::store::StateStore::snapshot_bytes`].
    pub fn snapshot_bytes(&self) -> u64 {
        let (mut out, mut count) = (ChangelogWriter::new(usize::MAX), 0);
        out.begin(&self.name);
        for (key, entry) in self.table.sample(SAMPLES) {
            out.put(|out| E::encode_key(key, entry.segment(key), out), |out| entry.encode_value(out));
            count += 1;
        }
        let in_memory = (out.len_bytes() * self.table.len() / count.max(1)) as u64;
        in_memory.max(self.behind.as_ref().map_or(0, CheckpointReader::disk_bytes))
    }

    /// All entries, keys and values as stored.
    #[cfg(any(test, feature = "testkit"))]
    pub fn stored(&self) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
        let mut entries = std::collections::BTreeMap::new();
        if let Some(behind) = &self.behind {
            let each = |segment, stored: &[u8], value: &[u8]| {
                let (_, key) = E::decode_key(stored).ok_or_else(|| self.corrupt("a key"))?;
                if segment >= self.dropping && self.table.get(&key).is_none() {
                    entries.insert(stored.to_vec(), value.to_vec());
                }
                Ok(true)
            };
            behind.read(&mut None, usize::MAX, each).expect("a checkpoint that can be read");
        }
        for (key, entry) in self.table.iter() {
            let (mut stored, mut value) = (Vec::new(), Vec::new());
            E::encode_key(key, entry.segment(key), &mut stored);
            entry.encode_value(&mut value);
            entries.insert(stored, value);
        }
        entries
    }
}
