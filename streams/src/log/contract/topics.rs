//! Topics: created once, verified ever after.

use std::time::Duration;

use super::harness::{Factory, owned, record};
use crate::log::{Cleanup, CommittedOffset, GroupMetadata, LogError, TopicPartition, TopicSpec};

fn spec(name: String, partitions: u32, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { name, partitions, cleanup, retention: None, retention_bytes: None }
}

/// A repeated call changes nothing; a longer retention than the requested one is no difference.
pub fn topics_are_created_once(factory: Factory<'_>) {
    let harness = factory();
    let specs = [
        spec(harness.name("deleted"), 3, Cleanup::Delete),
        spec(harness.name("compacted"), 1, Cleanup::Compact),
        TopicSpec {
            retention: Some(Duration::from_secs(3600)),
            ..spec(harness.name("both"), 2, Cleanup::CompactAndDelete)
        },
    ];
    harness.log.ensure_topics(&specs).unwrap();
    let at = TopicPartition::new(specs[0].name.as_str(), 2);
    harness.fill(&at, &["kept"]);
    harness.log.ensure_topics(&specs).unwrap();
    harness.log.ensure_topics(&[]).unwrap();
    let shorter = TopicSpec { retention: Some(Duration::from_secs(1800)), ..specs[2].clone() };
    harness.log.ensure_topics(&[shorter]).unwrap();
    for spec in &specs {
        assert_eq!(harness.log.partitions(&spec.name), Ok(spec.partitions));
    }
    assert_eq!(harness.read_all(&at).len(), 1);
}

/// The error has a reason, and no other topic is created.
pub fn topics_that_differ_are_refused(factory: Factory<'_>) {
    let harness = factory();
    let (first, beside) = (harness.name("first"), harness.name("beside"));
    harness.log.ensure_topics(&[spec(first.clone(), 3, Cleanup::Delete)]).unwrap();
    let refused = |specs: &[TopicSpec], said: &str| match harness.log.ensure_topics(specs) {
        Err(error @ LogError::Mismatch { .. }) => {
            let known = harness.log.refusals(specs).unwrap();
            assert!(known.contains(&error), "{known:?}: {error}");
            let LogError::Mismatch { topic, detail } = error else { unreachable!() };
            assert_eq!(topic, specs[specs.len() - 1].name);
            assert!(detail.contains(said), "{detail}");
        }
        other => panic!("{other:?}"),
    };
    let new = spec(beside.clone(), 1, Cleanup::Delete);
    refused(&[new.clone(), spec(first.clone(), 4, Cleanup::Delete)], "3 partitions");
    refused(&[new.clone(), spec(first.clone(), 3, Cleanup::Compact)], "delete");
    refused(&[new.clone(), spec(harness.name("no partitions"), 0, Cleanup::Delete)], "");
    refused(&[new.clone(), spec(harness.name("a/b"), 1, Cleanup::Delete)], "A-Za-z0-9._-");
    refused(&[new.clone(), spec(String::new(), 1, Cleanup::Delete)], "A-Za-z0-9._-");
    refused(&[new, spec("x".repeat(250), 1, Cleanup::Delete)], "249");
    assert_eq!(harness.log.partitions(&first), Ok(3));
    assert!(matches!(harness.log.partitions(&beside), Err(LogError::UnknownTopic(_))));
}

/// Partitions beyond the last are rejected as well.
pub fn unknown_topics_are_refused_everywhere(factory: Factory<'_>) {
    let harness = factory();
    let log = &harness.log;
    let known = harness.topic("known", 2);
    let unknown = harness.name("unknown");
    assert!(matches!(log.partitions(&unknown), Err(LogError::UnknownTopic(_))));
    assert!(matches!(
        log.consumer(&harness.name("group")).unwrap().subscribe(&unknown, "member"),
        Err(LogError::UnknownTopic(_))
    ));
    let mut producer = log.producer(&harness.name("unknown")).unwrap();
    let mut consumer = log.consumer("").unwrap();
    let group = GroupMetadata { group: harness.name("group"), ..GroupMetadata::default() };
    for (topic, partition) in [(&unknown, 0), (&known, 2)] {
        let at = TopicPartition::new(topic.as_str(), partition);
        let is_unknown = |error: Option<LogError>| match error {
            Some(LogError::UnknownTopic(name)) => assert!(name.contains(topic.as_str()), "{name}"),
            other => panic!("{at}: {other:?}"),
        };
        is_unknown(log.bounds(&at).err());
        is_unknown(log.committed(&group.group, &at).err());
        is_unknown(log.delete_records(&at, 1).err());
        is_unknown(consumer.assign(&at, 0).err());
        is_unknown(harness.append(topic, vec![owned(0, "beside"), owned(partition, "lost")]).err());
        is_unknown(producer.send(record(topic, partition, "lost")).err());
        let committed = CommittedOffset { offset: 1, metadata: String::new() };
        is_unknown(producer.send_offsets(&group, &[(at.clone(), committed)]).err());
    }
    // What was refused is not in the transaction; the rest is.
    producer.send(record(&known, 1, "kept")).unwrap();
    producer.commit().unwrap();
    let at = TopicPartition::new(known.as_str(), 1);
    harness.until("the commit shows", || harness.read_all(&at).len() == 1);
    assert!(harness.read_all(&TopicPartition::new(known.as_str(), 0)).is_empty());
}
