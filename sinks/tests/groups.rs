//! Several sinks on one target: the group divides the partitions, and no two fight over a position.

mod fixture;

use fixture::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tally_sinks::*;
use tally_streams::log::*;
use tally_streams::testkit::AlteredLog;

/// What happens next to one of three sinks.
#[derive(Clone, Debug)]
enum Action {
    /// It starts, or takes that many steps.
    Steps(usize),
    /// It stops cleanly.
    Finish,
    /// It is killed.
    Kill,
    /// The pipeline writes that many commits.
    Commits(i64),
}

fn actions() -> impl Strategy<Value = Vec<(usize, Action)>> {
    // Half of the histories have no kills: then nothing is read twice.
    any::<bool>().prop_flat_map(|kills| {
        let action = prop_oneof![
            6 => (1..12usize).prop_map(Action::Steps),
            1 => Just(Action::Finish),
            1 => Just(if kills { Action::Kill } else { Action::Finish }),
            2 => (1..6i64).prop_map(Action::Commits),
        ];
        prop::collection::vec((0..3usize, action), 1..60)
    })
}

/// Checks the writes of a sink: rows of its own partitions only, each together with its position.
struct Inspected(Box<dyn Target>);

impl Target for Inspected {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        self.0.positions(topics)
    }
    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        for row in batch.counters.rows() {
            let partition = partition_of(row.subject_id.as_bytes(), PARTITIONS);
            let moves = batch.positions.iter().any(|step| step.partition.partition == partition);
            assert!(moves, "a row of partition {partition} without a step of its position");
        }
        let moves = batch.positions.iter().any(|step| &*step.partition.topic == "rankings");
        assert!(moves || batch.rankings.rows().is_empty(), "a board without a step of its position");
        self.0.write(batch)
    }
}

/// A sink that keeps a batch for some steps before it writes it.
fn task(world: &World, who: usize, target: Box<dyn Target>) -> SinkTask {
    let (member, linger) = (format!("sink-{who}"), Duration::from_millis(40));
    let config = SinkConfig { records_max: 50, linger, member, ..config() };
    SinkTask::new(config, world.log.clone(), Box::new(Inspected(target)), &world.metrics)
}

/// Runs the sinks, then lets the remaining sinks bring everything to its end.
fn run(world: &mut World, place: &DatabasePlace, actions: &[(usize, Action)]) -> i64 {
    let mut tasks: [Option<SinkTask>; 3] = [None, None, None];
    let (mut commits, mut kills) = (0, 0);
    for (who, action) in actions {
        match action {
            Action::Steps(steps) => {
                let task = tasks[*who].get_or_insert_with(|| task(world, *who, place.target()));
                for _ in 0..*steps {
                    world.pass(5);
                    task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
                }
            }
            Action::Finish => tasks[*who].take().iter_mut().for_each(|task| task.finish(world.now())),
            Action::Kill => kills += i64::from(tasks[*who].take().is_some()),
            Action::Commits(more) => {
                world.commits(commits + 1, commits + more);
                commits += more;
            }
        }
    }
    let mut left: Vec<SinkTask> = tasks.into_iter().flatten().collect();
    if left.is_empty() {
        left.push(task(world, 0, place.target()));
    }
    for _ in 0..3 {
        left.iter_mut().for_each(|task| world.drain(task));
    }
    assert_eq!(world.metric("tally_sink_lag_records"), 0.0);
    assert_eq!(world.metric("tally_sink_errors_total"), 0.0, "no sink found a position that was moved");
    if kills == 0 {
        assert_eq!(
            world.metric("tally_sink_records_total"),
            (COMMIT_RECORDS * commits) as f64,
            "each record was read once"
        );
    }
    commits
}

fn check(place: &DatabasePlace, actions: &[(usize, Action)]) {
    place.open();
    let mut world = World::new();
    let commits = run(&mut world, place, actions);
    assert_eq!(place.all_rows(), expected(commits));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn sinks_that_come_and_go_write_every_record_and_never_fight(actions in actions()) {
        check(&DatabasePlace::new(), &actions);
    }
}

#[test]
fn on_a_server_they_do_so_too() {
    for place in server_databases().into_iter().map(DatabasePlace::Server) {
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(24)
        });
        place.open();
        let outcome = runner.run(&actions(), |actions| {
            place.clear();
            check(&place, &actions);
            Ok(())
        });
        outcome.unwrap();
    }
}

#[test]
fn every_process_fills_a_cache_of_its_own_with_everything() {
    let mut world = World::new();
    world.history(40);
    let places = [CachePlace::new(), CachePlace::new()];
    for (place, member) in places.iter().zip(["a", "b"]) {
        let mut task = world.task_of(member, place.target());
        world.drain(&mut task);
        assert!(place.cache.ready());
        assert_eq!(place.totals("article:9").len(), 2);
        assert_eq!(place.board(BOARDS[1]), Some(shown(&board_at(39))));
        assert_eq!([0, 1].map(|p| place.cache.roots(&TopicPartition::new("counters", p))[0].next_offset), [40, 40]);
        // It stays: the next sink still gets everything.
        std::mem::forget(task);
    }
}

/// The calls of the consumers at their end, and their results.
type Calls = Arc<Mutex<Vec<&'static str>>>;

type Script = Arc<Mutex<VecDeque<Result<Event, LogError>>>>;

#[derive(Clone)]
enum Event {
    Lost(Vec<u32>),
    Assigned(Vec<u32>),
}

struct ScriptedConsumer {
    inner: Box<dyn Consumer>,
    script: Script,
    calls: Calls,
}

impl Drop for ScriptedConsumer {
    fn drop(&mut self) {
        self.calls.lock().unwrap().push("dropped");
    }
}

impl Consumer for ScriptedConsumer {
    fn subscribe(&mut self, driver: &str, member: &str) -> Result<(), LogError> {
        self.inner.subscribe(driver, member)
    }
    fn unsubscribe(&mut self) -> Result<(), LogError> {
        self.calls.lock().unwrap().push("unsubscribe");
        self.inner.unsubscribe()
    }
    fn assign(&mut self, partition: &TopicPartition, offset: u64) -> Result<(), LogError> {
        self.inner.assign(partition, offset)
    }
    fn unassign(&mut self, partition: &TopicPartition) {
        self.inner.unassign(partition);
    }
    fn poll(&mut self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        match self.script.lock().unwrap().pop_front() {
            Some(Ok(Event::Lost(partitions))) => Ok(Polled::Revoked { partitions, lost: true }),
            Some(Ok(Event::Assigned(partitions))) => Ok(Polled::Assigned(partitions)),
            Some(Err(error)) => Err(error),
            None => {
                let polled = self.inner.poll(timeout);
                let mut calls = self.calls.lock().unwrap();
                match &polled {
                    Ok(Polled::Revoked { .. }) => calls.push("revoked"),
                    Ok(Polled::Nothing) if calls.contains(&"unsubscribe") => calls.push("nothing"),
                    _ => {}
                }
                polled
            }
        }
    }
    fn position(&self, partition: &TopicPartition) -> Option<u64> {
        self.inner.position(partition)
    }
    fn group_metadata(&self) -> GroupMetadata {
        self.inner.group_metadata()
    }
}

/// A log whose consumers answer by the script before they read on.
fn scripted(world: &World, script: &Script, calls: &Calls) -> Arc<AlteredLog> {
    let (script, calls) = (script.clone(), calls.clone());
    let consumer = move |inner| -> Box<dyn Consumer> {
        Box::new(ScriptedConsumer { inner, script: script.clone(), calls: calls.clone() })
    };
    Arc::new(AlteredLog::new(world.log.clone()).consumers(consumer))
}

#[test]
fn partitions_that_were_lost_take_the_batch_with_them_and_log_errors_are_waited_out() {
    for (events, errors) in [
        (vec![Ok(Event::Lost(vec![1])), Ok(Event::Assigned(vec![1]))], 0.0),
        (vec![Ok(Event::Lost(vec![0, 1])), Ok(Event::Assigned(vec![1])), Ok(Event::Assigned(vec![0]))], 0.0),
        (vec![Err(LogError::Unavailable("away".into()))], 1.0),
        (vec![Err(LogError::Busy), Err(LogError::Unavailable("away".into()))], 2.0),
    ] {
        for before in 0..12 {
            let (mut world, place) = (World::new(), DatabasePlace::new());
            world.history(40);
            let script = Script::default();
            let log = scripted(&world, &script, &Calls::default());
            let linger = Duration::from_millis(40);
            let config = SinkConfig { records_max: 1_000, linger, ..config() };
            let target = Box::new(Inspected(place.target()));
            let mut task = SinkTask::new(config, log, target, &world.metrics);
            for _ in 0..before {
                world.pass(3);
                task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
            }
            script.lock().unwrap().extend(events.clone());
            world.drain(&mut task);
            assert!(script.lock().unwrap().is_empty());
            assert_eq!(place.all_rows(), expected(40), "after {before} steps");
            assert_eq!(world.metric("tally_sink_errors_total"), errors, "after {before} steps");
        }
    }
}

#[test]
fn a_consumer_that_is_fenced_is_replaced() {
    let (mut world, place) = (World::new(), DatabasePlace::new());
    world.history(40);
    let script = Script::default();
    script.lock().unwrap().push_back(Err(LogError::Fenced("member".into())));
    let log = scripted(&world, &script, &Calls::default());
    let mut task = SinkTask::new(config(), log, place.target(), &world.metrics);
    world.drain(&mut task);
    assert_eq!(place.all_rows(), expected(40));
}

#[test]
fn a_sink_that_ends_leaves_its_group_in_good_order() {
    let (mut world, place) = (World::new(), DatabasePlace::new());
    world.history(40);
    let (script, calls) = (Script::default(), Calls::default());
    let log = scripted(&world, &script, &calls);
    let config = SinkConfig { linger: Duration::from_secs(60), records_max: 1_000, ..config() };
    let mut task = SinkTask::new(config, log, place.target(), &world.metrics);
    for _ in 0..20 {
        world.pass(1);
        task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
    }
    assert!(place.all_rows().0.is_empty());
    task.finish(world.now());
    assert_eq!(*calls.lock().unwrap(), ["unsubscribe", "revoked", "nothing", "dropped"]);
    assert_eq!(place.all_rows(), expected(40));
}

/// Takes nothing.
struct Away;

impl Target for Away {
    fn positions(&mut self, _: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        Ok(Vec::new())
    }
    fn write(&mut self, _: &Batch) -> Result<(), TargetError> {
        Err(TargetError::Unavailable("away".into()))
    }
    fn probe(&mut self) -> Result<(), TargetError> {
        Err(TargetError::Unavailable("away".into()))
    }
}

#[test]
fn a_sink_that_cannot_write_gives_its_partitions_to_one_that_can() {
    let (mut world, place) = (World::new(), DatabasePlace::new());
    world.history(40);
    let mut stuck = world.task_of("stuck", Box::new(Away));
    let mut well = world.task_of("well", place.target());
    let step = |task: &mut SinkTask| {
        world.pass(10);
        task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
    };
    (0..2_000).for_each(|_| step(&mut stuck));
    (0..500).for_each(|_| [&mut stuck, &mut well].into_iter().for_each(step));
    assert_eq!(place.all_rows().1.len(), 1, "one of two partitions");
    stuck.finish(world.now());
    world.drain(&mut well);
    assert_eq!(place.all_rows(), expected(40));
}
