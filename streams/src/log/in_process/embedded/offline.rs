//! What operators do with a log in its directory: measure and verify it, and compact it if no process has it open.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copying::remove_locks;
use super::lmdb::{LmdbStorage, check_file};
use super::options::EmbeddedOptions;
use crate::log::in_process::batch::{BatchRecords, Head};
use crate::log::in_process::keys::{self, Start};
use crate::log::in_process::packing::unpacked;
use crate::log::in_process::registry::{Registry, Topic};
use crate::log::in_process::storage::{PartitionId, Storage};
use crate::log::in_process::writer::Writer;
use crate::log::newest::Newest;
use crate::log::{LogError, LoggedRecord, Space, TopicSize, TopicSpec, UpkeepOptions, system_clock};

/// The name of a copy that is being made.
const COPY: &str = "data.mdb.compacting";

/// How many batches are read in one transaction.
const BATCHES_PER_READ: usize = 256;

/// A log in a directory, without anything that changes it.
pub struct OfflineLog {
    dir: PathBuf,
    storage: LmdbStorage,
    registry: Registry,
}

/// What a topic holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStat {
    /// Its name.
    pub topic: Arc<str>,
    /// How many partitions it has.
    pub partitions: u32,
    /// Records that readers see.
    pub records: u64,
    /// Batches and blocks in which they are stored.
    pub batches: u64,
    /// Bytes of these.
    pub live_bytes: u64,
    /// Bytes of the pages that hold them.
    pub file_bytes: u64,
    /// The oldest and newest append times, ms since 1970.
    pub times_ms: Option<(i64, i64)>,
}

/// What was read, and what is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records that can be read.
    pub records: u64,
    /// Bytes of all batches.
    pub bytes: u64,
    /// What cannot be read: where, and why.
    pub damage: Vec<String>,
}

impl OfflineLog {
    /// Opens the log in `dir` for this process. Fails where there is none, where another process has it open, or where
    /// the file is damaged in a way that shows at once.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, LogError> {
        Self::open_with(dir.as_ref(), LmdbStorage::open)
    }

    /// The same, but where another process has it open, reads beside that.
    pub fn open_shared(dir: impl AsRef<Path>) -> Result<Self, LogError> {
        Self::open_with(dir.as_ref(), LmdbStorage::open_shared)
    }

    fn open_with(
        dir: &Path,
        open: fn(&Path, &EmbeddedOptions) -> Result<LmdbStorage, LogError>,
    ) -> Result<Self, LogError> {
        if !dir.join("data.mdb").exists() {
            return Err(LogError::Fatal(format!("{}: there is no log: it has no data.mdb", dir.display())));
        }
        let storage = open(dir, &EmbeddedOptions::default())?;
        let registry = storage.get(keys::TOPICS)?.map(|value| Registry::decode(&value)).transpose()?;
        Ok(Self { dir: dir.to_owned(), storage, registry: registry.unwrap_or_default() })
    }

    /// Whether another process has it open, and may write it meanwhile.
    pub fn is_shared(&self) -> bool {
        self.storage.is_shared()
    }

    /// For a copy of it.
    pub(super) const fn storage(&self) -> &LmdbStorage {
        &self.storage
    }

    /// Its topics.
    pub(super) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// By topic, the offset after the last record of each partition.
    pub fn ends(&self) -> Result<BTreeMap<String, Vec<u64>>, LogError> {
        let ends = |topic: &Topic| {
            let ends = partitions(topic).map(|(id, _)| self.end(id)).collect::<Result<_, _>>()?;
            Ok((topic.name.to_string(), ends))
        };
        self.registry.topics().map(|topic| ends(topic)).collect()
    }

    fn end(&self, id: PartitionId) -> Result<u64, LogError> {
        if let Some((_, end)) = self.span(id)? {
            return Ok(end);
        }
        // Everything was removed.
        let key = keys::start(id);
        let start = self.storage.get(&key)?.map(|value| Start::decode(&key, &value)).transpose()?;
        Ok(start.map_or(0, |start| start.offset))
    }

    /// Closes it, and leaves nothing in its directory but the data. No process may use the log meanwhile.
    pub fn close_copy(self) -> Result<(), LogError> {
        let Self { dir, storage, .. } = self;
        drop(storage);
        remove_locks(&dir).map_err(|e| LogError::Fatal(format!("cannot write {}: {e}", dir.display())))
    }

    /// What its file takes.
    pub fn space(&self) -> Result<Option<Space>, LogError> {
        self.storage.space()
    }

    /// Why a process with these topics could not open it: an error for each topic that is different here.
    pub fn refusals(&self, topics: &[TopicSpec]) -> Vec<LogError> {
        self.registry.refusals(topics)
    }

    /// What each topic holds, by name. Reads the heads of all batches.
    pub fn stat(&self) -> Result<Vec<TopicStat>, LogError> {
        self.registry.topics().map(|topic| self.topic_stat(topic)).collect()
    }

    fn topic_stat(&self, topic: &Topic) -> Result<TopicStat, LogError> {
        let mut stat = TopicStat {
            topic: topic.name.clone(),
            partitions: topic.partitions,
            records: 0,
            batches: 0,
            live_bytes: 0,
            file_bytes: 0,
            times_ms: None,
        };
        for (id, _) in partitions(topic) {
            stat.file_bytes += self.storage.stored_bytes(id)?;
            self.each_batch(id, 0, |_, value, _| {
                stat.batches += 1;
                stat.live_bytes += value.len() as u64;
                if let Some(head) = Head::decode(value) {
                    stat.records += u64::from(head.count);
                    let (oldest, newest) = stat.times_ms.unwrap_or((i64::MAX, i64::MIN));
                    stat.times_ms = Some((oldest.min(head.time_ms), newest.max(head.newest_ms())));
                }
            })?;
        }
        Ok(stat)
    }

    /// The newest value of a key in the first partition of a topic; None where there is none, or no such topic.
    pub fn newest(&self, topic: &str, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        let Some(topic) = self.registry.topics().find(|known| &*known.name == topic) else { return Ok(None) };
        let (mut newest, mut damage) = (None, None);
        self.each_batch(topic.first, 0, |base, value, _| match unpacked(base, value) {
            Ok((head, value)) => {
                let records = BatchRecords::new(base, head, &value).flatten();
                if let Some(record) = records.filter(|record| record.key == Some(key)).last() {
                    newest = record.value.map(<[u8]>::to_vec);
                }
            }
            Err(detail) => damage = Some((base, detail.to_owned())),
        })?;
        match damage {
            Some((offset, detail)) => Err(LogError::Fatal(format!("{}/0 offset {offset}: {detail}", topic.name))),
            None => Ok(newest),
        }
    }

    /// See [`newest_records`](crate::log::newest_records).
    pub fn newest_records(
        &self,
        topic: &str,
        records_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<LoggedRecord>, LogError> {
        let mut newest = Newest::new(records_max, bytes_max);
        let known = self.registry.topics().find(|known| &*known.name == topic).filter(|_| records_max > 0);
        for (id, partition) in known.into_iter().flat_map(|topic| partitions(topic)) {
            let Some((start, end)) = self.span(id)? else { continue };
            let from = newest.from(start, end);
            let mut damage = None;
            self.each_batch(id, from, |base, value, new| match unpacked(base, value) {
                Ok((head, value)) => {
                    let records = BatchRecords::new(base, head, &value).flatten();
                    records
                        .filter(|record| record.offset >= new)
                        .for_each(|record| newest.add(partition, &record.into()));
                }
                Err(detail) => damage = Some(format!("{topic}/{partition} offset {base}: {detail}")),
            })?;
            if let Some(damage) = damage {
                return Err(LogError::Fatal(damage));
            }
        }
        Ok(newest.finish())
    }

    /// What a topic holds; None where there is no such topic.
    pub fn topic_size(&self, topic: &str) -> Result<Option<TopicSize>, LogError> {
        let Some(topic) = self.registry.topics().find(|known| &*known.name == topic) else { return Ok(None) };
        let mut size = TopicSize::default();
        for (id, _) in partitions(topic) {
            let (start, end) = self.span(id)?.unwrap_or_default();
            size.add(end.saturating_sub(start), Some(self.storage.stored_bytes(id)?));
        }
        Ok(Some(size))
    }

    /// The offset of a partition's first record, and the one behind its last; None without any.
    fn span(&self, id: PartitionId) -> Result<Option<(u64, u64)>, LogError> {
        let Some((start, last)) = self.storage.bounds(id)? else { return Ok(None) };
        let mut end = last;
        self.each_batch(id, last, |base, value, _| {
            end = Head::decode(value).map_or(base + 1, |head| head.end(base));
        })?;
        Ok(Some((start, end)))
    }

    /// Calls `each` with every batch of a partition that has records from an offset on, and with the offset from which it is
    /// new: the rest was there already, in batches that the process which writes the log has merged meanwhile. The
    /// transactions are short, so that pages which that process frees do not wait for long.
    fn each_batch(&self, id: PartitionId, from: u64, mut each: impl FnMut(u64, &[u8], u64)) -> Result<(), LogError> {
        let (mut next, mut more) = (from, true);
        while more {
            let mut count = 0;
            more = false;
            self.storage.scan(id, next, &mut |base, value| {
                more = count == BATCHES_PER_READ;
                if !more {
                    each(base, value, next);
                    count += 1;
                    next = next.max(Head::decode(value).map_or(base + 1, |head| head.end(base)));
                }
                !more
            })?;
        }
        Ok(())
    }

    /// Reads everything: all pages, every checksum, every record. Of a log that another process has open the checksums and
    /// records, but not the pages: that process verified them when it started.
    pub fn verify(&self) -> Result<Verified, LogError> {
        let mut verified = Verified::default();
        if !self.is_shared()
            && let Err(error) = check_file(&self.dir.join("data.mdb"), u64::MAX)
        {
            verified.damage.push(error.to_string());
            return Ok(verified);
        }
        for topic in self.registry.topics() {
            for (id, partition) in partitions(topic) {
                let address = format!("{}/{partition}", topic.name);
                let (is_shared, mut end) = (self.is_shared(), 0);
                let scanned = self.each_batch(id, 0, |base, value, new| {
                    verified.bytes += value.len() as u64;
                    // Beside a process that merges, a batch may reach back.
                    end = if is_shared { end.min(base) } else { end };
                    match check_batch(base, value, &mut end, new) {
                        Ok(records) => verified.records += records,
                        Err((at, detail)) => verified.damage.push(format!("{address} offset {at}: {detail}")),
                    }
                });
                verified.damage.extend(scanned.err().map(|error| format!("{address}: {error}")));
            }
        }
        Ok(verified)
    }

    /// Merges and compacts everything but the newest records of each topic, then writes the file anew without the pages
    /// that hold nothing: that takes as much room beside it. Fails before it changes the file's length where there is
    /// not enough; what was merged until then stays.
    pub fn compact(self) -> Result<(), LogError> {
        let Self { dir, storage, .. } = self;
        // Retention is for the process that runs the log.
        let mut writer = Writer::open(Box::new(storage), system_clock())?.kept_by(UpkeepOptions::thorough());
        writer.rewrite_all()?;
        drop(writer);
        let storage = LmdbStorage::open(&dir, &EmbeddedOptions::default())?;
        let (copy, file) = (dir.join(COPY), dir.join("data.mdb"));
        storage.copy_to(&copy)?;
        let replace = || -> std::io::Result<()> {
            let permissions = fs::metadata(&file)?.permissions();
            fs::set_permissions(&copy, permissions)?;
            File::open(&copy)?.sync_all()?;
            fs::rename(&copy, &file)?;
            File::open(&dir)?.sync_all()
        };
        // The directory stays locked meanwhile.
        replace().map_err(|e| LogError::Fatal(format!("cannot replace {}: {e}", file.display())))
    }
}

/// The numbers of a topic's partitions, within the log and within the topic.
fn partitions(topic: &Topic) -> impl Iterator<Item = (PartitionId, u32)> + use<> {
    (topic.first..).zip(0..topic.partitions)
}

/// Reads a batch that begins at or after `next`, and raises that; returns how many records it has from `new` on, or what is
/// wrong where.
fn check_batch(base: u64, value: &[u8], next: &mut u64, new: u64) -> Result<u64, (u64, String)> {
    let (head, value) = unpacked(base, value).map_err(|detail| (base, detail.to_owned()))?;
    if base < *next {
        return Err((base, format!("it overlaps the batch before, which ends at {next}")));
    }
    *next = head.end(base);
    let mut records = 0;
    for record in BatchRecords::new(base, head, &value) {
        match record {
            Ok(record) if record.offset < *next => records += u64::from(record.offset >= new),
            Ok(record) => return Err((record.offset, "a record lies beyond the end of its batch".to_owned())),
            Err(at) => return Err((at, "a record cannot be decoded although the checksum matches".to_owned())),
        }
    }
    Ok(records)
}
