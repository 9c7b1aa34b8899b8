//! On a broker: every value of every output topic is JSON, and progress comes after the records that it covers.

use prometheus::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_model::{PROGRESS_HEADER, TaskProgress};
use tally_processors::{Actions, REGISTRY};
use tally_sinks::SINK_TYPES;
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::task::TaskSite;
use tally_streams::testkit::{StoredRecord, append, read_topic};
use tally_streams::topology::Topology;
use tally_testkit::{SHIPPED_TOPOLOGY, now_ms, service};

const EVENTS: usize = 200;

/// The shipped topology under a unique name.
fn topology(unique: &str) -> Topology<Actions> {
    let text =
        SHIPPED_TOPOLOGY.replacen("application: tally", &format!("application: {unique}\ntopic_prefix: {unique}-"), 1);
    Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"))
}

fn event(i: usize) -> (String, Vec<u8>) {
    let (actor, kind) = (format!("u{}", i % 20), ["view", "like", "unlike", "share"][i % 4]);
    let value = format!(
        r#"{{"event_id":"e{i}","type":"{kind}","actor_id":"{actor}","subject_id":"article:{}","occurred_at":{}}}"#,
        i % 9,
        now_ms()
    );
    let value = if i % 50 == 49 { "garbage".to_owned() } else { value };
    (actor, value.into_bytes())
}

/// The newest of each task in the internal topic.
fn told(log: &dyn Log, topic: &str) -> BTreeMap<Vec<u8>, TaskProgress> {
    let records = read_topic(log, topic).into_iter();
    records.map(|record| (record.key, TaskProgress::decode(&record.value.unwrap()).unwrap())).collect()
}

#[test]
fn a_plain_json_consumer_reads_every_value_of_every_output_topic() {
    let Some(broker) = service("TALLY_TEST_KAFKA") else { return };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::open(KafkaOptions::new(broker)).unwrap());
    let unique = format!("values-{}-{}", std::process::id(), now_ms());
    let topology = Arc::new(topology(&unique));
    log.ensure_topics(&topology.topic_specs()).unwrap();
    append(&*log, &topology.root, (0..EVENTS).map(event));
    let site = TaskSite::in_memory(topology.clone(), &format!("{unique}-0"));
    let metrics = StreamMetrics::new(&Registry::new()).unwrap();
    let limits = Limits { purge_interval: Duration::from_millis(500), ..Limits::default() };
    let mut thread = StreamThread::new(log.clone(), site, limits, metrics).unwrap();
    let ends: Vec<u64> = (0..log.partitions(&topology.root).unwrap())
        .map(|partition| log.bounds(&TopicPartition::new(topology.root.clone(), partition)).unwrap().1)
        .collect();
    // Every task has published complete progress, and older progress was deleted at least once.
    let covers_all =
        |progress: &TaskProgress| progress.roots.iter().all(|root| root.next_offset == ends[root.partition as usize]);
    let since = Instant::now();
    let mut looked_at = since;
    loop {
        assert!(since.elapsed() < Duration::from_secs(180), "{:?}", told(&*log, &topology.progress_topic()));
        thread.poll_once(Now::of_system(), Duration::from_millis(50)).unwrap();
        if looked_at.elapsed() > Duration::from_secs(1) {
            looked_at = Instant::now();
            let told = told(&*log, &topology.progress_topic());
            let first = TopicPartition::new(topology.progress_topic(), 0);
            let is_shortened = log.bounds(&first).unwrap().0 > 0;
            if told.len() == 17 && told.values().all(covers_all) && is_shortened {
                break;
            }
        }
    }
    thread.leave().unwrap();
    while thread.poll_once(Now::of_system(), Duration::from_millis(50)).unwrap() != Polling::Left {
        assert!(since.elapsed() < Duration::from_secs(180), "it does not leave");
    }
    let outputs = topology.subtopologies.iter().flat_map(|subtopology| &subtopology.outputs);
    let (mut values, mut headers) = (0, 0);
    for output in outputs {
        for StoredRecord { partition, key, value, headers: with, .. } in read_topic(&*log, &output.topic) {
            let value = value.unwrap_or_else(|| panic!("{}: a tombstone under {key:?}", output.topic));
            if output.topic.ends_with("dead-letters") {
                assert_eq!(value, b"garbage");
                continue;
            }
            let json: serde_json::Value = serde_json::from_slice(&value)
                .unwrap_or_else(|e| panic!("{}/{partition}: {e}: {:?}", output.topic, String::from_utf8_lossy(&value)));
            values += 1;
            if let Some((name, bytes)) = with.first() {
                assert_eq!(name, PROGRESS_HEADER);
                let progress = TaskProgress::decode(bytes).unwrap();
                assert_eq!(json["version"].as_i64(), Some(progress.version()));
                headers += 1;
            }
        }
    }
    assert!(values > 50 && headers > 10, "{values} values, {headers} with progress");
}
