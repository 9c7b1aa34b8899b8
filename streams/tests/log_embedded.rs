//! What the embedded log does beyond the contract: it survives, it refuses what is damaged, it lives with little room.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::{
    AppendBatch, AppendedOffsets, Cleanup, Clock, CommittedOffset, GroupMetadata, Log, LogError, OwnedRecord, Polled,
    ProducerRecord, TopicPartition, TopicSpec,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, EmbeddedOptions::default()).unwrap()
}

fn spec(name: &str, partitions: u32, retention_s: Option<u64>) -> TopicSpec {
    TopicSpec { name: name.into(), partitions, cleanup: Cleanup::Delete, retention: retention_s.map(Duration::from_secs) }
}

fn batch(values: impl IntoIterator<Item = String>) -> AppendBatch {
    let records = values.into_iter().map(|value| OwnedRecord {
        partition: 0,
        key: None,
        value: Some(value.into()),
        headers: bytes::Bytes::new(),
    });
    AppendBatch { records: records.collect() }
}

fn append(log: &dyn Log, topic: &str, values: &[&str]) -> Result<AppendedOffsets, LogError> {
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |outcome| sender.send(outcome).unwrap());
    log.appender().unwrap().append(topic, batch(values.iter().map(|v| (*v).to_owned())), done);
    receiver.recv_timeout(PATIENCE).unwrap()
}

/// All values from `from` on, or the error that ended it.
fn read(log: &dyn Log, at: &TopicPartition, from: u64) -> (Vec<String>, Option<LogError>) {
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(at, from).unwrap();
    let mut values = Vec::new();
    loop {
        match consumer.poll(Duration::ZERO) {
            Ok(Polled::Records { records, .. }) => {
                for record in records {
                    match record {
                        Ok(record) => values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap()),
                        Err(error) => return (values, Some(error)),
                    }
                }
            }
            Ok(_) => return (values, None),
            Err(error) => return (values, Some(error)),
        }
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn settable_clock() -> (Clock, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(0));
    let clock = time.clone();
    (Arc::new(move || clock.load(Ordering::SeqCst)), time)
}

/// Records, offsets with metadata, topics, starts, and that offsets and times go on.
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
            // Without any record left, offsets go on nevertheless.
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
        let Polled::Records { records, .. } = consumer.poll(Duration::ZERO).unwrap() else { panic!("records expected") };
        assert!(records.map(|record| record.unwrap().append_time_ms).all(|time| time == 10_000), "times do not run back");
    }
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
fn a_file_that_was_cut_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    for _ in 0..40 {
        append(&log, "a", &[&"x".repeat(100_000)]).unwrap();
    }
    drop(log);
    let file = fs::OpenOptions::new().write(true).open(dir.path().join("data.mdb")).unwrap();
    for len in [3_900_000, 1_000_000, 8_192, 5_000] {
        file.set_len(len).unwrap();
        match EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).map(drop) {
            Err(LogError::Corrupt { address, detail }) => {
                assert!(address.ends_with("data.mdb") && detail.contains(&len.to_string()), "{address}: {detail}");
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}

#[test]
fn a_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    for value in ["before", "the damaged one", "after"] {
        append(&log, "a", &[value, "beside"]).unwrap();
    }
    drop(log);
    flip(dir.path(), b"the damaged one");
    let log = open(dir.path());
    let (values, error) = read(&log, &at, 0);
    assert_eq!(values, ["before", "beside"], "what is before the damage is read");
    match error {
        Some(LogError::Corrupt { address, .. }) => assert_eq!(address, "a/0 offset 2"),
        other => panic!("{other:?}"),
    }
    assert_eq!(read(&log, &at, 4), (vec!["after".into(), "beside".into()], None), "and what is after it");
    drop(log);
    // From the last batch the next offset follows.
    flip(dir.path(), b"after");
    match EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).map(drop) {
        Err(LogError::Corrupt { address, .. }) => assert_eq!(address, "a/0 offset 4"),
        other => panic!("{other:?}"),
    }
}

/// Flips a bit in the text wherever it is in the file: pages that LMDB has given up may hold copies.
fn flip(dir: &Path, text: &[u8]) {
    let path = dir.join("data.mdb");
    let mut bytes = fs::read(&path).unwrap();
    let found: Vec<_> = bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text).map(|(i, _)| i).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at + 2] ^= 0x10;
    }
    fs::write(&path, bytes).unwrap();
}

/// The log's own limit: an error, then room again.
#[test]
fn a_full_log_recovers_when_records_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let at = TopicPartition::new("a", 0);
    let options = EmbeddedOptions { map_size_bytes: 8 << 20, disk_reserve_bytes: 1 << 20, ..EmbeddedOptions::default() };
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
        producer.send(ProducerRecord { topic: "a", partition: 0, key: None, value: Some(value.as_bytes()), headers: &[] }).unwrap();
        assert!(matches!(producer.commit(), Err(LogError::Full(_))));
        assert_eq!(producer.commit(), Ok(()), "what failed is not open any more");
        assert_eq!(log.bounds(&at).unwrap().1, end);
        let (start, _) = log.bounds(&at).unwrap();
        assert_eq!(read(&log, &at, start).0.len() as u64, end - start, "reading goes on");
        assert!(end > 100 + 40 * round, "most of the room is used: {end}");
        log.delete_records(&at, end - 20).unwrap();
        until("there is room again", || match append(&log, "a", &[&value]) {
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
        let options = EmbeddedOptions { map_size_bytes: 4 << 20, disk_reserve_bytes: reserve, ..EmbeddedOptions::default() };
        let log = EmbeddedLog::open(dir.path().join(reserve.to_string()), options).unwrap();
        log.ensure_topics(&[spec("a", 1, None)]).unwrap();
        let mut random = 7u32;
        let mut failures = 0;
        for _ in 0..1_500 {
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
        assert!(failures > 20, "{failures}");
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

#[test]
fn a_full_queue_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions { queue_bytes_max: 1_000, ..EmbeddedOptions::default() }).unwrap();
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let appender = log.appender().unwrap();
    let (go, blocked) = mpsc::channel::<()>();
    let (entered, entry) = mpsc::channel();
    // A completion that blocks holds the committer up, which nobody should do but a test.
    let block = move |_| {
        entered.send(()).unwrap();
        blocked.recv().unwrap();
    };
    appender.append("a", batch(["first".into()]), Box::new(block));
    entry.recv_timeout(PATIENCE).unwrap();

    let (sender, receiver) = mpsc::channel();
    let outcome = |value: String| {
        let sender = sender.clone();
        appender.append("a", batch([value]), Box::new(move |outcome| sender.send(outcome).unwrap()));
        receiver.recv_timeout(Duration::from_millis(1)).ok()
    };
    assert_eq!(outcome("x".repeat(600)), None, "it waits");
    assert_eq!(outcome("x".repeat(600)), Some(Err(LogError::Busy)));
    assert_eq!(outcome("x".repeat(300)), None, "a smaller one has room");
    go.send(()).unwrap();
    let waited: Vec<_> = (0..2).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(waited, [Ok(vec![(0, 1)]), Ok(vec![(0, 2)])], "what was refused took no offset");
    // One larger than the queue passes when nothing else waits.
    assert_eq!(append(&log, "a", &[&"x".repeat(5_000)]), Ok(vec![(0, 3)]));
    assert_eq!(append(&log, "a", &["y"]), Ok(vec![(0, 4)]), "the queue is empty again");
    assert!(matches!(append(&log, "unknown", &[&"x".repeat(900)]), Err(LogError::UnknownTopic(_))));
    assert_eq!(append(&log, "a", &[&"x".repeat(900)]), Ok(vec![(0, 5)]), "what was refused holds nothing of it");
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
    until("the first batch is gone", || log.bounds(&at("short")) == Ok((2, 6)));
    until("in the other topic too", || log.bounds(&at("both")) == Ok((2, 6)));
    assert_eq!(read(&log, &at("short"), 2).0, ["5 a", "5 b", "8 a", "8 b"]);
    assert!(matches!(read(&log, &at("short"), 0).1, Some(LogError::OutOfRange { start: 2, end: 6, .. })));
    time.store(15_001, Ordering::SeqCst);
    until("the second is gone", || log.bounds(&at("short")) == Ok((4, 6)));
    drop(log);
    time.store(100_000, Ordering::SeqCst);
    let log = EmbeddedLog::open(dir.path(), options.clone()).unwrap();
    until("everything is gone", || log.bounds(&at("short")) == Ok((6, 6)));
    assert_eq!(log.bounds(&at("kept")), Ok((0, 6)));
    assert_eq!(log.bounds(&at("compacted")), Ok((0, 6)));
    // A new retention holds at once.
    log.ensure_topics(&[spec("kept", 1, Some(10))]).unwrap();
    until("the topic without retention forgets too", || log.bounds(&at("kept")) == Ok((6, 6)));
    drop(log);
    time.store(0, Ordering::SeqCst);
    let log = EmbeddedLog::open(dir.path(), options).unwrap();
    assert_eq!(log.bounds(&at("short")), Ok((6, 6)));
    assert_eq!(append(&log, "short", &["new"]), Ok(vec![(0, 6)]));
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(&at("short"), 6).unwrap();
    let Polled::Records { mut records, .. } = consumer.poll(Duration::ZERO).unwrap() else { panic!("a record expected") };
    assert_eq!(records.next().unwrap().unwrap().append_time_ms, 8_000, "times go on where they were");
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
fn what_waits_is_written_before_the_log_closes() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let appender = log.appender().unwrap();
    let mut producer = log.producer("id").unwrap();
    let (sender, receiver) = mpsc::channel();
    for i in 0..500 {
        let sender = sender.clone();
        appender.append("a", batch([i.to_string()]), Box::new(move |outcome| sender.send(outcome.is_ok()).unwrap()));
    }
    drop((log, sender));
    assert_eq!(receiver.iter().filter(|ok| *ok).count(), 500);
    producer.send(ProducerRecord { topic: "a", partition: 0, key: None, value: None, headers: &[] }).unwrap();
    assert!(matches!(producer.commit(), Err(LogError::Fatal(_))), "closed");
    let (sender, receiver) = mpsc::channel();
    appender.append("a", batch(["late".into()]), Box::new(move |outcome| sender.send(outcome).unwrap()));
    assert!(matches!(receiver.recv_timeout(PATIENCE).unwrap(), Err(LogError::Fatal(_))));
    drop((appender, producer));
    assert_eq!(read(&open(dir.path()), &TopicPartition::new("a", 0), 0).0, (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
}

/// Neither panicking nor holding the last handle.
#[test]
fn completions_cannot_harm_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path()));
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let appender = log.appender().unwrap();
    appender.append("a", batch(["a".into()]), Box::new(|_| panic!("a completion that panics, on purpose")));
    assert_eq!(append(&*log, "a", &["b"]), Ok(vec![(0, 1)]));
    let (sender, receiver) = mpsc::channel();
    let last = log.clone();
    let alone = move |outcome: Result<_, _>| {
        until("this is the last handle", || Arc::strong_count(&last) == 1);
        drop(last);
        sender.send(outcome).unwrap();
    };
    appender.append("a", batch(["c".into()]), Box::new(alone));
    drop((log, appender));
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Ok(vec![(0, 2)]));
    until("the directory is free", || EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).is_ok());
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

/// While one thread writes transactions and deletes, others see neither gaps nor halves.
#[test]
fn readers_see_a_consistent_log_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.ensure_topics(&[spec("a", 2, None)]).unwrap();
    let places = [TopicPartition::new("a", 0), TopicPartition::new("a", 1)];
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut producer = log.producer("id").unwrap();
            let group = GroupMetadata { group: "group".into(), ..GroupMetadata::default() };
            let mut next = 0u64;
            for round in 0..400u64 {
                for _ in 0..1 + round % 5 {
                    for place in &places {
                        let value = next.to_string();
                        let value = Some(value.as_bytes());
                        producer.send(ProducerRecord { topic: "a", partition: place.partition, key: None, value, headers: &[] }).unwrap();
                    }
                    next += 1;
                }
                let committed = CommittedOffset { offset: next, metadata: String::new() };
                producer.send_offsets(&group, &[(places[0].clone(), committed)]).unwrap();
                producer.commit().unwrap();
                if round % 3 == 0 {
                    log.delete_records(&places[0], next.saturating_sub(7)).unwrap();
                }
            }
            over.store(true, Ordering::SeqCst);
        });
        let watcher = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let first = log.bounds(&places[0]).unwrap().1;
                let second = log.bounds(&places[1]).unwrap().1;
                assert!(first <= second, "half a transaction: {first} {second}");
                let committed = log.committed("group", &places[0]).unwrap().map_or(0, |c| c.offset);
                assert!(second <= committed);
                assert!(committed <= log.bounds(&places[0]).unwrap().1, "offsets before their records");
            }
        });
        let reader = scope.spawn(|| {
            let mut consumer = log.consumer("").unwrap();
            consumer.assign(&places[0], 0).unwrap();
            let mut expected = 0;
            loop {
                let done = over.load(Ordering::SeqCst);
                let removed_below = match consumer.poll(Duration::from_millis(1)) {
                    Ok(Polled::Records { records, .. }) => {
                        for record in records {
                            let record = record.unwrap();
                            assert_eq!(record.offset, expected, "a gap");
                            assert_eq!(record.value, Some(expected.to_string().as_bytes()));
                            expected += 1;
                        }
                        continue;
                    }
                    Ok(_) if done => return expected,
                    Ok(_) => continue,
                    Err(LogError::OutOfRange { start, .. }) => start,
                    Err(error) => panic!("{error}"),
                };
                assert!(removed_below > expected);
                consumer.assign(&places[0], removed_below).unwrap();
                expected = removed_below;
            }
        });
        writer.join().unwrap();
        watcher.join().unwrap();
        assert_eq!(Ok(reader.join().unwrap()), log.bounds(&places[0]).map(|(_, end)| end));
    });
}
