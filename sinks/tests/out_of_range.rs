//! Positions outside of their topic. Below its start: every sink continues at the start, counts that and logs it.
//! Beyond its end: a cache is filled again from the start, and a database is left alone (`owners.rs`).

mod fixture;

use fixture::*;
use tally_streams::log::{Log, TopicPartition};

/// Every record of `counters` goes, as retention deletes them.
fn delete_counters(world: &World) {
    for partition in 0..PARTITIONS {
        let address = TopicPartition::new("counters", partition);
        let end = world.log.bounds(&address).unwrap().1;
        world.log.delete_records(&address, end).unwrap();
    }
}

fn check_resets(world: &World) {
    assert_eq!(world.metric("tally_sink_position_reset_total"), f64::from(PARTITIONS));
    assert_eq!(world.metric("tally_sink_lag_records"), 0.0);
}

#[test]
fn a_position_below_the_start_goes_to_the_start_and_is_counted() {
    for place in all_places() {
        let mut world = World::new();
        world.history(10);
        world.drain(&mut world.task(place.target()));
        world.history(10);
        delete_counters(&world);
        world.commits(21, 23);
        world.drain(&mut world.task(place.target()));
        check_resets(&world);
        assert_eq!(place.totals("article:3")["likes"], 203, "what is left of the topic arrives");
    }
}

#[test]
fn records_that_vanish_under_a_running_sink_are_jumped_and_counted() {
    for place in all_places() {
        let mut world = World::new();
        world.history(4);
        let mut task = world.task(place.target());
        world.drain(&mut task);
        world.history(10);
        delete_counters(&world);
        world.drain(&mut task);
        check_resets(&world);
        world.commits(21, 23);
        world.drain(&mut task);
        check_resets(&world);
        assert_eq!(place.totals("article:3")["likes"], 203, "it goes on");
    }
}

/// Fills a cache from one log, then from another, shorter one.
fn fill_from_another_log(place: &dyn Place) {
    let mut old = World::new();
    old.history(40);
    old.drain(&mut old.task(place.target()));
    let mut new = World::new();
    new.counters(&counters("article:1", &[("likes", 1)], &["likes"], 1 << 48));
    new.producer.commit().unwrap();
    new.drain(&mut new.task(place.target()));
    assert_eq!(new.metric("tally_sink_position_reset_total"), f64::from(ALL_PARTITIONS));
    assert_eq!(place.totals("article:1")["likes"], 1);
}

#[test]
fn a_cache_beyond_the_end_is_filled_from_the_start() {
    let mut places: Vec<Box<dyn Place>> = vec![Box::new(CachePlace::new())];
    places.extend(redis_places().into_iter().map(|place| Box::new(place) as Box<dyn Place>));
    places.iter().for_each(|place| fill_from_another_log(&**place));
}

#[test]
fn a_memory_cache_beyond_the_end_claims_nothing_of_the_old_log() {
    let place = CachePlace::new();
    fill_from_another_log(&place);
    for (partition, position) in place.cache.positions() {
        assert_eq!(position.roots.merged(), [], "{partition}: marks of the old log are not true of this one");
    }
    assert!(place.cache.get("article:2").is_none(), "records of the old log are not true of this one");
}
