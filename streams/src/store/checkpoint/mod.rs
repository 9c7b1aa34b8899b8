//! A task's checkpoint: its stores as of one commit, in an LMDB environment of its own.
//!
//! It is written without a sync: LMDB keeps it intact through `kill -9`. A crash of the operating system may tear it,
//! so it is discarded if the boot id has changed without a clean close in between, after two deaths before the first
//! commit, and if its file is not what was written. LMDB never opens a file whose structure is not verified; a block is
//! verified when it is read, and its task is restored if it is damaged. A discard loses nothing: the changelog has
//! everything.
//!
//! Each store has a database of its own, with its entries in sorted blocks (`runs.rs`, `block.rs`).

mod block;
mod directory;
mod filter;
mod first_keys;
mod merged;
mod reader;
mod runs;
mod trust;
mod writer;

pub(super) use reader::{CheckpointReader, Cursor};
pub(super) use runs::segment_bytes;
pub use writer::CheckpointWriter;

use super::StoreError;
use crate::lmdb::{Inspection, inspect};
use crate::processor::RootProgress;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, WithTls};
use runs::BlockKey;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use trust::{DEATHS_MAX, Opening, Trust, set_clean, set_deaths, trust};

/// Address space, not disk: LMDB files grow as they need.
const MAP_BYTES: usize = 64 << 30;
/// The segment of entries that never expire. The key of any other begins with its segment (u64 BE).
pub(super) const NO_SEGMENT: u64 = u64::MAX;
/// Where a store keeps its keys in other orders than that of their bytes, beside entries that never expire: keys of these
/// segments are places in the order of times, and in that of ranks. They have no filters, since all reads of them are in
/// sequence.
pub(super) const TIMES: u64 = u64::MAX - 1;
pub(super) const RANKS: u64 = u64::MAX - 2;
const META: &str = "meta";
const META_KEY: &[u8] = b"meta";
/// The owner of a checkpoint.
const OWNER_KEY: &[u8] = b"owner";
/// Stands before the meta record: the last byte is the version of the checkpoint's format. Version 1 had no such bytes, and
/// an entry of LMDB for each of a store. No meta record of it begins like this, and what read it takes this for damage.
/// Runs of version 2 have no directories, stores of versions 2 and 3 no [`TIMES`], and those of versions 2 to 4 no [`RANKS`].
const FORMAT: &[u8; 4] = b"\xff\xff\xff\x05";
/// The oldest version that is read.
const OLDEST: u8 = 2;

/// Where in the log a checkpoint stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMeta {
    /// The generation of the state.
    pub generation: u16,
    /// The changelog is contained below this offset.
    pub changelog_next: u64,
    /// The source is contained below this offset.
    pub input_next: u64,
    /// The task's last commit.
    pub commit: u64,
    /// Per upstream task (the root: only itself): how far the root topic had been taken in.
    pub upstream: Vec<Vec<RootProgress>>,
    /// By topic, the last commit that wrote to the task's partition of it. None if the changelog lacks it too. Encoded
    /// last, so that older releases read the fields that they know.
    #[serde(skip)]
    pub outputs: Option<Vec<(String, u64)>>,
    /// The bytes of the changelog from its start to `changelog_next`. None if the task did not read them all, if an older
    /// release wrote the checkpoint, or without `outputs`. Encoded behind them, so that older releases do not see it.
    #[serde(skip)]
    pub changelog_bytes: Option<u64>,
}

impl CheckpointMeta {
    fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let bytes = postcard::to_allocvec(self)?;
        match &self.outputs {
            Some(outputs) => postcard::to_extend(&(outputs, self.changelog_bytes), bytes),
            None => Ok(bytes),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (meta, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        if rest.is_empty() {
            return Some(meta);
        }
        let (outputs, rest) = postcard::take_from_bytes(rest).ok()?;
        let changelog_bytes = if rest.is_empty() { None } else { postcard::from_bytes(rest).ok()? };
        Some(Self { outputs: Some(outputs), changelog_bytes, ..meta })
    }
}

type Store = Database<'static, Bytes, Bytes>;

/// An open checkpoint.
pub struct Checkpoint {
    env: Env<WithTls>,
    stores: Vec<Store>,
    meta: Store,
    dir: PathBuf,
    owner: String,
    /// What its file of deaths gets when this is dropped: a process that lets it go has not died of it. [`SETTLED`] once
    /// the file has what is true whatever comes.
    deaths_on_drop: AtomicU8,
    /// Blocks and parts of directories that were read.
    #[cfg(test)]
    pub(super) blocks_read: std::sync::atomic::AtomicU64,
}

/// Whether the content of the file of deaths was decided, by the task's commit or by damage.
const SETTLED: u8 = u8::MAX;

/// Where a checkpoint is, and the owner that it must have.
#[derive(Clone, Debug)]
pub struct CheckpointSite {
    /// A directory of its own.
    pub dir: PathBuf,
    /// Distinguishes one boot of the machine from another.
    pub boot_id: String,
    /// Distinguishes its task and log from all others.
    pub owner: String,
}

impl Checkpoint {
    /// Opens the checkpoint at `site` (made if missing), with a database for each store. What cannot be trusted is
    /// discarded and begins empty, without a meta record. One process opens a directory at a time: the caller holds the
    /// lock on the state directory. What another thread has open is left as it is: [`StoreError::InUse`].
    /// [`StoreError::Unwritten`]: the disk does not let it be opened, as it may be full.
    pub fn open(site: &CheckpointSite, stores: &[&str]) -> Result<(Self, Option<CheckpointMeta>), StoreError> {
        let dir = &site.dir;
        check_unused(dir)?;
        let reason = match trust(dir, &site.boot_id) {
            Trust::Nothing => return Self::begin(site, stores).map(|checkpoint| (checkpoint, None)),
            Trust::Denied(reason) => reason,
            Trust::Granted { deaths } => match Self::open_trusted(site, stores, deaths) {
                Err(StoreError::Checkpoint(reason)) => reason,
                opened => return opened,
            },
        };
        tracing::warn!(path = %dir.display(), reason, "a checkpoint is discarded; its task is restored from the changelog");
        Self::begin(site, stores).map(|checkpoint| (checkpoint, None))
    }

    /// Creates an empty checkpoint, replacing any existing one.
    pub fn begin(site: &CheckpointSite, stores: &[&str]) -> Result<Self, StoreError> {
        let dir = &site.dir;
        check_unused(dir)?;
        discard(dir)?;
        std::fs::create_dir_all(dir).map_err(|e| unwritten(dir, &e))?;
        let opening = Opening::begin(dir, 0).map_err(|e| unwritten(dir, &e))?;
        let checkpoint = Self::map(site, stores, 0)?;
        opening.end(&site.boot_id).map_err(|e| unwritten(dir, &e))?;
        Ok(checkpoint)
    }

    fn open_trusted(
        site: &CheckpointSite,
        stores: &[&str],
        deaths: u8,
    ) -> Result<(Self, Option<CheckpointMeta>), StoreError> {
        let dir = &site.dir;
        let inspection = Inspection {
            leaves_max: u64::MAX,
            entry: &|_, key, value| unseal(key, value).is_some(),
            value_bytes_max: u64::MAX,
            // Blocks are verified when they are read.
            reads_values: false,
            is_grown_ahead: false,
        };
        inspect(&dir.join("data.mdb"), &inspection).map_err(|e| StoreError::Checkpoint(e.to_string()))?;
        let opening = Opening::begin(dir, deaths).map_err(|e| unwritten(dir, &e))?;
        let checkpoint = Self::map(site, stores, deaths)?;
        let meta = checkpoint.read_meta(&site.owner)?;
        opening.end(&site.boot_id).map_err(|e| unwritten(dir, &e))?;
        Ok((checkpoint, meta))
    }

    fn map(site: &CheckpointSite, stores: &[&str], deaths: u8) -> Result<Self, StoreError> {
        let dir = &site.dir;
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_dbs(stores.len() as u32 + 1).max_readers(16);
        // SAFETY: the caller holds the lock on the state directory, a task opens its directory once, and the file was
        // looked through or is new. Without a sync a crash of the operating system may tear it: `trust` discards it then.
        let env = unsafe {
            options.flags(heed::EnvFlags::NO_SYNC | heed::EnvFlags::NO_META_SYNC);
            options.open(dir)
        };
        let env = env.map_err(|e| match e {
            // Between the check and this.
            heed::Error::EnvAlreadyOpened => in_use(dir),
            e => failed(dir, e),
        })?;
        let stores = stores.iter().map(|name| create(&env, dir, name)).collect::<Result<_, _>>()?;
        let meta = create(&env, dir, META)?;
        let (dir, owner) = (dir.to_owned(), site.owner.clone());
        Ok(Self {
            env,
            stores,
            meta,
            dir,
            owner,
            deaths_on_drop: AtomicU8::new(deaths),
            #[cfg(test)]
            blocks_read: Default::default(),
        })
    }

    /// None: nothing was written yet.
    fn read_meta(&self, owner: &str) -> Result<Option<CheckpointMeta>, StoreError> {
        let txn = self.env.read_txn().map_err(|e| failed(&self.dir, e))?;
        let read = |key| match self.meta.get(&txn, key).map_err(|e| failed(&self.dir, e))? {
            Some(value) => self.checked(key, value).map(Some),
            None => Ok(None),
        };
        if let Some(found) = read(OWNER_KEY)?.filter(|found| *found != owner.as_bytes()) {
            let found = found.escape_ascii();
            return Err(StoreError::Checkpoint(format!("it is the checkpoint of `{found}`, and this is `{owner}`")));
        }
        let Some(bytes) = read(META_KEY)? else { return Ok(None) };
        let (version, bytes) = match bytes.split_first_chunk() {
            Some((&[0xff, 0xff, 0xff, version], bytes)) => (version, bytes),
            _ => (1, bytes),
        };
        let ours = FORMAT[3];
        if !(OLDEST..=ours).contains(&version) {
            return Err(StoreError::Checkpoint(format!(
                "its format has version {version}, and this release reads {OLDEST} to {ours}"
            )));
        }
        let meta = CheckpointMeta::decode(bytes).map(Some);
        meta.ok_or_else(|| wrong(&self.dir, &"its meta record cannot be read"))
    }

    /// Writes a checkpoint: all stores and the meta record, or nothing. After [`StoreError::Unwritten`] it is what it was
    /// before, and may be written again.
    pub fn write(
        &self,
        meta: &CheckpointMeta,
        stores: impl FnOnce(&mut CheckpointWriter<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let txn = self.env.write_txn().map_err(|e| failed(&self.dir, e))?;
        let mut writer = CheckpointWriter::new(self, txn);
        stores(&mut writer)?;
        let bytes = [&FORMAT[..], &meta.encode().map_err(|e| wrong(&self.dir, &e))?].concat();
        let (mut txn, mut sealed) = (writer.end()?, Vec::new());
        for (key, value) in [(META_KEY, &bytes[..]), (OWNER_KEY, self.owner.as_bytes())] {
            seal(key, value, &mut sealed);
            self.meta.put(&mut txn, key, &sealed).map_err(|e| failed(&self.dir, e))?;
        }
        txn.commit().map_err(|e| failed(&self.dir, e))
    }

    /// The task has committed, so its checkpoint is not the cause of crashes.
    pub fn proven(&self) {
        self.settle(0);
    }

    /// Something in it is damaged: the next open discards it.
    pub fn distrust(&self) {
        self.settle(DEATHS_MAX);
    }

    fn settle(&self, deaths: u8) {
        self.deaths_on_drop.store(SETTLED, Ordering::Relaxed);
        // If this write fails, the next open may discard the checkpoint without need.
        let _ = set_deaths(&self.dir, deaths);
    }

    /// Makes it survive a crash of the operating system as well.
    pub fn close(&self) -> Result<(), StoreError> {
        self.env.force_sync().map_err(|e| failed(&self.dir, e))?;
        self.proven();
        set_clean(&self.dir).map_err(|e| unwritten(&self.dir, &e))
    }

    /// The sealed bytes of a block of the store at `index`; None if it is missing.
    fn sealed_block<'t>(
        &self,
        txn: &'t heed::RoTxn<'_>,
        index: usize,
        key: &BlockKey,
    ) -> Result<Option<&'t [u8]>, StoreError> {
        #[cfg(test)]
        self.blocks_read.fetch_add(1, Ordering::Relaxed);
        self.store(index)?.get(txn, &key[..]).map_err(|e| failed(&self.dir, e))
    }

    fn store(&self, index: usize) -> Result<&Store, StoreError> {
        self.stores.get(index).ok_or_else(|| wrong(&self.dir, &format!("no store {index}")))
    }

    fn checked<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
        unseal(key, value).ok_or_else(|| wrong(&self.dir, &"a value does not match its checksum"))
    }
}

impl Drop for Checkpoint {
    /// Only a death counts as one. A panic may be the checkpoint's fault, so the count stays as it is then.
    fn drop(&mut self) {
        let deaths = *self.deaths_on_drop.get_mut();
        if deaths != SETTLED && !std::thread::panicking() {
            let _ = set_deaths(&self.dir, deaths);
        }
    }
}

/// heed opens each of a dynamic number of databases in a transaction of its own.
fn create(env: &Env<WithTls>, dir: &Path, name: &str) -> Result<Store, StoreError> {
    let txn = env.write_txn().map_err(|e| failed(dir, e))?;
    let created = env.create_databases_and_commit(txn, |opener, txn| {
        opener.create_database::<Bytes, Bytes>(txn, Some(name)).map(CommitOrAbort::<_, ()>::Commit)
    });
    match created.map_err(|e| failed(dir, e))? {
        CommitOrAbort::Commit(store) => Ok(store),
        CommitOrAbort::Abort(()) => Err(wrong(dir, &"the database was not created")),
    }
}

/// What [`seal`] puts before a value.
const CHECKSUM_BYTES: usize = 4;

/// A value with the checksum of key and value before it.
fn seal(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(key), value).to_le_bytes());
    out.extend_from_slice(value);
}

fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, value) = sealed.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*crc) == crc32c::crc32c_append(crc32c::crc32c(key), value)).then_some(value)
}

/// Whether another thread of this process has it open: then nothing of it may be touched.
fn check_unused(dir: &Path) -> Result<(), StoreError> {
    match dir.canonicalize() {
        Ok(opened) if heed::env_closing_event(&opened).is_some() => Err(in_use(dir)),
        _ => Ok(()),
    }
}

fn discard(dir: &Path) -> Result<(), StoreError> {
    let is_file = dir.symlink_metadata().is_ok_and(|about| !about.is_dir());
    match if is_file { std::fs::remove_file(dir) } else { std::fs::remove_dir_all(dir) } {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(unwritten(dir, &e)),
        _ => Ok(()),
    }
}

fn in_use(dir: &Path) -> StoreError {
    StoreError::InUse(dir.display().to_string())
}

fn wrong(dir: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Checkpoint(format!("{}: {error}", dir.display()))
}

/// The disk rejects writes; the stored checkpoint is intact.
fn unwritten(dir: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unwritten(format!("{}: {error}", dir.display()))
}

/// What an error of LMDB means: the system's own are those of the disk, or of its room.
fn failed(dir: &Path, error: heed::Error) -> StoreError {
    match error {
        heed::Error::Io(_) | heed::Error::Mdb(heed::MdbError::MapFull) => unwritten(dir, &error),
        error => wrong(dir, &error),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
