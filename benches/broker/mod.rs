//! A Kafka broker of one's own, what its topics are filled with, and what processes cost.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use tally::workload::{LineKind, Plan};
use tally_model::Event;
use tally_streams::log::kafka::{KafkaLog, KafkaOptions};
use tally_streams::log::*;

/// Partitions of the root topic.
pub const PARTITIONS: u32 = 4;

/// `late_after` of the topologies.
const LATE_AFTER_MS: i64 = 24 * 3_600_000;

/// A broker; ended when dropped.
pub struct Broker {
    dir: PathBuf,
    /// `host:port`.
    pub address: String,
    /// The URL of the Redis beside it; empty where there is none.
    pub redis: String,
    /// And that of the MariaDB.
    pub database: String,
}

impl Broker {
    /// Starts a broker that keeps its data under a directory.
    pub fn start(dir: &Path) -> Self {
        Self::with(dir, &["kafka"])
    }

    /// The same, with other services beside it.
    pub fn with(dir: &Path, services: &[&str]) -> Self {
        let dir = dir.join("services");
        let output = Command::new("bash").args(["deploy/services.sh", "start"]).arg(&dir).args(services).output();
        let output = output.expect("bash runs");
        let said = String::from_utf8_lossy(&output.stdout);
        let value = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let address = value("TALLY_TEST_KAFKA=");
        let address = address.unwrap_or_else(|| panic!("no broker: {}", String::from_utf8_lossy(&output.stderr)));
        let redis = value("TALLY_TEST_REDIS=").unwrap_or_default();
        Self { dir, address, redis, database: value("TALLY_TEST_MARIADB=").unwrap_or_default() }
    }

    /// A client of it.
    pub fn log(&self) -> KafkaLog {
        KafkaLog::open(KafkaOptions::new(self.address.clone())).expect("the broker answers")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        let text = std::fs::read_to_string(self.dir.join("kafka.pid")).expect("the broker's pid");
        text.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a number")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = Command::new("bash").args(["deploy/services.sh", "stop"]).arg(&self.dir).stderr(Stdio::null()).status();
    }
}

/// Processor time of a process, seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that a process has had resident, megabytes.
pub fn rss_max_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Creates topics of [`PARTITIONS`].
pub fn create_topics(log: &KafkaLog, names: &[&str]) {
    let spec = |name: &&str| TopicSpec {
        name: (*name).into(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        retention: None,
        retention_bytes: None,
    };
    log.ensure_topics(&names.iter().map(spec).collect::<Vec<_>>()).expect("the topics");
}

/// Fills `user-actions` with the workload's events of the four kinds that every application counts.
pub fn fill(log: &KafkaLog, events: u64, seed: u64) -> u64 {
    create_topics(log, &["user-actions"]);
    let appender = log.appender().expect("an appender");
    let now_ms = system_clock()();
    let (mut batch, mut sent) = (AppendBatch::default(), 0);
    let each = |kind: LineKind, line: &[u8]| -> Result<(), ()> {
        if kind == LineKind::Garbage || sent >= events {
            return Ok(());
        }
        let event = Event::from_log(line, now_ms).expect("valid");
        let is_late = now_ms - event.occurred_at_ms > LATE_AFTER_MS;
        // The peer takes what is late, and tally does not.
        if !is_late && ["like", "unlike", "view", "read"].contains(&event.event_type()) {
            batch.push(record(event.actor_id(), line));
            sent += 1;
            if batch.records.len() == 5_000 {
                append(&*appender, std::mem::take(&mut batch));
            }
        }
        Ok(())
    };
    // A third of the lines is of other kinds.
    Plan::full(events * 8 / 5, seed, now_ms).for_each(each).expect("the workload");
    append(&*appender, batch);
    sent
}

/// A record of `user-actions` as the ingest API writes it: its times are numbers.
pub fn record(actor: &str, line: &[u8]) -> OwnedRecord {
    record_of(actor, line, PARTITIONS)
}

/// The same, of a topic with another number of partitions.
pub fn record_of(actor: &str, line: &[u8], partitions: u32) -> OwnedRecord {
    let key = bytes::Bytes::copy_from_slice(actor.as_bytes());
    let mut json: serde_json::Value = serde_json::from_slice(line).expect("JSON");
    if let Some(text) = json["occurred_at"].as_str() {
        json["occurred_at"] = tally_model::parse_ms(text).expect("a time").into();
    }
    let value = serde_json::to_vec(&json).expect("JSON").into();
    let partition = partition_of(&key, partitions);
    OwnedRecord { partition, key: Some(key), value: Some(value), headers: bytes::Bytes::new() }
}

/// Appends to `user-actions`, and waits until it is acknowledged.
pub fn append(appender: &dyn Appender, batch: AppendBatch) {
    let (sender, receiver) = channel();
    appender.append("user-actions", batch, Box::new(move |outcome| drop(sender.send(outcome))));
    receiver.recv().expect("an outcome").expect("appended");
}

/// What a group has committed of each partition of a topic.
pub fn committed(log: &KafkaLog, group: &str, topic: &str) -> Vec<u64> {
    let of = |partition| log.committed(group, &TopicPartition::new(topic, partition)).ok().flatten();
    (0..PARTITIONS).map(|partition| of(partition).map_or(0, |committed| committed.offset)).collect()
}

/// Where each partition of a topic ends.
pub fn ends(log: &KafkaLog, topic: &str) -> Option<Vec<u64>> {
    let all: Vec<_> = (0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition)).collect();
    log.ends(&all).ok()
}
