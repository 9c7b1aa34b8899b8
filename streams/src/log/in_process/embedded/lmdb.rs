//! The storage on LMDB: durable commits, short read transactions, no writable map (a full disk must be an error, not
//! a signal).

mod snapshot;

use std::fs::OpenOptions;
use std::io;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use heed::types::Bytes;
use heed::{
    CommitOrAbort, CommitToken, CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, MdbError, OnCommit,
    PutFlags, RoTxn, RwTxn, WithoutTls,
};

use super::directory::{Directory, WAY_OUT, damaged};
use super::options::EmbeddedOptions;
use super::room::{Room, Usage};
use crate::lmdb::{Inspection, inspect};
use crate::log::in_process::batch::RECORD_BYTES_MAX;
use crate::log::in_process::keys;
use crate::log::in_process::registry::Registry;
use crate::log::in_process::storage::{Op, PartitionId, Storage, reaches};
use crate::log::{LogError, Space};
pub(super) use snapshot::Snapshot;

/// Concurrent read transactions; each lasts as long as one copy.
const READERS_MAX: u32 = 512;

/// The least that is worth trying as a map.
const MAP_BYTES_MIN: u64 = 1 << 20;

/// Leaf pages that are verified at the start: the first 64 MiB. Of later leaves only the branches above are verified.
const LEAVES_MAX: u64 = 16_384;

/// Maximum length of a batch: one record and its framing.
const VALUE_BYTES_MAX: u64 = RECORD_BYTES_MAX as u64 + 4_096;

/// The key of a commit of nothing.
const TURN: &[u8] = b"turn";

type Db = Database<'static, Bytes, Bytes>;

/// See the module's text. The directory is freed last.
pub(super) struct LmdbStorage {
    env: Env<WithoutTls>,
    keys: Db,
    /// By partition number.
    partitions: RwLock<Vec<Db>>,
    page_bytes: u64,
    room: Room,
    /// There was a commit since the last [`LmdbStorage::turn`].
    freed: AtomicBool,
    /// None beside another process that has the log open.
    _directory: Option<Directory>,
}

impl LmdbStorage {
    /// Opens the environment in `dir`, or creates it.
    pub fn open(dir: &Path, options: &EmbeddedOptions) -> Result<Self, LogError> {
        Self::open_in(Directory::lock(dir)?, dir, options)
    }

    /// Opens the environment in `dir`; where another process has it open, to read beside that.
    pub fn open_shared(dir: &Path, options: &EmbeddedOptions) -> Result<Self, LogError> {
        match Directory::lock_unless_in_use(dir)? {
            Ok(directory) => Self::open_in(directory, dir, options),
            Err(_) => Self::open_beside(dir, options),
        }
    }

    /// Reads what another process has open, without looking through the file: that process has, and writes it.
    fn open_beside(dir: &Path, options: &EmbeddedOptions) -> Result<Self, LogError> {
        let env = open_env(dir, options, EnvFlags::READ_ONLY)?;
        let mut partitions = open_existing(&env)?;
        if partitions.is_empty() {
            return Err(LogError::Fatal(format!("the log in {} is being created: try again", dir.display())));
        }
        Self::new(env, partitions.remove(0), partitions, dir, options)
    }

    /// Whether another process has the log open and may write it at any time.
    pub fn is_shared(&self) -> bool {
        self._directory.is_none()
    }

    fn open_in(directory: Directory, dir: &Path, options: &EmbeddedOptions) -> Result<Self, LogError> {
        let is_new = directory.is_to_begin(options.proof.as_deref())?;
        let file = dir.join("data.mdb");
        match is_new {
            true => directory.begin()?,
            false => check_file(&file, LEAVES_MAX)?,
        }
        let env = open_env(dir, options, EnvFlags::empty())?;
        let mut partitions = open_databases(&env)?;
        let keys = partitions.remove(0);
        check_partitions(&file, &env, keys, partitions.len())?;
        if is_new {
            directory.begun()?;
        }
        Ok(Self { _directory: Some(directory), ..Self::new(env, keys, partitions, dir, options)? })
    }

    fn new(
        env: Env<WithoutTls>,
        keys: Db,
        partitions: Vec<Db>,
        dir: &Path,
        options: &EmbeddedOptions,
    ) -> Result<Self, LogError> {
        let room = Room::open(dir, options);
        let room = room.map_err(|e| LogError::Fatal(format!("cannot use {}: {e}", dir.display())))?;
        let page_bytes = u64::from(env.unnamed_database_stat().page_size);
        let (partitions, freed) = (partitions.into(), AtomicBool::new(true));
        Ok(Self { env, keys, partitions, page_bytes, room, freed, _directory: None })
    }

    /// Writes what is there to another file, without the pages that hold nothing.
    pub fn copy_to(&self, file: &Path) -> Result<(), LogError> {
        let copied = self.env.copy_to_path(file, CompactionOption::Enabled);
        copied.map(drop).map_err(|e| match unwritten(&e) {
            LogError::Full(detail) => LogError::Full(format!("cannot write {}: {detail}", file.display())),
            _ => LogError::Fatal(format!("cannot write {}: {e}", file.display())),
        })
    }

    fn partition(&self, id: PartitionId) -> Db {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner)[id as usize]
    }

    fn write(&self, ops: &[Op<'_>]) -> Result<(), LogError> {
        let mut txn = self.env.write_txn().map_err(|e| unwritten(&e))?;
        let done = if ops.iter().any(|op| matches!(op, Op::Create(_))) {
            self.create(txn, ops)
        } else {
            self.apply(&mut txn, ops).map_err(|e| unwritten(&e))?;
            txn.commit()
        };
        done.map_err(|e| self.failed(&e))?;
        self.freed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A commit of nothing. LMDB uses the pages that a commit has freed only in the one after the next; where that next
    /// one fails for want of room, they would never become free.
    fn turn(&self) -> Result<(), LogError> {
        let mut txn = self.env.write_txn().map_err(|e| unwritten(&e))?;
        self.keys.put(&mut txn, TURN, &[]).map_err(|e| unwritten(&e))?;
        txn.commit().map_err(|e| self.failed(&e))
    }

    fn apply(&self, txn: &mut RwTxn<'_>, ops: &[Op<'_>]) -> heed::Result<()> {
        for op in ops {
            match op {
                Op::Create(_) => {}
                Op::Append { partition, base, value } => {
                    self.partition(*partition).put_with_flags(txn, PutFlags::APPEND, &base.to_be_bytes(), value)?;
                }
                Op::Trim { partition, before } => {
                    let before = before.to_be_bytes();
                    let below = (Unbounded, Excluded(before.as_slice()));
                    self.partition(*partition).delete_range(txn, &below)?;
                }
                Op::Replace { partition, from, to, blocks } => {
                    let (db, from, to) = (self.partition(*partition), from.to_be_bytes(), to.to_be_bytes());
                    db.delete_range(txn, &(Included(from.as_slice()), Excluded(to.as_slice())))?;
                    for (base, block) in *blocks {
                        db.put(txn, &base.to_be_bytes(), block)?;
                    }
                }
                Op::Put { key, value } => self.keys.put(txn, key, value)?,
            }
        }
        Ok(())
    }

    /// Creates partitions and applies the rest, in one transaction.
    fn create(&self, txn: RwTxn<'_>, ops: &[Op<'_>]) -> heed::Result<()> {
        let created = self.env.create_databases_and_commit(txn, |opener, txn| {
            let mut created = Vec::new();
            for op in ops {
                if let Op::Create(id) = op {
                    created.push(opener.create_database::<Bytes, Bytes>(txn, Some(&name(*id)))?);
                }
            }
            self.apply(txn, ops)?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(Opened(created)))
        })?;
        if let CommitOrAbort::Commit(created) = created {
            self.partitions.write().unwrap_or_else(PoisonError::into_inner).extend(created);
        }
        Ok(())
    }

    /// Whether an environment that failed to commit can be used any more.
    fn failed(&self, error: &heed::Error) -> LogError {
        match self.env.write_txn() {
            Err(heed::Error::Mdb(MdbError::Panic)) => {
                LogError::Uncertain(format!("the log's last page could not be written ({error}): restart"))
            }
            _ => unwritten(error),
        }
    }

    /// Bytes of the file's pages that hold nothing at present, about.
    fn free_inside(&self) -> Result<u64, LogError> {
        let txn = self.env.read_txn().map_err(|e| unwritten(&e))?;
        let mut held =
            pages(&self.env.unnamed_database_stat()) + pages(&self.keys.stat(&txn).map_err(|e| unwritten(&e))?);
        for db in self.partitions.read().unwrap_or_else(PoisonError::into_inner).iter() {
            held += pages(&db.stat(&txn).map_err(|e| unwritten(&e))?);
        }
        Ok(usage(&self.env, self.page_bytes).used_bytes.saturating_sub(held * self.page_bytes))
    }
}

impl Storage for LmdbStorage {
    fn commit(&self, ops: &[Op<'_>]) -> Result<(), LogError> {
        let usage = usage(&self.env, self.page_bytes);
        self.room.check(ops, usage, || self.free_inside())?;
        self.room.grow(ops, usage)?;
        match self.write(ops) {
            Err(LogError::Full(_)) if self.freed.swap(false, Ordering::Relaxed) => {
                self.turn()?;
                self.write(ops)
            }
            done => done,
        }
    }

    fn scan(&self, id: PartitionId, from: u64, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<(), LogError> {
        let mut scan = |txn: &RoTxn<'_, WithoutTls>| -> heed::Result<()> {
            let (db, key) = (self.partition(id), from.to_be_bytes());
            let first =
                db.get_lower_than_or_equal_to(txn, &key)?.filter(|(at, value)| reaches(offset(at), value, from));
            let first = first.map_or(key.as_slice(), |(at, _)| at);
            for batch in db.range(txn, &(Included(first), Unbounded))? {
                let (at, value) = batch?;
                if value.len() as u64 > VALUE_BYTES_MAX {
                    // Its length is damaged: the bytes may lie beyond the file.
                    return Err(heed::Error::Mdb(MdbError::Corrupted));
                }
                if !each(offset(at), value) {
                    break;
                }
            }
            Ok(())
        };
        self.env.read_txn().and_then(|txn| scan(&txn)).map_err(|e| unread(&e))
    }

    fn bounds(&self, partition: PartitionId) -> Result<Option<(u64, u64)>, LogError> {
        let bounds = |txn: &RoTxn<'_, WithoutTls>| -> heed::Result<_> {
            let db = self.partition(partition);
            Ok(db.first(txn)?.zip(db.last(txn)?).map(|((first, _), (last, _))| (offset(first), offset(last))))
        };
        self.env.read_txn().and_then(|txn| bounds(&txn)).map_err(|e| unread(&e))
    }

    fn stored_bytes(&self, partition: PartitionId) -> Result<u64, LogError> {
        let stat = self.env.read_txn().and_then(|txn| self.partition(partition).stat(&txn));
        stat.map(|stat| pages(&stat) * self.page_bytes).map_err(|e| unread(&e))
    }

    fn space(&self) -> Result<Option<Space>, LogError> {
        let used_bytes = usage(&self.env, self.page_bytes).used_bytes;
        let live_bytes = used_bytes.saturating_sub(self.free_inside()?);
        Ok(Some(Space { file_bytes: self.room.len_bytes(), live_bytes }))
    }

    fn forget_readers(&self) -> Result<(), LogError> {
        self.env.clear_stale_readers().map(drop).map_err(|e| unread(&e))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        let get = |txn: &RoTxn<'_, WithoutTls>| Ok(self.keys.get(txn, key)?.map(<[u8]>::to_vec));
        self.env.read_txn().and_then(|txn| get(&txn)).map_err(|e| unread(&e))
    }
}

/// Looks through the file before LMDB maps it: all branches, and so many leaves.
pub(super) fn check_file(file: &Path, leaves_max: u64) -> Result<(), LogError> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open(file)
        && matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    {
        let whose = "the user that tally runs as must be able to read and write it";
        return Err(LogError::Fatal(format!("cannot open {}: {error}: {whose}", file.display())));
    }
    let is_value = |database: &[u8], key: &[u8], value: &[u8]| match database {
        b"keys" => (key == TURN && value.is_empty()) || keys::open(key, value).is_ok(),
        // Batches have their own checksums, and are checked where they are read.
        _ => key.len() == 8,
    };
    let inspection = Inspection {
        leaves_max,
        entry: &is_value,
        value_bytes_max: VALUE_BYTES_MAX,
        reads_values: false,
        is_grown_ahead: true,
    };
    inspect(file, &inspection).map_err(|e| damaged(file, e))
}

/// Whether the topics that are known have the partitions that are there.
fn check_partitions(file: &Path, env: &Env<WithoutTls>, keys: Db, found: usize) -> Result<(), LogError> {
    let known = env.read_txn().and_then(|txn| Ok(keys.get(&txn, keys::TOPICS)?.map(Registry::decode)));
    let expected = match known {
        Ok(Some(Ok(registry))) => registry.partitions() as usize,
        // A newer release's.
        Ok(Some(Err(error @ LogError::Fatal(_)))) => return Err(error),
        Ok(Some(Err(error))) => return Err(damaged(file, error)),
        Ok(None) => 0,
        Err(error) => return Err(damaged(file, error)),
    };
    match expected == found {
        true => Ok(()),
        false => Err(damaged(file, format!("has {found} partitions, and its topics {expected}"))),
    }
}

fn open_env(dir: &Path, options: &EmbeddedOptions, flags: EnvFlags) -> Result<Env<WithoutTls>, LogError> {
    let mut map_bytes = options.map_size_bytes.max(MAP_BYTES_MIN) & !0xffff;
    loop {
        let mut open = EnvOpenOptions::new().read_txn_without_tls();
        // `keys` is one more.
        open.map_size(usize::try_from(map_bytes).unwrap_or(usize::MAX & !0xffff))
            .max_dbs(options.partitions_max.saturating_add(1))
            .max_readers(READERS_MAX);
        // SAFETY: the process that has locked the directory is the only one that changes its files while this environment
        // lives: this one, or another if the environment is read-only. Processes beside it register their readers in
        // LMDB's lock file, and no flag is set that gives up LMDB's own guarantees.
        match unsafe { open.flags(flags).open(dir) } {
            Ok(env) => return Ok(env),
            // The address space is limited.
            Err(heed::Error::Io(e)) if e.kind() == io::ErrorKind::OutOfMemory && map_bytes > MAP_BYTES_MIN => {
                map_bytes = (map_bytes / 2).max(MAP_BYTES_MIN) & !0xffff;
            }
            Err(e) => return Err(LogError::Fatal(format!("cannot open the log in {}: {e}", dir.display()))),
        }
    }
}

/// Databases that become usable when the transaction that opened them is committed.
struct Opened<'e>(Vec<Database<'e, Bytes, Bytes>>);

impl OnCommit for Opened<'_> {
    type Committed = Vec<Db>;

    fn on_commit(self, token: &CommitToken) -> Self::Committed {
        self.0.into_iter().map(|db| db.on_commit(token)).collect()
    }
}

/// `keys` and then the partitions.
fn open_databases(env: &Env<WithoutTls>) -> Result<Vec<Db>, LogError> {
    let opened = env.write_txn().and_then(|txn| {
        env.create_databases_and_commit(txn, |opener, txn| {
            let mut opened = vec![opener.create_database::<Bytes, Bytes>(txn, Some("keys"))?];
            while let Some(db) = opener.open_database(txn, Some(&name(opened.len() as u32 - 1)))? {
                opened.push(db);
            }
            Ok(CommitOrAbort::<_, ()>::Commit(Opened(opened)))
        })
    });
    match opened.map_err(|e| unwritten(&e))? {
        CommitOrAbort::Commit(opened) => Ok(opened),
        CommitOrAbort::Abort(()) => Err(LogError::Fatal("the log's databases were not opened".into())),
    }
}

/// The same without creating any; nothing if the log is not complete yet.
fn open_existing(env: &Env<WithoutTls>) -> Result<Vec<Db>, LogError> {
    let opened = env.read_txn().and_then(|txn| {
        env.open_databases_and_commit(txn, |opener, txn| {
            let mut opened: Vec<_> = opener.open_database(txn, Some("keys"))?.into_iter().collect();
            while let (false, Some(db)) =
                (opened.is_empty(), opener.open_database(txn, Some(&name(opened.len().max(1) as u32 - 1)))?)
            {
                opened.push(db);
            }
            Ok(CommitOrAbort::<_, ()>::Commit(Opened(opened)))
        })
    });
    match opened.map_err(|e| unread(&e))? {
        CommitOrAbort::Commit(opened) => Ok(opened),
        CommitOrAbort::Abort(()) => Ok(Vec::new()),
    }
}

/// A partition's database.
fn name(id: PartitionId) -> String {
    format!("{id:08}")
}

/// Pages of a database.
fn pages(db: &heed::DatabaseStat) -> u64 {
    (db.branch_pages + db.leaf_pages + db.overflow_pages) as u64
}

fn usage(env: &Env<WithoutTls>, page_bytes: u64) -> Usage {
    let info = env.info();
    Usage { used_bytes: (info.last_page_number as u64 + 1) * page_bytes, map_bytes: info.map_size as u64 }
}

/// The offset in a key. A key that is none sorts before everything.
fn offset(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}

/// An error after which nothing was written.
fn unwritten(error: &heed::Error) -> LogError {
    match error {
        heed::Error::Mdb(MdbError::MapFull) => LogError::Full("the log has reached its size limit".into()),
        heed::Error::Mdb(MdbError::DbsFull) => {
            LogError::Fatal("the log has as many partitions as it was opened for: raise `partitions_max`".into())
        }
        // A short write is reported as EIO.
        heed::Error::Io(e) if e.raw_os_error().is_some_and(|code| FULL.contains(&code)) => {
            LogError::Full(e.to_string())
        }
        _ => LogError::Fatal(format!("the log cannot be written: {error}")),
    }
}

const FULL: [i32; 4] = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::EIO];

fn unread(error: &heed::Error) -> LogError {
    LogError::Fatal(format!("the log cannot be read: {error}: {WAY_OUT}"))
}
