//! What the embedded log does beyond the contract: it survives, it refuses what is damaged, it lives with little room.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::{
    AppendBatch, AppendedOffsets, Cleanup, Clock, CommittedOffset, GroupMetadata, Log, LogError, OwnedRecord, Polled,
    ProducerRecord, TopicPartition, TopicSpec, UpkeepOptions,
};
use tally_testkit::{PATIENCE, wait_for};

mod committer;
mod damage;
mod life;
mod offline;
mod room;
mod wall;

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, EmbeddedOptions::default()).unwrap()
}

fn spec(name: &str, partitions: u32, retention_s: Option<u64>) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions,
        cleanup: Cleanup::Delete,
        retention: retention_s.map(Duration::from_secs),
        retention_bytes: None,
    }
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

/// Text of seven bits a byte without any order: it does not shrink enough to be packed.
fn noise(seed: u32, len: usize) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from((state >> 24) as u8 & 0x7f)
    };
    (0..len).map(|_| next()).collect()
}

fn settable_clock() -> (Clock, Arc<AtomicI64>) {
    let time = Arc::new(AtomicI64::new(0));
    let clock = time.clone();
    (Arc::new(move || clock.load(Ordering::SeqCst)), time)
}
