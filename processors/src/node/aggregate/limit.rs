//! The limit on the subjects of an `aggregate` node: their ids come from clients, and each costs state, rows and memory.
//!
//! The first subjects, in log order, take the places. An event of any other counts for [`OTHER`] of its kind. Every task
//! knows only its own events and has places of its own, so that the decision is a function of its partition of the log.

use crate::dataflow::Actions;
use std::sync::Arc;
use tally_streams::processor::Context;
use tally_streams::store::{Hash128, StoreHandle, WindowStore};

/// Subjects with a place, each with the number of its place from 1; and how many places are taken. Kept until the
/// subjects are forgotten.
pub(super) type Places = WindowStore<Hash128, u32, DAY_MS>;

/// The id that stands for all subjects of a kind that have no place.
const OTHER: &str = "_other";
const DAY_MS: i64 = 86_400_000;

/// For how long a subject keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// For good: as long as its totals.
    ForGood,
    /// Until the end of the day (UTC), by append time.
    Day,
}

/// The parameter, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Places of each task.
    pub places: u32,
    /// For how long a subject keeps its place.
    pub memory: Memory,
}

/// A limit at work.
pub struct SubjectLimit {
    pub limit: Limit,
    pub store: StoreHandle<Places>,
    pub hash_seed: u64,
    /// How many events counted for [`OTHER`] since the last commit.
    pub excess: u64,
}

/// Whether a subject stands for those that have no place.
pub fn is_other(subject_id: &str) -> bool {
    subject_id.split_once(':').is_some_and(|(_, id)| id == OTHER)
}

impl SubjectLimit {
    /// The subjects that an event counts for, each once: those that have or get a place, and for the others `kind:_other`.
    pub fn admit(&mut self, context: &mut Context<'_, Actions>, subjects: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let mut admitted: Vec<Arc<str>> = Vec::with_capacity(subjects.len());
        for subject_id in subjects {
            let counted = match is_other(&subject_id) || self.has_place(context, &subject_id) {
                true => subject_id,
                false => {
                    self.excess += 1;
                    let kind = subject_id.split(':').next().unwrap_or_default();
                    format!("{kind}:{OTHER}").into()
                }
            };
            if !admitted.contains(&counted) {
                admitted.push(counted);
            }
        }
        admitted
    }

    /// Whether a subject has a place; it takes one if there is one left.
    fn has_place(&self, context: &mut Context<'_, Actions>, subject_id: &str) -> bool {
        let clock_ms = context.clock_ms();
        // Subjects that are kept for good expire after all time.
        let (day, keep_until_ms) = match self.limit.memory {
            Memory::ForGood => (-1, i64::MAX),
            Memory::Day => (clock_ms.div_euclid(DAY_MS), clock_ms),
        };
        let day = day.to_le_bytes();
        let key = Hash128::of(self.hash_seed, &[&day, subject_id.as_bytes()]);
        let store = context.store(self.store);
        if store.get(&key).is_some() {
            return true;
        }
        let taken = Hash128::of(self.hash_seed, &[&day]);
        let place = store.get(&taken).copied().unwrap_or(0) + 1;
        if place > self.limit.places {
            return false;
        }
        store.upsert(&taken, keep_until_ms, place, |taken| *taken = place);
        store.insert(&key, keep_until_ms, place)
    }
}
