//! What waits is bounded, and written in any case.

use crate::*;

#[test]
fn a_full_queue_says_so_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions { queue_bytes_max: 10_000, ..EmbeddedOptions::default() })
        .unwrap();
    log.ensure_topics(&[spec("a", 1, None)]).unwrap();
    let appender = log.appender().unwrap();
    let (go, blocked) = mpsc::channel::<()>();
    let (entered, entry) = mpsc::channel();
    // A completion that blocks also blocks the committer; only a test may do that.
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
    assert_eq!(outcome("x".repeat(6_000)), None, "it waits");
    assert_eq!(outcome("x".repeat(6_000)), Some(Err(LogError::Busy)));
    assert_eq!(outcome("x".repeat(3_000)), None, "a smaller one has room");
    go.send(()).unwrap();
    let waited: Vec<_> = (0..2).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(waited, [Ok(vec![(0, 1)]), Ok(vec![(0, 2)])], "what was refused took no offset");
    // One larger than the queue passes when nothing else waits.
    assert_eq!(append(&log, "a", &[&"x".repeat(50_000)]), Ok(vec![(0, 3)]));
    assert_eq!(append(&log, "a", &["y"]), Ok(vec![(0, 4)]), "the queue is empty again");
    assert!(matches!(append(&log, "unknown", &[&"x".repeat(9_000)]), Err(LogError::UnknownTopic(_))));
    assert_eq!(append(&log, "a", &[&"x".repeat(9_000)]), Ok(vec![(0, 5)]), "what was refused holds nothing of it");
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
    assert_eq!(
        read(&open(dir.path()), &TopicPartition::new("a", 0), 0).0,
        (0..500).map(|i| i.to_string()).collect::<Vec<_>>()
    );
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
        wait_for("this is the last handle", || Arc::strong_count(&last) == 1);
        drop(last);
        sender.send(outcome).unwrap();
    };
    appender.append("a", batch(["c".into()]), Box::new(alone));
    drop((log, appender));
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Ok(vec![(0, 2)]));
    wait_for("the directory is free", || EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).is_ok());
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
                        producer
                            .send(ProducerRecord {
                                topic: "a",
                                partition: place.partition,
                                key: None,
                                value,
                                headers: &[],
                            })
                            .unwrap();
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
