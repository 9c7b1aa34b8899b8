//! A sink over a log: it resumes after a crash at any step, waits out failures, and never passes anything over.

mod fixture;

use fixture::*;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_model::OutputType;
use tally_sinks::*;
use tally_streams::log::{Cleanup, Log, LogError, Now, TopicPartition, TopicSpec};

/// Fails on purpose, before or after the write has taken effect.
struct Flaky {
    inner: Box<dyn Target>,
    plan: Arc<Mutex<Vec<Fault>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Before,
    After,
}

impl Target for Flaky {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        self.inner.positions(topics)
    }

    fn begin(&mut self, goals: &[(TopicPartition, u64)]) {
        self.inner.begin(goals);
    }

    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        let fault = self.plan.lock().unwrap().pop().unwrap_or(Fault::None);
        if fault != Fault::Before {
            self.inner.write(batch)?;
        }
        match fault {
            Fault::None => Ok(()),
            Fault::Before | Fault::After => Err(TargetError::Unavailable("on purpose".into())),
        }
    }
}

#[test]
fn the_history_ends_in_these_rows() {
    let (rows, progress) = expected(40);
    assert_eq!(rows.len(), 26, "totals, two boards, and the four entries of one of them");
    assert_eq!(rows[..2], ["article:0|likes|400", "article:0|views|300"]);
    assert!(progress[0].ends_with("|40") && progress[0].contains(r#""next_offset":40"#), "{progress:?}");
}

#[test]
fn a_crash_at_any_step_changes_nothing() {
    let expected = expected(40);
    for steps in 0..60 {
        let (mut world, place) = (World::new(), DatabasePlace::new());
        world.history(40);
        let mut task = world.task(Box::new(place.open()));
        for _ in 0..steps {
            world.pass(3);
            task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
        }
        drop(task);
        world.drain(&mut world.task(Box::new(place.open())));
        assert_eq!(place.all_rows(), expected, "after {steps} steps");
    }
}

#[test]
fn failures_are_waited_out_whether_or_not_the_write_took_effect() {
    let expected = expected(40);
    let plans = [[Fault::Before; 3], [Fault::After; 3], [Fault::None, Fault::After, Fault::Before]];
    for plan in plans {
        let (mut world, place) = (World::new(), DatabasePlace::new());
        world.history(40);
        let plan = Arc::new(Mutex::new(plan.to_vec()));
        let mut task = world.task(Box::new(Flaky { inner: Box::new(place.open()), plan: plan.clone() }));
        world.drain(&mut task);
        assert!(plan.lock().unwrap().is_empty());
        assert_eq!(place.all_rows(), expected);
        assert!(world.metric("tally_sink_errors_total") >= 2.0);
    }
}

/// A target that can be unavailable, and counts its calls.
struct Remote {
    inner: Box<dyn Target>,
    is_away: Arc<AtomicBool>,
    asked: Arc<Mutex<(u32, u32)>>,
}

impl Remote {
    fn answer(&self) -> Result<(), TargetError> {
        match self.is_away.load(Ordering::Relaxed) {
            true => Err(TargetError::Unavailable("away".into())),
            false => Ok(()),
        }
    }
}

impl Target for Remote {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        self.answer()?;
        self.inner.positions(topics)
    }

    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        self.asked.lock().unwrap().0 += 1;
        self.answer()?;
        self.inner.write(batch)
    }

    fn probe(&mut self) -> Result<(), TargetError> {
        self.asked.lock().unwrap().1 += 1;
        self.answer()
    }
}

#[test]
fn a_target_that_is_away_is_probed_and_gets_the_batch_when_it_is_back() {
    let (mut world, place) = (World::new(), DatabasePlace::new());
    let (is_away, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let target = Remote { inner: Box::new(place.open()), is_away: is_away.clone(), asked: Arc::clone(&asked) };
    let mut task = world.task(Box::new(target));
    world.drain(&mut task);
    world.history(40);
    is_away.store(true, Ordering::Relaxed);
    *asked.lock().unwrap() = (0, 0);
    let since_ms = world.now_ms();
    while world.now_ms() - since_ms < 120_000 {
        world.pass(10);
        task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
    }
    assert_eq!(world.metric("tally_sink_breaker_state"), 2.0);
    let (writes, probes) = *asked.lock().unwrap();
    assert_eq!(writes, 5, "then only probes");
    assert!((10..16).contains(&probes), "{probes} in two minutes");
    assert!(place.all_rows().0.is_empty());
    is_away.store(false, Ordering::Relaxed);
    world.drain(&mut task);
    assert_eq!(world.metric("tally_sink_breaker_state"), 0.0);
    assert_eq!(place.all_rows(), expected(40));
    assert_eq!(asked.lock().unwrap().1, probes + 1, "one probe was enough");
}

#[test]
fn two_sinks_on_one_database_end_in_the_same_rows() {
    let expected = expected(40);
    for pattern in [0b0101_0101u64, 0b0011_0111, 0b0001_0001] {
        let (mut world, place) = (World::new(), DatabasePlace::new());
        world.history(40);
        let mut tasks = ["a", "b"].map(|member| world.task_of(member, Box::new(place.open())));
        for step in 0..300 {
            world.pass(20);
            let task = &mut tasks[(pattern >> (step % 8) & 1) as usize];
            task.poll_once(world.now(), 0.5, Duration::ZERO).unwrap();
        }
        let [mut first, second] = tasks;
        drop(second);
        world.drain(&mut first);
        assert_eq!(place.all_rows(), expected);
    }
}

#[test]
fn a_reset_is_noticed_by_the_sink_that_runs() {
    let (mut world, place) = (World::new(), DatabasePlace::new());
    world.history(40);
    let mut task = world.task(Box::new(place.open()));
    world.drain(&mut task);
    let before = place.all_rows();
    place.clear();
    assert_eq!(place.all_rows(), (vec![], vec![]));
    world.history(1);
    world.drain(&mut task);
    assert_eq!(place.all_rows().0.len(), before.0.len());
    assert_eq!(place.all_rows().0[4..], before.0[4..], "beside article:1, which the last commit named");
}

#[test]
fn a_record_that_cannot_be_read_stops_the_sink_with_its_address() {
    let place = DatabasePlace::new();
    let mut world = World::new();
    world.history(2);
    world.put(1, b"article:1", b"{\"subject_id\":");
    world.producer.commit().unwrap();
    let mut task = world.task(Box::new(place.open()));
    for _ in 0..2 {
        let error = loop {
            world.pass(10);
            match task.poll_once(world.now(), 0.0, Duration::ZERO) {
                Ok(_) => continue,
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.starts_with("sink `test`: counters/1: offset "), "{error}");
        assert!(error.contains("cannot be read as Counters: EOF"), "{error}");
    }
}

/// A reader that is not further behind than it may be polls again some time after it has looked.
#[test]
fn the_embedded_log_leaves_alone_what_readers_trust() {
    assert!(tally_streams::log::UpkeepOptions::default().margin_ms >= 2 * tally_model::TRUST_MS);
}

#[test]
fn what_may_have_been_compacted_behind_a_reader_that_lags_is_written_whole() {
    let place = DatabasePlace::new();
    let mut world = World::new();
    let subject = |version, total| counters("article:7", &[("likes", total), ("views", 1)], &["views"], version);
    let likes = || place.rows("SELECT value FROM counters WHERE metric = 'likes'");
    let mut task = world.task(Box::new(place.open()));
    world.drain(&mut task);
    world.counters(&subject(1, 1));
    world.producer.commit().unwrap();
    world.drain(&mut task);
    assert_eq!(likes(), Vec::<String>::new(), "a reader that keeps up writes what changed");
    world.counters(&subject(2, 2));
    world.producer.commit().unwrap();
    world.pass(60_001);
    world.drain(&mut task);
    assert_eq!(likes(), ["2"]);
    for (version, written) in [(3, "3"), (4, "3")] {
        world.counters(&subject(version, version));
        world.producer.commit().unwrap();
        world.drain(&mut task);
        assert_eq!(likes(), [written], "the first shows that it has caught up");
    }
    drop(task);
    world.counters(&subject(5, 5));
    world.producer.commit().unwrap();
    world.drain(&mut world.task(Box::new(place.open())));
    assert_eq!(likes(), ["5"], "what was there at the start may have been compacted before");
}

#[test]
fn the_cache_is_ready_when_it_has_read_what_the_log_held_at_the_start() {
    let place = CachePlace::new();
    let mut world = World::new();
    world.history(40);
    let mut task = world.task(place.target());
    let mut progress = place.cache.subscribe();
    let mut steps = 0;
    while !place.cache.ready() {
        assert!(place.cache.get("article:9").is_none_or(|found| found.version <= 39));
        world.pass(3);
        task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
        steps += 1;
    }
    assert!(steps > 2, "it takes several steps");
    assert!(progress.has_changed().unwrap());
    progress.mark_unchanged();
    assert_eq!(place.cache.get("article:9").unwrap().version, 39);
    assert_eq!(place.cache.roots(&TopicPartition::new("counters", 1))[0].next_offset, 40);
    assert!(
        place.cache.get("article:77").is_none() && place.cache.roots(&TopicPartition::new("counters", 9)).is_empty()
    );
    world.history(1);
    world.drain(&mut task);
    assert!(place.cache.ready() && progress.has_changed().unwrap());
}

#[test]
fn an_empty_log_makes_a_cache_ready_at_once() {
    let (world, place) = (World::new(), CachePlace::new());
    world.task(place.target()).poll_once(Now::both(NOW_MS), 0.0, Duration::ZERO).unwrap();
    assert!(place.cache.ready());
}

#[test]
fn a_database_that_writes_slowly_gets_larger_batches_within_bounds() {
    /// Each write takes 30 ms.
    struct Slow(Box<dyn Target>, Arc<AtomicI64>);
    impl Target for Slow {
        fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
            self.0.positions(topics)
        }
        fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
            self.1.fetch_add(30, Ordering::Relaxed);
            self.0.write(batch)
        }
        fn is_cache(&self) -> bool {
            self.0.is_cache()
        }
    }
    // Until the first write nothing is known; then 4 times 30 ms, but at most 5 times `linger`. Caches wait for `linger`.
    for (is_cache, linger_ms, waits_ms) in [(false, 10, [10, 50]), (false, 100, [100, 120]), (true, 10, [10, 10])] {
        let (cache, database) = (CachePlace::new(), DatabasePlace::new());
        let mut world = World::new();
        let inner = if is_cache { cache.target() } else { database.target() };
        let target = Box::new(Slow(inner, world.now_ms.clone()));
        let config = SinkConfig { linger: Duration::from_millis(linger_ms), records_max: 10_000, ..config() };
        let mut task = SinkTask::new(config, world.log.clone(), target, &world.metrics);
        // What was reset at the start is written at once, and its steps over control records wait longer.
        world.drain(&mut task);
        let waited = waits_ms.map(|_| {
            world.history(1);
            let mut begun = None;
            loop {
                let before = world.now_ms();
                match task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap() {
                    Step::Read(_) => drop(begun.get_or_insert(before)),
                    Step::Wrote(_) => break before - begun.unwrap(),
                    Step::Idle | Step::Waiting(_) => world.pass(1),
                }
            }
        });
        assert_eq!(waited, waits_ms, "cache: {is_cache}, linger: {linger_ms} ms");
    }
}

#[test]
fn a_topic_that_is_missing_is_waited_for() {
    let (world, place) = (World::new(), CachePlace::new());
    let mut config = config();
    config.topics.push(("reactions".into(), OutputType::Reaction));
    let mut task = SinkTask::new(config, world.log.clone(), place.target(), &world.metrics);
    let step = task.poll_once(Now::both(NOW_MS), 0.0, Duration::ZERO).unwrap();
    assert_eq!(step, Step::Waiting(100));
    assert_eq!(task.poll_once(Now::both(NOW_MS + 40), 0.0, Duration::ZERO).unwrap(), Step::Waiting(60));
    let cleanup = Cleanup::Compact;
    let topic = TopicSpec { name: "reactions".into(), partitions: 1, cleanup, retention: None, retention_bytes: None };
    world.log.ensure_topics(&[topic]).unwrap();
    assert_eq!(task.poll_once(Now::both(NOW_MS + 100), 0.0, Duration::ZERO).unwrap(), Step::Idle);
    assert!(matches!(world.log.partitions("nothing"), Err(LogError::UnknownTopic(_))));
}

#[test]
fn a_thread_writes_what_it_has_read_before_it_stops() {
    let place = DatabasePlace::new();
    let mut world = World::new();
    world.history(40);
    let thread = SinkThread::spawn(world.task(Box::new(place.open())), HeadStart::none()).unwrap();
    let expected = expected(40);
    while place.all_rows() != expected {
        assert!(!thread.is_finished());
        std::thread::sleep(Duration::from_millis(5));
    }
    thread.stop();
    thread.join().unwrap();
    assert!(world.metric("tally_sink_batches_total") > 1.0);
    assert_eq!(world.metric("tally_sink_records_total"), (40 * COMMIT_RECORDS) as f64);
}

#[test]
fn a_thread_leaves_the_processor_to_others_until_their_head_start_ends_or_it_is_stopped() {
    let place = DatabasePlace::new();
    let mut world = World::new();
    world.history(1);
    let head_start = HeadStart::running();
    let task = world.task(Box::new(place.open()));
    let before = place.all_rows();
    let thread = SinkThread::spawn(task, head_start.clone()).unwrap();
    thread.stop();
    thread.join().unwrap();
    assert_eq!(place.all_rows(), before);
    let thread = SinkThread::spawn(world.task(Box::new(place.open())), head_start.clone()).unwrap();
    head_start.end();
    while place.all_rows() == before {
        assert!(!thread.is_finished());
        std::thread::sleep(Duration::from_millis(5));
    }
    thread.stop();
    thread.join().unwrap();
}
