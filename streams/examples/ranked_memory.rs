//! What a store of many ranked values costs: `cargo run --release -p tally-streams --example ranked_memory write [VALUES]
//! [DIR]`, then the same with `open`. `events` changes values of an empty store, [VALUES] times.
//!
//! `write` puts values into a checkpoint, 100,000 per commit, and changes a tenth of them. `open` opens the store, reads the
//! first 100, and goes to the next tick, at which one in 288 values changes by itself. Memory is without pages of mapped
//! files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tally_streams::store::{
    ChangelogWriter, Checkpoint, CheckpointMeta, CheckpointSite, Rank, Ranked, RankedStore, StateStore, StoreError,
    StoreValue,
};

const COMMIT: u64 = 100_000;
const TOP: usize = 100;
/// Events between two commits, and between two checkpoints, about as in a pipeline that catches up.
const EVENTS: u64 = 1_000;
const EVENTS_CHECKPOINTED: u64 = 100_000;
/// Amounts count for so many ticks.
const WINDOW: i64 = 288;

/// Amounts by tick, like those of a board with a window.
#[derive(Clone, Default)]
struct Sums(Vec<(i64, i64)>);

impl Sums {
    fn add(&mut self, tick: i64, amount: i64) {
        match self.0.binary_search_by_key(&tick, |(tick, _)| *tick) {
            Ok(at) => self.0[at].1 += amount,
            Err(at) => self.0.insert(at, (tick, amount)),
        }
    }

    fn counting(&self, tick: i64) -> &[(i64, i64)] {
        &self.0[self.0.partition_point(|(at, _)| *at <= tick - WINDOW)..]
    }
}

impl StoreValue for Sums {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().flat_map(|(at, n)| [*at, *n]).for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<i64> = numbers.iter().map(|n| i64::from_le_bytes(*n)).collect();
        rest.is_empty().then(|| Self(numbers.as_chunks().0.iter().map(|[at, n]| (*at, *n)).collect()))
    }
}

impl Ranked for Sums {
    type Rule = ();

    fn rank(&self, _: (), tick: i64) -> Option<Rank> {
        Rank::new(self.counting(tick).iter().map(|(_, n)| i128::from(*n)).sum(), 0)
    }

    fn score(rank: Rank, _: (), _: i64) -> Option<i128> {
        Some(rank.truncated(0))
    }

    fn next_tick(&self, _: (), tick: i64) -> Option<i64> {
        self.counting(tick).first().map(|(at, _)| at + WINDOW)
    }

    fn ages_each_tick(_: ()) -> bool {
        false
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn difference(&self, before: &Self, items: &mut Vec<u64>) {
        for (at, n) in &self.0 {
            let was = before.0.iter().find(|(tick, _)| tick == at).map_or(0, |(_, n)| *n);
            if *n != was {
                items.extend([*at as u64, (n - was) as u64]);
            }
        }
    }

    fn apply(&mut self, items: &[u64]) -> bool {
        items.as_chunks().0.iter().for_each(|[at, n]| self.add(*at as i64, *n as i64));
        true
    }
}

type Store = RankedStore<Arc<str>, Sums>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = |at| std::env::args().nth(at);
    let values = text(2).and_then(|text| text.parse().ok()).unwrap_or(1_000_000u64);
    let dir = text(3).map_or_else(|| std::env::temp_dir().join("tally-ranked-memory"), PathBuf::from);
    let site = CheckpointSite { dir, boot_id: "boot".into(), owner: "example".into() };
    let started = Instant::now();
    match text(1).as_deref() {
        Some("write") => write(&site, values)?,
        Some("open") => open(&site)?,
        Some("events") => events(&site, values)?,
        _ => return Err("write, open or events".into()),
    }
    println!("{:.0} ms in all", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn key(n: u64) -> Arc<str> {
    format!("article:{n:08}").into()
}

/// Numbers in any order.
fn mixed(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

fn begin(site: &CheckpointSite) -> Result<(Store, Arc<Checkpoint>), StoreError> {
    let _ = std::fs::remove_dir_all(&site.dir);
    let checkpoint = Arc::new(Checkpoint::open(site, &["board"])?.0);
    let mut store = Store::default();
    store.open("board", 0, None)?;
    store.advance((), WINDOW);
    Ok((store, checkpoint))
}

fn write(site: &CheckpointSite, values: u64) -> Result<(), StoreError> {
    let (mut store, checkpoint) = begin(site)?;
    for n in (0..values).chain(0..values / 10) {
        // One in 288 values leaves at each tick.
        let tick = 1 + (n % WINDOW as u64) as i64;
        store.modify(&key(n), |sums| sums.add(tick, 1 + (mixed(n) % 100_000) as i64));
        if (n + 1).is_multiple_of(COMMIT) {
            commit(&mut store);
            write_checkpoint(&mut store, &checkpoint)?;
        }
    }
    commit(&mut store);
    write_checkpoint(&mut store, &checkpoint)?;
    println!("{} MiB by estimate, {:.1} MiB", store.memory_bytes() >> 20, rss_mib());
    store.evict(&checkpoint, 0)?;
    println!("evicted: {} KiB by estimate, {:.1} MiB", store.memory_bytes() >> 10, rss_mib());
    checkpoint.close()
}

fn open(site: &CheckpointSite) -> Result<(), StoreError> {
    let before = rss_mib();
    let checkpoint = Arc::new(Checkpoint::open(site, &["board"])?.0);
    let mut store = Store::default();
    store.open("board", 0, Some(checkpoint))?;
    let report = |what: &str, store: &mut Store| {
        println!(
            "{what}: {} values in memory, {} read one by one, {} KiB by estimate, {:.1} MiB more",
            store.len(),
            store.take_reads(),
            store.memory_bytes() >> 10,
            rss_mib() - before
        );
    };
    report("open", &mut store);
    store.advance((), WINDOW);
    let top = store.take_top("", TOP);
    report(&format!("the first {}", top.map_or(0, |top| top.len())), &mut store);
    store.advance((), WINDOW + 1);
    store.take_top("", TOP);
    report("one tick later", &mut store);
    match store.take_fault() {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// A tenth of as many keys, some much more often than others.
fn events(site: &CheckpointSite, events: u64) -> Result<(), StoreError> {
    let (mut store, checkpoint) = begin(site)?;
    let keys: Vec<_> = (0..events.div_ceil(10)).map(key).collect();
    for n in 0..events {
        let share = (mixed(n) % 1_000_000) as f64 / 1e6;
        let at = (share.powi(3) * keys.len() as f64) as usize;
        let tick = WINDOW + (n / EVENTS_CHECKPOINTED) as i64;
        store.advance((), tick);
        store.modify(&keys[at], |sums| sums.add(tick, 4_000));
        if (n + 1).is_multiple_of(EVENTS) {
            store.take_top("", TOP);
            commit(&mut store);
        }
        if (n + 1).is_multiple_of(EVENTS_CHECKPOINTED) && std::env::args().nth(4).is_none() {
            write_checkpoint(&mut store, &checkpoint)?;
        }
    }
    Ok(())
}

fn commit(store: &mut Store) {
    let mut out = ChangelogWriter::new(1 << 19);
    store.write_changes(&mut out);
    std::hint::black_box(out.finish());
    store.commit();
}

fn write_checkpoint(store: &mut Store, checkpoint: &Arc<Checkpoint>) -> Result<(), StoreError> {
    checkpoint.write(&CheckpointMeta { commit: 1, ..CheckpointMeta::default() }, |out| store.checkpoint(out))?;
    store.checkpointed(checkpoint);
    Ok(())
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
