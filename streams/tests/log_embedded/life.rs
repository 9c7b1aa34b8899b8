//! Over restarts and over time.

use crate::*;

/// Records, offsets with metadata, topics, starts, and the continuation of offsets and times.
#[test]
fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (at, other) = (TopicPartition::new("a", 0), TopicPartition::new("b", 2));
    let committed = CommittedOffset { offset: 2, metadata: "owner".into() };
    let (clock, time) = settable_clock();
    let options = EmbeddedOptions { clock, ..EmbeddedOptions::default() };
    for round in 0..3u64 {
        // The clock runs backwards over restarts.
        time.store(10_000 - 1_000 * round as i64, Ordering::SeqCst);
        let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
        if round == 0 {
            log.ensure_topics(&[spec("a", 1, None)]).unwrap();
            log.ensure_topics(&[spec("b", 3, Some(3600))]).unwrap();
            assert_eq!(append(&log, "a", &["0", "1", "2", "3"]), Ok(vec![(0, 3)]));
            log.delete_records(&at, 1).unwrap();
            let mut producer = log.producer("id").unwrap();
            let group = GroupMetadata { group: "group".into(), ..GroupMetadata::default() };
            producer.send_offsets(&group, &[(other.clone(), committed.clone())]).unwrap();
            producer.commit().unwrap();
            // Offsets continue even if no record is left.
            append(&log, "b", &["gone"]).unwrap();
            log.delete_records(&TopicPartition::new("b", 0), 1).unwrap();
        }
        log.ensure_topics(&[spec("a", 1, None), spec("b", 3, Some(3600))]).unwrap();
        assert!(matches!(log.ensure_topics(&[spec("b", 4, None)]), Err(LogError::Mismatch { .. })));
        let end = 4 + round;
        assert_eq!(log.bounds(&at), Ok((1, end)));
        assert_eq!(read(&log, &at, 1), ((1..end).map(|i| i.to_string()).collect(), None));
        assert_eq!(log.committed("group", &other), Ok(Some(committed.clone())));
        assert_eq!(log.committed("group", &at), Ok(None));
        assert_eq!(log.bounds(&TopicPartition::new("b", 0)), Ok((1 + round, 1 + round)));
        assert_eq!(append(&log, "a", &[&end.to_string()]), Ok(vec![(0, end)]));
        assert_eq!(append(&log, "b", &["gone"]), Ok(vec![(0, 1 + round)]));
        log.delete_records(&TopicPartition::new("b", 0), 2 + round).unwrap();

        let mut consumer = log.consumer("").unwrap();
        consumer.assign(&at, 1).unwrap();
        let Polled::Records { records, .. } = consumer.poll(Duration::ZERO).unwrap() else {
            panic!("records expected")
        };
        assert!(
            records.map(|record| record.unwrap().append_time_ms).all(|time| time == 10_000),
            "times do not run back"
        );
    }
}

/// Tasks go by the times of all partitions: one that was never written to is not behind the others.
#[test]
fn no_partition_is_behind_another_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, time) = settable_clock();
    let options = EmbeddedOptions { clock, ..EmbeddedOptions::default() };
    let newest = |log: &EmbeddedLog, topic: &str| {
        let mut consumer = log.consumer("").unwrap();
        consumer.assign(&TopicPartition::new(topic, 0), 0).unwrap();
        let Polled::Records { records, .. } = consumer.poll(Duration::ZERO).unwrap() else { panic!("no records") };
        records.map(|record| record.unwrap().append_time_ms).last()
    };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    log.ensure_topics(&[spec("a", 1, None), spec("b", 1, None), spec("c", 1, None)]).unwrap();
    time.store(10_000, Ordering::SeqCst);
    append(&log, "a", &["0"]).unwrap();
    time.store(4_000, Ordering::SeqCst);
    append(&log, "b", &["0"]).unwrap();
    assert_eq!(newest(&log, "b"), Some(10_000));
    drop(log);
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    append(&log, "c", &["0"]).unwrap();
    assert_eq!(newest(&log, "c"), Some(10_000));
    time.store(10_001, Ordering::SeqCst);
    append(&log, "b", &["1"]).unwrap();
    assert_eq!(newest(&log, "b"), Some(10_001));
}

#[test]
fn a_directory_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let refused = |what: &str| match EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).map(drop) {
        Err(LogError::Fatal(text)) => {
            assert!(text.contains(&format!("in use by process {}", std::process::id())), "{what}: {text}");
        }
        other => panic!("{what}: {other:?}"),
    };
    refused("while the log is open");
    let consumer = log.consumer("").unwrap();
    drop(log);
    refused("while a consumer may still read");
    drop(consumer);
    drop(open(dir.path()));
}

#[test]
fn old_batches_go() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, time) = settable_clock();
    let options = EmbeddedOptions { clock, ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    let compacted = TopicSpec { cleanup: Cleanup::Compact, ..spec("compacted", 1, Some(10)) };
    let both = TopicSpec { cleanup: Cleanup::CompactAndDelete, ..spec("both", 1, Some(10)) };
    log.ensure_topics(&[spec("kept", 1, None), spec("short", 1, Some(10)), compacted, both]).unwrap();
    let at = |topic: &str| TopicPartition::new(topic, 0);
    for seconds in [0, 5, 8] {
        time.store(seconds * 1_000, Ordering::SeqCst);
        for topic in ["kept", "short", "compacted", "both"] {
            append(&log, topic, &[&format!("{seconds} a"), &format!("{seconds} b")]).unwrap();
        }
    }
    // Exactly as old as is kept is not too old.
    time.store(15_000, Ordering::SeqCst);
    wait_for("the first batch is gone", || log.bounds(&at("short")) == Ok((2, 6)));
    wait_for("in the other topic too", || log.bounds(&at("both")) == Ok((2, 6)));
    assert_eq!(read(&log, &at("short"), 2).0, ["5 a", "5 b", "8 a", "8 b"]);
    assert!(matches!(read(&log, &at("short"), 0).1, Some(LogError::OutOfRange { start: 2, end: 6, .. })));
    time.store(15_001, Ordering::SeqCst);
    wait_for("the second is gone", || log.bounds(&at("short")) == Ok((4, 6)));
    drop(log);
    time.store(100_000, Ordering::SeqCst);
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    wait_for("everything is gone", || log.bounds(&at("short")) == Ok((6, 6)));
    assert_eq!(log.bounds(&at("kept")), Ok((0, 6)));
    assert_eq!(log.bounds(&at("compacted")), Ok((0, 6)));
    // A new retention holds at once.
    log.ensure_topics(&[spec("kept", 1, Some(10))]).unwrap();
    wait_for("the topic without retention forgets too", || log.bounds(&at("kept")) == Ok((6, 6)));
    drop(log);
    time.store(0, Ordering::SeqCst);
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(log.bounds(&at("short")), Ok((6, 6)));
    assert_eq!(append(&log, "short", &["new"]), Ok(vec![(0, 6)]));
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(&at("short"), 6).unwrap();
    let Polled::Records { mut records, .. } = consumer.poll(Duration::ZERO).unwrap() else {
        panic!("a record expected")
    };
    assert_eq!(records.next().unwrap().unwrap().append_time_ms, 8_000, "times go on where they were");
}

/// By bytes: the oldest batches go, never the last one.
#[test]
fn a_topic_takes_no_more_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("bounded", 0);
    let upkeep = UpkeepOptions { every: Duration::from_millis(1), ..UpkeepOptions::default() };
    let options = EmbeddedOptions { upkeep, ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    let bounded = |bytes| TopicSpec { retention_bytes: Some(bytes), ..spec("bounded", 1, None) };
    log.ensure_topics(&[spec("kept", 1, None), bounded(1 << 20)]).unwrap();
    let value = "z".repeat(100_000);
    for _ in 0..50 {
        append(&log, "bounded", &[&value]).unwrap();
        append(&log, "kept", &["small"]).unwrap();
    }
    // Ten values of 25 pages are just below the limit; where much goes at once, it may be one more.
    wait_for("the oldest are gone", || log.bounds(&at).unwrap().0 >= 40);
    let (start, end) = log.bounds(&at).unwrap();
    assert!(start < 43 && end == 50, "{start} {end}");
    assert_eq!(read(&log, &at, start).0.len() as u64, end - start);
    assert!(matches!(read(&log, &at, 0).1, Some(LogError::OutOfRange { end: 50, .. })));
    assert_eq!(log.bounds(&TopicPartition::new("kept", 0)), Ok((0, 50)));
    // The last batch stays, however little is allowed; and the bound is remembered.
    log.ensure_topics(&[bounded(1)]).unwrap();
    drop(log);
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    log.ensure_topics(&[bounded(1)]).unwrap();
    wait_for("all but the last are gone", || log.bounds(&at).unwrap().0 == 49);
    assert_eq!(append(&log, "bounded", &["next"]), Ok(vec![(0, 50)]));
}
