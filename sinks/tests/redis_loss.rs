//! What is particular about Redis: it can lose everything at any moment, in whole or in part, and that is noticed.

mod fixture;

use fixture::*;
use redis::cmd;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tally_sinks::{SinkTask, Step};
use tally_streams::log::{Log, TopicPartition};

/// Totals by subject, and the boards.
type All = (BTreeMap<String, BTreeMap<String, i64>>, [Option<Board>; 2]);

fn subjects() -> impl Iterator<Item = String> {
    (0..10).map(|i| format!("article:{i}"))
}

fn all_of(place: &dyn Place) -> All {
    let totals = subjects().map(|id| (id.clone(), place.totals(&id))).collect();
    (totals, BOARDS.map(|board| place.board(board)))
}

/// As another target ends that reads the same log.
fn expected(world: &World) -> All {
    let place = CachePlace::new();
    world.drain(&mut world.task(place.target()));
    all_of(&place)
}

/// Everything is there, in one epoch, and the positions are those of the log's ends.
#[track_caller]
fn assert_filled(world: &World, place: &RedisPlace) {
    assert_eq!(all_of(place), expected(world));
    let progress = place.progress();
    for id in subjects() {
        assert_eq!(place.hash(&id)["@epoch"], progress["epoch"], "{id}");
    }
    for board in BOARDS {
        assert_eq!(place.board_epoch(board).as_ref(), progress.get("epoch"), "{board}");
    }
    for (topic, partition) in [("counters", 0), ("counters", 1), ("rankings", 0)] {
        let address = TopicPartition::new(topic, partition);
        let stored: serde_json::Value = serde_json::from_str(&progress[&address.to_string()]).unwrap();
        assert_eq!(stored["next_offset"], world.log.bounds(&address).unwrap().1);
        assert_eq!(stored.get("refill_until"), None, "{stored}");
    }
}

fn epoch(place: &RedisPlace) -> u64 {
    place.progress()["epoch"].parse().unwrap()
}

/// A world with a history, a Redis of the test's own, and a sink that has written all of it.
struct Own {
    world: World,
    redis: OwnRedis,
    place: RedisPlace,
}

impl Own {
    fn filled(options: &[&str]) -> Option<(Self, SinkTask)> {
        if !can_start_redis() {
            return None;
        }
        let (mut world, redis) = (World::new(), OwnRedis::with(options));
        let place = RedisPlace::new(&redis.url());
        world.history(40);
        let mut task = world.task(place.target());
        world.drain(&mut task);
        assert_filled(&world, &place);
        Some((Self { world, redis, place }, task))
    }
}

#[test]
fn a_crash_at_any_step_changes_nothing() {
    for place in redis_places() {
        for steps in 0..40 {
            place.clear();
            let mut world = World::new();
            world.history(40);
            let mut task = world.task(place.target());
            for _ in 0..steps {
                world.pass(3);
                task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
            }
            let before = place.progress().get("epoch").cloned();
            drop(task);
            world.drain(&mut world.task(place.target()));
            assert_filled(&world, &place);
            assert!(before.is_none_or(|before| before == place.progress()["epoch"]), "a restart refills nothing");
        }
    }
}

#[test]
fn two_sinks_on_one_redis_end_in_the_same_totals() {
    for place in redis_places() {
        for pattern in [0b0101_0101u64, 0b0011_0111] {
            place.clear();
            let mut world = World::new();
            world.history(40);
            let mut tasks = ["a", "b"].map(|member| world.task_of(member, place.target()));
            for step in 0..200 {
                world.pass(20);
                tasks[(pattern >> (step % 8) & 1) as usize].poll_once(world.now(), 0.5, Duration::ZERO).unwrap();
                if step == 100 {
                    place.clear();
                }
            }
            world.drain(&mut tasks[0]);
            assert_filled(&world, &place);
        }
    }
}

#[test]
fn a_redis_that_is_emptied_while_the_sink_runs_is_filled_again_without_traffic() {
    let Some((own, mut task)) = Own::filled(&[]) else { return };
    let before = epoch(&own.place);
    own.redis.flush();
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
    assert!(epoch(&own.place) > before);
}

#[test]
fn a_redis_that_is_emptied_is_noticed_before_the_next_position_is_written() {
    let Some((mut own, mut task)) = Own::filled(&[]) else { return };
    own.redis.flush();
    own.world.history(1);
    // No second passes: it is the write that notices.
    loop {
        own.world.pass(10);
        match task.poll_once(own.world.now(), 0.0, Duration::ZERO).unwrap() {
            Step::Wrote(_) => panic!("{:?}", own.place.progress()),
            Step::Waiting(_) => break,
            Step::Read(_) | Step::Idle => {}
        }
    }
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
}

#[test]
fn a_redis_that_was_emptied_while_no_sink_ran_is_filled_at_the_start() {
    let Some((own, task)) = Own::filled(&[]) else { return };
    drop(task);
    own.redis.flush();
    own.world.drain(&mut own.world.task(own.place.target()));
    assert_filled(&own.world, &own.place);
}

#[test]
fn an_empty_redis_in_its_place_is_filled() {
    let Some((own, mut task)) = Own::filled(&[]) else { return };
    own.redis.restart();
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
    drop(task);
    own.redis.restart();
    own.world.drain(&mut own.world.task(own.place.target()));
    assert_filled(&own.world, &own.place);
}

#[test]
fn a_restart_that_kept_the_data_is_not_believed() {
    let Some((own, mut task)) = Own::filled(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let before = epoch(&own.place);
    own.redis.restart();
    assert_eq!(epoch(&own.place), before, "the data are there");
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
    assert!(epoch(&own.place) > before, "but it is unknown whether all of them are");
}

#[test]
fn a_replica_in_its_masters_place_is_not_believed() {
    let Some((mut own, mut task)) = Own::filled(&[]) else { return };
    let replica = OwnRedis::with(&["--replicaof", "127.0.0.1", &own.redis.port.to_string()]);
    let copy = RedisPlace {
        address: own.place.address.clone(),
        keys: own.place.keys.clone(),
        nodes: Nodes::new(&replica.url()),
    };
    // A master that gets its first replica begins another history, and is filled again.
    wait_for("replication", || copy.progress() == own.place.progress());
    own.world.drain(&mut task);
    wait_for("replication", || copy.progress() == own.place.progress());
    replica.ask::<()>(cmd("REPLICAOF").arg("NO").arg("ONE"));
    // What comes now is acknowledged by the old master alone.
    own.world.history(60);
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
    assert_ne!(all_of(&copy), all_of(&own.place));
    assert_eq!(epoch(&own.place), epoch(&copy), "it claims to have everything");
    own.redis.kill();
    replica.ask::<()>(cmd("CONFIG").arg("SET").arg("port").arg(own.redis.port));
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
}

#[test]
fn a_master_that_was_a_replica_in_between_is_not_believed() {
    let Some((own, mut task)) = Own::filled(&[]) else { return };
    let other = OwnRedis::with(&[]);
    let before = epoch(&own.place);
    // It takes another one's data, and then the old ones again: all markers and positions are there.
    let kept: Vec<(Vec<u8>, Vec<u8>)> = (own.redis.ask::<Vec<Vec<u8>>>(cmd("KEYS").arg("*")).into_iter())
        .map(|key| (key.clone(), own.redis.ask(cmd("DUMP").arg(key))))
        .collect();
    own.redis.ask::<()>(cmd("REPLICAOF").arg("127.0.0.1").arg(other.port));
    wait_for("replication", || own.redis.ask::<i64>(&cmd("DBSIZE")) == 0);
    own.redis.ask::<()>(cmd("REPLICAOF").arg("NO").arg("ONE"));
    for (key, value) in kept {
        own.redis.ask::<()>(cmd("RESTORE").arg(key).arg(0).arg(value));
    }
    assert_eq!(epoch(&own.place), before);
    own.world.drain(&mut task);
    assert!(epoch(&own.place) > before);
    assert_filled(&own.world, &own.place);
}

#[test]
fn a_replica_is_waited_out() {
    let Some((mut own, mut task)) = Own::filled(&[]) else { return };
    let other = OwnRedis::with(&[]);
    own.redis.ask::<()>(cmd("REPLICAOF").arg("127.0.0.1").arg(other.port));
    own.world.history(3);
    for _ in 0..100 {
        own.world.pass(100);
        let step = task.poll_once(own.world.now(), 0.0, Duration::ZERO).unwrap();
        assert!(!matches!(step, Step::Wrote(_)));
    }
    own.redis.ask::<()>(cmd("REPLICAOF").arg("NO").arg("ONE"));
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
}

#[test]
fn a_frozen_redis_is_noticed_and_waited_out() {
    let Some((mut own, mut task)) = Own::filled(&[]) else { return };
    let before = epoch(&own.place);
    own.world.history(5);
    own.redis.freeze();
    let frozen = Instant::now();
    loop {
        own.world.pass(10);
        if let Step::Waiting(_) = task.poll_once(own.world.now(), 0.0, Duration::ZERO).unwrap() {
            break;
        }
    }
    assert!(frozen.elapsed() < Duration::from_secs(30), "{:?}", frozen.elapsed());
    own.redis.resume();
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
    assert_eq!(epoch(&own.place), before, "nothing was lost");
}

#[test]
fn scripts_that_are_gone_are_loaded_again_and_a_full_redis_is_waited_out() {
    let Some((mut own, mut task)) = Own::filled(&[]) else { return };
    let before = epoch(&own.place);
    own.redis.ask::<()>(cmd("SCRIPT").arg("FLUSH"));
    own.world.history(2);
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
    own.redis.ask::<()>(cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    own.world.history(4);
    for _ in 0..50 {
        own.world.pass(100);
        let step = task.poll_once(own.world.now(), 0.0, Duration::ZERO).unwrap();
        assert!(!matches!(step, Step::Wrote(_)));
    }
    own.redis.ask::<()>(cmd("CONFIG").arg("SET").arg("maxmemory").arg(0));
    own.world.drain(&mut task);
    assert_filled(&own.world, &own.place);
    assert_eq!(epoch(&own.place), before);
}

#[test]
fn a_log_that_was_replaced_is_filled_over_the_greater_versions_of_the_old_one() {
    let Some((mut own, task)) = Own::filled(&[]) else { return };
    drop(task);
    own.world = World::new();
    own.world.history(12);
    own.world.drain(&mut own.world.task(own.place.target()));
    assert_filled(&own.world, &own.place);
}

#[test]
fn one_shard_of_a_cluster_that_is_emptied_or_restarted_is_noticed() {
    let Some(cluster) = OwnCluster::start() else { return };
    let place = RedisPlace::new(&cluster.url());
    let mut world = World::new();
    world.history(40);
    let mut task = world.task(place.target());
    world.drain(&mut task);
    assert_filled(&world, &place);
    for node in &cluster.nodes {
        let before = epoch(&place);
        node.flush();
        world.history(3);
        world.drain(&mut task);
        assert_filled(&world, &place);
        assert!(epoch(&place) > before);
    }
    drop(task);
    for node in &cluster.nodes {
        node.flush();
        world.drain(&mut world.task(place.target()));
        assert_filled(&world, &place);
    }
    // A master that is down: nothing can be written, and its lost data is refilled.
    let mut task = world.task(place.target());
    world.drain(&mut task);
    let node = cluster.of(place.keys.progress_slot());
    node.kill();
    world.history(2);
    for _ in 0..50 {
        world.pass(100);
        let step = task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
        assert!(!matches!(step, Step::Wrote(_)));
    }
    node.run();
    cluster.wait_until_well();
    world.drain(&mut task);
    assert_filled(&world, &place);
}
