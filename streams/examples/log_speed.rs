//! How fast the logs take and give records: `cargo run --release -p tally-streams --example log_speed [DIR]`.
//!
//! Appends of 500 records of 200 bytes over 16 partitions with several under way, then transactions of the same size,
//! then everything is read back. CPU seconds are the process's, the system's part included (Linux).

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::{
    AppendBatch, Cleanup, Log, OwnedRecord, Polled, ProducerRecord, TopicPartition, TopicSpec, system_clock,
};

const PARTITIONS: u32 = 16;
const RECORDS: usize = 500;
const BATCHES: usize = 4_000;
const VALUE: usize = 184;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("tally-log-speed"), PathBuf::from);
    println!("| log | work | records/s | CPU-s per million |\n|---|---|---|---|");
    measure("memory", &MemoryLog::new(system_clock()))?;
    for under_way in [1, 16] {
        let log = EmbeddedLog::open(&dir, EmbeddedOptions::default())?;
        measure_appends("embedded", &log, under_way)?;
        drop(log);
        std::fs::remove_dir_all(&dir)?;
    }
    let log = EmbeddedLog::open(&dir, EmbeddedOptions::default())?;
    measure("embedded", &log)?;
    println!("file: {} MB", std::fs::metadata(dir.join("data.mdb"))?.len() >> 20);
    drop(log);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn measure(name: &str, log: &dyn Log) -> Result<(), Box<dyn std::error::Error>> {
    measure_appends(name, log, 16)?;
    measure_reading(name, log, "read appended")?;
    log.ensure_topics(&[spec("transactions")])?;
    let value = vec![b'v'; VALUE];
    let mut producer = log.producer("speed")?;
    timed(name, "transactions", || {
        for batch in 0..BATCHES {
            for i in 0..RECORDS {
                let key = key(batch, i);
                let partition = (i as u32) % PARTITIONS;
                let (key, value) = (Some(key.as_slice()), Some(value.as_slice()));
                producer.send(ProducerRecord { topic: "transactions", partition, key, value, headers: &[] })?;
            }
            producer.commit()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn measure_appends(name: &str, log: &dyn Log, under_way: usize) -> Result<(), Box<dyn std::error::Error>> {
    log.ensure_topics(&[spec("appended")])?;
    let appender = log.appender()?;
    let value = bytes::Bytes::from(vec![b'v'; VALUE]);
    // The records stand for what an ingest API holds already: making them is not measured.
    let keys: Vec<Vec<bytes::Bytes>> =
        (0..64).map(|batch| (0..RECORDS).map(|i| key(batch, i).to_vec().into()).collect()).collect();
    timed(name, &format!("append, {under_way} under way"), || {
        let (sender, done) = mpsc::channel();
        for batch in 0..BATCHES {
            if batch >= under_way {
                done.recv()??;
            }
            let records = keys[batch % 64].iter().zip(0u32..).map(|(key, i)| OwnedRecord {
                partition: i % PARTITIONS,
                key: Some(key.clone()),
                value: Some(value.clone()),
                headers: bytes::Bytes::new(),
            });
            let sender = sender.clone();
            let records = AppendBatch { records: records.collect() };
            appender.append("appended", records, Box::new(move |outcome| drop(sender.send(outcome))));
        }
        for _ in 0..under_way {
            done.recv()??;
        }
        Ok(())
    })
}

fn measure_reading(name: &str, log: &dyn Log, what: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut consumer = log.consumer("")?;
    let topic: Arc<str> = "appended".into();
    for partition in 0..PARTITIONS {
        consumer.assign(&TopicPartition::new(topic.clone(), partition), 0)?;
    }
    timed(name, what, || {
        let (mut count, mut bytes) = (0, 0);
        while let Polled::Records { records, .. } = consumer.poll(Duration::ZERO)? {
            for record in records {
                let record = record?;
                count += 1;
                bytes += record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len);
            }
        }
        assert_eq!((count, bytes), (BATCHES * RECORDS, BATCHES * RECORDS * 200));
        Ok(())
    })
}

fn timed(
    log: &str,
    what: &str,
    work: impl FnOnce() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (since, cpu) = (Instant::now(), cpu_seconds()?);
    work()?;
    let millions = (BATCHES * RECORDS) as f64 / 1e6;
    let (took, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    println!("| {log} | {what} | {:.0}k | {:.2} |", millions / took * 1e3, cpu / millions);
    Ok(())
}

/// User and system time of this process, from /proc in ticks of 10 ms.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

fn key(batch: usize, i: usize) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(batch as u64).to_le_bytes());
    key[8..].copy_from_slice(&(i as u64).to_le_bytes());
    key
}

fn spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.into(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete,
        retention: None,
        retention_bytes: None,
    }
}
