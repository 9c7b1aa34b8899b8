//! The order of scores against a sort, whatever was taken back in between.

use super::*;
use crate::store::lives::Lives;
use crate::store::{Checkpoint, CheckpointSite, StoreValue};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Amounts by tick, each counting for some ticks.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums(BTreeMap<i64, i64>);

impl StoreValue for Sums {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().flat_map(|(at, n)| [*at, *n]).for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<i64> = numbers.iter().map(|n| i64::from_le_bytes(*n)).collect();
        rest.is_empty().then(|| Self(numbers.as_chunks().0.iter().map(|[at, n]| (*at, *n)).collect()))
    }
}

impl Ranked for Sums {
    type Rule = i64;

    fn score(&self, lasts: i64, tick: i64) -> Option<i128> {
        let sum: i64 = self.0.range(tick - lasts + 1..).map(|(_, n)| n).sum();
        (sum > 0).then_some(sum.into())
    }

    fn next_tick(&self, lasts: i64, tick: i64) -> Option<i64> {
        self.0.range(tick - lasts + 1..).next().map(|(at, _)| at + lasts)
    }

    fn ages_each_tick(_: i64) -> bool {
        false
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn difference(&self, before: &Self, items: &mut Vec<u64>) {
        for at in self.0.keys().chain(before.0.keys().filter(|at| !self.0.contains_key(at))) {
            let n = |sums: &Self| sums.0.get(at).copied().unwrap_or_default();
            if n(self) != n(before) {
                items.extend([*at as u64, (n(self) - n(before)) as u64]);
            }
        }
    }

    fn apply(&mut self, items: &[u64]) -> bool {
        let (pairs, rest) = items.as_chunks();
        pairs.iter().for_each(|[at, n]| self.add(*at as i64, *n as i64));
        rest.is_empty()
    }
}

impl Sums {
    fn add(&mut self, at: i64, n: i64) {
        let sum = self.0.entry(at).or_default();
        *sum += n;
        if *sum == 0 {
            self.0.remove(&at);
        }
    }
}

type Store = RankedStore<Arc<str>, Sums>;
type Model = BTreeMap<Arc<str>, Sums>;

#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u8, i64, i64),
    Advance(i64),
    Look,
    Commit,
    Rollback,
    Checkpoint,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // Enough keys of two groups that heads grow until they are cut down.
        40 => (0..48u8, -6..2i64, -2..4i64).prop_map(|(k, at, n)| Step::Add(k, at, n)),
        4 => (1..4i64).prop_map(Step::Advance),
        12 => Just(Step::Look),
        6 => Just(Step::Commit),
        2 => Just(Step::Rollback),
        1 => Just(Step::Checkpoint),
        2 => Just(Step::Restart),
    ]
}

const GROUPS: [&str; 2] = ["", "g"];

fn naive_top(model: &Model, group: &str, lasts: i64, tick: i64, n: usize) -> Vec<(Arc<str>, i128)> {
    let of_group = model.iter().filter(|(key, _)| key.split_once('\0').map_or("", |(group, _)| group) == group);
    let mut top: Vec<_> = of_group.filter_map(|(key, sums)| Some((key.clone(), sums.score(lasts, tick)?))).collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    top.truncate(n);
    top
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_top_is_that_of_a_sort_whatever_was_taken_back(steps in prop::collection::vec(step(), 0..300)) {
        const LASTS: i64 = 5;
        let mut lives = Lives::<Store>::new();
        let (mut open, mut committed): ((Model, i64), (Model, i64)) = Default::default();
        // What a reader of the tops knows, and knew at the last commit.
        let (mut read, mut read_before): ([Vec<_>; 2], [Vec<_>; 2]) = Default::default();
        for step in steps {
            let store = &mut lives.store;
            match step {
                Step::Add(key, back, n) => {
                    let group = if key % 2 == 0 { "" } else { "g\0" };
                    let (key, at): (Arc<str>, i64) = (format!("{group}{key}").into(), open.1 + back);
                    store.modify(&key, |sums| sums.add(at, n));
                    open.0.entry(key).or_default().add(at, n);
                }
                Step::Advance(ticks) => open.1 += ticks,
                Step::Look => {
                    store.advance(LASTS, open.1);
                    for (group, read) in GROUPS.iter().zip(&mut read) {
                        // Unchanged entries are as they were read.
                        *read = store.take_top(group, 3).unwrap_or_else(|| read.clone());
                        prop_assert_eq!(&*read, &naive_top(&open.0, group, LASTS, open.1, 3));
                    }
                }
                Step::Commit => {
                    lives.commit();
                    committed = open.clone();
                    read_before = read.clone();
                }
                Step::Rollback | Step::Checkpoint | Step::Restart => {
                    store.rollback();
                    (open, read) = (committed.clone(), read_before.clone());
                }
            }
            match step {
                Step::Checkpoint => lives.checkpoint(),
                Step::Restart => lives.restart(),
                _ => {}
            }
        }
        // What no longer counts is forgotten.
        lives.store.advance(LASTS, open.1 + 99);
        prop_assert!(lives.store.entries.table.iter().next().is_none());
    }
}

#[test]
fn it_comes_back_from_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let site = CheckpointSite { dir: dir.path().to_owned(), boot_id: "boot".into(), owner: "task".into() };
    let (checkpoint, _) = Checkpoint::open(&site, &["board"]).unwrap();
    let checkpoint = Arc::new(checkpoint);
    let mut store = Store::default();
    for (key, n) in [("a", 5), ("b", 7), ("c", 6), ("d", 1)] {
        store.modify(&key.into(), |sums| sums.add(0, n));
    }
    store.commit();
    store.modify(&"d".into(), |sums| sums.add(0, -1));
    store.commit();
    checkpoint.write(&Default::default(), |out| store.checkpoint(out)).unwrap();
    let mut store = Store::default();
    store.open("board", 0, Some(checkpoint)).unwrap();
    assert_eq!(store.take_top("", 9), None, "no time was set");
    store.advance(5, 2);
    let top: Vec<_> = ["b", "c", "a"].into_iter().map(Arc::from).zip([7, 6, 5]).collect();
    assert_eq!(store.take_top("", 9), Some(top));
}

#[test]
fn each_group_has_an_order_of_its_own() {
    let mut store = Store::default();
    for (key, n) in [("a", 5), ("b", 7), ("x\0a", 2), ("x\0b", 1), ("y\0a", 9)] {
        store.modify(&key.into(), |sums| sums.add(0, n));
    }
    store.advance(5, 0);
    let top = |keys: &[(&str, i128)]| Some(keys.iter().map(|(key, n)| (Arc::from(*key), *n)).collect::<Vec<_>>());
    assert_eq!(store.take_top("", 9), top(&[("b", 7), ("a", 5)]));
    assert_eq!(store.take_top("x", 1), top(&[("x\0a", 2)]));
    assert_eq!(store.take_top("z", 9), top(&[]));
    store.modify(&"x\0b".into(), |sums| sums.add(0, 5));
    assert_eq!((store.take_top("", 9), store.take_top("z", 9)), (None, None));
    assert_eq!(store.take_top("x", 1), top(&[("x\0b", 6)]));
}

/// Heads are three places long in tests: many more go up and down through their floor.
#[test]
fn a_head_that_has_become_too_short_is_filled_again() {
    let mut store = Store::default();
    let key = |n: i64| Arc::<str>::from(format!("{n:03}"));
    (0..200).for_each(|n| store.modify(&key(n), |sums| sums.add(0, 1 + n)));
    store.advance(5, 0);
    let place = |n: i64, score: i64| (key(n), i128::from(score));
    for n in (100..200).rev() {
        assert_eq!(store.take_top("", 2), Some(vec![place(n, 1 + n), place(n - 1, n)]));
        store.modify(&key(n), |sums| sums.add(0, -1 - n));
    }
    for n in 0..50 {
        store.modify(&key(n), |sums| sums.add(0, 1_000));
        let second = if n == 0 { place(99, 100) } else { place(n - 1, 1_000 + n) };
        assert_eq!(store.take_top("", 2), Some(vec![place(n, 1_001 + n), second]));
    }
    // Cut down on their way up, and down once more to those that have been below the floor since.
    let rest = [place(99, 100), place(98, 99)];
    for n in (0..50).rev() {
        store.modify(&key(n), |sums| sums.add(0, -1_001 - n));
        let top: Vec<_> = (0..n).rev().map(|n| place(n, 1_001 + n)).chain(rest.clone()).take(2).collect();
        assert_eq!(store.take_top("", 2), Some(top));
    }
}
