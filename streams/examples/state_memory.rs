//! What state beyond memory costs: `cargo run --release -p tally-streams --example state_memory [KEYS] [MIB] [DIR]`.
//!
//! A store like that of `dedupe` takes in new keys over 26 segments of time, with a commit per 5,000 keys and a checkpoint per
//! 250,000, once with all state in memory and once with a budget. Then 1,000,000 new keys are inserted into the last
//! segment, and 200,000 known ones are looked up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tally_streams::store::{
    ChangelogWriter, Checkpoint, CheckpointMeta, CheckpointSite, Hash128, StateStore, StoreError, WindowStore,
};

const SEGMENTS: u64 = 26;
const COMMIT: u64 = 5_000;
const CHECKPOINT: u64 = 250_000;
const HOUR_MS: i64 = 3_600_000;

type Store = WindowStore<Hash128, (), HOUR_MS>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse().ok());
    let (keys, mib) = (number(1).unwrap_or(5_000_000u64), number(2).unwrap_or(64u64) as usize);
    let dir = std::env::args().nth(3).map_or_else(|| std::env::temp_dir().join("tally-state-memory"), PathBuf::from);
    println!(
        "{keys} keys\n| budget | ns per new key | MiB estimated | RSS MiB | checkpoint ms | ns per later new key | ns per known key | reads | open ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for bytes_max in [mib << 20, usize::MAX] {
        measure(&dir, keys, bytes_max)?;
    }
    Ok(())
}

struct World {
    store: Store,
    checkpoint: Arc<Checkpoint>,
    bytes_max: usize,
    since_checkpoint: u64,
    checkpoint_seconds: f64,
}

impl World {
    fn commit(&mut self, keys: u64) -> Result<(), StoreError> {
        let mut out = ChangelogWriter::new(1 << 19);
        self.store.write_changes(&mut out);
        drop(out.finish());
        self.store.commit();
        self.since_checkpoint += keys;
        if self.since_checkpoint >= CHECKPOINT {
            self.since_checkpoint = 0;
            let started = Instant::now();
            self.checkpoint.write(&CheckpointMeta::default(), |out| self.store.checkpoint(out))?;
            self.store.checkpointed(&self.checkpoint);
            self.checkpoint_seconds += started.elapsed().as_secs_f64();
        }
        if self.store.memory_bytes() > self.bytes_max {
            self.store.evict(&self.checkpoint, self.bytes_max - self.bytes_max / 16)?;
        }
        Ok(())
    }

    fn insert(&mut self, numbers: std::ops::Range<u64>, segment: impl Fn(u64) -> u64) -> Result<f64, StoreError> {
        let (started, count) = (Instant::now(), numbers.end - numbers.start);
        let before = self.checkpoint_seconds;
        for number in numbers {
            assert!(self.store.insert(&key(number), segment(number) as i64 * HOUR_MS, ()), "a new key");
            if (number + 1).is_multiple_of(COMMIT) {
                self.commit(COMMIT)?;
            }
        }
        let seconds = started.elapsed().as_secs_f64() - (self.checkpoint_seconds - before);
        Ok(seconds * 1e9 / count as f64)
    }
}

fn key(number: u64) -> Hash128 {
    Hash128::of(7, &[&number.to_le_bytes()])
}

fn measure(dir: &Path, keys: u64, bytes_max: usize) -> Result<(), Box<dyn std::error::Error>> {
    let _ = std::fs::remove_dir_all(dir);
    let site = CheckpointSite { dir: dir.to_owned(), boot_id: "boot".into(), owner: "example".into() };
    let mut store = Store::default();
    store.open("fresh", 0, None)?;
    let checkpoint = Arc::new(Checkpoint::open(&site, &["fresh"])?.0);
    let mut world = World { store, checkpoint, bytes_max, since_checkpoint: 0, checkpoint_seconds: 0.0 };
    let new_ns = world.insert(0..keys, |number| number * SEGMENTS / keys)?;
    let checkpoint_ms = world.checkpoint_seconds * 1e3 / (keys / CHECKPOINT).max(1) as f64;
    let (estimated, rss) = (world.store.memory_bytes() >> 20, rss_mib());
    let later_ns = world.insert(keys..keys + 1_000_000, |_| SEGMENTS)?;
    world.store.take_reads();
    let started = Instant::now();
    for at in 0..200_000 {
        let number = at * (keys / 200_000).max(1);
        assert!(world.store.get(&key(number)).is_some(), "a known key");
    }
    let known_ns = started.elapsed().as_secs_f64() * 1e9 / 200_000.0;
    let reads = world.store.take_reads();
    let fault = world.store.take_fault();
    assert!(fault.is_none(), "{fault:?}");
    drop(world);
    let started = Instant::now();
    let (checkpoint, _) = Checkpoint::open(&site, &["fresh"])?;
    let mut store = Store::default();
    store.open("fresh", 0, Some(Arc::new(checkpoint)))?;
    let open_ms = started.elapsed().as_secs_f64() * 1e3;
    let budget = if bytes_max == usize::MAX { "none".to_owned() } else { format!("{} MiB", bytes_max >> 20) };
    println!(
        "| {budget} | {new_ns:.0} | {estimated} | {rss} | {checkpoint_ms:.0} | {later_ns:.0} | {known_ns:.0} | {reads} | {open_ms:.1} |"
    );
    Ok(())
}

/// Without pages of mapped files.
fn rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10
}
