//! A copy is that of its moment, whatever was written before and after.

use super::*;
use crate::log::in_process::registry::Registry;
use crate::log::{Cleanup, TopicSpec};

type Content = Vec<Vec<(u64, Vec<u8>)>>;

/// A log whose topics have three partitions; what it stores need not be batches.
fn log(dir: &Path) -> OfflineLog {
    let storage = LmdbStorage::open(dir, &EmbeddedOptions::default()).unwrap();
    let spec = |name: &str, partitions| TopicSpec {
        name: name.to_owned(),
        partitions,
        cleanup: Cleanup::Delete,
        retention: None,
        retention_bytes: None,
    };
    let registry = Registry::default().with(&[spec("a", 2), spec("b", 1)]).unwrap();
    let topics = Op::Put { key: keys::TOPICS.to_vec(), value: registry.encode().unwrap() };
    storage.commit(&[Op::Create(0), Op::Create(1), Op::Create(2), topics]).unwrap();
    drop(storage);
    OfflineLog::open(dir).unwrap()
}

fn value(base: u64, fill: u8, len_bytes: usize) -> Vec<u8> {
    // Of no known format; its checksum depends on the content, like that of a batch.
    let mut value = vec![fill; len_bytes];
    value[..4].copy_from_slice(&(base as u32 ^ (u32::from(fill) << 24)).to_le_bytes());
    value[4] = 0;
    value
}

fn append(log: &OfflineLog, partition: PartitionId, bases: std::ops::Range<u64>, fill: u8) {
    let values: Vec<_> = bases.map(|base| (base, value(base, fill, 10 + base as usize % 5_000))).collect();
    let ops = values.iter().map(|(base, value)| Op::Append { partition, base: *base, value });
    log.storage().commit(&ops.collect::<Vec<_>>()).unwrap();
}

fn replace(log: &OfflineLog, partition: PartitionId, from: u64, to: u64, blocks: &[(u64, Vec<u8>)]) {
    log.storage().commit(&[Op::Replace { partition, from, to, blocks }]).unwrap();
}

fn content(log: &OfflineLog) -> Content {
    let of = |id| {
        let mut batches = Vec::new();
        let take = |base, value: &[u8]| {
            batches.push((base, value.to_vec()));
            Ok(())
        };
        log.storage().snapshot().unwrap().batches(id, take).unwrap();
        batches
    };
    (0..3).map(of).collect()
}

#[test]
fn a_copy_is_that_of_its_moment() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    let log = log(&source);
    append(&log, 0, 0..1_200, 1);
    append(&log, 1, 0..40, 1);

    let copy = log.copy_to(&target).unwrap();
    // Retention, merging, compaction, and new records, before the moment of the copy.
    log.storage().commit(&[Op::Trim { partition: 0, before: 7 }]).unwrap();
    replace(&log, 0, 20, 30, &[(20, value(20, 2, 9_000))]);
    let same_length = value(50, 3, log_len(&log, 0, 50));
    replace(&log, 0, 50, 51, &[(50, same_length)]);
    replace(&log, 0, 1_100, 1_200, &[(1_100, value(1_100, 4, 300_000)), (1_150, value(1_150, 4, 5))]);
    append(&log, 0, 1_200..1_900, 1);
    replace(&log, 1, 0, 40, &[]);
    append(&log, 2, 5..6, 1);
    log.storage()
        .commit(&[Op::Put { key: b"start\0\0\0\0".to_vec(), value: keys::seal(b"start\0\0\0\0", &[7; 16]) }])
        .unwrap();
    let expected = content(&log);
    let fixed = copy.fix().unwrap();
    // And after it.
    append(&log, 0, 1_900..1_910, 1);
    replace(&log, 2, 5, 6, &[]);
    fixed.finish().unwrap();
    assert_ne!(content(&log), expected);

    let names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["data.mdb"]);
    let copied = OfflineLog::open(&target).unwrap();
    assert!(content(&copied) == expected, "another content");
    let starts = [&log, &copied].map(|log| log.storage().get(b"start\0\0\0\0").unwrap());
    assert!(starts[0].is_some() && starts[0] == starts[1]);
    assert_eq!(copied.ends().unwrap(), [("a".to_owned(), vec![1_900, 0]), ("b".to_owned(), vec![6])].into());
    let space = copied.space().unwrap().unwrap();
    assert!(space.file_bytes < 2 * space.live_bytes, "{space:?}");
    copied.close_copy().unwrap();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

fn log_len(log: &OfflineLog, partition: usize, base: u64) -> usize {
    content(log)[partition].iter().find(|(at, _)| *at == base).map(|(_, value)| value.len()).unwrap()
}

#[test]
fn a_topic_that_is_created_meanwhile_is_named_as_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(&dir.path().join("source"));
    let copy = log.copy_to(&dir.path().join("target")).unwrap();
    let spec = TopicSpec {
        name: "c".to_owned(),
        partitions: 1,
        cleanup: Cleanup::Delete,
        retention: None,
        retention_bytes: None,
    };
    let topics = Op::Put { key: keys::TOPICS.to_vec(), value: log.registry().with(&[spec]).unwrap().encode().unwrap() };
    log.storage().commit(&[Op::Create(3), topics]).unwrap();
    let refused = copy.fix().unwrap().finish().unwrap_err().to_string();
    assert!(refused.contains("topics were created while the log was copied: try again"), "{refused}");
}
