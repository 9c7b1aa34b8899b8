//! Merging and compaction against a naive model: whatever is appended, deleted, reopened and moved in time, readers see
//! the records that were written, byte for byte, and miss only what a newer record of its key replaced.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proptest::prelude::*;
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::{
    AppendBatch, Cleanup, Clock, Headers, Log, LogError, OwnedRecord, Polled, TopicPartition, TopicSpec, UpkeepOptions,
};

const TOPICS: [(&str, Cleanup); 3] =
    [("kept", Cleanup::Delete), ("latest", Cleanup::Compact), ("both", Cleanup::CompactAndDelete)];
const RETENTION_MS: i64 = 60_000;
const MARGIN_MS: i64 = 2_000;
const TOMBSTONES_MS: i64 = 8_000;

/// Everything happens early and often.
fn options() -> UpkeepOptions {
    UpkeepOptions {
        every: Duration::from_millis(1),
        settle_ms: 100,
        block_bytes: 3_000,
        tail_bytes_min: 500,
        slice_bytes: 10_000,
        margin_ms: MARGIN_MS,
        tombstones_ms: TOMBSTONES_MS,
        dirty_bytes_min: 1_000,
        interval_ms: 500,
        keys_max: 20,
    }
}

/// A record as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    offset: u64,
    time_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Topic; for each record: key, length of the value (none: a tombstone), whether there is a header.
    Append(usize, Vec<(u8, Option<usize>, bool)>),
    /// Topic, part of what is there.
    Delete(usize, f64),
    Clock(i64),
    Reopen,
    /// Topic, part of what is there.
    Read(usize, f64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![8 => 0..60usize, 2 => 200..900usize, 1 => 3_000..9_000usize];
    let record = (0..12u8, prop_oneof![1 => Just(None), 5 => length.prop_map(Some)], any::<bool>());
    prop_oneof![
        12 => (0..3usize, proptest::collection::vec(record, 1..8)).prop_map(|(t, records)| Step::Append(t, records)),
        1 => (0..3usize, 0.0..1.0f64).prop_map(|(topic, part)| Step::Delete(topic, part)),
        6 => prop_oneof![4 => 0..3_000i64, 1 => 3_000..30_000i64].prop_map(Step::Clock),
        2 => Just(Step::Reopen),
        3 => (0..3usize, 0.0..1.0f64).prop_map(|(topic, part)| Step::Read(topic, part)),
    ]
}

fn at(topic: usize) -> TopicPartition {
    TopicPartition::new(TOPICS[topic].0, 0)
}

/// Reads from an offset to the end.
fn read(log: &dyn Log, topic: usize, from: u64) -> Result<Vec<Written>, LogError> {
    let mut consumer = log.consumer("").unwrap();
    consumer.assign(&at(topic), from).unwrap();
    let mut all = Vec::new();
    while let Polled::Records { records, next_offset, .. } = consumer.poll(Duration::ZERO)? {
        for record in records {
            let record = record?;
            assert!(record.offset < next_offset);
            all.push(Written {
                offset: record.offset,
                time_ms: record.append_time_ms,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
            });
        }
    }
    Ok(all)
}

struct Run {
    log: Arc<dyn Log>,
    open: Box<dyn Fn() -> Arc<dyn Log>>,
    clock: Arc<AtomicI64>,
    now: i64,
    /// By topic: all records ever, and the start as far as it was asked for.
    written: [(Vec<Written>, u64); 3],
    counter: u64,
}

impl Run {
    fn new(open: impl Fn(Clock) -> Arc<dyn Log> + 'static) -> Self {
        let clock = Arc::new(AtomicI64::new(0));
        let time = clock.clone();
        let injected: Clock = Arc::new(move || time.load(Ordering::SeqCst));
        let log = open(injected.clone());
        let specs = TOPICS.map(|(name, cleanup)| TopicSpec {
            name: name.into(),
            partitions: 1,
            cleanup,
            retention: (cleanup == Cleanup::CompactAndDelete).then_some(Duration::from_millis(RETENTION_MS as u64)),
            retention_bytes: None,
        });
        log.ensure_topics(&specs).unwrap();
        let open = Box::new(move || open(injected.clone()));
        Self { log, open, clock, now: 0, written: Default::default(), counter: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(topic, records) => self.append(topic, &records),
            Step::Delete(topic, part) => {
                let (records, start) = &mut self.written[topic];
                let before = (records.len() as f64 * part) as u64;
                self.log.delete_records(&at(topic), before).unwrap();
                *start = (*start).max(before);
            }
            Step::Clock(by) => {
                self.now += by;
                self.clock.store(self.now, Ordering::SeqCst);
            }
            Step::Reopen => {
                self.log = Arc::new(MemoryLog::new(Arc::new(|| 0)));
                self.log = (self.open)();
            }
            Step::Read(topic, part) => self.check(topic, part),
        }
    }

    fn append(&mut self, topic: usize, records: &[(u8, Option<usize>, bool)]) {
        let mut batch = AppendBatch::default();
        for (key, length, has_header) in records {
            self.counter += 1;
            // One of twelve has no key.
            let key = (*key > 0).then(|| format!("key-{key}").into_bytes());
            let value = length.map(|length| format!("{}{}", self.counter, ".".repeat(length)).into_bytes());
            let mark = self.counter.to_le_bytes();
            let list: &[(&str, &[u8])] = if *has_header { &[("b", &mark)] } else { &[] };
            let mut headers = Vec::new();
            Headers::encode(list, &mut headers);
            batch.push(OwnedRecord {
                partition: 0,
                key: key.clone().map(Into::into),
                value: value.clone().map(Into::into),
                headers: headers.into(),
            });
            let headers = list.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
            let (all, _) = &mut self.written[topic];
            all.push(Written { offset: all.len() as u64, time_ms: self.now, key, value, headers });
        }
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |outcome| sender.send(outcome).unwrap());
        self.log.appender().unwrap().append(TOPICS[topic].0, batch, done);
        let outcome = receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(outcome, Ok(vec![(0, self.written[topic].0.len() as u64 - 1)]));
    }

    /// The newest append time of the log.
    fn log_ms(&self) -> i64 {
        self.written.iter().filter_map(|(all, _)| all.last()).map(|record| record.time_ms).max().unwrap_or(0)
    }

    fn check(&self, topic: usize, part: f64) {
        let ((all, asked), (_, cleanup)) = (&self.written[topic], TOPICS[topic]);
        let (start, end) = self.log.bounds(&at(topic)).unwrap();
        assert_eq!(end, all.len() as u64);
        let mut newest = HashMap::new();
        newest.extend(all.iter().map(|record| (record.key.clone(), record.offset)));
        let log_ms = self.log_ms();
        // Whether a record may be missing that was not deleted on demand.
        let may_be_gone = |record: &Written| {
            let is_expired = cleanup == Cleanup::CompactAndDelete && record.time_ms < self.now - RETENTION_MS;
            let is_replaced = newest[&record.key] > record.offset && record.time_ms < log_ms - MARGIN_MS;
            let is_tombstone = record.value.is_none() && record.time_ms < log_ms - TOMBSTONES_MS;
            let is_compacted = cleanup != Cleanup::Delete && record.key.is_some();
            is_expired || is_compacted && (is_replaced || is_tombstone)
        };
        assert!(start >= *asked, "{start} {asked}");
        for record in all.iter().take(start as usize).skip(*asked as usize) {
            assert!(may_be_gone(record), "{record:?} is before the start");
        }
        let from = start + ((end - start) as f64 * part) as u64;
        let found = match read(&*self.log, topic, from) {
            Ok(found) => found,
            // Retention went on meanwhile.
            Err(LogError::OutOfRange { .. }) if cleanup == Cleanup::CompactAndDelete => return,
            Err(error) => panic!("{error}"),
        };
        assert!(found.is_sorted_by(|a, b| a.offset < b.offset));
        for record in &found {
            assert!(record.offset >= from);
            assert_eq!(*record, all[record.offset as usize]);
        }
        let present: HashSet<u64> = found.iter().map(|record| record.offset).collect();
        for record in all.iter().skip(from as usize).filter(|record| !present.contains(&record.offset)) {
            assert!(may_be_gone(record), "{record:?} is missing");
        }
    }
}

fn run(steps: Vec<Step>, open: impl Fn(Clock) -> Arc<dyn Log> + 'static) {
    let mut run = Run::new(open);
    for step in steps {
        run.step(step);
    }
    (0..3).for_each(|topic| run.check(topic, 0.0));
}

fn embedded(path: PathBuf) -> impl Fn(Clock) -> Arc<dyn Log> {
    move |clock| {
        let options = EmbeddedOptions { clock, upkeep: options(), ..EmbeddedOptions::default() };
        Arc::new(EmbeddedLog::open(&path, options).unwrap())
    }
}

fn memory() -> impl Fn(Clock) -> Arc<dyn Log> {
    |clock| Arc::new(MemoryLog::with_upkeep(clock, options()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn memory_keeps_what_counts(steps in proptest::collection::vec(any_step(), 1..200)) {
        run(steps.into_iter().filter(|step| !matches!(step, Step::Reopen)).collect(), memory());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn embedded_keeps_what_counts(steps in proptest::collection::vec(any_step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        run(steps, embedded(dir.path().to_owned()));
    }
}

/// Appends to all topics, a second apart, so that the log's time goes on.
fn fill(run: &mut Run, rounds: u64) {
    for round in 0..rounds {
        run.step(Step::Clock(1_000));
        for topic in 0..3 {
            run.append(topic, &[((1 + round % 3) as u8, Some(100), false), (7, Some(20), true)]);
        }
    }
}

#[test]
fn replaced_records_go_and_the_others_stay() {
    let mut run = Run::new(memory());
    fill(&mut run, 500);
    let counts = [0, 1, 2].map(|topic| read(&*run.log, topic, run.log.bounds(&at(topic)).unwrap().0).unwrap().len());
    assert_eq!(counts[0], 1_000, "a topic that is not compacted");
    // A second's records each, as many as are too young, as pass threshold and as the last pass left: far from all.
    assert!(counts[1] < 60 && counts[2] < 60, "{counts:?}");
    (0..3).for_each(|topic| run.check(topic, 0.0));
}

#[test]
fn tombstones_go_later_and_offsets_go_on() {
    let mut run = Run::new(memory());
    fill(&mut run, 40);
    let tombstones: Vec<_> = [1, 2, 3, 7].into_iter().map(|key| (key, None, false)).collect();
    run.append(1, &tombstones);
    let all = |run: &Run| read(&*run.log, 1, 0).unwrap();
    assert!(all(&run).iter().filter(|record| record.value.is_none()).count() == 4);
    // Another key, so that passes go on.
    for _ in 0..200 {
        run.step(Step::Clock(200));
        run.append(1, &[(9, Some(100), false)]);
        run.check(1, 0.0);
    }
    assert!(all(&run).iter().all(|record| record.key.as_deref() == Some(b"key-9")), "{:?}", all(&run));
    let end = run.written[1].0.len() as u64;
    assert_eq!(run.log.bounds(&at(1)), Ok((0, end)));
}

/// The log's directory after a run, and what readers see, over a restart with other options.
#[test]
fn a_log_of_blocks_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = Run::new(embedded(dir.path().to_owned()));
    fill(&mut run, 300);
    // A start looks for what is due. Where filling took long, a pass has been made meanwhile, and less is due.
    run.step(Step::Reopen);
    tally_testkit::wait_for("the log is compacted", || read(&*run.log, 1, 0).unwrap().len() < 300);
    (0..3).for_each(|topic| run.check(topic, 0.0));
    let before = [0, 1].map(|topic| read(&*run.log, topic, 0).unwrap());
    run.log = Arc::new(MemoryLog::new(Arc::new(|| 0)));
    let log = EmbeddedLog::open(dir.path(), EmbeddedOptions::default()).unwrap();
    assert_eq!([0, 1].map(|topic| read(&log, topic, 0).unwrap()), before);
    assert_eq!(log.bounds(&at(1)), Ok((0, 600)));
    for from in 0..600 {
        let expected: Vec<_> = before[1].iter().filter(|record| record.offset >= from).cloned().collect();
        assert_eq!(read(&log, 1, from).unwrap(), expected, "from {from}");
        assert_eq!(read(&log, 0, from).unwrap()[0].offset, from, "from the middle of a block");
    }
}
