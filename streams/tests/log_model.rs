//! The log against a naive model of it: random transactions, appends, take-overs, deletions and restarts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use proptest::prelude::*;
use tally_streams::log::embedded::{EmbeddedLog, EmbeddedOptions};
use tally_streams::log::memory::MemoryLog;
use tally_streams::log::{
    AppendBatch, Cleanup, Clock, CommittedOffset, GroupMetadata, Log, LogError, OwnedRecord, Polled, ProducerRecord,
    TopicPartition, TopicSpec, TransactionalProducer,
};

const TOPICS: [(&str, u32); 2] = [("one", 2), ("two", 1)];
const IDS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// Index of a producer, of a place, size of the value.
    Send(usize, usize, usize),
    Offsets(usize, usize, u64),
    Commit(usize),
    Abort(usize),
    /// Index of a transactional id.
    TakeOver(usize),
    Append(Vec<(usize, usize)>),
    /// Index of a place, part of what is there.
    Delete(usize, f64),
    Clock(i64),
    Reopen,
    /// Index of a place, part of what is there.
    Read(usize, f64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![8 => 0..40usize, 1 => 1_000..6_000usize, 1 => 100_000..300_000usize];
    prop_oneof![
        8 => (0..6usize, 0..3usize, size()).prop_map(|(p, at, size)| Step::Send(p, at, size)),
        2 => (0..6usize, 0..3usize, 0..99u64).prop_map(|(p, at, offset)| Step::Offsets(p, at, offset)),
        4 => (0..6usize).prop_map(Step::Commit),
        1 => (0..6usize).prop_map(Step::Abort),
        1 => (0..IDS).prop_map(Step::TakeOver),
        3 => proptest::collection::vec((0..3usize, size()), 0..6).prop_map(Step::Append),
        1 => (0..3usize, 0.0..1.2f64).prop_map(|(at, part)| Step::Delete(at, part)),
        1 => (-500..2_000i64).prop_map(Step::Clock),
        1 => Just(Step::Reopen),
        2 => (0..3usize, 0.0..1.0f64).prop_map(|(at, part)| Step::Read(at, part)),
    ]
}

/// The simplest model of the log.
#[derive(Default)]
struct Model {
    /// By place: values and append times of all records ever, and the start.
    places: [(Vec<(String, i64)>, u64); 3],
    committed: HashMap<usize, CommittedOffset>,
    now: i64,
    written: usize,
}

impl Model {
    fn value(&mut self, size: usize) -> String {
        self.written += 1;
        format!("{}{}", self.written, ".".repeat(size))
    }

    fn add(&mut self, place: usize, value: String) {
        // One time for the whole log.
        let last = self.places.iter().filter_map(|(records, _)| records.last()).map(|(_, time)| *time).max();
        let time = last.map_or(self.now, |last| self.now.max(last));
        self.places[place].0.push((value, time));
    }
}

struct Producer {
    id: usize,
    producer: Box<dyn TransactionalProducer>,
    records: Vec<(usize, String)>,
    offsets: Vec<(usize, CommittedOffset)>,
    fenced: bool,
}

struct Run {
    log: Arc<dyn Log>,
    reopen: Box<dyn Fn() -> Option<Arc<dyn Log>>>,
    clock: Arc<AtomicI64>,
    places: Vec<TopicPartition>,
    model: Model,
    producers: Vec<Producer>,
}

fn group() -> GroupMetadata {
    GroupMetadata { group: "group".into(), ..GroupMetadata::default() }
}

impl Run {
    fn step(&mut self, step: Step) {
        let count = self.producers.len();
        match step {
            Step::Send(at, place, size) if count > 0 => {
                let value = self.model.value(size);
                let producer = &mut self.producers[at % count];
                let TopicPartition { topic, partition } = &self.places[place];
                let record = ProducerRecord {
                    topic,
                    partition: *partition,
                    key: None,
                    value: Some(value.as_bytes()),
                    headers: &[],
                };
                assert_eq!(producer.producer.send(record).is_err(), producer.fenced);
                producer.records.push((place, value));
            }
            Step::Offsets(at, place, offset) if count > 0 => {
                let producer = &mut self.producers[at % count];
                let committed = CommittedOffset { offset, metadata: format!("by {}", producer.id) };
                let sent = producer.producer.send_offsets(&group(), &[(self.places[place].clone(), committed.clone())]);
                assert_eq!(sent.is_err(), producer.fenced);
                producer.offsets.push((place, committed));
            }
            Step::Commit(at) if count > 0 => {
                let producer = &mut self.producers[at % count];
                let (records, offsets) = (std::mem::take(&mut producer.records), std::mem::take(&mut producer.offsets));
                let done = producer.producer.commit();
                if producer.fenced {
                    assert!(matches!(done, Ok(()) | Err(LogError::Fenced(_))), "{done:?}");
                    return;
                }
                assert_eq!(done, Ok(()));
                records.into_iter().for_each(|(place, value)| self.model.add(place, value));
                self.model.committed.extend(offsets);
            }
            Step::Abort(at) if count > 0 => {
                let producer = &mut self.producers[at % count];
                producer.producer.abort().unwrap();
                (producer.records, producer.offsets) = Default::default();
            }
            Step::TakeOver(id) => {
                self.producers.iter_mut().filter(|p| p.id == id).for_each(|p| p.fenced = true);
                let producer = self.log.producer(&format!("id-{id}")).unwrap();
                self.producers.push(Producer { id, producer, records: vec![], offsets: vec![], fenced: false });
            }
            Step::Append(records) => {
                for (topic, _) in TOPICS {
                    let here: Vec<_> =
                        records.iter().filter(|(place, _)| *self.places[*place].topic == *topic).collect();
                    self.append(topic, &here);
                }
            }
            Step::Delete(place, part) => {
                let (records, start) = &mut self.model.places[place];
                let before = (records.len() as f64 * part) as u64;
                self.log.delete_records(&self.places[place], before).unwrap();
                *start = before.clamp(*start, records.len() as u64);
            }
            Step::Clock(by) => {
                self.model.now += by;
                self.clock.store(self.model.now, Ordering::SeqCst);
            }
            Step::Reopen => {
                self.producers.clear();
                // The directory is free only once the former log was dropped.
                self.log = Arc::new(MemoryLog::new(Arc::new(|| 0)));
                self.log = (self.reopen)().unwrap();
            }
            Step::Read(place, part) => self.check(place, part),
            _ => {}
        }
    }

    fn append(&mut self, topic: &str, records: &[&(usize, usize)]) {
        let mut batch = AppendBatch::default();
        let mut last = std::collections::BTreeMap::new();
        for (place, size) in records {
            let (value, partition) = (self.model.value(*size), self.places[*place].partition);
            let bytes = value.clone().into();
            batch.push(OwnedRecord { partition, key: None, value: Some(bytes), headers: bytes::Bytes::new() });
            self.model.add(*place, value);
            last.insert(partition, self.model.places[*place].0.len() as u64 - 1);
        }
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |outcome| sender.send(outcome).unwrap());
        self.log.appender().unwrap().append(topic, batch, done);
        let outcome = receiver.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(outcome, Ok(last.into_iter().collect()));
    }

    /// Reads from somewhere to the end, and compares.
    fn check(&self, place: usize, part: f64) {
        let (records, start) = &self.model.places[place];
        let end = records.len() as u64;
        assert_eq!(self.log.bounds(&self.places[place]), Ok((*start, end)));
        let from = start + ((end - start) as f64 * part) as u64;
        let mut consumer = self.log.consumer("").unwrap();
        consumer.assign(&self.places[place], from).unwrap();
        let mut offset = from;
        while let Polled::Records { records: read, next_offset, .. } = consumer.poll(Duration::ZERO).unwrap() {
            for record in read {
                let record = record.unwrap();
                let (value, time) = &records[offset as usize];
                assert_eq!((record.offset, record.append_time_ms), (offset, *time));
                assert!(record.value == Some(value.as_bytes()), "offset {offset}");
                offset += 1;
            }
            assert_eq!(next_offset, offset);
        }
        assert_eq!(offset, end);
        assert_eq!(self.log.committed("group", &self.places[place]), Ok(self.model.committed.get(&place).cloned()));
    }
}

fn run(steps: Vec<Step>, open: impl Fn(Clock) -> Arc<dyn Log> + 'static) {
    let clock = Arc::new(AtomicI64::new(0));
    let time = clock.clone();
    let injected: Clock = Arc::new(move || time.load(Ordering::SeqCst));
    let log = open(injected.clone());
    let specs = TOPICS.map(|(name, partitions)| TopicSpec {
        name: name.into(),
        partitions,
        cleanup: Cleanup::Delete,
        retention: None,
        retention_bytes: None,
    });
    log.ensure_topics(&specs).unwrap();
    let places = TOPICS.iter().flat_map(|(name, n)| (0..*n).map(|partition| TopicPartition::new(*name, partition)));
    let mut run = Run {
        log,
        reopen: Box::new(move || Some(open(injected.clone()))),
        clock,
        places: places.collect(),
        model: Model::default(),
        producers: Vec::new(),
    };
    for step in steps {
        run.step(step);
    }
    for place in 0..3 {
        run.check(place, 0.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_as_the_model(steps in proptest::collection::vec(any_step(), 1..120)) {
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Reopen)).collect();
        run(steps, |clock| Arc::new(MemoryLog::new(clock)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn embedded_is_as_the_model(steps in proptest::collection::vec(any_step(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        run(steps, move |clock| {
            Arc::new(EmbeddedLog::open(&path, EmbeddedOptions { clock, ..EmbeddedOptions::default() }).unwrap())
        });
    }
}
