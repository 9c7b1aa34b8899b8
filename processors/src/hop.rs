//! Changes and contributions sent to their subjects, and tops sent to their boards, combined until the commit.

use crate::item::Item;
use hashbrown::{HashMap, HashTable};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use tally_model::{
    Change, ChangesEncoder, Contribution, ContributionsEncoder, PartitionTop, SubjectChanges, decode_changes,
    decode_contributions, decode_tops, encode_tops, holds_contributions, holds_tops,
};
use tally_streams::log::partition_of;
use tally_streams::processor::Hop;

/// A rough size of a subject's entry, in bytes.
const SUBJECT_BYTES: usize = 256;
/// A rough size of a place in a top, in bytes.
const PLACE_BYTES: usize = 64;

/// Changes by subject, in order of first appearance; and of each board the newest top.
#[derive(Default)]
pub struct CombiningHop {
    index: HashMap<Arc<str>, usize, ahash::RandomState>,
    /// The subject of the last change and its place: changes of one event are adjacent.
    last: Option<(Arc<str>, usize)>,
    subjects: Vec<SubjectChanges>,
    changes: usize,
    tops: Vec<PartitionTop>,
    contributions: Contributions,
}

/// Contributions, combined where they are in the same windows.
#[derive(Default)]
struct Contributions {
    all: Vec<Contribution>,
    /// Places in the list, by subject, node and windows.
    index: HashTable<usize>,
    hasher: ahash::RandomState,
    bytes: usize,
}

impl Contributions {
    fn add(&mut self, one: &Contribution) {
        let (hash, all) = (self.hash_of(one), &mut self.all);
        match self.index.find(hash, |at| all[*at].joins(one)) {
            Some(at) => {
                let before = all[*at].size_bytes();
                all[*at].merge(one);
                self.bytes += all[*at].size_bytes().saturating_sub(before);
            }
            None => {
                self.bytes += one.size_bytes();
                all.push(one.clone());
                let (last, hasher) = (all.len() - 1, &self.hasher);
                self.index.insert_unique(hash, last, |at| hash_of(hasher, &all[*at]));
            }
        }
    }

    fn hash_of(&self, one: &Contribution) -> u64 {
        hash_of(&self.hasher, one)
    }

    fn clear(&mut self) {
        self.all.clear();
        self.index.clear();
        self.bytes = 0;
    }
}

/// Equal for contributions that may be combined: sessions grow, so that only the part of time counts that they lie in.
fn hash_of(hasher: &ahash::RandomState, one: &Contribution) -> u64 {
    let mut hasher = hasher.build_hasher();
    (&one.subject_id, &one.node).hash(&mut hasher);
    for slot in &one.slots {
        match slot.session {
            Some(rule) => (slot.window, rule.part(slot.from_ms)).hash(&mut hasher),
            None => (slot.window, slot.from_ms, slot.to_ms).hash(&mut hasher),
        }
    }
    hasher.finish()
}

impl CombiningHop {
    fn add_change(&mut self, change: &Change) {
        self.changes += 1;
        let at = match &self.last {
            Some((subject_id, at)) if Arc::ptr_eq(subject_id, &change.subject_id) => *at,
            _ => self.place_of(&change.subject_id),
        };
        self.subjects[at].add(change);
    }

    fn place_of(&mut self, subject_id: &Arc<str>) -> usize {
        let at = *self.index.entry(subject_id.clone()).or_insert_with(|| {
            self.subjects.push(SubjectChanges::new(subject_id.clone()));
            self.subjects.len() - 1
        });
        self.last = Some((subject_id.clone(), at));
        at
    }

    fn add_top(&mut self, top: &PartitionTop) {
        match self.tops.iter_mut().find(|known| known.board == top.board) {
            Some(known) => *known = top.clone(),
            None => self.tops.push(top.clone()),
        }
    }
}

impl Hop<Item> for CombiningHop {
    fn add(&mut self, item: &Item) {
        match item {
            Item::Change(change) => self.add_change(change),
            Item::Contribution(contribution) => self.contributions.add(contribution),
            Item::Top(top) => self.add_top(top),
            // The loader rejects topologies in which any other value reaches a hop.
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.subjects.is_empty() && self.tops.is_empty() && self.contributions.all.is_empty()
    }

    fn size_bytes(&self) -> usize {
        let places: usize = self.tops.iter().map(|top| top.items.len()).sum();
        let changes = self.subjects.len() * SUBJECT_BYTES + self.changes * size_of::<u64>();
        changes + places * PLACE_BYTES + self.contributions.bytes
    }

    fn drain(&mut self, partitions: u32, body_bytes_max: usize, emit: &mut dyn FnMut(u32, Vec<u8>)) {
        let mut encoders: Vec<ChangesEncoder> = (0..partitions).map(|_| ChangesEncoder::default()).collect();
        for mut changes in self.subjects.drain(..).filter(|changes| !changes.is_empty()) {
            let partition = partition_of(changes.subject_id.as_bytes(), partitions);
            encoders[partition as usize].push(&mut changes, body_bytes_max, |body| emit(partition, body));
        }
        for (partition, mut encoder) in (0..).zip(encoders) {
            encoder.finish(|body| emit(partition, body));
        }
        let mut encoders: Vec<ContributionsEncoder> = Vec::new();
        encoders.resize_with(if self.contributions.all.is_empty() { 0 } else { partitions as usize }, Default::default);
        for mut one in self.contributions.all.drain(..) {
            let partition = partition_of(one.subject_id.as_bytes(), partitions);
            encoders[partition as usize].push(&mut one, body_bytes_max, |body| emit(partition, body));
        }
        for (partition, mut encoder) in (0..).zip(encoders) {
            encoder.finish(|body| emit(partition, body));
        }
        let partition = |top: &PartitionTop| partition_of(top.board.as_bytes(), partitions);
        self.tops.sort_by_key(partition);
        for tops in self.tops.chunk_by(|a, b| partition(a) == partition(b)) {
            encode_tops(tops, body_bytes_max, |body| emit(partition(&tops[0]), body));
        }
        self.clear();
    }

    fn clear(&mut self) {
        self.index.clear();
        self.last = None;
        self.subjects.clear();
        self.changes = 0;
        self.tops.clear();
        self.contributions.clear();
    }

    fn decode(body: &[u8], each: &mut dyn FnMut(Item)) -> Result<(), String> {
        if body.is_empty() {
            return Ok(());
        }
        if holds_contributions(body) {
            return decode_contributions(body, |one| each(Item::Contribution(one))).map_err(|e| e.to_string());
        }
        if holds_tops(body) {
            return decode_tops(body, |top| each(Item::Top(top))).map_err(|e| e.to_string());
        }
        decode_changes(body, |changes| each(Item::Changes(changes))).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tally_model::{ChangeBody, Partial, SessionRule, Slot};

    fn change(subject_id: &str) -> Item {
        let body = ChangeBody::Delta { minute: 5, total_only: false, delta: 1 };
        Item::Change(Change { subject_id: subject_id.into(), metric: "likes".into(), body })
    }

    fn top(board: &str, score: i128) -> Item {
        let items = vec![("article:7".into(), score)];
        Item::Top(PartitionTop { board: board.into(), partition: 2, epoch: 0, items })
    }

    fn drained(items: &[Item], partitions: u32) -> Vec<(u32, Vec<Item>)> {
        let (mut hop, mut drained) = (CombiningHop::default(), Vec::new());
        items.iter().for_each(|item| hop.add(item));
        hop.drain(partitions, 1 << 19, &mut |partition, body| {
            let mut items = Vec::new();
            CombiningHop::decode(&body, &mut |item| items.push(item)).unwrap();
            drained.push((partition, items));
        });
        assert!(hop.is_empty() && hop.size_bytes() == 0);
        drained
    }

    #[test]
    fn the_newest_top_of_a_board_is_what_is_sent() {
        let sent = drained(&[top("hot", 5), top("liked", 7), top("hot", 6)], 1);
        assert_eq!(sent, [(0, vec![top("hot", 6), top("liked", 7)])]);
    }

    #[test]
    fn changes_and_tops_go_in_bodies_that_can_be_told_apart() {
        let sent = drained(&[top("hot", 5), change("article:7"), change("article:7")], 8);
        let [(of_subject, changes), (of_board, tops)] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!((*of_subject, *of_board), (partition_of(b"article:7", 8), partition_of(b"hot", 8)));
        let [Item::Changes(changes)] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(changes.deltas[0].delta, 2);
        assert_eq!(tops.as_slice(), [top("hot", 5)]);
    }

    #[test]
    fn contributions_are_combined_where_they_are_in_the_same_windows() {
        let rule = SessionRule { gap_ms: 10, max_ms: 1_000 };
        let one = |subject_id: &str, from_ms, session: bool, time_ms| {
            let slot = Slot { window: 1, from_ms, to_ms: 60, session: None };
            let of_session = Slot { window: 2, from_ms: time_ms, to_ms: time_ms, session: Some(rule) };
            let slots = if session { vec![slot, of_session] } else { vec![slot] };
            let (subject_id, values) = (subject_id.into(), vec![(7, Partial::Count(1))]);
            Item::Contribution(Contribution { subject_id, node: "dwell".into(), slots, values })
        };
        let items = [
            one("a:1", 0, false, 0),
            one("a:2", 0, false, 0),
            one("a:1", 30, false, 0),
            one("a:1", 0, false, 0),
            one("a:1", 0, true, 100),
            one("a:1", 0, true, 121),
            one("a:1", 0, true, 111),
            one("a:1", 0, true, 95),
        ];
        let sent = drained(&items, 1);
        let [(0, sent)] = sent.as_slice() else { panic!("{sent:?}") };
        let of = |item: &Item| {
            let Item::Contribution(Contribution { subject_id, slots, values, .. }) = item else { panic!("{item:?}") };
            let last = slots[slots.len() - 1];
            let [(7, Partial::Count(count))] = values[..] else { panic!("{values:?}") };
            (subject_id.to_string(), last.from_ms, last.to_ms, count)
        };
        let sent: Vec<_> = sent.iter().map(of).collect();
        let expected =
            [("a:1", 0, 60, 2), ("a:2", 0, 60, 1), ("a:1", 30, 60, 1), ("a:1", 95, 100, 2), ("a:1", 111, 121, 2)];
        assert_eq!(sent, expected.map(|(subject, from, to, count)| (subject.to_owned(), from, to, count)));
    }

    #[test]
    fn a_transaction_that_was_taken_back_sends_nothing() {
        let mut hop = CombiningHop::default();
        hop.add(&top("hot", 5));
        hop.add(&change("article:7"));
        hop.clear();
        assert!(hop.is_empty());
    }
}
