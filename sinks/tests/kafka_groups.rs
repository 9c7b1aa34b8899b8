//! Sinks that share a database, over a real broker: they divide the partitions, take over from each other, and read
//! every record once.

mod fixture;

use fixture::*;
use prometheus::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use tally_model::OutputType;
use tally_sinks::*;
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_streams::log::{Cleanup, Log, ProducerRecord, TopicSpec, partition_of};
use tally_testkit::service;

const TOPIC_PARTITIONS: u32 = 4;
const SUBJECTS: i64 = 50;

/// Commits a total of each subject; returns what is expected after it.
fn commit(log: &dyn Log, topic: &str, version: i64, expected: &mut BTreeMap<String, i64>) {
    let mut producer = log.producer(&format!("{topic}-writer")).unwrap();
    for subject in 0..SUBJECTS {
        let id = format!("article:{subject}");
        let value = serde_json::to_vec(&counters(&id, &[("likes", version)], &["likes"], version)).unwrap();
        let partition = partition_of(id.as_bytes(), TOPIC_PARTITIONS);
        let record = ProducerRecord { topic, partition, key: Some(id.as_bytes()), value: Some(&value), headers: &[] };
        producer.send(record).unwrap();
        expected.insert(id, version);
    }
    producer.commit().unwrap();
}

#[test]
fn sinks_take_over_from_each_other() {
    let Some(broker) = service("TALLY_TEST_KAFKA") else { return };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::open(KafkaOptions::new(broker)).unwrap());
    let unique = format!("sinks-{}-{}", std::process::id(), std::time::UNIX_EPOCH.elapsed().unwrap().as_micros());
    let cleanup = Cleanup::Compact;
    let spec = TopicSpec {
        name: unique.clone(),
        partitions: TOPIC_PARTITIONS,
        cleanup,
        retention: None,
        retention_bytes: None,
    };
    log.ensure_topics(&[spec]).unwrap();
    let place = DatabasePlace::new();
    place.open();
    // A process each, with metrics of its own.
    let start = |member: &str| {
        let registry = Registry::new();
        let config = SinkConfig {
            group: unique.clone(),
            member: format!("{unique}-{member}"),
            topics: vec![(unique.clone(), OutputType::Counters)],
            ..config()
        };
        let metrics = SinkMetrics::register(&registry).unwrap();
        let thread =
            SinkThread::spawn(SinkTask::new(config, log.clone(), place.target(), &metrics), HeadStart::none()).unwrap();
        (thread, registry)
    };
    let metric = |registry: &Registry, name: &str| -> f64 {
        let families = registry.gather();
        let of = |m: &prometheus::proto::Metric| m.get_counter().get_value() + m.get_gauge().get_value();
        families.iter().filter(|f| f.name() == name).flat_map(|f| f.get_metric().iter().map(of)).sum()
    };
    let stored = || {
        let rows = place.rows("SELECT subject_id, value FROM counters");
        let split = |row: &String| row.split_once('|').map(|(id, value)| (id.to_owned(), value.parse().unwrap()));
        rows.iter().filter_map(split).collect::<BTreeMap<String, i64>>()
    };
    let mut expected = BTreeMap::new();

    let (first, of_first) = start("a");
    commit(&*log, &unique, 1, &mut expected);
    wait_for("one sink reads everything", || stored() == expected);
    let (second, of_second) = start("b");
    let shares = || [&of_first, &of_second].map(|registry| metric(registry, "tally_sink_partitions"));
    wait_for("two divide it", || shares() == [2.0, 2.0]);
    commit(&*log, &unique, 2, &mut expected);
    wait_for("both write", || stored() == expected);
    first.stop();
    first.join().unwrap();
    wait_for("the second takes over", || metric(&of_second, "tally_sink_partitions") == 4.0);
    commit(&*log, &unique, 3, &mut expected);
    wait_for("one sink reads everything again", || stored() == expected);
    second.stop();
    second.join().unwrap();
    let sum = |name| metric(&of_first, name) + metric(&of_second, name);
    assert_eq!(sum("tally_sink_errors_total"), 0.0);
    assert_eq!(sum("tally_sink_records_total"), (3 * SUBJECTS) as f64, "each record was read once");
}
