//! A task's checkpoint: its stores as of one commit, in an LMDB environment of its own.
//!
//! It is written without a sync: LMDB keeps it whole through `kill -9`. A crash of the operating system may tear it, so
//! it is discarded where the boot id has changed without a clean close in between. A task that died twice before its
//! first commit discards it too. Nothing is lost by that: the changelog has it all.

use super::StoreError;
use crate::processor::RootProgress;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, WithTls};
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// Address space, not disk: LMDB files grow as they need.
const MAP_BYTES: usize = 64 << 30;
const META: &str = "meta";
const META_KEY: &[u8] = b"meta";
/// Deaths before the first commit that make a checkpoint suspect.
const DEATHS_MAX: u32 = 2;

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
    /// By topic, the last commit that wrote to the task's partition of it. None where the log does not say it either. It
    /// stands behind the rest, so that older releases read what they know.
    #[serde(skip)]
    pub outputs: Option<Vec<(String, u64)>>,
}

impl CheckpointMeta {
    fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let bytes = postcard::to_allocvec(self)?;
        match &self.outputs {
            Some(outputs) => postcard::to_extend(outputs, bytes),
            None => Ok(bytes),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (meta, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        let outputs = if rest.is_empty() { None } else { Some(postcard::from_bytes(rest).ok()?) };
        Some(Self { outputs, ..meta })
    }
}

type Store = Database<'static, Bytes, Bytes>;

/// An open checkpoint.
pub struct Checkpoint {
    env: Env<WithTls>,
    stores: Vec<Store>,
    meta: Store,
    dir: PathBuf,
}

impl Checkpoint {
    /// Opens the checkpoint in `dir` (made if missing), with a database for each store. What cannot be trusted is
    /// discarded and begins empty, without a meta record. One process opens a directory at a time: the caller holds the
    /// lock on the state directory. What another thread has open is left as it is: [`StoreError::InUse`].
    pub fn open(dir: &Path, stores: &[&str], boot_id: &str) -> Result<(Self, Option<CheckpointMeta>), StoreError> {
        if dir.canonicalize().is_ok_and(|dir| heed::env_closing_event(dir).is_some()) {
            return Err(in_use(dir));
        }
        if !trusted(dir, boot_id) {
            discard(dir)?;
        }
        let checkpoint = match Self::open_trusted(dir, stores) {
            Err(StoreError::Checkpoint(_)) => {
                discard(dir)?;
                Self::open_trusted(dir, stores)?
            }
            opened => opened?,
        };
        let meta = checkpoint.read_meta()?;
        let _ = std::fs::remove_file(dir.join("clean"));
        write_file(dir, "boot", boot_id)?;
        let deaths = read_number(dir, "deaths");
        write_file(dir, "deaths", &(deaths + 1).to_string())?;
        Ok((checkpoint, meta))
    }

    fn open_trusted(dir: &Path, stores: &[&str]) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|e| wrong(dir, &e))?;
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_dbs(stores.len() as u32 + 1).max_readers(16);
        // SAFETY: the caller holds the lock on the state directory, and a task opens its directory once. Without a sync
        // a crash of the operating system may tear the file: `trusted` discards it then.
        let env = unsafe {
            options.flags(heed::EnvFlags::NO_SYNC | heed::EnvFlags::NO_META_SYNC);
            options.open(dir)
        };
        let env = env.map_err(|e| match e {
            // Between the look and this.
            heed::Error::EnvAlreadyOpened => in_use(dir),
            e => wrong(dir, &e),
        })?;
        let stores = stores.iter().map(|name| create(&env, dir, name)).collect::<Result<_, _>>()?;
        let meta = create(&env, dir, META)?;
        Ok(Self { env, stores, meta, dir: dir.to_owned() })
    }

    fn read_meta(&self) -> Result<Option<CheckpointMeta>, StoreError> {
        let txn = self.env.read_txn().map_err(|e| wrong(&self.dir, &e))?;
        let Some(value) = self.meta.get(&txn, META_KEY).map_err(|e| wrong(&self.dir, &e))? else { return Ok(None) };
        let Some(bytes) = unseal(META_KEY, value) else { return Ok(None) };
        Ok(CheckpointMeta::decode(bytes))
    }

    /// A value of the store at `index`.
    pub fn get(&self, index: usize, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let txn = self.env.read_txn().map_err(|e| wrong(&self.dir, &e))?;
        let found = self.store(index)?.get(&txn, key).map_err(|e| wrong(&self.dir, &e))?;
        found.map(|value| self.checked(key, value).map(<[u8]>::to_vec)).transpose()
    }

    /// Calls `each` with up to `entries_max` entries above `after`, ascending, until it answers false. Ok(true): there are more.
    pub fn scan(
        &self,
        index: usize,
        after: Bound<&[u8]>,
        entries_max: usize,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let txn = self.env.read_txn().map_err(|e| wrong(&self.dir, &e))?;
        let range = (after, Bound::Unbounded);
        let entries = self.store(index)?.range(&txn, &range).map_err(|e| wrong(&self.dir, &e))?;
        for (seen, entry) in entries.enumerate() {
            if seen == entries_max {
                return Ok(true);
            }
            let (key, value) = entry.map_err(|e| wrong(&self.dir, &e))?;
            each(key, self.checked(key, value)?)?;
        }
        Ok(false)
    }

    /// Writes a checkpoint: all stores and the meta record, or nothing.
    pub fn write(
        &self,
        meta: &CheckpointMeta,
        stores: impl FnOnce(&mut CheckpointWriter<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let txn = self.env.write_txn().map_err(|e| wrong(&self.dir, &e))?;
        let mut writer = CheckpointWriter { checkpoint: self, txn, index: 0, sealed: Vec::new() };
        stores(&mut writer)?;
        let bytes = meta.encode().map_err(|e| wrong(&self.dir, &e))?;
        seal(META_KEY, &bytes, &mut writer.sealed);
        let CheckpointWriter { mut txn, sealed, .. } = writer;
        self.meta.put(&mut txn, META_KEY, &sealed).map_err(|e| wrong(&self.dir, &e))?;
        txn.commit().map_err(|e| wrong(&self.dir, &e))
    }

    /// The task has committed: its checkpoint is not what kills it.
    pub fn proven(&self) {
        let _ = std::fs::remove_file(self.dir.join("deaths"));
    }

    /// Something in it is damaged: the next open discards it.
    pub fn distrust(&self) {
        let _ = write_file(&self.dir, "deaths", &DEATHS_MAX.to_string());
    }

    /// Makes it survive a crash of the operating system as well.
    pub fn close(&self) -> Result<(), StoreError> {
        self.env.force_sync().map_err(|e| wrong(&self.dir, &e))?;
        self.proven();
        write_file(&self.dir, "clean", "")
    }

    fn store(&self, index: usize) -> Result<&Store, StoreError> {
        self.stores.get(index).ok_or_else(|| wrong(&self.dir, &format!("no store {index}")))
    }

    fn checked<'a>(&self, key: &[u8], value: &'a [u8]) -> Result<&'a [u8], StoreError> {
        unseal(key, value).ok_or_else(|| wrong(&self.dir, &"a value does not match its checksum"))
    }
}

/// heed opens each of a dynamic number of databases in a transaction of its own.
fn create(env: &Env<WithTls>, dir: &Path, name: &str) -> Result<Store, StoreError> {
    let txn = env.write_txn().map_err(|e| wrong(dir, &e))?;
    let created = env.create_databases_and_commit(txn, |opener, txn| {
        opener.create_database::<Bytes, Bytes>(txn, Some(name)).map(CommitOrAbort::<_, ()>::Commit)
    });
    match created.map_err(|e| wrong(dir, &e))? {
        CommitOrAbort::Commit(store) => Ok(store),
        CommitOrAbort::Abort(()) => Err(wrong(dir, &"the database was not created")),
    }
}

/// Writes the stores' part of a checkpoint.
pub struct CheckpointWriter<'a> {
    checkpoint: &'a Checkpoint,
    txn: heed::RwTxn<'a>,
    index: usize,
    sealed: Vec<u8>,
}

impl CheckpointWriter<'_> {
    /// What follows belongs to the store at `index`.
    pub fn begin(&mut self, index: usize) {
        self.index = index;
    }

    /// Sets a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        seal(key, value, &mut self.sealed);
        let store = self.checkpoint.store(self.index)?;
        store.put(&mut self.txn, key, &self.sealed).map_err(|e| wrong(&self.checkpoint.dir, &e))
    }

    /// Removes a value.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let store = self.checkpoint.store(self.index)?;
        store.delete(&mut self.txn, key).map(drop).map_err(|e| wrong(&self.checkpoint.dir, &e))
    }

    /// Removes everything below a key.
    pub fn delete_below(&mut self, key: &[u8]) -> Result<(), StoreError> {
        let store = self.checkpoint.store(self.index)?;
        let range = (Bound::Unbounded, Bound::Excluded(key));
        store.delete_range(&mut self.txn, &range).map(drop).map_err(|e| wrong(&self.checkpoint.dir, &e))
    }
}

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

fn trusted(dir: &Path, boot_id: &str) -> bool {
    let same_boot = std::fs::read_to_string(dir.join("boot")).is_ok_and(|boot| boot == boot_id);
    (same_boot || dir.join("clean").exists()) && read_number(dir, "deaths") < DEATHS_MAX
}

fn discard(dir: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(wrong(dir, &e)),
        _ => Ok(()),
    }
}

fn read_number(dir: &Path, name: &str) -> u32 {
    std::fs::read_to_string(dir.join(name)).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn write_file(dir: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    std::fs::write(dir.join(name), text).map_err(|e| wrong(dir, &e))
}

fn in_use(dir: &Path) -> StoreError {
    StoreError::InUse(dir.display().to_string())
}

fn wrong(dir: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Checkpoint(format!("{}: {error}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: fn(u64) -> CheckpointMeta = |changelog_next| CheckpointMeta {
        generation: 1,
        changelog_next,
        input_next: 5,
        commit: 3,
        ..CheckpointMeta::default()
    };

    fn write(checkpoint: &Checkpoint, entries: &[(&[u8], &[u8])]) {
        let stores = |out: &mut CheckpointWriter<'_>| {
            out.begin(1);
            entries.iter().try_for_each(|(key, value)| out.put(key, value))
        };
        checkpoint.write(&META(9), stores).unwrap();
    }

    #[test]
    fn what_was_written_is_there_after_a_kill() {
        let dir = tempfile::tempdir().unwrap();
        let (checkpoint, meta) = Checkpoint::open(dir.path(), &["a", "b"], "boot").unwrap();
        assert_eq!(meta, None);
        write(&checkpoint, &[(b"k", b"v"), (b"l", b"")]);
        drop(checkpoint);
        let (checkpoint, meta) = Checkpoint::open(dir.path(), &["a", "b"], "boot").unwrap();
        assert_eq!(meta, Some(META(9)));
        assert_eq!(checkpoint.get(1, b"k").unwrap(), Some(b"v".to_vec()));
        assert_eq!(checkpoint.get(0, b"k").unwrap(), None);
        let mut keys = Vec::new();
        let more = checkpoint.scan(1, Bound::Unbounded, 1, |key, _| {
            keys.push(key.to_vec());
            Ok(())
        });
        let more = more.unwrap();
        assert_eq!((more, keys), (true, vec![b"k".to_vec()]));
    }

    #[test]
    fn what_another_thread_has_open_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let open = |boot| Checkpoint::open(dir.path(), &["a", "b"], boot);
        let (checkpoint, _) = open("boot").unwrap();
        write(&checkpoint, &[(b"k", b"v")]);
        // Not even one that nobody would trust is discarded.
        for boot in ["boot", "another boot"] {
            assert_eq!(open(boot).err(), Some(StoreError::InUse(dir.path().display().to_string())));
        }
        write(&checkpoint, &[(b"l", b"w")]);
        drop(checkpoint);
        let (checkpoint, meta) = open("boot").unwrap();
        assert_eq!((meta, checkpoint.get(1, b"l")), (Some(META(9)), Ok(Some(b"w".to_vec()))));
    }

    #[test]
    fn it_is_discarded_after_a_crash_of_the_system_unless_it_was_closed() {
        let dir = tempfile::tempdir().unwrap();
        let open = |boot| Checkpoint::open(dir.path(), &["a", "b"], boot).unwrap();
        let (checkpoint, _) = open("first boot");
        write(&checkpoint, &[(b"k", b"v")]);
        checkpoint.close().unwrap();
        drop(checkpoint);
        let (checkpoint, meta) = open("second boot");
        assert_eq!(meta, Some(META(9)), "closed cleanly");
        drop(checkpoint);
        let (checkpoint, meta) = open("third boot");
        assert_eq!(meta, None, "not closed");
        assert_eq!(checkpoint.get(1, b"k").unwrap(), None);
    }

    #[test]
    fn it_is_discarded_when_its_task_dies_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Checkpoint::open(dir.path(), &["a", "b"], "boot").unwrap();
        let (checkpoint, _) = open();
        write(&checkpoint, &[(b"k", b"v")]);
        checkpoint.proven();
        drop(checkpoint);
        for _ in 0..DEATHS_MAX {
            assert_eq!(open().1, Some(META(9)));
        }
        assert_eq!(open().1, None);
    }

    #[test]
    fn it_is_discarded_when_something_in_it_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Checkpoint::open(dir.path(), &["a", "b"], "boot").unwrap();
        let (checkpoint, _) = open();
        write(&checkpoint, &[(b"k", b"v")]);
        checkpoint.distrust();
        drop(checkpoint);
        assert_eq!(open().1, None);
    }

    #[test]
    fn a_value_under_a_wrong_checksum_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (checkpoint, _) = Checkpoint::open(dir.path(), &["a"], "boot").unwrap();
        let mut txn = checkpoint.env.write_txn().unwrap();
        checkpoint.stores[0].put(&mut txn, b"k", b"\0\0\0\0v").unwrap();
        txn.commit().unwrap();
        assert!(checkpoint.get(0, b"k").is_err());
    }

    #[test]
    fn the_meta_record_says_what_older_releases_did_not_behind_what_they_did() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Former(u16, u64, u64, u64, Vec<Vec<RootProgress>>);
        let former = postcard::to_allocvec(&Former(1, 9, 5, 3, vec![Vec::new()])).unwrap();
        let expected = CheckpointMeta {
            generation: 1,
            changelog_next: 9,
            input_next: 5,
            commit: 3,
            upstream: vec![Vec::new()],
            outputs: None,
        };
        assert_eq!(CheckpointMeta::decode(&former), Some(expected.clone()));
        assert_eq!(expected.encode().unwrap(), former);
        for outputs in [vec![], vec![("counters".to_owned(), 3)]] {
            let meta = CheckpointMeta { outputs: Some(outputs), ..expected.clone() };
            let bytes = meta.encode().unwrap();
            assert_eq!(CheckpointMeta::decode(&bytes), Some(meta));
            // An older release reads what it knows.
            assert_eq!(postcard::from_bytes::<Former>(&bytes), Ok(Former(1, 9, 5, 3, vec![Vec::new()])));
        }
    }
}
