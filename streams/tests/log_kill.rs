//! kill -9: what was acknowledged is there, and nothing is torn.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::{
    AppendBatch, Cleanup, CommittedOffset, GroupMetadata, Log, OwnedRecord, Polled, ProducerRecord, TopicPartition,
    TopicSpec, UpkeepOptions,
};

const DIRECTORY: &str = "TALLY_LOG_KILL_DIRECTORY";
const KILLS: u32 = 10;
const KEYS: u64 = 7;
/// What the lines of each thread of a child begin with, before the last offset that was acknowledged.
const WRITERS: [&str; 3] = ["appended 0 ", "appended 1 ", "committed 0 "];

/// Merging and compaction go on all the time.
fn open(dir: &Path) -> EmbeddedLog {
    let upkeep = UpkeepOptions {
        every: Duration::from_millis(1),
        settle_ms: 0,
        block_bytes: 30_000,
        slice_bytes: 100_000,
        margin_ms: 10,
        tombstones_ms: 20,
        dirty_bytes_min: 0,
        interval_ms: 1,
        ..UpkeepOptions::default()
    };
    let log = EmbeddedLog::open(dir, EmbeddedOptions { upkeep, ..EmbeddedOptions::default() }).unwrap();
    let spec = |name: &str, cleanup| TopicSpec {
        name: name.into(),
        partitions: 2,
        cleanup,
        retention: None,
        retention_bytes: None,
    };
    let kept = ["appended", "one", "two"].map(|name| spec(name, Cleanup::Delete));
    log.ensure_topics(&kept).unwrap();
    log.ensure_topics(&[spec("latest", Cleanup::Compact)]).unwrap();
    log
}

/// The keys of the compacted topic.
fn key(offset: u64) -> [u8; 1] {
    [(offset % KEYS) as u8]
}

/// A value that contains its position, of a length that varies from a few bytes to several pages.
fn value(offset: u64) -> String {
    format!("{offset} {}", "#".repeat((offset * offset % 9_000) as usize))
}

fn metadata(offset: u64) -> String {
    value(offset).chars().take(1_000).collect()
}

fn end(log: &EmbeddedLog, topic: &str, partition: u32) -> u64 {
    log.bounds(&TopicPartition::new(topic, partition)).unwrap().1
}

/// The child: writes as fast as it can and prints what was acknowledged. Does nothing in an ordinary run.
#[test]
fn child_that_writes() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    // A panic of one thread ends all: the parent notices.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let log = open(dir.as_ref());
    thread::scope(|scope| {
        scope.spawn(|| write_transactions(&log));
        append_singly(&log);
    });
}

fn say(line: String) {
    // One call, so that lines of two threads do not mix. The parent may have ended.
    let _ = std::io::stdout().write_all(format!("\n{line}\n").as_bytes());
}

fn append_singly(log: &EmbeddedLog) {
    let appender = log.appender().unwrap();
    let (sender, receiver) = mpsc::channel();
    let mut next = [end(log, "appended", 0), end(log, "appended", 1)];
    loop {
        for _ in 0..50 {
            let partition = (next[0] + next[1]) as u32 % 2;
            let value = value(next[partition as usize]).into();
            next[partition as usize] += 1;
            let record = OwnedRecord { partition, key: None, value: Some(value), headers: bytes::Bytes::new() };
            let sender = sender.clone();
            let done = Box::new(move |outcome: Result<_, _>| sender.send(outcome).unwrap());
            appender.append("appended", AppendBatch { records: vec![record] }, done);
        }
        for _ in 0..50 {
            for (partition, offset) in receiver.recv().unwrap().unwrap() {
                say(format!("appended {partition} {offset}"));
            }
        }
    }
}

fn write_transactions(log: &EmbeddedLog) {
    let mut producer = log.producer("id").unwrap();
    let at = TopicPartition::new("one", 0);
    let group = GroupMetadata { group: "group".into(), ..GroupMetadata::default() };
    loop {
        let next = end(log, "one", 0);
        for offset in next..next + 5 {
            for (topic, partition) in [("one", 0), ("two", 1), ("latest", 0)] {
                let (key, value) = (key(offset), value(offset));
                let (key, value) = ((topic == "latest").then_some(key.as_slice()), Some(value.as_bytes()));
                producer.send(ProducerRecord { topic, partition, key, value, headers: &[] }).unwrap();
            }
        }
        let committed = CommittedOffset { offset: next + 5, metadata: metadata(next + 5) };
        producer.send_offsets(&group, &[(at.clone(), committed)]).unwrap();
        producer.commit().unwrap();
        say(format!("committed 0 {}", next + 4));
    }
}

/// Reads a partition and checks every value; returns how many there are.
fn check(log: &EmbeddedLog, topic: &str, partition: u32) -> u64 {
    let at = TopicPartition::new(topic, partition);
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(&at, 0).unwrap();
    let mut next = 0;
    while let Polled::Records { records, .. } = consumer.poll(Duration::ZERO).unwrap() {
        for record in records {
            let record = record.unwrap();
            assert_eq!(record.offset, next);
            assert!(record.value == Some(value(next).as_bytes()), "{at} offset {next} is torn");
            next += 1;
        }
    }
    assert_eq!(log.bounds(&at), Ok((0, next)));
    next
}

/// Reads the compacted topic: every value is that of its offset, and the newest of each key is there. Returns the end, and
/// how many records compaction has left.
fn check_latest(log: &EmbeddedLog) -> (u64, u64) {
    let at = TopicPartition::new("latest", 0);
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(&at, 0).unwrap();
    let (start, end) = log.bounds(&at).unwrap();
    let mut found = Vec::new();
    while let Polled::Records { records, .. } = consumer.poll(Duration::ZERO).unwrap() {
        for record in records {
            let record = record.unwrap();
            assert_eq!(record.key, Some(key(record.offset).as_slice()));
            assert!(record.value == Some(value(record.offset).as_bytes()), "{at} offset {} is torn", record.offset);
            found.push(record.offset);
        }
    }
    assert!(start == 0 && found.is_sorted_by(|a, b| a < b));
    for newest in end.saturating_sub(KEYS)..end {
        assert!(found.contains(&newest), "{newest} is the newest of its key, and missing");
    }
    (end, found.len() as u64)
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    // By "appended 0", "appended 1" and "committed 0": the least number of records that must be there.
    let mut acknowledged = [0u64; 3];
    let mut compacted = false;
    let mut seed = std::process::id();
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(DIRECTORY, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        let listener = thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let life = Duration::from_millis(20 + u64::from(seed >> 16) % 250);
        let mut heard = Vec::new();
        let mut kill_at = None;
        // The last one lives until each of its threads has written something that was acknowledged.
        let mut missing: Vec<_> = if kill + 1 == KILLS { WRITERS.to_vec() } else { Vec::new() };
        while kill_at.is_none_or(|at| Instant::now() < at) || !missing.is_empty() {
            if let Ok(line) = lines.recv_timeout(Duration::from_millis(5)) {
                // Its life begins with the first word.
                if ["appended", "committed"].iter().any(|word| line.starts_with(word)) {
                    kill_at.get_or_insert_with(|| Instant::now() + life);
                }
                missing.retain(|writer| !line.starts_with(writer));
                heard.push(line);
            } else {
                assert_eq!(child.try_wait().unwrap(), None, "the child ended by itself");
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        listener.join().unwrap();
        heard.extend(lines.try_iter());
        for line in &heard {
            let mut words = line.split(' ');
            let which = match (words.next(), words.next()) {
                (Some("appended"), Some("0")) => 0,
                (Some("appended"), Some("1")) => 1,
                (Some("committed"), Some("0")) => 2,
                _ => continue,
            };
            // A line that the kill has cut may name a smaller number, never a greater one.
            let Some(Ok(offset)) = words.next().map(str::parse::<u64>) else { continue };
            acknowledged[which] = acknowledged[which].max(offset + 1);
        }

        let log = open(dir.path());
        let there = [check(&log, "appended", 0), check(&log, "appended", 1), check(&log, "one", 0)];
        for (acknowledged, there) in acknowledged.iter().zip(there) {
            assert!(*acknowledged <= there, "kill {kill}: {acknowledged} were acknowledged, {there} are there");
        }
        assert_eq!(check(&log, "two", 1), there[2], "transactions are whole");
        let (latest, left) = check_latest(&log);
        assert_eq!(latest, there[2], "in the compacted topic too");
        compacted |= left < latest;
        let committed = log.committed("group", &TopicPartition::new("one", 0)).unwrap();
        assert_eq!(committed.as_ref().map_or(0, |c| c.offset), there[2], "with their offsets");
        assert!(committed.is_none_or(|c| c.metadata == metadata(c.offset)));
    }
    assert!(acknowledged.iter().all(|count| *count > 0), "the children wrote: {acknowledged:?}");
    assert!(compacted, "compaction was at work");
}
