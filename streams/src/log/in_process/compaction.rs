//! Compaction: of the records with a key, a topic with `Compact` keeps the newest.
//!
//! A pass goes over one partition. It reads the keys of everything between what the last pass left and what is too young,
//! then rewrites everything from the partition's start, without the records that one of those keys replaces. Tombstones
//! go when they are old enough: nothing older with their key is left by then. What was removed leaves gaps; offsets never
//! change. Every slice is a commit of its own, and a pass that ends early, by a crash too, has removed nothing wrong: what
//! remains of it is done by the next.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::batch::Stored;
use super::keys::Blocks;
use super::rewriting::{Readable, Rewrite, Run, Unreadable};
use super::storage::PartitionId;
use super::writer::Writer;
use crate::log::LogError;

/// A pass under way.
pub(super) struct Pass {
    id: PartitionId,
    /// By hash of the key, the newest offset in what is being cleaned.
    newest: HashMap<u128, u64>,
    /// Of the hashes: keys come from strangers.
    seed: u64,
    /// Records from here on are left alone.
    limit: u64,
    /// Bytes between the last pass's end and the limit.
    dirty_bytes: u64,
    /// Batches from here on are still to be read, or then to be rewritten.
    at: u64,
    is_rewriting: bool,
}

/// What became of a slice.
struct Cleaned {
    rewrites: Vec<Rewrite>,
    /// Where it ended.
    at: u64,
    read_bytes: usize,
    /// It ended because it was long enough.
    more: bool,
    unreadable: Option<Unreadable>,
}

impl Pass {
    fn new(id: PartitionId, blocks: Blocks) -> Self {
        let (newest, seed) = (HashMap::new(), RandomState::new().build_hasher().finish());
        Self { id, newest, seed, limit: blocks.clean, dirty_bytes: 0, at: blocks.clean, is_rewriting: false }
    }

    fn hash(&self, key: &[u8]) -> u128 {
        xxh3_128_with_seed(key, self.seed)
    }

    /// Whether nothing newer replaces a record, and it is no tombstone that has served its time.
    fn keeps(&self, record: &Stored<'_>, tombstones_ms: i64) -> bool {
        let Some(key) = record.key else { return true };
        let is_newest = self.newest.get(&self.hash(key)).is_none_or(|newest| *newest <= record.offset);
        is_newest && (record.value.is_some() || record.append_time_ms >= tombstones_ms)
    }
}

impl Writer {
    /// Goes on with a pass, or begins one where it is worth it. True where there is more to do at once.
    pub(super) fn compact(&mut self, now_ms: i64) -> Result<bool, LogError> {
        let pass = match self.upkeep.pass.take() {
            Some(pass) => Some(pass),
            None => self.next_pass(now_ms)?,
        };
        let Some(mut pass) = pass else { return Ok(false) };
        let done = if pass.is_rewriting { self.clean(&mut pass, now_ms) } else { self.read_keys(&mut pass, now_ms) };
        match done {
            Ok(true) => {
                self.upkeep.pass = Some(pass);
                Ok(true)
            }
            Ok(false) => {
                self.partitions[pass.id as usize].compact_at_ms =
                    now_ms.saturating_add(self.upkeep.options.interval_ms);
                Ok(true)
            }
            Err(error) => {
                // What is done is done; the rest is tried again.
                self.upkeep.pass = Some(pass);
                Err(error)
            }
        }
    }

    /// The partition where a pass promises most.
    fn next_pass(&self, now_ms: i64) -> Result<Option<Pass>, LogError> {
        let options = &self.upkeep.options;
        let mut best: Option<(u64, Pass)> = None;
        for (id, state) in (0..).zip(&self.partitions) {
            let dirty_bytes = state.blocks.dirty_bytes;
            if !state.is_compacted
                || state.is_unreadable
                || dirty_bytes < options.dirty_bytes_min.max(1)
                || now_ms < state.compact_at_ms
                || best.as_ref().is_some_and(|(most, _)| *most >= dirty_bytes)
            {
                continue;
            }
            let others = dirty_bytes.saturating_add(state.recent_bytes);
            let clean_bytes = self.view.storage.stored_bytes(id)?.saturating_sub(others);
            if options.dirty_bytes_min == 0 || dirty_bytes >= clean_bytes / 2 {
                best = Some((dirty_bytes, Pass::new(id, state.blocks)));
            }
        }
        Ok(best.map(|(_, pass)| pass))
    }

    /// Reads a slice of keys. False where the pass is over, since nothing is old enough.
    fn read_keys(&mut self, pass: &mut Pass, now_ms: i64) -> Result<bool, LogError> {
        let options = &self.upkeep.options;
        let (young_ms, state) = (now_ms.saturating_sub(options.margin_ms), &self.partitions[pass.id as usize]);
        let (mut read_bytes, mut unreadable, mut is_over) = (0, None, true);
        self.view.storage.scan(pass.id, pass.at.max(state.start), &mut |base, value| {
            is_over = base >= state.blocks.merged || pass.newest.len() >= options.keys_max;
            if is_over || read_bytes >= options.slice_bytes {
                return false;
            }
            // Until it turns out that there is more.
            is_over = true;
            let mut read = || -> Result<bool, Unreadable> {
                let batch = Readable::new(base, value)?;
                if batch.head.newest_ms() >= young_ms {
                    return Ok(false);
                }
                for record in batch.records() {
                    let record = record?;
                    if let Some(key) = record.key {
                        let hash = pass.hash(key);
                        pass.newest.insert(hash, record.offset);
                    }
                }
                read_bytes += batch.value.len();
                pass.dirty_bytes += value.len() as u64;
                (pass.at, pass.limit) = (batch.end(), batch.end());
                Ok(true)
            };
            read().unwrap_or_else(|wrong| {
                unreadable = Some(wrong);
                false
            })
        })?;
        if let Some(unreadable) = unreadable {
            self.leave(pass.id, unreadable);
            return Ok(false);
        }
        if is_over {
            (pass.at, pass.is_rewriting) = (0, true);
        }
        Ok(!is_over || pass.limit > self.partitions[pass.id as usize].blocks.clean)
    }

    /// Rewrites a slice. False where the pass is over.
    fn clean(&mut self, pass: &mut Pass, now_ms: i64) -> Result<bool, LogError> {
        let cleaned = self.clean_slice(pass, now_ms)?;
        let mut ops: Vec<_> = cleaned.rewrites.iter().map(|rewrite| rewrite.op(pass.id)).collect();
        let state = &self.partitions[pass.id as usize];
        let dirty_bytes = state.blocks.dirty_bytes.saturating_sub(pass.dirty_bytes);
        let blocks = match cleaned.more {
            true => state.blocks,
            false => Blocks { clean: pass.limit, dirty_bytes, ..state.blocks },
        };
        if cleaned.unreadable.is_none() && blocks != state.blocks {
            ops.push(blocks.put(pass.id));
        }
        if !ops.is_empty() {
            self.view.storage.commit(&ops)?;
        }
        pass.at = cleaned.at;
        if let Some(unreadable) = cleaned.unreadable {
            self.leave(pass.id, unreadable);
            return Ok(false);
        }
        let state = &mut self.partitions[pass.id as usize];
        state.blocks = blocks;
        cleaned.rewrites.iter().for_each(|rewrite| state.was_rewritten(rewrite.from));
        Ok(cleaned.more)
    }

    fn clean_slice(&self, pass: &Pass, now_ms: i64) -> Result<Cleaned, LogError> {
        let (state, options) = (&self.partitions[pass.id as usize], &self.upkeep.options);
        let tombstones_ms = now_ms.saturating_sub(options.tombstones_ms);
        let is_kept = |r: &Stored<'_>| r.offset >= state.start && pass.keeps(r, tombstones_ms);
        let mut cleaned = Cleaned { rewrites: Vec::new(), at: pass.at, read_bytes: 0, more: false, unreadable: None };
        let mut run: Option<Run> = None;
        self.view.storage.scan(pass.id, pass.at.max(state.start), &mut |base, value| {
            if base >= pass.limit {
                return false;
            }
            cleaned.more = cleaned.read_bytes >= options.slice_bytes;
            if cleaned.more {
                return false;
            }
            if let Some(full) = run.take_if(|run| run.len_bytes() >= options.block_bytes / 4 * 3) {
                cleaned.rewrites.extend(full.finish());
            }
            let run = run.get_or_insert_with(|| Run::new(base, options.block_bytes));
            let mut add = || -> Result<(), Unreadable> {
                let batch = Readable::new(base, value)?;
                cleaned.read_bytes += batch.value.len();
                run.add(&batch, is_kept)?;
                cleaned.at = batch.end();
                Ok(())
            };
            cleaned.unreadable = add().err();
            cleaned.unreadable.is_none()
        })?;
        cleaned.rewrites.extend(run.and_then(Run::finish));
        Ok(cleaned)
    }
}
