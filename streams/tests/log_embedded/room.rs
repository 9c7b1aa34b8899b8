//! With little room: errors, then room again.

use crate::*;

/// The log's own limit: an error, then room again.
#[test]
fn a_full_log_recovers_when_records_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let options =
        EmbeddedOptions { map_size_bytes: 8 << 20, disk_reserve_bytes: 1 << 20, ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let value = "y".repeat(50_000);
    let mut end = 0;
    for round in 0..5 {
        let error = loop {
            match append(&log, "a", &[&value]) {
                Ok(offsets) => {
                    assert_eq!(offsets, [(0, end)], "a refused append takes no offset");
                    end += 1;
                }
                Err(error) => break error,
            }
            assert!(end < 1_000, "it never becomes full");
        };
        assert!(matches!(error, LogError::Full(_)), "{error:?}");
        let mut producer = log.producer("id").unwrap();
        producer
            .send(ProducerRecord { topic: "a", partition: 0, key: None, value: Some(value.as_bytes()), headers: &[] })
            .unwrap();
        assert!(matches!(producer.commit(), Err(LogError::Full(_))));
        assert_eq!(producer.commit(), Ok(()), "what failed is not open any more");
        assert_eq!(log.bounds(&at).unwrap().1, end);
        let (start, _) = log.bounds(&at).unwrap();
        assert_eq!(read(&log, &at, start).0.len() as u64, end - start, "reading goes on");
        assert!(end > 100 + 40 * round, "most of the room is used: {end}");
        log.delete_records(&at, end - 20).unwrap();
        wait_for("there is room again", || match append(&log, "a", &[&value]) {
            Ok(_) => {
                end += 1;
                true
            }
            Err(error) => {
                assert!(matches!(error, LogError::Full(_)), "{error:?}");
                false
            }
        });
    }
    drop(log);
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(log.bounds(&at).unwrap().1, end);
    assert!(fs::metadata(dir.path().join("data.mdb")).unwrap().len() <= 8 << 20);
}

/// Whatever was written before, in whatever order: when all is deleted there is room again.
#[test]
fn a_full_log_never_stays_full() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    for reserve in [0, 1 << 20] {
        let options =
            EmbeddedOptions { map_size_bytes: 4 << 20, disk_reserve_bytes: reserve, ..EmbeddedOptions::default() };
        let log = EmbeddedLog::open(dir.path().join(reserve.to_string()), options).unwrap();
        log.ensure_topics(&[spec("a", 1, None)]).unwrap();
        let mut random = 7u32;
        let mut failures = 0;
        for _ in 0..700 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = "r".repeat((random >> 8) as usize % [300, 6_000, 200_000][(random >> 4) as usize % 3]);
            match append(&log, "a", &[&value]) {
                Ok(_) => continue,
                Err(LogError::Full(_)) => failures += 1,
                Err(error) => panic!("{error}"),
            }
            let (start, end) = log.bounds(&at).unwrap();
            let before = if failures % 4 == 0 { end } else { (start + end) / 2 };
            log.delete_records(&at, before).unwrap();
            if before == end {
                assert!(append(&log, "a", &[&"r".repeat(500_000)]).is_ok(), "failure {failures}: all is deleted");
            }
        }
        assert!(failures > 10, "{failures}");
        let (start, end) = log.bounds(&at).unwrap();
        assert_eq!(read(&log, &at, start).0.len() as u64, end - start);
    }
}

/// The disk's room: what is in reserve is for what frees room.
#[test]
fn the_reserve_on_the_disk_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let value = "z".repeat(100_000);
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    for _ in 0..20 {
        append(&log, "a", &[&value]).unwrap();
    }
    drop(log);
    let greedy = EmbeddedOptions { disk_reserve_bytes: u64::MAX, ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), greedy).unwrap();
    assert!(matches!(append(&log, "a", &[&value]), Err(LogError::Full(_))));
    assert!(matches!(log.ensure_topics(&[spec("b", 1, None)]), Err(LogError::Full(_))));
    assert!(matches!(log.partitions("b"), Err(LogError::UnknownTopic(_))));
    log.delete_records(&at, 18).unwrap();
    assert_eq!(append(&log, "a", &[&value]), Ok(vec![(0, 20)]), "what was freed in the file is used again");
    assert_eq!(read(&log, &at, 18).0.len(), 3);
}

/// Merging and compaction go on while appends are refused.
#[test]
fn what_makes_room_may_use_the_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("latest", 0);
    let (clock, time) = settable_clock();
    let upkeep = UpkeepOptions { every: Duration::from_secs(3_600), ..UpkeepOptions::default() };
    let options = EmbeddedOptions { clock, upkeep, ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    let latest = TopicSpec { cleanup: Cleanup::Compact, ..spec("latest", 1, None) };
    log.ensure_topics(&[latest]).unwrap();
    let value = noise(7, 10_000);
    let append = |log: &EmbeddedLog, key: &'static str| {
        let record = OwnedRecord {
            partition: 0,
            key: Some(key.into()),
            value: Some(value.clone().into()),
            headers: bytes::Bytes::new(),
        };
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |outcome| sender.send(outcome).unwrap());
        log.appender().unwrap().append("latest", AppendBatch { records: vec![record] }, done);
        receiver.recv_timeout(PATIENCE).unwrap()
    };
    for n in 0..300 {
        time.store(n * 1_000, Ordering::SeqCst);
        append(&log, ["one", "two", "three"][n as usize % 3]).unwrap();
    }
    let full = log.space().unwrap().unwrap();
    drop(log);
    let upkeep = UpkeepOptions { every: Duration::from_millis(1), ..options.upkeep.clone() };
    let greedy = EmbeddedOptions { disk_reserve_bytes: u64::MAX, upkeep, ..options };
    let log = EmbeddedLog::open(dir.path(), greedy).unwrap();
    wait_for("replaced records are gone", || read(&log, &at, 0).0.len() < 200);
    wait_for("their pages are free", || log.space().unwrap().unwrap().live_bytes < full.live_bytes / 4 * 3);
    wait_for("there is room for an append", || append(&log, "one").is_ok());
    assert_eq!(log.bounds(&at), Ok((0, 301)));
}

/// More than one slice, over a restart, and the file does not grow.
#[test]
fn freed_pages_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let mut log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let value = "v".repeat(250_000);
    for i in 0..120 {
        let end = append(&log, "a", &[&value, &value]).unwrap()[0].1 + 1;
        log.delete_records(&at, end.saturating_sub(4)).unwrap();
        if i == 60 {
            drop(log);
            log = open(dir.path());
        }
    }
    let len = fs::metadata(dir.path().join("data.mdb")).unwrap().len();
    assert!(len < 12 << 20, "60 MB went through a file of {len} bytes");
    assert_eq!(read(&log, &at, 236).0.len(), 4);
}

#[test]
fn too_many_partitions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let few = EmbeddedOptions { partitions_max: 4, ..EmbeddedOptions::default() };
    let log = EmbeddedLog::open(dir.path(), few.clone()).unwrap();
    log.ensure_topics(&[spec("a", 3, None)]).unwrap();
    match log.ensure_topics(&[spec("b", 2, None)]) {
        Err(LogError::Fatal(text)) => assert!(text.contains("partitions_max"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(log.partitions("b"), Err(LogError::UnknownTopic(_))));
    log.ensure_topics(&[spec("c", 1, None)]).unwrap();
    assert_eq!(append(&log, "c", &["x"]), Ok(vec![(0, 0)]));
    drop(log);
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions { partitions_max: 5, ..few.clone() }).unwrap();
    log.ensure_topics(&[spec("b", 1, None)]).unwrap();
    drop(log);
    match EmbeddedLog::open(dir.path(), few).map(drop) {
        Err(LogError::Fatal(text)) => assert!(text.contains("partitions_max"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// With and without a reserve, so that LMDB itself finds the disk full too. Needs a small file system of its own:
/// `mount -t tmpfs -o size=24m tmpfs DIR`, then `TALLY_SMALL_DISK=DIR cargo test ... -- --ignored`.
#[test]
#[ignore = "needs a small file system in TALLY_SMALL_DISK"]
fn a_disk_that_is_really_full() {
    let disk = std::env::var("TALLY_SMALL_DISK").expect("TALLY_SMALL_DISK names a directory");
    let at = TopicPartition::new("a", 0);
    for reserve in [0, 2 << 20] {
        let dir = tempfile::tempdir_in(&disk).unwrap();
        let options = EmbeddedOptions { disk_reserve_bytes: reserve, ..EmbeddedOptions::default() };
        let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
        log.ensure_topics(&[spec("a", 1, None)]).unwrap();
        let value = "d".repeat(300_000);
        let (mut end, mut failures) = (0, 0);
        for _ in 0..1_500 {
            match append(&log, "a", &[&value, "beside"]) {
                Ok(offsets) => {
                    assert_eq!(offsets, [(0, end + 1)]);
                    end += 2;
                }
                Err(LogError::Full(why)) => {
                    failures += 1;
                    if failures < 3 {
                        println!("reserve {reserve}, end {end}: {why}");
                    }
                    let (start, _) = log.bounds(&at).unwrap();
                    assert_eq!(read(&log, &at, start).0.len() as u64, end - start);
                    let before = if failures % 3 == 0 { end } else { end - 20 };
                    log.delete_records(&at, before).unwrap();
                    if before == end {
                        append(&log, "a", &["small"]).expect("all was deleted");
                        end += 1;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(failures > 5);
        drop(log);
        let log = EmbeddedLog::open(dir.path(), options).unwrap();
        let (start, stored) = log.bounds(&at).unwrap();
        assert_eq!(stored, end);
        assert_eq!(read(&log, &at, start).0.len() as u64, end - start);
    }
}
