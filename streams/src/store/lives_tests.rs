//! What the tests of stores share: a store with its changelog and its checkpoint, from life to life.

use super::{ChangelogReader, ChangelogWriter, Checkpoint, CheckpointSite, StateStore};
use std::sync::Arc;
use tempfile::TempDir;

pub(super) struct Lives<S> {
    pub store: S,
    /// Since the checkpoint.
    changelog: Vec<Vec<u8>>,
    checkpoint: Arc<Checkpoint>,
    is_written: bool,
    /// Goes with it.
    _dir: TempDir,
}

const NAME: &str = "store";

impl<S: StateStore + Default> Lives<S> {
    /// A store that has never run.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = CheckpointSite { dir: dir.path().to_owned(), boot_id: "boot".into(), owner: "task".into() };
        let checkpoint = Arc::new(Checkpoint::open(&site, &[NAME]).unwrap().0);
        let mut store = S::default();
        store.open(NAME, 0, None).unwrap();
        Self { store, changelog: Vec::new(), checkpoint, is_written: false, _dir: dir }
    }

    /// Commits the open transaction, in the changelog too.
    pub fn commit(&mut self) {
        let mut writer = ChangelogWriter::new(1 << 20);
        self.store.write_changes(&mut writer);
        self.changelog.extend(writer.finish());
        self.store.commit();
    }

    /// There must be no open transaction.
    pub fn checkpoint(&mut self) {
        self.checkpoint.write(&Default::default(), |out| self.store.checkpoint(out)).unwrap();
        self.store.checkpointed();
        (self.changelog, self.is_written) = (Vec::new(), true);
    }

    /// Evicts all that the checkpoint has. There must be no open transaction.
    pub fn evict(&mut self) -> usize {
        self.store.evict(&self.checkpoint, 0).unwrap()
    }

    /// The next life begins with the checkpoint and the changelog since.
    pub fn restart(&mut self) {
        self.store = S::default();
        self.store.open(NAME, 0, self.is_written.then(|| self.checkpoint.clone())).unwrap();
        for entry in self.changelog.iter().flat_map(|body| ChangelogReader::new(body)) {
            self.store.restore(&entry.unwrap().1).unwrap();
        }
        self.store.commit();
    }
}
