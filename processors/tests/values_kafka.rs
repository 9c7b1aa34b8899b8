//! On a broker: every value of every output topic is JSON, and what is said of progress comes after what it speaks of.

use prometheus::Registry;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tally_model::{PROGRESS_HEADER, TaskProgress};
use tally_processors::{Actions, REGISTRY, SINK_TYPES};
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_streams::log::*;
use tally_streams::runtime::{Limits, Polling, StreamMetrics, StreamThread};
use tally_streams::task::{TaskSite, WIRE_VERSIONS};
use tally_streams::topology::Topology;

const EVENTS: usize = 200;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// The shipped topology under a name that nobody else has.
fn topology(unique: &str) -> Topology<Actions> {
    let text = include_str!("../../topology.yaml");
    let text = text.replacen("application: tally", &format!("application: {unique}\ntopic_prefix: {unique}-"), 1);
    Topology::load("topology.yaml", &text, REGISTRY, SINK_TYPES).unwrap_or_else(|e| panic!("{e}"))
}

fn append(log: &dyn Log, topic: &str) {
    let mut batch = AppendBatch::default();
    for i in 0..EVENTS {
        let (actor, kind) = (format!("u{}", i % 20), ["view", "like", "unlike", "share"][i % 4]);
        let value = format!(
            r#"{{"event_id":"e{i}","type":"{kind}","actor_id":"{actor}","subject_id":"article:{}","occurred_at":{}}}"#,
            i % 9,
            now_ms()
        );
        let value = if i % 50 == 49 { "garbage".to_owned() } else { value };
        batch.push(OwnedRecord {
            partition: partition_of(actor.as_bytes(), log.partitions(topic).unwrap()),
            key: Some(actor.into_bytes().into()),
            value: Some(value.into_bytes().into()),
            headers: bytes::Bytes::new(),
        });
    }
    let done = Arc::new(Mutex::new(None));
    let outcome = done.clone();
    let done_with = Box::new(move |result: Result<AppendedOffsets, LogError>| *outcome.lock().unwrap() = Some(result));
    log.appender().unwrap().append(topic, batch, done_with);
    let since = Instant::now();
    while done.lock().unwrap().is_none() {
        assert!(since.elapsed() < Duration::from_secs(60), "the broker takes nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(matches!(*done.lock().unwrap(), Some(Ok(_))), "{done:?}");
}

/// Every record that a reader of committed ones sees: partition, key, value, first header.
type Read = (u32, Vec<u8>, Option<Vec<u8>>, Option<(String, Vec<u8>)>);

fn read(log: &dyn Log, topic: &str) -> Vec<Read> {
    let mut stored = Vec::new();
    for partition in 0..log.partitions(topic).unwrap() {
        let at = TopicPartition::new(topic, partition);
        let (start, end) = log.bounds(&at).unwrap();
        let mut consumer = log.consumer("").unwrap();
        consumer.assign(&at, start).unwrap();
        let since = Instant::now();
        while consumer.position(&at).is_none_or(|position| position < end) {
            assert!(since.elapsed() < Duration::from_secs(60), "{at} ends early");
            let Polled::Records { records, .. } = consumer.poll(Duration::from_millis(100)).unwrap() else { continue };
            for record in records.map(Result::unwrap) {
                let header = record.headers.iter().next().map(|(name, value)| (name.to_owned(), value.to_vec()));
                let (key, value) = (record.key.unwrap_or_default().to_vec(), record.value.map(<[u8]>::to_vec));
                stored.push((partition, key, value, header));
            }
        }
    }
    stored
}

/// The newest of each task in the internal topic.
fn told(log: &dyn Log, topic: &str) -> BTreeMap<Vec<u8>, TaskProgress> {
    let records = read(log, topic).into_iter();
    records.map(|(_, key, value, _)| (key, TaskProgress::decode(&value.unwrap()).unwrap())).collect()
}

#[test]
fn a_plain_json_consumer_reads_every_value_of_every_output_topic() {
    let Some(broker) = std::env::var("TALLY_TEST_KAFKA").ok().filter(|address| !address.is_empty()) else {
        let missing = "TALLY_TEST_KAFKA names no broker; start one with `deploy/services.sh start DIR kafka`";
        assert!(std::env::var("TALLY_TEST_SERVICES").as_deref() != Ok("required"), "{missing}");
        println!("skipped: {missing}");
        return;
    };
    let log: Arc<dyn Log> = Arc::new(KafkaLog::open(KafkaOptions::new(broker)).unwrap());
    let unique = format!("values-{}-{}", std::process::id(), now_ms());
    let topology = Arc::new(topology(&unique));
    log.ensure_topics(&topology.topic_specs()).unwrap();
    append(&*log, &topology.root);
    let site = TaskSite {
        topology: topology.clone(),
        generation: 1,
        wire_version: *WIRE_VERSIONS.end(),
        hash_seed: 7,
        secret: [7; 32],
        owner: format!("{unique}-0").into(),
        siblings: [format!("{unique}-0").into()].into(),
        confirmed_times: [].into(),
        state_dir: None,
        boot_id: "boot".to_owned(),
    };
    let metrics = StreamMetrics::new(&Registry::new()).unwrap();
    let limits = Limits { purge_interval: Duration::from_millis(500), ..Limits::default() };
    let mut thread = StreamThread::new(log.clone(), site, limits, metrics).unwrap();
    let ends: Vec<u64> = (0..log.partitions(&topology.root).unwrap())
        .map(|partition| log.bounds(&TopicPartition::new(topology.root.clone(), partition)).unwrap().1)
        .collect();
    // Every task has told that it has all of it, and what it told before has been deleted at least once.
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
        for (partition, key, value, header) in read(&*log, &output.topic) {
            let value = value.unwrap_or_else(|| panic!("{}: a tombstone under {key:?}", output.topic));
            if output.topic.ends_with("dead-letters") {
                assert_eq!(value, b"garbage");
                continue;
            }
            let json: serde_json::Value = serde_json::from_slice(&value)
                .unwrap_or_else(|e| panic!("{}/{partition}: {e}: {:?}", output.topic, String::from_utf8_lossy(&value)));
            values += 1;
            if let Some((name, bytes)) = header {
                assert_eq!(name, PROGRESS_HEADER);
                let progress = TaskProgress::decode(&bytes).unwrap();
                assert_eq!(json["version"].as_i64(), Some(progress.version()));
                headers += 1;
            }
        }
    }
    assert!(values > 50 && headers > 10, "{values} values, {headers} with progress");
}
