//! The order of scores against a sort, whatever was taken back in between.

use super::*;
use crate::store::lives::{Event, Lives, event};
use crate::store::{Checkpoint, CheckpointSite, KeyValueStore, Rank, StoreValue};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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

/// How many ticks an amount counts, and whether it is halved with each.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    lasts: i64,
    halves: bool,
}

/// Amounts that count for five ticks.
const FIVE: Rule = Rule { lasts: 5, halves: false };

impl StoreValue for Rule {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.lasts as u8, self.halves.into()]);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let [lasts, halves] = *bytes else { return None };
        Some(Self { lasts: lasts.into(), halves: halves == 1 })
    }
}

impl Ranked for Sums {
    type Rule = Rule;

    fn rank(&self, rule: Rule, tick: i64) -> Option<Rank> {
        let last = *self.0.last_key_value()?.0;
        let at = if rule.halves { last.min(tick) } else { 0 };
        Rank::new(self.sum(rule, tick, at), at)
    }

    fn score(rank: Rank, rule: Rule, tick: i64) -> Option<i128> {
        let score = rank.truncated(if rule.halves { tick } else { 0 });
        (score > 0).then_some(score)
    }

    fn next_tick(&self, rule: Rule, tick: i64) -> Option<i64> {
        let first = *self.0.range(tick - rule.lasts + 1..).next()?.0;
        let is_ahead = rule.halves && self.0.range(tick + 1..).next().is_some();
        Some(if is_ahead { tick + 1 } else { first + rule.lasts })
    }

    fn ages_each_tick(rule: Rule) -> bool {
        rule.halves
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
    /// What counts at a tick; where amounts are halved, in units of that time.
    fn sum(&self, rule: Rule, tick: i64, at: i64) -> i128 {
        let counting = self.0.range(tick - rule.lasts + 1..).map(|(slot, n)| (*slot, i128::from(*n)));
        if !rule.halves {
            return counting.map(|(_, n)| n).sum();
        }
        let first = tick - rule.lasts;
        let sum: i128 = counting.map(|(slot, n)| n << (slot - first)).sum();
        sum >> (at - first)
    }

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
    /// Backwards, too: an operator sets the clock.
    Advance(i64),
    Look,
    Commit,
    Rollback,
    Hydrate,
    /// After a rollback.
    Meet(Event),
    /// A restart with another number of ticks that amounts count for.
    Change(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // Enough keys of two groups that heads grow until they are cut down.
        40 => (0..48u8, -6..2i64, -2..4i64).prop_map(|(k, at, n)| Step::Add(k, at, n)),
        4 => prop_oneof![20 => 1..4i64, 1 => -3..0i64].prop_map(Step::Advance),
        12 => Just(Step::Look),
        8 => Just(Step::Commit),
        3 => Just(Step::Rollback),
        1 => Just(Step::Hydrate),
        11 => event().prop_map(Step::Meet),
        1 => (1..8i64).prop_map(Step::Change),
    ]
}

const GROUPS: [&str; 2] = ["", "g"];

fn naive_top(model: &Model, group: &str, rule: Rule, tick: i64, n: usize) -> Vec<(Arc<str>, i128)> {
    let of_group = model.iter().filter(|(key, _)| key.split_once('\0').map_or("", |(group, _)| group) == group);
    let scores = of_group.map(|(key, sums)| (key.clone(), sums.sum(rule, tick, tick)));
    let mut top: Vec<_> = scores.filter(|(_, score)| *score > 0).collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    top.truncate(n);
    top
}

/// The stored bytes of all values.
fn stored(model: &Model) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let bytes = |sums: &Sums| {
        let mut bytes = Vec::new();
        sums.encode(&mut bytes);
        bytes
    };
    model.iter().map(|(key, sums)| (key.as_bytes().to_vec(), bytes(sums))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]
    #[test]
    fn the_top_is_that_of_a_sort_whatever_was_evicted_or_taken_back(
        steps in prop::collection::vec(step(), 0..300), halves in any::<bool>()
    ) {
        let mut rule = Rule { halves, ..FIVE };
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
                    let sums = open.0.entry(key.clone()).or_default();
                    sums.add(at, n);
                    let order = store.order.as_ref();
                    if sums.is_empty() || order.is_some_and(|order| sums.next_tick(order.rule, order.tick).is_none()) {
                        open.0.remove(&key);
                    }
                }
                Step::Advance(ticks) => open.1 += ticks,
                Step::Look => {
                    store.advance(rule, open.1);
                    // What does not count any more is forgotten.
                    open.0.retain(|_, sums| sums.next_tick(rule, open.1).is_some());
                    for (group, read) in GROUPS.iter().zip(&mut read) {
                        // Unchanged entries are as they were read.
                        *read = store.take_top(group, 3).unwrap_or_else(|| read.clone());
                        prop_assert_eq!(&*read, &naive_top(&open.0, group, rule, open.1, 3));
                    }
                    prop_assert_eq!(store.stored(), stored(&open.0));
                }
                Step::Commit => {
                    lives.commit();
                    committed = open.clone();
                    read_before = read.clone();
                }
                Step::Hydrate => _ = store.hydrate(5).unwrap(),
                Step::Rollback | Step::Meet(_) | Step::Change(_) => {
                    store.rollback();
                    (open, read) = (committed.clone(), read_before.clone());
                }
            }
            match step {
                Step::Meet(event) => lives.meet(event),
                Step::Change(lasts) => {
                    rule.lasts = lasts;
                    lives.restart();
                }
                _ => {}
            }
        }
        lives.store.advance(rule, open.1 + 99);
        prop_assert!(lives.store.stored().is_empty());
        prop_assert_eq!(lives.store.take_fault(), None);
    }
}

fn key(n: i64) -> Arc<str> {
    format!("{n:05}").into()
}

/// Of 10,000 values, those that are the first and those that are due are known without the others.
#[test]
fn opening_it_reads_no_value_and_its_top_few() {
    const VALUES: i64 = 10_000;
    for halves in [false, true] {
        let rule = Rule { lasts: 40, halves };
        let mut lives = Lives::<Store>::new();
        for n in 0..VALUES {
            // The first amounts of 1,000 of them leave at each tick from 10 on.
            lives.store.modify(&key(n), |sums| (0..20).for_each(|at| sums.add(n / 100 % 10 - 30 + at, 10 + n * n)));
            lives.store.advance(rule, 0);
            if n % 2_000 == 0 {
                lives.commit();
                lives.checkpoint();
            }
        }
        // The first places of the checkpoint are gone.
        for n in VALUES - 200..VALUES {
            lives.store.modify(&key(n), |sums| sums.0.clear());
        }
        lives.commit();
        lives.checkpoint();
        let reads = |lives: &Lives<_>| lives.checkpoint.blocks_read.swap(0, Ordering::Relaxed);
        reads(&lives);
        lives.restart();
        let opening = reads(&lives);
        let keys = |lives: &mut Lives<Store>| -> Option<Vec<_>> {
            Some(lives.store.take_top("", 3)?.into_iter().map(|(key, _)| key).collect())
        };
        lives.store.advance(rule, 0);
        // Where amounts are halved, those of the later ones count twice as much.
        let first = if halves { 8_999 } else { VALUES - 201 };
        let expected: Vec<_> = [first, first - 1, first - 2].map(key).into();
        assert_eq!((keys(&mut lives), lives.store.len()), (Some(expected.clone()), 0));
        let top = reads(&lives);
        // All values are in 220 blocks.
        assert!(opening < 30 && top < 25, "{opening} blocks to open it, {top} for the top");
        lives.store.advance(rule, 9);
        assert_eq!((reads(&lives), lives.store.take_reads()), (0, 0), "nothing is due");
        lives.store.advance(rule, 10);
        assert_eq!(lives.store.take_reads(), 1_000);
        assert!(keys(&mut lives).is_none_or(|keys| keys == expected));
        lives.commit();
        while lives.store.hydrate(1_000).unwrap() {}
        let (all, hydrated) = (lives.store.memory_bytes(), lives.store.len());
        lives.checkpoint();
        lives.evict();
        let (left, bytes) = (lives.store.len(), lives.store.memory_bytes());
        assert!(
            hydrated as i64 >= VALUES - 200 && left == 0 && bytes < all / 4,
            "{all} bytes, then {bytes} with {left}"
        );
        lives.store.advance(rule, 1_000);
        lives.commit();
        assert!(lives.store.stored().is_empty() && lives.store.take_fault().is_none());
    }
}

#[test]
fn a_checkpoint_without_the_order_gets_it() {
    let mut former = Lives::<KeyValueStore<Arc<str>, Sums>>::new();
    for n in 0..50 {
        former.store.put(&key(n), Sums([(n % 5, 1 + n)].into()));
    }
    former.commit();
    former.checkpoint();
    let mut lives = former.into::<Store>();
    lives.restart();
    lives.evict();
    let place = |n: i64| (key(n), i128::from(1 + n));
    let is_loaded = |lives: &mut Lives<Store>, expected: bool| {
        lives.store.advance(FIVE, 4);
        assert_eq!(lives.store.take_top("", 4), Some([49, 48, 47, 46].map(place).into()));
        assert_eq!(lives.store.places.is_whole(), expected);
    };
    is_loaded(&mut lives, false);
    lives.commit();
    lives.checkpoint();
    assert!(lives.store.places.is_whole());
    lives.restart();
    is_loaded(&mut lives, true);
    assert_eq!(lives.store.len(), 0, "the order is read from the checkpoint");
    for (tick, left) in [(5, 40), (6, 30), (9, 0)] {
        lives.store.advance(FIVE, tick);
        assert_eq!(lives.store.stored().len(), left);
    }
    assert_eq!(lives.store.take_fault(), None);
}

#[test]
fn a_place_without_its_value_is_a_fault() {
    let mut lives = Lives::<Store>::new();
    lives.store.advance(FIVE, 0);
    lives.store.modify(&key(1), |sums| sums.add(0, 7));
    lives.commit();
    lives.checkpoint();
    let mut other = lives.into::<KeyValueStore<Arc<str>, Sums>>();
    other.restart();
    other.store.delete(&key(1));
    other.commit();
    other.checkpoint();
    let mut lives = other.into::<Store>();
    lives.restart();
    lives.store.advance(FIVE, 4);
    assert_eq!(lives.store.take_fault(), None);
    lives.store.advance(FIVE, 5);
    assert!(matches!(lives.store.take_fault(), Some(StoreError::Corrupt { .. })));
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
    store.advance(FIVE, 2);
    let top: Vec<_> = ["b", "c", "a"].into_iter().map(Arc::from).zip([7, 6, 5]).collect();
    assert_eq!(store.take_top("", 9), Some(top));
}

#[test]
fn each_group_has_an_order_of_its_own() {
    let mut store = Store::default();
    for (key, n) in [("a", 5), ("b", 7), ("x\0a", 2), ("x\0b", 1), ("y\0a", 9)] {
        store.modify(&key.into(), |sums| sums.add(0, n));
    }
    store.advance(FIVE, 0);
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
    (0..200).for_each(|n| store.modify(&key(n), |sums| sums.add(0, 1 + n)));
    store.advance(FIVE, 0);
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
