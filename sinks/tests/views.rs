//! Sinks over a cache in this process: one that takes only what was requested (the view of an API beside Redis), and one
//! with a size limit.

mod fixture;

use fixture::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tally_cache::{Admit, CacheLimits, CachedCounters, Loaded, MemoryCache};
use tally_sinks::{HeadStart, MemoryTarget, SinkTask, SinkThread, Step};
use tally_streams::log::{Log, TopicPartition, partition_of};

fn view() -> Arc<MemoryCache> {
    MemoryCache::of_all(CacheLimits { size_bytes_max: 1 << 20 }, Admit::Asked)
}

fn task(world: &World, cache: &Arc<MemoryCache>) -> SinkTask {
    world.task(Box::new(MemoryTarget::new(cache.clone())))
}

fn partition(subject_id: &str) -> TopicPartition {
    TopicPartition::new("counters", partition_of(subject_id.as_bytes(), PARTITIONS))
}

fn write_board(world: &mut World, board: &str, version: i64) {
    world.ranking(&ranking(board, &[("a:1", version)], version));
    world.board_mark(&mark("by-board/0", &[(0, version as u64)], version));
    world.producer.commit().unwrap();
}

#[test]
fn boards_are_read_from_the_start_and_again_where_the_log_has_lost_some() {
    let (mut world, cache) = (World::new(), view());
    let rankings = TopicPartition::new("rankings", 0);
    let versions = || cache.boards().iter().map(|ranking| (ranking.board.clone(), ranking.version)).collect::<Vec<_>>();
    let clock_ms = || cache.serving().unwrap().position(&rankings).unwrap().clock_ms - NOW_MS;
    for (board, version) in [("hot", 1), ("new", 2), ("hot", 3)] {
        write_board(&mut world, board, version);
    }
    let mut task = task(&world, &cache);
    assert!(cache.serving().is_none(), "nothing was read yet");
    world.drain(&mut task);
    assert_eq!((versions(), clock_ms()), (vec![("hot".into(), 3), ("new".into(), 2)], 3));
    // Entries that it has not read are dropped, possibly a board that no task writes any more.
    write_board(&mut world, "hot", 4);
    write_board(&mut world, "hot", 5);
    let end = world.log.bounds(&rankings).unwrap().1;
    world.log.delete_records(&rankings, end).unwrap();
    write_board(&mut world, "new", 6);
    let epoch = cache.epoch();
    let mut polls = 0..100;
    while cache.ready() {
        assert!(polls.next().is_some(), "what was lost is still served");
        world.pass(10);
        task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
    }
    assert!(cache.serving().is_none() && cache.epoch() > epoch);
    world.drain(&mut task);
    assert_eq!((versions(), clock_ms()), (vec![("new".into(), 6)], 6));
}

#[test]
fn totals_of_requested_subjects_are_taken_and_all_subjects_are_remembered() {
    let (mut world, cache) = (World::new(), view());
    cache.follow("article:1", &partition("article:1"));
    cache.watch(&Arc::from("article:2"));
    world.history(20);
    world.drain(&mut task(&world, &cache));
    assert_eq!(cache.get("article:1").unwrap().version, 11);
    let changes = cache.changes();
    assert_eq!((changes.len(), changes["article:2"].version), (1, 12));
    assert_eq!(cache.size().0, 1, "no other subject is held");
    assert!((0..10).all(|n| !cache.lacks(&format!("article:{n}"))) && cache.lacks("article:77"));
    let position = cache.serving().unwrap().position(&partition("article:1")).unwrap().clone();
    assert_eq!(position.merged[0].next_offset, 20, "records that are passed over carry progress as well");
    assert_eq!(world.metric("tally_sink_records_total"), (20 * COMMIT_RECORDS) as f64);
}

#[test]
fn what_is_loaded_must_contain_the_records_that_were_passed_over_already() {
    let (mut world, cache) = (World::new(), view());
    world.history(1);
    let mut task = task(&world, &cache);
    let address = partition("article:1");
    let read = loop {
        world.pass(1);
        let step = task.poll_once(world.now(), 0.0, Duration::ZERO).unwrap();
        // The topic of totals is read before anything of it is written.
        if matches!(step, Step::Read(_)) && !cache.lacks("article:1") {
            break world.log.bounds(&address).unwrap().1;
        }
    };
    assert!(cache.position(&address).is_none(), "the batch is not written yet");
    let loaded = |next_offset| Loaded {
        counters: Arc::new(CachedCounters::default()),
        roots: Arc::from([]),
        next_offset: Some(next_offset),
    };
    cache.follow("article:1", &address);
    cache.fill("article:1", loaded(0));
    assert!(cache.get("article:1").is_none(), "the record at offset 0 was passed over");
    cache.fill("article:1", loaded(read));
    assert!(cache.get("article:1").is_some());
}

#[test]
fn a_process_can_do_without_a_view_that_fails_and_the_view_recovers() {
    let (mut world, cache) = (World::new(), view());
    world.history(2);
    let address = TopicPartition::new("counters", 1);
    world.put(1, b"article:1", b"{\"subject_id\":");
    world.producer.commit().unwrap();
    cache.follow("article:1", &address);
    let failures = Arc::new(AtomicUsize::new(0));
    let (failing, counted) = (cache.clone(), failures.clone());
    let thread = SinkThread::spawn_optional(task(&world, &cache), HeadStart::none(), move || {
        failing.set_ready(false);
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let thread = thread.unwrap();
    wait_for("two failures", || failures.load(Ordering::Relaxed) > 1);
    assert!(!thread.is_finished() && !cache.ready() && thread.state().trouble().is_some());
    let end = world.log.bounds(&address).unwrap().1;
    world.log.delete_records(&address, end).unwrap();
    wait_for("the view", || cache.ready());
    thread.stop();
    thread.join().unwrap();
}

#[test]
fn a_cache_of_limited_size_evicts_subjects_and_counts_them() {
    // No room for a single subject.
    let (mut world, cache) = (World::new(), MemoryCache::new(CacheLimits { size_bytes_max: 1 }, Admit::All));
    world.history(20);
    let target = MemoryTarget::new(cache.clone()).measured(&world.metrics, "cache");
    world.drain(&mut world.task(Box::new(target)));
    assert!(cache.ready() && cache.get("article:1").is_none() && !cache.lacks("article:1"), "the database has it");
    assert_eq!(world.metric("tally_sink_cache_subjects"), cache.size().0 as f64);
    assert_eq!(world.metric("tally_sink_cache_size_bytes"), cache.size().1 as f64);
    assert_eq!(world.metric("tally_sink_cache_evicted_total"), cache.evicted() as f64);
    assert!(cache.evicted() > 0);
}
