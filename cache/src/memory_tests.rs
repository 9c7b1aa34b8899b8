//! The invariant of the module under threads that meet at every lock: a writer, loads from another store, readers, and
//! subjects that push each other out.

use super::*;
use crate::interleaving::{self, Actor};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

const SUBJECT: &str = "article:7";
/// Offsets 0 to this; each is a record of the subject, or of another.
const RECORDS: u64 = 6;
const SEEDS: u64 = 400;

/// The totals that contain every record of the subject below an offset: of each second one.
fn totals(next_offset: u64) -> CachedCounters {
    let likes = next_offset.div_ceil(2) as i64;
    CachedCounters { counters: Box::new([("likes".into(), likes.into())]), version: likes }
}

fn partition() -> TopicPartition {
    TopicPartition::new("counters", 0)
}

fn position(next_offset: u64) -> Position {
    let mut roots = Roots::default();
    let root = RootPosition { partition: 0, next_offset, clock_ms: 1 };
    let (task, version) = ("by-subject_id/0".into(), next_offset as i64);
    roots.apply(tally_model::ProgressMark { task, generation: 0, roots: vec![root], version });
    Position::new(next_offset, roots, version)
}

/// How often each was seen, over all seeds.
#[derive(Default)]
struct Seen {
    hits: AtomicU64,
    loads: AtomicU64,
    dropped: AtomicU64,
}

struct World {
    cache: MemoryCache,
    /// The other store: everything below this offset is in it.
    store: Mutex<u64>,
    seen: Arc<Seen>,
}

impl World {
    fn new(admit: Admit, seen: &Arc<Seen>) -> Arc<Self> {
        // One subject fits into a shard, and a half.
        let limits = CacheLimits { size_bytes_max: SHARDS * 300 };
        let mut cache = MemoryCache::made(limits, admit, None);
        // The same shards in every run.
        cache.hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        cache.advance([(partition(), position(0))]);
        cache.set_ready(true);
        Arc::new(Self { cache, store: Mutex::new(0), seen: seen.clone() })
    }

    /// A reader of other subjects that leaves no room for this one.
    fn rival(&self) -> String {
        let is_rival = |id: &String| std::ptr::eq(self.cache.shard(id), self.cache.shard(SUBJECT));
        (0..).map(|n| format!("article:x{n}")).find(is_rival).unwrap()
    }

    /// As the feed does, in batches of one or two records.
    fn write(&self) {
        let mut next = 0;
        while next < RECORDS {
            let end = (next + 1 + next % 2).min(RECORDS);
            self.cache.reaching(&partition(), end);
            for offset in (next..end).filter(|offset| offset % 2 == 0) {
                if self.cache.follows(SUBJECT) {
                    self.cache.put(SUBJECT, totals(offset + 1));
                } else {
                    self.seen.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.cache.advance([(partition(), position(end))]);
            next = end;
        }
    }

    /// The other store follows the same topic, ahead or behind.
    fn fill_store(&self) {
        for next_offset in 1..=RECORDS {
            interleaving::step(|| true);
            *self.store.lock().unwrap() = next_offset;
        }
    }

    fn store(&self) -> u64 {
        interleaving::step(|| true);
        *self.store.lock().unwrap()
    }

    fn load(&self, subject_id: &str) {
        for _ in 0..3 {
            if self.cache.get(subject_id).is_some() {
                continue;
            }
            self.cache.follow(subject_id, &partition());
            let next_offset = self.store();
            // The totals are read after the position, and may be newer.
            let counters = Arc::new(totals(self.store()));
            let roots = position(next_offset).merged;
            self.cache.fill(subject_id, Loaded { counters, roots, next_offset: Some(next_offset) });
            let is_complete = self.cache.get(subject_id).is_some();
            self.seen.loads.fetch_add(u64::from(is_complete), Ordering::Relaxed);
        }
    }

    fn read(&self) {
        for _ in 0..8 {
            let serving = self.cache.serving().expect("the cache is ready");
            let next_offset = serving.position(&partition()).map_or(0, |position| position.next_offset);
            let Some(found) = self.cache.get(SUBJECT) else { continue };
            let least = totals(next_offset).version;
            assert!(found.version >= least, "version {} at offset {next_offset}, not {least}", found.version);
            self.seen.hits.fetch_add(u64::from(least > 0), Ordering::Relaxed);
        }
    }
}

fn actor(world: &Arc<World>, act: impl FnOnce(&World) + Send + 'static) -> Actor {
    let world = world.clone();
    Box::new(move || act(&world))
}

fn run(admit: Admit, with_rival: bool) -> Arc<Seen> {
    let seen = Arc::new(Seen::default());
    for seed in 0..SEEDS {
        let world = World::new(admit, &seen);
        let mut actors = vec![
            actor(&world, World::write),
            actor(&world, World::fill_store),
            actor(&world, World::read),
            actor(&world, |world| world.load(SUBJECT)),
            actor(&world, |world| world.load(SUBJECT)),
        ];
        if with_rival {
            actors.push(actor(&world, |world| world.load(&world.rival())));
        }
        interleaving::run(seed, actors);
    }
    seen
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[test]
fn what_is_found_contains_every_record_below_the_position() {
    let seen = run(Admit::Asked, false);
    let (hits, loads, dropped) = (count(&seen.hits), count(&seen.loads), count(&seen.dropped));
    assert!(hits > SEEDS && loads > SEEDS / 4 && dropped > SEEDS / 4, "{hits} hits, {loads} loads, {dropped} dropped");
}

#[test]
fn so_it_does_where_subjects_leave_in_between() {
    let seen = run(Admit::Asked, true);
    let (hits, loads, dropped) = (count(&seen.hits), count(&seen.loads), count(&seen.dropped));
    assert!(
        hits > SEEDS / 4 && loads > SEEDS / 4 && dropped > SEEDS / 4,
        "{hits} hits, {loads} loads, {dropped} dropped"
    );
}

#[test]
fn so_it_does_where_everything_is_taken_in() {
    let seen = run(Admit::All, true);
    assert!(count(&seen.hits) > SEEDS, "{} hits", count(&seen.hits));
}
