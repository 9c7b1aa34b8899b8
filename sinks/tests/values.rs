//! Topics that hold values only: a sink learns how far the input is contained from headers and from the internal topic, and
//! claims nothing that it does not hold.

mod fixture;

use fixture::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tally_model::{Counters, OutputCommit, OutputType, ProgressMark, RootPosition, TaskProgress};
use tally_sinks::{SinkConfig, SinkTask, Step};
use tally_streams::log::{Cleanup, Log, ProducerRecord, TopicPartition, TopicSpec};

const GENERATION: i64 = 1 << 48;
const PROGRESS: &str = "tally-progress";

/// Two tasks that write to a partition of `counters` each, in one process.
struct Pipeline {
    world: World,
    /// By task, its last commit, and the last that wrote.
    commits: [u64; PARTITIONS as usize],
    wrote: [u64; PARTITIONS as usize],
    /// By task, every total that was written: commit, subject.
    written: [Vec<(u64, String)>; PARTITIONS as usize],
}

impl Pipeline {
    fn new() -> Self {
        let world = World::new();
        let (name, cleanup) = (PROGRESS.to_owned(), Cleanup::CompactAndDelete);
        world
            .log
            .ensure_topics(&[TopicSpec {
                name,
                partitions: PARTITIONS,
                cleanup,
                retention: None,
                retention_bytes: None,
            }])
            .unwrap();
        Self { world, commits: [0; 2], wrote: [0; 2], written: [Vec::new(), Vec::new()] }
    }

    fn sink(&self, place: &dyn Place) -> SinkTask {
        let topics = vec![("counters".into(), OutputType::Counters)];
        let progress_topic = Some(PROGRESS.into());
        let config = SinkConfig { records_max: 7, topics, progress_topic, ..config() };
        SinkTask::new(config, self.world.log.clone(), place.target(), &self.world.metrics)
    }

    fn progress(&self, task: usize, commit: u64, outputs: Vec<OutputCommit>) -> TaskProgress {
        let root = RootPosition { partition: 0, next_offset: commit, clock_ms: NOW_MS + commit as i64 };
        TaskProgress { task: format!("by-subject_id/{task}"), generation: 1, commit, roots: vec![root], outputs }
    }

    /// A commit of a task: totals of these subjects, whose value is the commit's number; whether it publishes its progress.
    fn commit(&mut self, task: usize, subjects: &[&str], publishes: bool) {
        self.commits[task] += 1;
        let commit = self.commits[task];
        let header = self.progress(task, commit, Vec::new()).encode();
        for (i, subject) in subjects.iter().enumerate() {
            let is_last = i + 1 == subjects.len();
            let record = counters(subject, &[("likes", commit as i64)], &["likes"], GENERATION + commit as i64);
            let value = serde_json::to_vec(&record).unwrap();
            let headers: &[(&str, &[u8])] = if is_last { &[("progress", &header)] } else { &[] };
            let (key, value) = (Some(subject.as_bytes()), Some(value.as_slice()));
            let record = ProducerRecord { topic: "counters", partition: task as u32, key, value, headers };
            self.world.producer.send(record).unwrap();
            self.wrote[task] = commit;
            self.written[task].push((commit, (*subject).to_owned()));
        }
        if publishes {
            let outputs = vec![OutputCommit { topic: "counters".into(), commit: self.wrote[task] }];
            let progress = self.progress(task, commit, outputs);
            let (key, value) = (progress.task.clone(), progress.encode());
            let (key, value) = (Some(key.as_bytes()), Some(value.as_slice()));
            let record = ProducerRecord { topic: PROGRESS, partition: task as u32, key, value, headers: &[] };
            self.world.producer.send(record).unwrap();
        }
        self.world.producer.commit().unwrap();
    }

    /// What a place claims of a partition: everything of its task up to this commit.
    fn claimed(&self, place: &dyn Place, task: usize) -> Option<u64> {
        let stored = place.target().positions(&[Arc::from("counters")]).unwrap();
        let stored = stored.into_iter().find(|stored| stored.partition.partition == task as u32)?;
        stored.roots.merged().first().map(|root| root.next_offset)
    }

    /// Every total up to the commit that is claimed, or a newer one, is there.
    fn check(&self, place: &dyn Place, context: &str) {
        for task in 0..PARTITIONS as usize {
            let Some(claimed) = self.claimed(place, task) else { continue };
            let mut due = BTreeMap::new();
            due.extend(
                self.written[task].iter().filter(|(commit, _)| *commit <= claimed).map(|(c, s)| (s.clone(), *c)),
            );
            for (subject, commit) in due {
                let found = place.totals(&subject).get("likes").copied().unwrap_or(0);
                assert!(
                    found >= commit as i64,
                    "{context}: claims commit {claimed}, and {subject} has {found} < {commit}"
                );
            }
        }
    }

    fn drain(&self, sink: &mut SinkTask) {
        self.world.drain(sink);
    }
}

fn counters_of(partition: u32) -> TopicPartition {
    TopicPartition::new("counters", partition)
}

/// A database and the cache of this process; Redis where there is one.
fn places() -> Vec<Box<dyn Place>> {
    let mut places: Vec<Box<dyn Place>> = vec![Box::new(DatabasePlace::new()), Box::new(CachePlace::new())];
    places.extend(redis_places().into_iter().map(|place| Box::new(place) as Box<dyn Place>));
    places
}

#[test]
fn headers_and_the_internal_topic_say_how_far_the_input_is_contained() {
    for place in places() {
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        let mut sink = pipeline.sink(place);
        pipeline.commit(0, &["a:1", "a:2"], false);
        pipeline.drain(&mut sink);
        assert_eq!((pipeline.claimed(place, 0), pipeline.claimed(place, 1)), (Some(1), None));
        pipeline.commit(0, &[], true);
        pipeline.commit(1, &[], true);
        pipeline.drain(&mut sink);
        assert_eq!((pipeline.claimed(place, 0), pipeline.claimed(place, 1)), (Some(2), Some(1)));
        assert_eq!(place.totals("a:2")["likes"], 1);
    }
}

#[test]
fn a_mark_whose_commit_has_not_reached_the_records_yet_claims_nothing() {
    for place in places() {
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        pipeline.commit(0, &["a:1"], true);
        let mut sink = pipeline.sink(place);
        pipeline.drain(&mut sink);
        assert_eq!(pipeline.claimed(place, 0), Some(1));
        // The outcome is known in the internal topic, and not in the partition: the log's end is before its records.
        pipeline.world.log.hold(&counters_of(0)).unwrap();
        pipeline.commit(0, &["a:1"], true);
        pipeline.commit(0, &[], true);
        pipeline.drain(&mut sink);
        assert_eq!((pipeline.claimed(place, 0), place.totals("a:1")["likes"]), (Some(1), 1));
        // Nor does a sink that begins now assume that it has read to the end.
        drop(sink);
        let mut sink = pipeline.sink(place);
        pipeline.drain(&mut sink);
        assert_eq!((pipeline.claimed(place, 0), place.totals("a:1")["likes"]), (Some(1), 1));
        pipeline.world.log.release(&counters_of(0)).unwrap();
        pipeline.drain(&mut sink);
        assert_eq!((pipeline.claimed(place, 0), place.totals("a:1")["likes"]), (Some(3), 2));
    }
}

#[test]
fn a_transaction_left_open_in_one_partition_does_not_stop_the_others() {
    for place in places() {
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        let mut sink = pipeline.sink(place);
        pipeline.commit(0, &["a:1"], true);
        pipeline.commit(1, &["b:1"], true);
        pipeline.drain(&mut sink);
        pipeline.world.log.hold(&counters_of(0)).unwrap();
        pipeline.world.log.hold(&TopicPartition::new(PROGRESS, 1)).unwrap();
        pipeline.commit(0, &["a:1"], true);
        pipeline.commit(1, &["b:1"], true);
        pipeline.drain(&mut sink);
        assert_eq!((pipeline.claimed(place, 0), pipeline.claimed(place, 1)), (Some(1), Some(2)));
        pipeline.world.log.release(&counters_of(0)).unwrap();
        pipeline.world.log.hold(&TopicPartition::new(PROGRESS, 0)).unwrap();
        pipeline.commit(0, &["a:1"], true);
        pipeline.drain(&mut sink);
        assert_eq!(pipeline.claimed(place, 0), Some(3), "records go on without the internal topic");
    }
}

/// After compaction: the record of commit 1 was removed, and its successor follows the record of commit 2.
#[test]
fn a_refill_over_a_compacted_topic_claims_nothing_before_the_end_that_it_saw() {
    for place in places() {
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        pipeline.commits[0] = 1;
        pipeline.written[0].push((1, "a:1".into()));
        pipeline.commit(0, &["a:2"], true);
        pipeline.world.log.hold(&counters_of(0)).unwrap();
        pipeline.commit(0, &["a:1"], true);
        let mut sink = pipeline.sink(place);
        pipeline.drain(&mut sink);
        pipeline.check(place, "half way");
        assert_eq!((place.totals("a:2")["likes"], pipeline.claimed(place, 0)), (2, None));
        pipeline.world.log.release(&counters_of(0)).unwrap();
        pipeline.drain(&mut sink);
        pipeline.check(place, "at the end");
        assert_eq!(pipeline.claimed(place, 0), Some(3));
    }
}

#[test]
fn a_reader_that_falls_behind_compaction_claims_nothing_new_before_it_has_caught_up() {
    for place in places() {
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        let mut sink = pipeline.sink(place);
        pipeline.commit(0, &["a:9"], true);
        pipeline.drain(&mut sink);
        // Commit 2 wrote a:1, and that record was removed: commit 4 replaced it while the sink was down.
        pipeline.commits[0] = 2;
        pipeline.written[0].push((2, "a:1".into()));
        pipeline.commit(0, &["a:2"], true);
        pipeline.world.log.hold(&counters_of(0)).unwrap();
        pipeline.commit(0, &["a:1"], true);
        pipeline.world.pass(120_000);
        pipeline.drain(&mut sink);
        pipeline.check(place, "half way");
        assert_eq!((place.totals("a:2")["likes"], pipeline.claimed(place, 0)), (3, Some(1)));
        pipeline.world.log.release(&counters_of(0)).unwrap();
        pipeline.drain(&mut sink);
        pipeline.check(place, "at the end");
        assert_eq!(pipeline.claimed(place, 0), Some(4));
    }
}

#[test]
fn records_that_retention_removed_do_not_hold_a_mark_back_for_ever() {
    for place in places() {
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        pipeline.commit(0, &["a:1"], false);
        pipeline.commit(0, &["a:2"], false);
        pipeline.commit(0, &[], true);
        pipeline.world.log.delete_records(&counters_of(0), 2).unwrap();
        pipeline.drain(&mut pipeline.sink(place));
        assert_eq!(pipeline.claimed(place, 0), Some(3));
    }
}

#[test]
fn marks_of_older_releases_count_and_their_tombstones_are_passed_over() {
    for place in places() {
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        let mark = pipeline.progress(0, 1, Vec::new()).mark();
        pipeline.world.put(0, b"a:1", &serde_json::to_vec(&first()).unwrap());
        pipeline.world.mark(0, &mark);
        pipeline.world.producer.commit().unwrap();
        let mut sink = pipeline.sink(place);
        pipeline.drain(&mut sink);
        assert_eq!(pipeline.claimed(place, 0), Some(1));
        pipeline.commits[0] = 1;
        let key = ProgressMark::key(&mark.task);
        let (key, headers) = (Some(key.as_slice()), &[][..]);
        let record = ProducerRecord { topic: "counters", partition: 0, key, value: None, headers };
        pipeline.world.producer.send(record).unwrap();
        pipeline.commit(0, &["a:2"], true);
        pipeline.drain(&mut sink);
        assert_eq!(pipeline.claimed(place, 0), Some(2));
        drop(sink);
        // The same from the start, and by a sink that took over the progress of an older release.
        let again = DatabasePlace::new();
        pipeline.drain(&mut pipeline.sink(&again));
        assert_eq!(pipeline.claimed(&again, 0), Some(2));
        again.rows("UPDATE sink_progress SET roots = REPLACE(roots, ',\"version\":281474976710658', '')");
        pipeline.commit(0, &[], true);
        pipeline.drain(&mut pipeline.sink(&again));
        assert_eq!(pipeline.claimed(&again, 0), Some(3));
    }
}

fn first() -> Counters {
    counters("a:1", &[("likes", 1)], &["likes"], GENERATION + 1)
}

/// Only tally writes the first header: headers of another producer follow the reason of a dead letter.
#[test]
fn a_header_that_a_stranger_sent_claims_nothing() {
    let place = DatabasePlace::new();
    let mut pipeline = Pipeline::new();
    let forged = pipeline.progress(0, 1_000, Vec::new()).encode();
    let value = serde_json::to_vec(&first()).unwrap();
    let headers: &[(&str, &[u8])] = &[("reason", b"not JSON"), ("progress", &forged), ("progress", b"nonsense")];
    let (key, value) = (Some(b"a:1".as_slice()), Some(value.as_slice()));
    let record = ProducerRecord { topic: "counters", partition: 0, key, value, headers };
    pipeline.world.producer.send(record).unwrap();
    pipeline.world.producer.commit().unwrap();
    pipeline.drain(&mut pipeline.sink(&place));
    assert_eq!((place.totals("a:1")["likes"], pipeline.claimed(&place, 0)), (1, None));
}

#[test]
fn progress_that_cannot_be_read_stops_the_sink_with_its_address() {
    for (topic, expected) in [
        (PROGRESS, "sink `test`: tally-progress/1: offset 0: cannot be read as progress: "),
        ("counters", "sink `test`: counters/1: offset 0: cannot be read as Counters: header `progress`: "),
    ] {
        let place = DatabasePlace::new();
        let mut pipeline = Pipeline::new();
        let counted = serde_json::to_vec(&first()).unwrap();
        let value = if topic == PROGRESS { b"\x09later".as_slice() } else { &counted };
        let (key, headers) = (Some(b"a:1".as_slice()), &[("progress", b"\x09later".as_slice())][..]);
        let record = ProducerRecord { topic, partition: 1, key, value: Some(value), headers };
        pipeline.world.producer.send(record).unwrap();
        pipeline.world.producer.commit().unwrap();
        let mut sink = pipeline.sink(&place);
        let mut steps = 0..1_000;
        let error = steps.find_map(|_| {
            pipeline.world.pass(10);
            sink.poll_once(pipeline.world.now(), 0.0, Duration::ZERO).err()
        });
        let error = error.expect("it stops").to_string();
        assert!(error.starts_with(expected) && error.contains("form 9 of progress is newer"), "{error}");
    }
}

/// Whatever becomes visible first, wherever a sink dies, whatever of the internal topic is deleted, and however far behind
/// it is: it claims nothing that it does not hold, and in the end all.
#[test]
fn no_claim_without_its_rows() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        // A look into a database costs more than a step.
        let (place, look_every): (Box<dyn Place>, u32) = match seed % 20 {
            0 => (Box::new(DatabasePlace::new()), 10),
            _ => (Box::new(CachePlace::new()), 1),
        };
        let place = place.as_ref();
        let mut pipeline = Pipeline::new();
        let mut sink = Some(pipeline.sink(place));
        for step in 0..250u32 {
            let task = random.random_range(0..PARTITIONS as usize);
            let partition = match random.random_range(0..3) {
                0 => TopicPartition::new(PROGRESS, task as u32),
                _ => counters_of(task as u32),
            };
            match random.random_range(0..20) {
                0..5 => {
                    let subjects: Vec<_> = (0..random.random_range(0..4))
                        .map(|_| format!("{task}:{}", random.random_range(0..5)))
                        .collect();
                    let subjects: Vec<_> = subjects.iter().map(String::as_str).collect();
                    let publishes = random.random_bool(0.5);
                    pipeline.commit(task, &subjects, publishes);
                }
                5 => pipeline.world.log.hold(&partition).unwrap(),
                6..8 => pipeline.world.log.release(&partition).unwrap(),
                8 => sink = None,
                9 => pipeline.world.pass(random.random_range(0..90_000)),
                10 => {
                    // Replaced records of the internal topic are deleted once readers see their successors.
                    let partition = TopicPartition::new(PROGRESS, task as u32);
                    let (_, end) = pipeline.world.log.bounds(&partition).unwrap();
                    pipeline.world.log.delete_records(&partition, end.saturating_sub(1)).unwrap();
                }
                _ => {
                    let sink = sink.get_or_insert_with(|| pipeline.sink(place));
                    pipeline.world.pass(random.random_range(0..300));
                    let step = sink.poll_once(pipeline.world.now(), 0.0, Duration::ZERO).unwrap();
                    if let Step::Waiting(wait_ms) = step {
                        pipeline.world.pass(wait_ms);
                    }
                }
            }
            if step % look_every == 0 {
                pipeline.check(place, &format!("seed {seed}, step {step}"));
            }
        }
        for task in 0..PARTITIONS {
            pipeline.world.log.release(&counters_of(task)).unwrap();
            pipeline.world.log.release(&TopicPartition::new(PROGRESS, task)).unwrap();
            pipeline.commit(task as usize, &[&format!("{task}:z")], true);
        }
        pipeline.drain(&mut sink.unwrap_or_else(|| pipeline.sink(place)));
        pipeline.check(place, &format!("seed {seed}, at the end"));
        for task in 0..PARTITIONS as usize {
            assert_eq!(pipeline.claimed(place, task), Some(pipeline.commits[task]), "seed {seed}");
        }
    }
}
