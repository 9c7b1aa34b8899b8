//! What the tests of stores share: a store with its changelog and its checkpoint, from life to life.

use super::{ChangelogReader, ChangelogWriter, Checkpoint, CheckpointSite, StateStore};
use proptest::prelude::*;
use std::sync::Arc;
use tempfile::TempDir;

pub(super) struct Lives<S> {
    pub store: S,
    /// Since the checkpoint.
    changelog: Vec<Vec<u8>>,
    /// From the last snapshot on.
    whole: Vec<Vec<u8>>,
    pub checkpoint: Arc<Checkpoint>,
    is_written: bool,
    /// Goes with it.
    dir: TempDir,
}

const NAME: &str = "store";

/// What happens to a store without an open transaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Checkpoint,
    Evict,
    Snapshot,
    /// From the last checkpoint, and the changelog since.
    Restart,
    /// From the changelog alone, with a checkpoint every few records.
    Restore(usize),
}

/// Any of these, the cheap ones more often.
pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Checkpoint),
        3 => Just(Event::Evict),
        1 => Just(Event::Snapshot),
        3 => Just(Event::Restart),
        1 => (1..9usize).prop_map(Event::Restore),
    ]
}

impl<S: StateStore + Default> Lives<S> {
    /// A store that has never run.
    pub fn new() -> Self {
        let (dir, checkpoint) = empty();
        let mut store = S::default();
        store.open(NAME, 1, None).unwrap();
        Self { store, changelog: Vec::new(), whole: Vec::new(), checkpoint, is_written: false, dir }
    }

    /// Has this happen. There must be no open transaction.
    pub fn meet(&mut self, event: Event) {
        match event {
            Event::Checkpoint => self.checkpoint(),
            Event::Evict => _ = self.evict(),
            Event::Snapshot => self.snapshot(),
            Event::Restart => self.restart(),
            Event::Restore(records) => self.restore(records),
        }
    }

    /// Commits the open transaction, in the changelog too.
    pub fn commit(&mut self) {
        let mut writer = ChangelogWriter::new(1 << 20);
        self.store.write_changes(&mut writer);
        self.write(writer);
        self.store.commit();
    }

    fn write(&mut self, writer: ChangelogWriter) {
        let bodies = writer.finish();
        self.changelog.extend(bodies.clone());
        self.whole.extend(bodies);
    }

    /// Commits a snapshot, and deletes the changelog before it. There must be no open transaction.
    pub fn snapshot(&mut self) {
        let mut writer = ChangelogWriter::new(200);
        self.store.begin_snapshot();
        while self.store.write_snapshot(&mut writer, usize::MAX).unwrap() {}
        self.store.commit();
        self.whole.clear();
        self.write(writer);
    }

    /// There must be no open transaction.
    pub fn checkpoint(&mut self) {
        self.checkpoint.write(&Default::default(), |out| self.store.checkpoint(out)).unwrap();
        self.store.checkpointed(&self.checkpoint);
        (self.changelog, self.is_written) = (Vec::new(), true);
    }

    /// Evicts all that the checkpoint has. There must be no open transaction.
    pub fn evict(&mut self) -> usize {
        self.store.evict(&self.checkpoint, 0).unwrap()
    }

    /// The next life begins with the checkpoint and the changelog since.
    pub fn restart(&mut self) {
        self.store = S::default();
        self.store.open(NAME, 1, self.is_written.then(|| self.checkpoint.clone())).unwrap();
        replay(&mut self.store, &self.changelog);
    }

    /// The next life begins with the changelog alone. What was replayed is checkpointed and evicted every few records.
    pub fn restore(&mut self, records: usize) {
        (self.dir, self.checkpoint) = empty();
        (self.changelog, self.is_written) = (Vec::new(), false);
        self.store = S::default();
        self.store.open(NAME, 1, None).unwrap();
        for records in self.whole.clone().chunks(records) {
            replay(&mut self.store, records);
            self.checkpoint();
            self.evict();
        }
    }

    /// The same checkpoint and changelog with another kind of store, for [`Lives::restart`].
    pub fn into<T: StateStore + Default>(self) -> Lives<T> {
        let Self { changelog, whole, checkpoint, is_written, dir, .. } = self;
        Lives { store: T::default(), changelog, whole, checkpoint, is_written, dir }
    }
}

fn replay(store: &mut impl StateStore, records: &[Vec<u8>]) {
    for entry in records.iter().flat_map(|body| ChangelogReader::new(body)) {
        store.restore(&entry.unwrap().1).unwrap();
    }
    store.commit();
}

fn empty() -> (TempDir, Arc<Checkpoint>) {
    let dir = tempfile::tempdir().unwrap();
    let site = CheckpointSite { dir: dir.path().to_owned(), boot_id: "boot".into(), owner: "task".into() };
    let checkpoint = Arc::new(Checkpoint::open(&site, &["other", NAME]).unwrap().0);
    (dir, checkpoint)
}
