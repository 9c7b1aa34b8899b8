//! Records: what is written is read, in order.

use std::thread;

use super::harness::{Factory, headers, owned, record, texts};
use crate::log::{OwnedRecord, ProducerRecord, TopicPartition};

/// Keys, values and headers come back, and none differs from empty.
pub fn records_come_back_as_they_were(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("whole", 1);
    let at = TopicPartition::new(topic.as_str(), 0);
    let forms: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"\x00\xff bytes")];
    let written: [&[(&str, &[u8])]; 3] = [&[], &[("b", b"1"), ("b", b""), ("traceparent", b"00-\xff")], &[("", b"x")]];
    let mut producer = harness.log.producer(&harness.name("whole")).unwrap();
    for key in forms {
        for value in forms {
            for headers in written {
                producer.send(ProducerRecord { topic: &topic, partition: 0, key, value, headers }).unwrap();
            }
        }
    }
    producer.commit().unwrap();
    let mut appended = Vec::new();
    for key in forms {
        for value in forms {
            for list in written {
                let (key, value) = (key.map(bytes::Bytes::from_static), value.map(bytes::Bytes::from_static));
                appended.push(OwnedRecord { partition: 0, key, value, headers: headers(list) });
            }
        }
    }
    harness.append(&topic, appended).unwrap();

    let read = harness.read_all(&at);
    assert_eq!(read.len(), 54);
    let mut records = read.iter();
    for _ in ["in a transaction", "appended"] {
        for key in forms {
            for value in forms {
                for headers in written {
                    let record = records.next().unwrap();
                    assert_eq!((record.key.as_deref(), record.value.as_deref()), (key, value));
                    let came: Vec<_> = record.headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
                    assert_eq!(came, headers);
                }
            }
        }
    }
}

/// Offsets ascend in the order of writing, over appends and transactions, each in the partition that the caller names.
pub fn records_come_in_the_order_of_writing(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("order", 3);
    let mut producer = harness.log.producer(&harness.name("order")).unwrap();
    let mut written = vec![Vec::new(); 3];
    for i in 0..60u32 {
        let (partition, value) = (i * i % 3, i.to_string());
        if i % 4 == 0 {
            harness.append(&topic, vec![owned(partition, &value)]).unwrap();
        } else {
            producer.send(record(&topic, partition, &value)).unwrap();
            producer.commit().unwrap();
        }
        written[partition as usize].push(value);
    }
    for (partition, values) in (0..).zip(written) {
        let read = harness.read_all(&TopicPartition::new(topic.as_str(), partition));
        assert_eq!(texts(&read), values, "partition {partition}");
        assert!(read.is_sorted_by(|a, b| a.offset < b.offset));
    }
}

/// However the clock jumps.
pub fn append_times_never_run_back(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("times", 2);
    let at = TopicPartition::new(topic.as_str(), 0);
    let set = |ms: i64| harness.set_clock.iter().for_each(|set| set(ms));
    let mut producer = harness.log.producer(&harness.name("times")).unwrap();
    for ms in [5_000, 7_000, 6_000, 1_000, 7_001] {
        set(ms);
        harness.fill(&at, &["appended"]);
        producer.send(record(&topic, 0, "in a transaction")).unwrap();
        producer.commit().unwrap();
    }
    set(100);
    harness.fill(&TopicPartition::new(topic.as_str(), 1), &["in another partition"]);
    let times: Vec<_> = harness.read_all(&at).iter().map(|record| record.append_time_ms).collect();
    assert_eq!(times.len(), 10);
    assert!(times.is_sorted(), "{times:?}");
    if harness.set_clock.is_some() {
        assert_eq!(times, [5_000, 5_000, 7_000, 7_000, 7_000, 7_000, 7_000, 7_000, 7_001, 7_001]);
        // Engines whose clock can be set have one for the whole log.
        assert_eq!(harness.read_all(&TopicPartition::new(topic.as_str(), 1))[0].append_time_ms, 7_001);
    }
}

/// Up to 1 MiB, between small ones.
pub fn large_records_pass(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("large", 1);
    // A broker's limit includes its own few bytes.
    let large = "x".repeat((1 << 20) - 1024);
    let mut producer = harness.log.producer(&harness.name("large")).unwrap();
    for value in ["before", &large, "after"] {
        producer.send(record(&topic, 0, value)).unwrap();
    }
    producer.commit().unwrap();
    harness.append(&topic, vec![owned(0, "before"), owned(0, &large), owned(0, "after")]).unwrap();
    let read = texts(&harness.read_all(&TopicPartition::new(topic.as_str(), 0)));
    let expected = ["before", &large, "after", "before", &large, "after"];
    assert!(read == expected, "lengths: {:?}", read.iter().map(String::len).collect::<Vec<_>>());
}

/// More than any engine keeps in one piece.
pub fn much_in_one_append_stays_in_order(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("much", 2);
    let value = |i: u32| format!("{i} {}", "y".repeat((i * 37 % 4_000) as usize));
    let mut producer = harness.log.producer(&harness.name("much")).unwrap();
    for i in 0..600 {
        producer.send(record(&topic, 0, &value(i))).unwrap();
    }
    producer.commit().unwrap();
    let last = harness.append(&topic, (0..600).map(|i| owned(1, &value(i))).collect()).unwrap();
    for partition in [0, 1] {
        let read = harness.read_all(&TopicPartition::new(topic.as_str(), partition));
        assert!(texts(&read) == (0..600).map(value).collect::<Vec<_>>(), "partition {partition}");
        if partition == 1 {
            assert_eq!(last, [(1, read[599].offset)]);
        }
    }
}

/// The last offset of each partition that was written to, ascending by partition.
pub fn appends_tell_the_last_offsets(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("last", 5);
    for round in 0..3 {
        let records = [3, 0, 3, 4, 0, 3].iter().enumerate();
        let records = records.map(|(i, partition)| owned(*partition, &format!("{round} {i}"))).collect();
        let last = harness.append(&topic, records).unwrap();
        let expected: Vec<_> = [(0, 4), (3, 5), (4, 3)]
            .into_iter()
            .map(|(partition, i)| {
                let read = harness.read_all(&TopicPartition::new(topic.as_str(), partition));
                let record = read.iter().find(|record| record.text() == format!("{round} {i}"));
                (partition, record.expect("the record is there once the append is done").offset)
            })
            .collect();
        assert_eq!(last, expected);
    }
    assert_eq!(harness.append(&topic, vec![]), Ok(vec![]));
}

/// Nothing is lost, nothing doubled, and each thread's records keep their order.
pub fn appends_of_many_threads_all_arrive(factory: Factory<'_>) {
    let harness = factory();
    let topic = harness.topic("threads", 2);
    let log = &harness.log;
    thread::scope(|scope| {
        for thread in 0..4u32 {
            let topic = &topic;
            scope.spawn(move || {
                let appender = log.appender().unwrap();
                let (sender, receiver) = std::sync::mpsc::channel();
                for i in 0..100 {
                    let sender = sender.clone();
                    let records = vec![owned(0, &format!("{thread} {i:03}")), owned(1, &format!("{thread} {i:03}"))];
                    let done = Box::new(move |outcome: Result<_, _>| sender.send(outcome.is_ok()).unwrap());
                    appender.append(topic, crate::log::AppendBatch { records }, done);
                }
                drop(sender);
                assert_eq!(receiver.iter().filter(|ok| *ok).count(), 100);
            });
        }
    });
    for partition in [0, 1] {
        let read = texts(&harness.read_all(&TopicPartition::new(topic.as_str(), partition)));
        for thread in 0..4 {
            let of_thread: Vec<_> = read.iter().filter(|text| text.starts_with(&format!("{thread} "))).collect();
            assert_eq!(of_thread.len(), 100);
            assert!(of_thread.is_sorted());
        }
        assert_eq!(read.len(), 400);
    }
}
