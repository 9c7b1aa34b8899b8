use super::*;

fn spec(name: &str, partitions: u32, cleanup: Cleanup, retention_s: Option<u64>) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions,
        cleanup,
        retention: retention_s.map(Duration::from_secs),
        retention_bytes: None,
    }
}

fn registry() -> Registry {
    let first = [spec("b", 3, Cleanup::Delete, Some(60)), spec("a", 2, Cleanup::Compact, None)];
    let registry = Registry::default().with(&first).expect("they are new");
    registry.with(&[spec("c", 1, Cleanup::CompactAndDelete, Some(1))]).expect("it is new")
}

/// What has been written once must stay readable.
#[test]
fn the_stored_form_is_as_it_always_was() {
    let golden = b"\x7d\x53\xb8\xd7\x01\x03\x01b\x03\x00\x01\xe0\xd4\x03\x01a\x02\x01\x00\x01c\x01\x02\x01\xe8\x07";
    assert_eq!(Registry::decode(golden), Ok(registry()));
    assert!(Registry::is_old(golden), "format 1");
    let golden =
        b"\xec\xa2\x58\x80\x02\x03\x01b\x03\x00\x01\xe0\xd4\x03\x00\x01a\x02\x01\x00\x00\x01c\x01\x02\x01\xe8\x07\x00";
    assert_eq!(Registry::decode(golden), Ok(registry()));
    assert!(Registry::is_old(golden), "format 2");
    let golden =
        b"\x71\x69\x6c\xae\x03\x03\x01b\x03\x00\x01\xe0\xd4\x03\x00\x01a\x02\x01\x00\x00\x01c\x01\x02\x01\xe8\x07\x00";
    assert_eq!(registry().encode().expect("it is encoded"), golden);
    assert_eq!(Registry::decode(golden), Ok(registry()));
    assert!(!Registry::is_old(golden));
}

#[test]
fn the_format_of_a_newer_release_is_refused_as_such() {
    let value = keys::seal(keys::TOPICS, &[FORMAT + 1, 0]);
    let Err(LogError::Fatal(text)) = Registry::decode(&value) else { panic!("it is refused") };
    assert!(text.contains("newer release"), "{text}");
}

#[test]
fn numbers_of_partitions_never_change() {
    let registry = registry();
    let id = |topic: &str, partition| registry.id(&TopicPartition::new(topic, partition));
    assert_eq!([id("b", 0), id("b", 2), id("a", 0), id("a", 1), id("c", 0)], [Ok(0), Ok(2), Ok(3), Ok(4), Ok(5)]);
    assert_eq!(registry.partitions(), 6);
    assert!(matches!(id("a", 2), Err(LogError::UnknownTopic(_))));
    let more = registry.with(&[spec("aa", 1, Cleanup::Delete, None)]).expect("it is new");
    assert_eq!(more.id(&TopicPartition::new("c", 0)), Ok(5));
    assert_eq!(more.id(&TopicPartition::new("aa", 0)), Ok(6));
}

#[test]
fn another_retention_is_taken_over() {
    let bounded = TopicSpec { retention_bytes: Some(99), ..spec("b", 3, Cleanup::Delete, Some(60)) };
    let bounded = registry().with(&[bounded]).expect("nothing else differs");
    let bytes = |registry: &Registry, topic| registry.topic(topic).map(|topic| topic.partition_bytes());
    assert_eq!((bytes(&bounded, "b"), bytes(&bounded, "c")), (Ok(Some(33)), Ok(None)));
    let stored = bounded.encode().and_then(|value| Registry::decode(&value));
    assert_eq!(stored, Ok(bounded));
    let longer = registry().with(&[spec("b", 3, Cleanup::Delete, None)]).expect("nothing else differs");
    assert_eq!(longer.topic("b").map(|topic| topic.retention), Ok(None));
    assert_eq!(longer.id(&TopicPartition::new("b", 1)), Ok(1));
    let compacted = registry().with(&[spec("a", 2, Cleanup::Compact, Some(9))]).expect("nothing else differs");
    assert_eq!(
        compacted.topic("a").map(|topic| topic.retention_ms()),
        Ok(None),
        "compaction alone removes nothing by age"
    );
}

#[test]
fn a_flipped_bit_is_noticed() {
    let value = registry().encode().expect("it is encoded");
    for bit in 0..value.len() * 8 {
        let mut damaged = value.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(Registry::decode(&damaged), Err(LogError::Corrupt { .. })), "bit {bit}");
    }
}
