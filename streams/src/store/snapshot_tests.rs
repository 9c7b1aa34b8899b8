//! Snapshots of every kind of store: whatever happens while one is written, the changelog from where it began restores what
//! the whole changelog does.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// What a test does to a store of a kind.
trait Acts: StateStore + Default {
    fn act(&mut self, key: u8, number: i64);
    /// Where the kind has segments, and as many values as are due.
    fn expire_until(&mut self, _number: i64) {}
    /// Whether an entry of a snapshot says nothing: that of a key which an aborted transaction made.
    fn is_nothing(_entry: &ChangelogEntry<'_>) -> bool {
        false
    }
}

fn text(key: u8) -> Arc<str> {
    key.to_string().into()
}

impl Acts for KeyValueStore<Arc<str>, i64> {
    fn act(&mut self, key: u8, number: i64) {
        if number % 3 == 0 { self.delete(&text(key)) } else { self.put(&text(key), number) }
    }
}

impl Acts for WindowStore<Arc<str>, i64, 4> {
    fn act(&mut self, key: u8, number: i64) {
        match key {
            ..8 => _ = self.insert(&text(key), number, number),
            _ => self.upsert(&text(key), number, number, |value| *value += number),
        }
    }

    fn expire_until(&mut self, number: i64) {
        self.expire(number);
    }
}

impl Acts for DueStore<Arc<str>, i64> {
    fn act(&mut self, key: u8, number: i64) {
        self.put(&text(key), number, number * 7);
    }

    fn expire_until(&mut self, number: i64) {
        while self.take_due(number).is_some() {}
    }
}

#[derive(Clone, Debug, Default)]
struct Items(BTreeSet<u64>);

impl StoreValue for Items {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|item| out.extend_from_slice(&item.to_le_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let items = bytes.as_chunks::<8>().0.iter();
        Some(Self(items.map(|item| u64::from_le_bytes(*item)).collect()))
    }
}

impl Accumulator for Items {
    type Undo = u64;

    fn add(&mut self, item: u64) -> Option<u64> {
        self.0.insert(item).then_some(item)
    }

    fn revert(&mut self, item: u64) {
        self.0.remove(&item);
    }
}

impl Acts for AccumulatorStore<SegmentHash, Items> {
    fn act(&mut self, key: u8, number: i64) {
        let segment = u64::from(key % 4) + number as u64 / 8;
        self.add(&SegmentHash { segment, hash: Hash128::of(7, &[&[key]]) }, &[number as u64, 1]);
    }

    fn expire_until(&mut self, number: i64) {
        self.expire(number as u64 / 8);
    }

    fn is_nothing(entry: &ChangelogEntry<'_>) -> bool {
        matches!(entry, ChangelogEntry::Put { value: b"", .. })
    }
}

/// What is added to it twice is wrong.
#[derive(Clone, Debug, Default)]
struct Sum(i64);

impl StoreValue for Sum {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        i64::decode(bytes).map(Self)
    }
}

impl Ranked for Sum {
    type Rule = ();

    fn rank(&self, _: (), _: i64) -> Option<Rank> {
        Rank::new(self.0.into(), 0)
    }

    fn score(rank: Rank, _: (), _: i64) -> Option<i128> {
        Some(rank.truncated(0))
    }

    fn next_tick(&self, _: (), _: i64) -> Option<i64> {
        Some(i64::MAX)
    }

    fn ages_each_tick(_: ()) -> bool {
        false
    }

    fn is_empty(&self) -> bool {
        self.0 == 0
    }

    fn difference(&self, before: &Self, items: &mut Vec<u64>) {
        items.push((self.0 - before.0) as u64);
    }

    fn apply(&mut self, items: &[u64]) -> bool {
        self.0 += items.iter().sum::<u64>() as i64;
        true
    }
}

impl Acts for RankedStore<Arc<str>, Sum> {
    fn act(&mut self, key: u8, number: i64) {
        self.advance((), 0);
        self.modify(&text(key), |sum| sum.0 = if number % 3 == 0 { 0 } else { sum.0 + number });
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Key and number.
    Act(u8, i64),
    Commit,
    Rollback,
    /// The log rejects a commit, with what it has of a snapshot.
    Abort,
    /// Begins a snapshot, unless one is being written.
    Begin,
    Checkpoint,
    /// From the last checkpoint and the changelog since, unless that begins later.
    Restart,
    Hydrate,
    /// All that the checkpoint has.
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..16u8, 0..40i64).prop_map(|(key, number)| Step::Act(key, number)),
        5 => Just(Step::Commit),
        1 => Just(Step::Rollback),
        2 => Just(Step::Abort),
        3 => Just(Step::Begin),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Hydrate),
        2 => Just(Step::Evict),
    ]
}

/// A store and all that was ever written of it: by commit, the bodies of its changelog.
struct History<S> {
    store: S,
    /// With snapshots, and changes alone.
    changelog: Vec<Vec<Vec<u8>>>,
    changes: Vec<Vec<Vec<u8>>>,
    /// Commits before have been deleted.
    start: usize,
    /// The commit that the snapshot began before.
    snapshot: Option<usize>,
    completed: usize,
    checkpoint: Arc<Checkpoint>,
    /// The commits that it has.
    checkpointed: usize,
    /// Up to where segments have expired, as of the open transaction and of the last commit.
    expired: [i64; 2],
    _dir: tempfile::TempDir,
}

const NAME: &str = "store";

impl<S: Acts> History<S> {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = CheckpointSite { dir: dir.path().to_owned(), boot_id: "boot".into(), owner: "task".into() };
        let checkpoint = Arc::new(Checkpoint::open(&site, &[NAME]).unwrap().0);
        let (changelog, changes) = (Vec::new(), Vec::new());
        let store = restored::<S>(&[]);
        Self {
            store,
            changelog,
            changes,
            start: 0,
            snapshot: None,
            completed: 0,
            checkpoint,
            checkpointed: 0,
            expired: [0; 2],
            _dir: dir,
        }
    }

    fn commit(&mut self) {
        let (mut writer, mut changes) = (ChangelogWriter::new(64), ChangelogWriter::new(1 << 20));
        self.store.write_changes(&mut changes);
        self.store.write_changes(&mut writer);
        let end_bytes = writer.len_bytes() + 1;
        let is_complete = self.snapshot.is_some() && !self.store.write_snapshot(&mut writer, end_bytes).unwrap();
        self.store.commit();
        self.changelog.push(writer.finish());
        self.changes.push(changes.finish());
        if is_complete {
            self.start = self.snapshot.take().unwrap();
            self.completed += 1;
        }
        self.expired[1] = self.expired[0];
        assert_eq!(contents(restored::<S>(&self.changelog[self.start..])), contents(restored::<S>(&self.changes)));
    }

    fn rollback(&mut self) {
        self.store.rollback();
        self.expired[0] = self.expired[1];
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Act(0, number) => {
                self.expired[0] = self.expired[0].max(*number);
                self.store.expire_until(*number);
            }
            Step::Act(key, number) => self.store.act(*key, *number),
            Step::Commit => self.commit(),
            Step::Rollback => self.rollback(),
            Step::Abort => {
                let mut writer = ChangelogWriter::new(64);
                self.store.write_changes(&mut writer);
                if self.snapshot.is_some() {
                    let end_bytes = writer.len_bytes() + 40;
                    self.store.write_snapshot(&mut writer, end_bytes).unwrap();
                }
                self.rollback();
            }
            Step::Begin => {
                self.rollback();
                if self.snapshot.is_none() {
                    self.store.begin_snapshot();
                    self.snapshot = Some(self.changelog.len());
                }
            }
            Step::Checkpoint => {
                self.rollback();
                self.checkpoint.write(&Default::default(), |out| self.store.checkpoint(out)).unwrap();
                self.store.checkpointed(&self.checkpoint);
                self.checkpointed = self.changelog.len();
            }
            Step::Restart if (self.start..=self.changelog.len()).contains(&self.checkpointed) => {
                self.snapshot = None;
                self.store = S::default();
                let behind = (self.checkpointed > 0).then(|| self.checkpoint.clone());
                self.store.open(NAME, 0, behind).unwrap();
                replay(&mut self.store, &self.changelog[self.checkpointed..]);
                // The checkpoint does not say so; the clock does.
                self.expired[0] = self.expired[1];
                self.store.expire_until(self.expired[0]);
                self.commit();
            }
            Step::Restart => {}
            Step::Hydrate => _ = self.store.hydrate(2).unwrap(),
            Step::Evict => {
                self.rollback();
                self.store.evict(&self.checkpoint, 0).unwrap();
            }
        }
    }
}

fn replay(store: &mut impl StateStore, commits: &[Vec<Vec<u8>>]) {
    for bodies in commits {
        for entry in bodies.iter().flat_map(|body| ChangelogReader::new(body)) {
            store.restore(&entry.unwrap().1).unwrap();
        }
        store.commit();
    }
}

fn restored<S: Acts>(commits: &[Vec<Vec<u8>>]) -> S {
    let mut store = S::default();
    store.open(NAME, 0, None).unwrap();
    replay(&mut store, commits);
    store
}

/// All entries, and up to where segments have expired.
fn contents<S: Acts>(mut store: S) -> Vec<String> {
    let mut writer = ChangelogWriter::new(1 << 20);
    store.begin_snapshot();
    while store.write_snapshot(&mut writer, 0).unwrap() {}
    let bodies = writer.finish();
    let entries = bodies.iter().flat_map(|body| ChangelogReader::new(body)).map(|entry| entry.unwrap().1);
    let mut entries: Vec<_> = entries.filter(|entry| !S::is_nothing(entry)).map(|entry| format!("{entry:?}")).collect();
    entries.sort();
    entries
}

fn run<S: Acts>(steps: &[Step]) {
    let mut history = History::<S>::new();
    steps.iter().for_each(|step| history.step(step));
    // Whatever is going on comes to its end.
    while history.store.hydrate(1).unwrap() {}
    let completed = history.completed;
    let mut number = 0;
    while history.completed < completed + 2 {
        history.step(&Step::Begin);
        history.step(&Step::Act(9, number));
        history.step(&Step::Commit);
        number += 1;
        assert!(number < 400, "the snapshot does not end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn the_changelog_from_a_snapshot_on_restores_what_all_of_it_does(steps in prop::collection::vec(step(), 0..160)) {
        run::<KeyValueStore<Arc<str>, i64>>(&steps);
        run::<WindowStore<Arc<str>, i64, 4>>(&steps);
        run::<DueStore<Arc<str>, i64>>(&steps);
        run::<AccumulatorStore<SegmentHash, Items>>(&steps);
        run::<RankedStore<Arc<str>, Sum>>(&steps);
    }
}

#[test]
fn a_sample_shows_how_large_a_snapshot_is() {
    let mut store = KeyValueStore::<Arc<str>, i64>::default();
    store.open(NAME, 0, None).unwrap();
    assert_eq!(store.snapshot_bytes(), 0);
    for n in 0..5_000u32 {
        store.put(&n.to_string().into(), 0);
    }
    store.commit();
    let mut writer = ChangelogWriter::new(1 << 20);
    store.begin_snapshot();
    while store.write_snapshot(&mut writer, usize::MAX).unwrap() {}
    let (written, estimated) = (writer.len_bytes() as f64, store.snapshot_bytes() as f64);
    assert!((estimated / written - 1.0).abs() < 0.05, "{written} bytes, {estimated} estimated");
}
