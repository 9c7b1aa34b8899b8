//! The actors of a subject, as far as a board needs them: the newest `max`, each with the time of its last act.
//!
//! Whether at least `max` actors have acted since a slot follows from those alone. And taking over the newest of both
//! keeps the newest of all: so neither order nor batches matter.

use serde::{Deserialize, Serialize};

/// Hash of the actor and the slot of its last act; by hash, each once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Actors(Vec<(u64, i64)>);

impl Actors {
    /// Records an act of an actor. Beyond `max`, the actor with the oldest last act is forgotten; of equal ones that
    /// with the greatest hash.
    pub fn act(&mut self, hash: u64, slot: i64, max: usize) {
        match self.0.binary_search_by_key(&hash, |(hash, _)| *hash) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(slot),
            Err(at) => self.0.insert(at, (hash, slot)),
        }
        if self.0.len() > max {
            let oldest = (0..self.0.len()).min_by_key(|at| (self.0[*at].1, std::cmp::Reverse(self.0[*at].0)));
            oldest.map(|at| self.0.remove(at));
        }
    }

    /// Sets or removes an actor, as a difference requires.
    pub fn set(&mut self, hash: u64, slot: Option<i64>) {
        self.0.retain(|(known, _)| *known != hash);
        if let Some(slot) = slot {
            let at = self.0.partition_point(|(known, _)| *known < hash);
            self.0.insert(at, (hash, slot));
        }
    }

    /// How many have acted in a slot or later.
    pub fn since(&self, first: i64) -> usize {
        self.0.iter().filter(|(_, slot)| *slot >= first).count()
    }

    /// The oldest of their slots that is not before `first`.
    pub fn oldest_since(&self, first: i64) -> Option<i64> {
        self.0.iter().map(|(_, slot)| *slot).filter(|slot| *slot >= first).min()
    }

    pub fn forget_before(&mut self, first: i64) {
        self.0.retain(|(_, slot)| *slot >= first);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What [`Actors::set`] makes these of `before` with.
    pub fn differences(&self, before: &Self, mut each: impl FnMut(u64, Option<i64>)) {
        let known = |actors: &Self, actor: &(u64, i64)| actors.0.binary_search(actor).is_ok();
        let has = |actors: &Self, hash: u64| actors.0.binary_search_by_key(&hash, |(hash, _)| *hash).is_ok();
        self.0.iter().filter(|actor| !known(before, actor)).for_each(|(hash, slot)| each(*hash, Some(*slot)));
        before.0.iter().filter(|(hash, _)| !has(self, *hash)).for_each(|(hash, _)| each(*hash, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn actors(acts: &[(u64, i64)], max: usize) -> Actors {
        let mut actors = Actors::default();
        acts.iter().for_each(|(hash, slot)| actors.act(*hash, *slot, max));
        actors
    }

    proptest! {
        #[test]
        fn whether_there_were_enough_is_exact_in_any_order(
            acts in prop::collection::vec((0..12u64, 0..9i64), 0..60), max in 1..6usize, seed in any::<u64>()
        ) {
            let mut last: HashMap<u64, i64> = HashMap::new();
            for (hash, slot) in &acts {
                let known = last.entry(*hash).or_insert(*slot);
                *known = (*known).max(*slot);
            }
            let found = actors(&acts, max);
            for first in 0..10 {
                let all = last.values().filter(|slot| **slot >= first).count();
                prop_assert_eq!(found.since(first), all.min(max));
            }
            let mut shuffled = acts;
            shuffled.sort_by_key(|(hash, slot)| ((hash * 31 + *slot as u64) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            prop_assert_eq!(actors(&shuffled, max), found);
        }

        #[test]
        fn a_difference_makes_one_of_the_other(
            before in prop::collection::vec((0..12u64, 0..9i64), 0..20),
            now in prop::collection::vec((0..12u64, 0..9i64), 0..20),
        ) {
            let (mut value, now) = (actors(&before, 5), actors(&now, 5));
            let mut steps = Vec::new();
            now.differences(&value, |hash, slot| steps.push((hash, slot)));
            steps.into_iter().for_each(|(hash, slot)| value.set(hash, slot));
            prop_assert_eq!(value, now);
        }
    }
}
