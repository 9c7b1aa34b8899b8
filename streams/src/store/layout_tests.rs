//! The bytes that each kind of store writes to the changelog and to the checkpoint: earlier releases wrote the same ones.

use super::checkpoint::{CheckpointReader, RANKS, TIMES};
use super::*;
use std::collections::BTreeSet;

/// Writes transactions to the changelog, and the store to a checkpoint.
struct Written {
    bodies: Vec<String>,
    checkpoint: Arc<Checkpoint>,
    _dir: tempfile::TempDir,
}

impl Written {
    fn new(store: &mut dyn StateStore) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = CheckpointSite { dir: dir.path().to_owned(), boot_id: "boot".into(), owner: "task".into() };
        let (checkpoint, _) = Checkpoint::open(&site, &["s"]).unwrap();
        store.open("s", 0, None).unwrap();
        Self { bodies: Vec::new(), checkpoint: Arc::new(checkpoint), _dir: dir }
    }

    fn commit(&mut self, store: &mut dyn StateStore) {
        let mut writer = ChangelogWriter::new(1 << 20);
        store.write_changes(&mut writer);
        self.bodies.extend(writer.finish().iter().map(|body| body.escape_ascii().to_string()));
        store.commit();
    }

    /// The entries of the checkpoint.
    fn checkpoint(&mut self, store: &mut dyn StateStore) -> Vec<(String, String)> {
        self.checkpoint.write(&Default::default(), |out| store.checkpoint(out)).unwrap();
        store.checkpointed(&self.checkpoint);
        self.entries(CheckpointReader::new)
    }

    /// The places of the checkpoint in an order of the store.
    fn order(&self, order: u64) -> Vec<(String, String)> {
        self.entries(|checkpoint, index| CheckpointReader::of_order(checkpoint, index, order))
    }

    fn entries(
        &self,
        reader: impl Fn(Arc<Checkpoint>, usize) -> Result<CheckpointReader, StoreError>,
    ) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        let each = |_: u64, key: &[u8], value: &[u8]| {
            entries.push((key.escape_ascii().to_string(), value.escape_ascii().to_string()));
            Ok(true)
        };
        reader(self.checkpoint.clone(), 0).unwrap().read(&mut None, usize::MAX, each).unwrap();
        entries
    }
}

fn key(name: &str) -> Arc<str> {
    name.into()
}

fn pairs<const N: usize>(entries: [(&str, &str); N]) -> Vec<(String, String)> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn key_values() {
    let mut store = KeyValueStore::<Arc<str>, u32>::default();
    let mut written = Written::new(&mut store);
    store.put(&key("b"), 1);
    store.put(&key("a"), 2);
    written.commit(&mut store);
    store.put(&key("c"), 9);
    store.rollback();
    assert_eq!(written.checkpoint(&mut store), pairs([("a", r"\x02\x00\x00\x00"), ("b", r"\x01\x00\x00\x00")]));
    store.delete(&key("b"));
    store.delete(&key("d"));
    written.commit(&mut store);
    assert_eq!(written.checkpoint(&mut store), pairs([("a", r"\x02\x00\x00\x00")]));
    assert_eq!(
        written.bodies,
        [
            r"\x01s\x02\x00\x00\x00\x00\x01b\x04\x01\x00\x00\x00\x00\x01a\x04\x02\x00\x00\x00",
            r"\x01s\x02\x00\x00\x00\x01\x01b\x01\x01d"
        ]
    );
}

#[test]
fn windows() {
    let mut store = WindowStore::<Arc<str>, u32, 10>::default();
    let mut written = Written::new(&mut store);
    store.insert(&key("b"), 29, 1);
    store.upsert(&key("a"), 31, 2, |_| {});
    written.commit(&mut store);
    store.upsert(&key("b"), 99, 0, |value| *value = 7);
    written.commit(&mut store);
    assert_eq!(
        written.checkpoint(&mut store),
        pairs([
            (r"\x00\x00\x00\x00\x00\x00\x00\x02b", r"\x07\x00\x00\x00"),
            (r"\x00\x00\x00\x00\x00\x00\x00\x03a", r"\x02\x00\x00\x00")
        ])
    );
    store.expire(39);
    store.upsert(&key("b"), 15, 8, |_| {});
    written.commit(&mut store);
    assert_eq!(
        written.checkpoint(&mut store),
        pairs([
            (r"\x00\x00\x00\x00\x00\x00\x00\x03a", r"\x02\x00\x00\x00"),
            (r"\x00\x00\x00\x00\x00\x00\x00\x03b", r"\x08\x00\x00\x00")
        ])
    );
    assert_eq!(
        written.bodies,
        [
            r"\x01s\x02\x00\x00\x00\x00\t\x00\x00\x00\x00\x00\x00\x00\x02b\x04\x01\x00\x00\x00\x00\t\x00\x00\x00\x00\x00\x00\x00\x03a\x04\x02\x00\x00\x00",
            r"\x01s\x01\x00\x00\x00\x00\t\x00\x00\x00\x00\x00\x00\x00\x02b\x04\x07\x00\x00\x00",
            r"\x01s\x02\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\t\x00\x00\x00\x00\x00\x00\x00\x03b\x04\x08\x00\x00\x00"
        ]
    );
}

#[test]
fn values_that_are_due() {
    let mut store = DueStore::<Arc<str>, u32>::default();
    let mut written = Written::new(&mut store);
    store.put(&key("b"), 5, 1);
    store.put(&key("a"), 6, 2);
    written.commit(&mut store);
    assert_eq!(store.take_due(5), Some((5, 1)));
    written.commit(&mut store);
    assert_eq!(written.checkpoint(&mut store), pairs([("a", r"\x06\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00")]));
    assert_eq!(
        written.bodies,
        [
            r"\x01s\x02\x00\x00\x00\x00\x01b\x0c\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01a\x0c\x06\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00",
            r"\x01s\x01\x00\x00\x00\x01\x01b"
        ]
    );
}

#[test]
fn the_order_of_times() {
    let mut store = DueStore::<Arc<str>, u32>::default();
    let mut written = Written::new(&mut store);
    store.put(&key("b"), 5, 1);
    store.put(&key("a"), -1, 2);
    written.commit(&mut store);
    written.checkpoint(&mut store);
    let [before, after] = [r"\x7f\xff\xff\xff\xff\xff\xff\xffa", r"\x80\x00\x00\x00\x00\x00\x00\x05b"];
    assert_eq!(written.order(TIMES), pairs([("", before), (before, ""), (after, "")]));
    assert_eq!(store.take_due(0), Some((-1, 2)));
    written.commit(&mut store);
    written.checkpoint(&mut store);
    assert_eq!(written.order(TIMES), pairs([("", after), (after, "")]));
    assert_eq!(store.take_due(5), Some((5, 1)));
    written.commit(&mut store);
    written.checkpoint(&mut store);
    assert_eq!(written.order(TIMES), pairs([("", "")]));
}

/// A set of numbers, and its sum as the score.
#[derive(Clone, Default)]
struct Numbers(BTreeSet<u64>);

impl StoreValue for Numbers {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|number| out.push(*number as u8));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.iter().map(|byte| u64::from(*byte)).collect()))
    }
}

impl Accumulator for Numbers {
    type Undo = u64;

    fn add(&mut self, item: u64) -> Option<u64> {
        self.0.insert(item).then_some(item)
    }

    fn revert(&mut self, item: u64) {
        self.0.remove(&item);
    }
}

impl Ranked for Numbers {
    type Rule = ();

    fn rank(&self, _: (), _: i64) -> Option<Rank> {
        Rank::new(self.0.iter().map(|number| i128::from(*number)).sum(), 0)
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
        self.0.is_empty()
    }

    fn difference(&self, before: &Self, items: &mut Vec<u64>) {
        items.extend(self.0.symmetric_difference(&before.0));
    }

    fn apply(&mut self, items: &[u64]) -> bool {
        self.0.extend(items);
        true
    }
}

#[test]
fn accumulators() {
    let mut store = AccumulatorStore::<SegmentHash, Numbers>::default();
    let mut written = Written::new(&mut store);
    let [early, late] = [2, 3].map(|segment| SegmentHash { segment, hash: Hash128::of(7, &[b"k"]) });
    store.add(&early, &[1, 2]);
    store.add(&late, &[4]);
    store.add(&early, &[2, 3]);
    written.commit(&mut store);
    store.add(&late, &[5]);
    store.rollback();
    let hash = r"\no}?\xe5D{\xbf\n\x9e\x8b\xa4\xe0m\xa3T";
    let [early_bytes, late_bytes] = [2, 3].map(|segment| format!(r"\x00\x00\x00\x00\x00\x00\x00\x0{segment}{hash}"));
    assert_eq!(written.checkpoint(&mut store), pairs([(&early_bytes, r"\x01\x02\x03"), (&late_bytes, r"\x04")]));
    store.expire(3);
    written.commit(&mut store);
    assert_eq!(written.checkpoint(&mut store), pairs([(&late_bytes, r"\x04")]));
    let item = |item: u8| format!(r"\x0{item}\x00\x00\x00\x00\x00\x00\x00");
    assert_eq!(
        written.bodies,
        [
            [
                r"\x01s\x03\x00\x00\x00",
                &format!(r"\x02\x18{early_bytes}\x10{}{}", item(1), item(2)),
                &format!(r"\x02\x18{late_bytes}\x08{}", item(4)),
                &format!(r"\x02\x18{early_bytes}\x08{}", item(3)),
            ]
            .concat(),
            r"\x01s\x01\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00".to_owned()
        ]
    );
}

#[test]
fn ranked_values() {
    let mut store = RankedStore::<Arc<str>, Numbers>::default();
    let mut written = Written::new(&mut store);
    store.modify(&key("b"), |numbers| numbers.0.extend([1, 2]));
    store.modify(&key("a"), |numbers| numbers.0.extend([4]));
    written.commit(&mut store);
    store.modify(&key("b"), |numbers| numbers.0.extend([2, 3]));
    store.modify(&key("a"), |numbers| numbers.0.clear());
    store.modify(&key("c"), |numbers| numbers.0.clear());
    written.commit(&mut store);
    assert_eq!(written.checkpoint(&mut store), pairs([("b", r"\x01\x02\x03")]));
    let item = |item: u8| format!(r"\x0{item}\x00\x00\x00\x00\x00\x00\x00");
    assert_eq!(
        written.bodies,
        [
            format!(r"\x01s\x02\x00\x00\x00\x02\x01b\x10{}{}\x02\x01a\x08{}", item(1), item(2), item(4)),
            format!(r"\x01s\x02\x00\x00\x00\x02\x01b\x08{}\x01\x01a", item(3))
        ]
    );
}

#[test]
fn the_orders_of_ranked_values() {
    let mut store = RankedStore::<Arc<str>, Numbers>::default();
    let mut written = Written::new(&mut store);
    store.advance((), 3);
    store.modify(&key("b"), |numbers| numbers.0.extend([1, 2]));
    store.modify(&key("g\0a"), |numbers| numbers.0.extend([4]));
    written.commit(&mut store);
    written.checkpoint(&mut store);
    // 3 is 0b11 << 126, divided by 2^126; 4 is 1 << 127, divided by 2^125.
    let rank = |exponent: &str, high: &str| {
        format!(
            r"\x80\x00\x00\x00\x00\x00\x00{exponent}{high}\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
        )
    };
    let (b, a) = (rank("}", "?"), rank("|", r"\x7f"));
    let mark = ("", r"\x03\x00\x00\x00\x00\x00\x00\x00");
    assert_eq!(written.order(RANKS), pairs([mark, (&format!(r"\x00{b}b"), ""), (&format!(r"g\x00{a}g\x00a"), "")]));
    let last = r"\xff\xff\xff\xff\xff\xff\xff\xff";
    let [b, a] = ["b", r"g\x00a"].map(|key| format!("{last}{key}"));
    assert_eq!(written.order(TIMES), pairs([("", &b), (&b, ""), (&a, "")]));
    store.modify(&key("b"), |numbers| numbers.0.clear());
    store.modify(&key("g\0a"), |numbers| numbers.0.clear());
    written.commit(&mut store);
    written.checkpoint(&mut store);
    assert_eq!((written.order(RANKS), written.order(TIMES)), (pairs([mark]), pairs([("", "")])));
}
