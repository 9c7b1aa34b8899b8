//! Transactions: together or not at all, and by one holder of an id at a time.

use super::harness::{Factory, record, texts};
use crate::log::{CommittedOffset, GroupMetadata, LogError, TopicPartition};

fn offset(offset: u64, metadata: &str) -> CommittedOffset {
    CommittedOffset { offset, metadata: metadata.to_owned() }
}

fn group(name: String) -> GroupMetadata {
    GroupMetadata { group: name, ..GroupMetadata::default() }
}

/// Records in two topics and offsets: nothing before the commit, everything after it.
pub fn a_transaction_shows_as_a_whole(factory: Factory<'_>) {
    let harness = factory();
    let (one, two) = (harness.topic("one", 2), harness.topic("two", 1));
    let group = group(harness.name("group"));
    let places = [TopicPartition::new(one.as_str(), 1), TopicPartition::new(two.as_str(), 0)];
    let mut producer = harness.log.producer(&harness.name("whole")).unwrap();
    for round in 1..4 {
        let before: Vec<_> = places.iter().map(|at| harness.read_all(at)).collect();
        let committed = harness.log.committed(&group.group, &places[0]).unwrap();
        producer.send(record(&one, 1, "a")).unwrap();
        producer.send(record(&two, 0, "b")).unwrap();
        producer.send_offsets(&group, &[(places[0].clone(), offset(round, "me"))]).unwrap();
        for (at, before) in places.iter().zip(&before) {
            assert_eq!(harness.read_all(at), *before, "nothing shows before the commit");
        }
        assert_eq!(harness.log.committed(&group.group, &places[0]).unwrap(), committed);
        producer.commit().unwrap();
        for (at, before) in places.iter().zip(&before) {
            harness.until("the commit shows", || harness.read_all(at).len() == before.len() + 1);
        }
        let shown = || harness.log.committed(&group.group, &places[0]).unwrap();
        harness.until("the offset shows", || shown() == Some(offset(round, "me")));
    }
}

/// Neither records nor offsets; what was committed before stays.
pub fn an_aborted_transaction_leaves_nothing(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("aborted", 1);
    let at = TopicPartition::new(topic.as_str(), 0);
    let group = group(harness.name("group"));
    let mut producer = harness.log.producer(&harness.name("aborted")).unwrap();
    producer.send(record(&topic, 0, "kept")).unwrap();
    producer.send_offsets(&group, &[(at.clone(), offset(1, "old"))]).unwrap();
    producer.commit().unwrap();
    producer.send(record(&topic, 0, "dropped")).unwrap();
    producer.send_offsets(&group, &[(at.clone(), offset(2, "new"))]).unwrap();
    producer.abort().unwrap();
    producer.abort().unwrap();
    assert_eq!(harness.log.committed(&group.group, &at).unwrap(), Some(offset(1, "old")));
    producer.send(record(&topic, 0, "later")).unwrap();
    producer.commit().unwrap();
    harness.until("the commit shows", || harness.read_all(&at).len() == 2);
    assert_eq!(texts(&harness.read_all(&at)), ["kept", "later"]);
}

/// Per group and partition, with metadata up to its limit; none where nothing was committed.
pub fn offsets_come_back_with_their_metadata(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("offsets", 3);
    let at = |partition| TopicPartition::new(topic.as_str(), partition);
    let (one, two) = (group(harness.name("one")), group(harness.name("two")));
    let long = "ü".repeat(2048);
    let mut producer = harness.log.producer(&harness.name("offsets")).unwrap();
    producer.send_offsets(&one, &[(at(0), offset(7, "")), (at(2), offset(8, &long))]).unwrap();
    producer.send_offsets(&two, &[(at(0), offset(9, "owner"))]).unwrap();
    producer.commit().unwrap();
    let committed = |group: &GroupMetadata, partition| harness.log.committed(&group.group, &at(partition)).unwrap();
    harness.until("the offsets show", || committed(&two, 0).is_some() && committed(&one, 2).is_some());
    assert_eq!(committed(&one, 0), Some(offset(7, "")));
    assert_eq!(committed(&one, 1), None);
    assert_eq!(committed(&one, 2), Some(offset(8, &long)));
    assert_eq!(committed(&two, 0), Some(offset(9, "owner")));
    assert_eq!(committed(&two, 2), None);
    producer.send_offsets(&one, &[(at(0), offset(3, "back"))]).unwrap();
    producer.send_offsets(&one, &[(at(0), offset(4, "the last counts"))]).unwrap();
    producer.commit().unwrap();
    harness.until("the offset shows", || committed(&one, 0) == Some(offset(4, "the last counts")));
    let too_long = offset(5, &"x".repeat(4097));
    let refused = producer.send_offsets(&one, &[(at(0), too_long)]).and_then(|()| producer.commit());
    assert!(refused.is_err(), "metadata beyond its limit is refused");
    producer.abort().unwrap();
    assert_eq!(committed(&one, 0), Some(offset(4, "the last counts")));
}

/// An empty transaction is no error.
pub fn an_empty_transaction_does_nothing(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("empty", 1);
    let at = TopicPartition::new(topic.as_str(), 0);
    let mut producer = harness.log.producer(&harness.name("empty")).unwrap();
    producer.commit().unwrap();
    producer.abort().unwrap();
    producer.commit().unwrap();
    assert_eq!(harness.log.bounds(&at), Ok((0, 0)));
}

/// From then on the former holder writes nothing, whatever it had open; other ids are not affected.
pub fn a_takeover_fences_the_former_holder(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("fenced", 1);
    let at = TopicPartition::new(topic.as_str(), 0);
    let group = group(harness.name("group"));
    let id = harness.name("id");
    let mut former = harness.log.producer(&id).unwrap();
    let mut other = harness.log.producer(&harness.name("other id")).unwrap();
    former.send(record(&topic, 0, "committed by the former")).unwrap();
    former.commit().unwrap();
    former.send(record(&topic, 0, "open at the take-over")).unwrap();
    former.send_offsets(&group, &[(at.clone(), offset(9, "former"))]).unwrap();

    let mut present = harness.log.producer(&id).unwrap();
    let fenced = |outcome: Result<(), LogError>| matches!(outcome, Err(LogError::Fenced(_)));
    assert!(fenced(former.commit()), "the open transaction does not pass");
    // A Kafka client may learn of it only at the commit.
    let late = former.send(record(&topic, 0, "a later one"));
    assert!(fenced(late.and_then(|()| former.commit())), "nor does a later one");
    let late = former.send_offsets(&group, &[(at.clone(), offset(10, "former"))]);
    assert!(fenced(late.and_then(|()| former.commit())));

    present.send(record(&topic, 0, "by the present")).unwrap();
    present.commit().unwrap();
    drop(former);
    present.send(record(&topic, 0, "still")).unwrap();
    present.commit().unwrap();
    other.send(record(&topic, 0, "by another")).unwrap();
    other.commit().unwrap();
    harness.until("all commits show", || harness.read_all(&at).len() == 4);
    let read = texts(&harness.read_all(&at));
    assert_eq!(read, ["committed by the former", "by the present", "still", "by another"]);
    assert_eq!(harness.log.committed(&group.group, &at).unwrap(), None);
}

/// Interleaved: each one's records stay its own.
pub fn producers_do_not_disturb_each_other(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("two-producers", 1);
    let at = TopicPartition::new(topic.as_str(), 0);
    let mut one = harness.log.producer(&harness.name("one")).unwrap();
    let mut two = harness.log.producer(&harness.name("two")).unwrap();
    one.send(record(&topic, 0, "one, aborted")).unwrap();
    two.send(record(&topic, 0, "two, first")).unwrap();
    one.abort().unwrap();
    one.send(record(&topic, 0, "one")).unwrap();
    two.send(record(&topic, 0, "two, second")).unwrap();
    two.commit().unwrap();
    one.commit().unwrap();
    harness.until("both commits show", || harness.read_all(&at).len() == 3);
    let mut read = texts(&harness.read_all(&at));
    let position = |text: &str| read.iter().position(|t| t == text);
    assert!(position("two, first") < position("two, second"));
    read.sort();
    assert_eq!(read, ["one", "two, first", "two, second"]);
}
