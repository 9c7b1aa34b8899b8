//! Consumers: where they read, what they wait for.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Factory, owned, poll, texts};
use crate::log::{Consumer, LogError, Polled, TopicPartition};

/// In the middle of what was written together, too.
pub fn reading_begins_where_it_is_told_to(factory: Factory<'_>) {
    let harness = factory();
    let at = TopicPartition::new(harness.topic("begin", 1), 0);
    harness.fill(&at, &["a", "b", "c"]);
    harness.fill(&at, &["d", "e"]);
    let all = harness.read_all(&at);
    let (_, end) = harness.log.bounds(&at).unwrap();
    for (i, record) in all.iter().enumerate() {
        assert_eq!(harness.read_between(&at, record.offset, end), all[i..]);
    }
    let mut consumer = harness.log.consumer("").unwrap();
    assert_eq!(consumer.position(&at), None);
    consumer.assign(&at, end).unwrap();
    assert_eq!(consumer.position(&at), Some(end));
    assert!(poll(&mut *consumer).is_empty(), "at the end there is nothing");
    harness.fill(&at, &["f"]);
    let mut read = Vec::new();
    harness.until("the new one comes", || {
        read.extend(poll(&mut *consumer));
        !read.is_empty()
    });
    assert_eq!(read[0].1.text(), "f");
}

/// Forth and back; what is not assigned is not read.
pub fn assigning_again_moves_and_unassigning_stops(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("move", 2);
    let (zero, one) = (TopicPartition::new(topic.as_str(), 0), TopicPartition::new(topic.as_str(), 1));
    harness.fill(&zero, &["a", "b"]);
    harness.fill(&one, &["x"]);
    let offsets: Vec<_> = harness.read_all(&zero).iter().map(|record| record.offset).collect();
    let mut consumer = harness.log.consumer("").unwrap();
    consumer.assign(&zero, offsets[0]).unwrap();
    let mut read = |from: Option<u64>, expected: &[&str]| {
        if let Some(from) = from {
            consumer.assign(&zero, from).unwrap();
        }
        let mut came = Vec::new();
        harness.until("it is read", || {
            came.extend(poll(&mut *consumer).into_iter().map(|(_, record)| record.text()));
            came.len() >= expected.len()
        });
        assert_eq!(came, expected);
    };
    read(None, &["a", "b"]);
    read(Some(offsets[1]), &["b"]);
    read(Some(offsets[0]), &["a", "b"]);

    consumer.unassign(&one);
    consumer.assign(&one, 0).unwrap();
    consumer.assign(&zero, offsets[0]).unwrap();
    consumer.unassign(&zero);
    assert_eq!(consumer.position(&zero), None);
    let mut came = Vec::new();
    harness.until("the other one is read", || {
        came.extend(poll(&mut *consumer).into_iter().map(|(at, _)| at));
        !came.is_empty()
    });
    assert_eq!(came, [one]);
    assert!(poll(&mut *consumer).is_empty());
}

/// Below the start and beyond the end a poll reports that, and another offset heals it.
pub fn outside_the_log_is_out_of_range(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("range", 2);
    let at = TopicPartition::new(topic.as_str(), 0);
    harness.fill(&at, &["a", "b", "c"]);
    let all = harness.read_all(&at);
    let (_, end) = harness.log.bounds(&at).unwrap();
    harness.log.delete_records(&at, all[1].offset).unwrap();
    let mut consumer = harness.log.consumer("").unwrap();
    for offset in [end + 10, all[0].offset] {
        consumer.assign(&at, offset).unwrap();
        let mut told = None;
        harness.until("the poll fails", || {
            told = match consumer.poll(Duration::from_millis(20)) {
                Ok(Polled::Nothing) => None,
                Ok(_) => panic!("something came from outside the log"),
                Err(error) => Some(error),
            };
            told.is_some()
        });
        let expected = LogError::OutOfRange { partition: at.clone(), offset, start: all[1].offset, end };
        assert_eq!(told, Some(expected));
        consumer.assign(&at, all[1].offset).unwrap();
        let mut came = Vec::new();
        harness.until("it is read", || {
            came.extend(poll(&mut *consumer).into_iter().map(|(_, record)| record.text()));
            came.len() >= 2
        });
        assert_eq!(came, ["b", "c"]);
    }
}

/// Deletes up to exactly the given offset; offsets outside the bounds are clamped; other partitions are unchanged.
pub fn deleted_records_are_gone_exactly(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("delete", 2);
    let (at, other) = (TopicPartition::new(topic.as_str(), 0), TopicPartition::new(topic.as_str(), 1));
    harness.fill(&at, &["a", "b", "c", "d"]);
    harness.fill(&at, &["e", "f"]);
    harness.fill(&other, &["x"]);
    let all = harness.read_all(&at);
    let (_, end) = harness.log.bounds(&at).unwrap();
    for i in [0, 1, 3, 4, 2, 5] {
        harness.log.delete_records(&at, all[i].offset).unwrap();
        let kept = if i == 2 { 4 } else { i };
        assert_eq!(harness.log.bounds(&at), Ok((all[kept].offset, end)), "the start never falls");
        assert_eq!(harness.read_all(&at), all[kept..]);
    }
    harness.log.delete_records(&at, end + 100).unwrap();
    assert_eq!(harness.log.bounds(&at), Ok((end, end)));
    assert!(harness.read_all(&at).is_empty());
    harness.fill(&at, &["g"]);
    assert_eq!(texts(&harness.read_all(&at)), ["g"]);
    assert!(harness.read_all(&at)[0].offset >= end, "offsets are never given twice");
    assert_eq!(texts(&harness.read_all(&other)), ["x"]);
}

/// A partition with much does not keep one with little waiting.
pub fn partitions_take_turns(factory: Factory<'_>) {
    const PARTITIONS: u32 = 40;
    let harness = factory();
    let topic = harness.topic("turns", PARTITIONS);
    // Nothing that a log could compress.
    let mut state = 1u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (state >> 57) as u8 % 95)
    };
    let much: String = (0..100_000).map(letter).collect();
    for _ in 0..40 {
        harness.append(&topic, vec![owned(0, &much), owned(1, &much)]).unwrap();
    }
    harness.append(&topic, (2..PARTITIONS).map(|partition| owned(partition, "little")).collect()).unwrap();
    let mut consumer = harness.log.consumer("").unwrap();
    for partition in 0..PARTITIONS {
        consumer.assign(&TopicPartition::new(topic.as_str(), partition), 0).unwrap();
    }
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    harness.until("every partition was read from", || {
        for (at, _) in poll(&mut *consumer) {
            *seen.entry(at.partition).or_default() += 1;
        }
        seen.len() == PARTITIONS as usize
    });
    assert!(seen[&0] < 40 && seen[&1] < 40, "those with little came before all of those with much: {seen:?}");
    harness.until("everything was read", || {
        for (at, _) in poll(&mut *consumer) {
            *seen.entry(at.partition).or_default() += 1;
        }
        seen.values().sum::<usize>() == 80 + PARTITIONS as usize - 2
    });
    assert_eq!((seen[&0], seen[&1]), (40, 40));
}

/// Long before its time is over.
pub fn a_poll_wakes_when_something_is_written(factory: Factory<'_>) {
    let harness = factory();
    let at = TopicPartition::new(harness.topic("wake", 1), 0);
    let mut consumer = harness.log.consumer("").unwrap();
    consumer.assign(&at, 0).unwrap();
    let since = Instant::now();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let appender = harness.log.appender();
            thread::sleep(Duration::from_millis(50));
            let records = crate::log::AppendBatch { records: vec![owned(0, "come")] };
            appender.unwrap().append(&at.topic, records, Box::new(|outcome| assert!(outcome.is_ok())));
        });
        match consumer.poll(harness.patience * 3).unwrap() {
            Polled::Records { records, .. } => assert_eq!(records.count(), 1),
            _ => panic!("the poll ended without the record"),
        }
        writer.join().unwrap();
    });
    assert!(since.elapsed() < harness.patience, "{:?}", since.elapsed());
}

/// With and without partitions, with and without records.
pub fn a_poll_without_time_does_not_wait(factory: Factory<'_>) {
    let harness = factory();
    let at = TopicPartition::new(harness.topic("zero", 1), 0);
    let mut consumer = harness.log.consumer("").unwrap();
    // The quickest of many: on a busy machine any one of them may have to wait for its turn.
    let quickest = |consumer: &mut dyn Consumer| {
        let poll = |_| {
            let since = Instant::now();
            assert!(matches!(consumer.poll(Duration::ZERO), Ok(Polled::Nothing)));
            since.elapsed()
        };
        (0..50).map(poll).min().unwrap()
    };
    let without_partitions = quickest(&mut *consumer);
    consumer.assign(&at, 0).unwrap();
    let took = [without_partitions, quickest(&mut *consumer)];
    assert!(took.iter().all(|took| *took < Duration::from_millis(10)), "{took:?}");
    harness.fill(&at, &["a"]);
    harness.until("it comes", || matches!(consumer.poll(Duration::ZERO), Ok(Polled::Records { .. })));
    assert!(matches!(consumer.poll(Duration::ZERO), Ok(Polled::Nothing)));
}
