//! Changes on their way to their subjects: combined until the commit.

use crate::item::Item;
use hashbrown::HashMap;
use std::sync::Arc;
use tally_model::{ChangesEncoder, SubjectChanges, decode_changes};
use tally_streams::log::partition_of;
use tally_streams::processor::Hop;

/// A rough size of a subject's entry, in bytes.
const SUBJECT_BYTES: usize = 256;

/// Changes by subject, in order of first appearance.
#[derive(Default)]
pub struct ChangeHop {
    index: HashMap<Arc<str>, usize, ahash::RandomState>,
    subjects: Vec<SubjectChanges>,
    changes: usize,
}

impl Hop<Item> for ChangeHop {
    fn add(&mut self, item: &Item) {
        let Item::Change(change) = item else { return };
        self.changes += 1;
        let at = match self.index.get(&change.subject_id) {
            Some(at) => *at,
            None => {
                self.index.insert(change.subject_id.clone(), self.subjects.len());
                self.subjects.push(SubjectChanges::new(change.subject_id.clone()));
                self.subjects.len() - 1
            }
        };
        self.subjects[at].add(change);
    }

    fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    fn size_bytes(&self) -> usize {
        self.subjects.len() * SUBJECT_BYTES + self.changes * size_of::<u64>()
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
        self.clear();
    }

    fn clear(&mut self) {
        self.index.clear();
        self.subjects.clear();
        self.changes = 0;
    }

    fn decode(body: &[u8], each: &mut dyn FnMut(Item)) -> Result<(), String> {
        if body.is_empty() {
            return Ok(());
        }
        decode_changes(body, |changes| each(Item::Changes(changes))).map_err(|e| e.to_string())
    }
}
