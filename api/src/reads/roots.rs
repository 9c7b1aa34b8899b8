//! Receipts and times, judged by root positions.

use crate::config::{Marks, OutputTopic};
use crate::database::DatabaseProgress;
use std::sync::Arc;
use tally_model::{Receipt, RootPosition};

/// Whether everything that a receipt covers is contained.
pub fn covers(roots: &[RootPosition], receipt: &Receipt) -> bool {
    receipt.offsets.iter().all(|(partition, offset)| passed(roots, *partition, *offset) == Some(true))
}

/// Whether an offset is contained; None where its partition has no root.
fn passed(roots: &[RootPosition], partition: u32, offset: u64) -> Option<bool> {
    roots.iter().find(|root| root.partition == partition).map(|root| root.next_offset > offset)
}

/// The smallest clock; None where there is no root.
pub fn clock_ms(roots: &[RootPosition]) -> Option<i64> {
    roots.iter().map(|root| root.clock_ms).min()
}

/// Whether everything that a receipt covers is contained in a topic, by the progress of its partitions in the database.
pub fn is_applied(topic: &OutputTopic, progress: &DatabaseProgress, receipt: &Receipt) -> bool {
    receipt.offsets.iter().all(|(partition, offset)| {
        let root = applied(topic, *partition, |p| progress.roots(&topic.name, p));
        root.is_some_and(|root| root.next_offset > *offset)
    })
}

/// Below which offset of a root partition everything is contained in a topic, and the clock there: the least of
/// its partitions. None while a partition that must have a root has none.
pub fn applied(
    topic: &OutputTopic,
    root_partition: u32,
    roots_of: impl Fn(u32) -> Arc<[RootPosition]>,
) -> Option<RootPosition> {
    let mut least: Option<RootPosition> = None;
    for partition in 0..topic.partitions {
        let roots = roots_of(partition);
        let found = roots.iter().find(|root| root.partition == root_partition);
        let Some(root) = found else {
            match topic.marks {
                Marks::Own if partition != root_partition => continue,
                Marks::Own | Marks::All => return None,
            }
        };
        let least = least.get_or_insert(*root);
        least.next_offset = least.next_offset.min(root.next_offset);
        least.clock_ms = least.clock_ms.min(root.clock_ms);
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(partition: u32, next_offset: u64) -> RootPosition {
        RootPosition { partition, next_offset, clock_ms: next_offset as i64 }
    }

    #[test]
    fn a_receipt_is_covered_when_every_offset_is_passed() {
        let receipt = |offsets: &[(u32, u64)]| Receipt { request: [0; 16], offsets: offsets.to_vec() };
        let roots = [root(0, 10), root(1, 5)];
        for (offsets, expected) in [
            (&[][..], true),
            (&[(0, 9), (1, 4)], true),
            (&[(0, 10)], false),
            (&[(0, 9), (1, 5)], false),
            (&[(2, 0)], false),
        ] {
            assert_eq!(covers(&roots, &receipt(offsets)), expected, "{offsets:?}");
        }
    }

    #[test]
    fn a_topic_is_as_far_as_the_last_of_those_that_have_to_speak() {
        let topic = |marks| OutputTopic { name: "t".into(), partitions: 2, marks };
        let all = |partition: u32| Arc::from([root(0, 5 + u64::from(partition)), root(1, 9)]);
        assert_eq!(applied(&topic(Marks::All), 0, all), Some(root(0, 5)));
        let own = |partition: u32| Arc::from([root(partition, 7)]);
        assert_eq!(applied(&topic(Marks::Own), 1, own), Some(root(1, 7)));
        assert_eq!(applied(&topic(Marks::All), 1, own), None, "partition 0 has not spoken of 1");
        let silent = |partition: u32| if partition == 0 { Arc::from([root(0, 7)]) } else { Arc::from([]) };
        assert_eq!(applied(&topic(Marks::Own), 0, silent), Some(root(0, 7)));
        assert_eq!(applied(&topic(Marks::Own), 1, silent), None);
        let hearsay = |partition: u32| if partition == 0 { Arc::from([root(1, 7)]) } else { Arc::from([]) };
        assert_eq!(applied(&topic(Marks::Own), 1, hearsay), None, "partition 1 itself has not spoken");
    }
}
