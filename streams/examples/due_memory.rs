//! What a store of many waiting values costs at a restart: `cargo run --release -p tally-streams --example due_memory write
//! [VALUES] [DIR]`, then the same with `open`.
//!
//! `write` puts values into a checkpoint, 100,000 per commit, and takes a tenth of them. `open` opens the store and takes 1,000
//! more. Memory is without pages of mapped files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tally_streams::store::{
    ChangelogWriter, Checkpoint, CheckpointMeta, CheckpointSite, DueStore, Hash128, StateStore, StoreError, StoreValue,
};

const COMMIT: u64 = 100_000;
const TAKEN: u64 = 1_000;

/// About as large as a window that waits for its end.
#[derive(Clone)]
struct Waiting([u8; 48]);

impl StoreValue for Waiting {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

type Store = DueStore<Hash128, Waiting>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = |at| std::env::args().nth(at);
    let values = text(2).and_then(|text| text.parse().ok()).unwrap_or(1_000_000u64);
    let dir = text(3).map_or_else(|| std::env::temp_dir().join("tally-due-memory"), PathBuf::from);
    let site = CheckpointSite { dir, boot_id: "boot".into(), owner: "example".into() };
    let started = Instant::now();
    match text(1).as_deref() {
        Some("write") => write(&site, values)?,
        Some("open") => open(&site)?,
        _ => return Err("write or open".into()),
    }
    println!("{:.0} ms in all", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn write(site: &CheckpointSite, values: u64) -> Result<(), StoreError> {
    let _ = std::fs::remove_dir_all(&site.dir);
    let checkpoint = Arc::new(Checkpoint::open(site, &["waiting"])?.0);
    let mut store = Store::default();
    store.open("waiting", 0, None)?;
    for n in 0..values {
        // Due in any order.
        let due_ms = (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as i64;
        store.put(&Hash128::of(7, &[&n.to_le_bytes()]), due_ms, Waiting([7; 48]));
        if (n + 1).is_multiple_of(COMMIT) {
            commit(&mut store, &checkpoint)?;
        }
    }
    for n in 0..values / 10 {
        assert!(store.take_due(i64::MAX).is_some(), "{n}: {:?}", store.take_fault());
    }
    commit(&mut store, &checkpoint)?;
    println!("{} MiB by estimate, {:.1} MiB", store.memory_bytes() >> 20, rss_mib());
    store.evict(&checkpoint, 0)?;
    println!("evicted: {} KiB by estimate, {:.1} MiB", store.memory_bytes() >> 10, rss_mib());
    checkpoint.close()
}

fn commit(store: &mut Store, checkpoint: &Arc<Checkpoint>) -> Result<(), StoreError> {
    let mut out = ChangelogWriter::new(1 << 19);
    store.write_changes(&mut out);
    store.commit();
    checkpoint.write(&CheckpointMeta { commit: 1, ..CheckpointMeta::default() }, |out| store.checkpoint(out))?;
    store.checkpointed(checkpoint);
    Ok(())
}

fn open(site: &CheckpointSite) -> Result<(), StoreError> {
    let before = rss_mib();
    let checkpoint = Arc::new(Checkpoint::open(site, &["waiting"])?.0);
    let mut store = Store::default();
    store.open("waiting", 0, Some(checkpoint))?;
    println!(
        "open: {} values in memory, {} KiB by estimate, {:.1} MiB more",
        store.len(),
        store.memory_bytes() >> 10,
        rss_mib() - before
    );
    for n in 0..TAKEN {
        assert!(store.take_due(i64::MAX).is_some(), "{n}: {:?}", store.take_fault());
    }
    println!(
        "{TAKEN} taken: {} read, {} KiB by estimate, {:.1} MiB more",
        store.take_reads(),
        store.memory_bytes() >> 10,
        rss_mib() - before
    );
    Ok(())
}

fn rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
