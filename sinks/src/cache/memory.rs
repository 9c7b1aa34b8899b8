//! The cache in this process, as a target.

use crate::batch::{Batch, Move};
use crate::metrics::{MemoryMetrics, SinkMetrics};
use crate::row::CounterRow;
use crate::target::{Standing, StoredPosition, Target, TargetError};
use hashbrown::HashMap;
use std::sync::Arc;
use tally_cache::{CachedCounters, MemoryCache, Position};
use tally_model::OutputType;
use tally_streams::log::TopicPartition;

/// The sink's side of a [`MemoryCache`].
pub struct MemoryTarget {
    cache: Arc<MemoryCache>,
    /// Partitions that have not yet reached what the log held when the sink started.
    goals: Option<HashMap<TopicPartition, u64>>,
    metrics: Option<MemoryMetrics>,
}

impl MemoryTarget {
    /// Writes to that cache; there must be one target a cache.
    pub fn new(cache: Arc<MemoryCache>) -> Self {
        Self { cache, goals: None, metrics: None }
    }

    /// One whose cache shows its size among the metrics of that sink.
    pub fn measured(mut self, metrics: &SinkMetrics, sink: &str) -> Self {
        self.metrics = Some(metrics.of_memory(sink));
        self
    }

    fn put(&self, row: &CounterRow) {
        // The names of metrics are shared by all subjects: a batch outlives its rows.
        let counters = row.totals.iter().cloned().collect();
        self.cache.put(&row.subject_id, CachedCounters { counters, version: row.version });
    }

    fn compare(&self, moves: &[Move]) -> Result<(), TargetError> {
        for step in moves {
            let found = self.cache.position(&step.partition);
            let standing = |at: Position| Standing { next_offset: at.next_offset, revision: at.roots.revision() };
            let found = found.map(standing);
            if found != step.expected {
                let (partition, expected) = (step.partition.clone(), step.expected);
                return Err(TargetError::Moved { partition, expected, found });
            }
        }
        Ok(())
    }

    fn advance(&mut self, moves: &[Move]) {
        if let Some(goals) = &mut self.goals {
            let reached = |step: &&Move| goals.get(&step.partition).is_some_and(|goal| step.next_offset >= *goal);
            let reached: Vec<_> = moves.iter().filter(reached).map(|step| step.partition.clone()).collect();
            goals.retain(|partition, _| !reached.contains(partition));
        }
        if !moves.is_empty() {
            let position = |step: &Move| Position::new(step.next_offset, step.roots.clone(), step.version);
            self.cache.advance(moves.iter().map(|step| (step.partition.clone(), position(step))));
        }
        if self.goals.as_ref().is_some_and(HashMap::is_empty) {
            self.cache.set_ready(true);
        }
    }
}

impl Target for MemoryTarget {
    fn positions(&mut self, topics: &[Arc<str>]) -> Result<Vec<StoredPosition>, TargetError> {
        let of_topics = self.cache.positions().into_iter().filter(|(partition, _)| topics.contains(&partition.topic));
        let stored = of_topics.map(|(partition, position)| {
            let Position { next_offset, roots, version, .. } = position;
            StoredPosition { partition, next_offset, roots: Arc::unwrap_or_clone(roots), version }
        });
        Ok(stored.collect())
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn is_cache(&self) -> bool {
        true
    }

    fn begin(&mut self, goals: &[(TopicPartition, u64)]) {
        // A sink that starts again after an error goes on where it was: what was ready stays so.
        let goals = self.goals.insert(goals.iter().cloned().collect());
        if goals.is_empty() {
            self.cache.set_ready(true);
        }
    }

    fn reaching(&mut self, partition: &TopicPartition, next_offset: u64) {
        self.cache.reaching(partition, next_offset);
    }

    fn takes(&mut self, output: OutputType, key: &[u8]) -> bool {
        let subject_id = if output == OutputType::Counters { std::str::from_utf8(key).ok() } else { None };
        let Some(subject_id) = subject_id.filter(|id| !self.cache.follows(id)) else { return true };
        self.cache.saw(subject_id);
        false
    }

    fn forget(&mut self) -> bool {
        self.goals = None;
        self.cache.clear();
        true
    }

    fn check(&mut self) -> Result<(), TargetError> {
        if let Some(metrics) = &self.metrics {
            let (subjects, size_bytes) = self.cache.size();
            metrics.subjects.set(subjects as i64);
            metrics.size_bytes.set(size_bytes as i64);
            metrics.evicted.inc_by(self.cache.evicted().saturating_sub(metrics.evicted.get()));
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), TargetError> {
        self.compare(&batch.positions)?;
        for step in &batch.positions {
            self.cache.reaching(&step.partition, step.next_offset);
        }
        for row in batch.counters.rows() {
            self.put(row);
        }
        for ranking in batch.rankings.rows() {
            self.cache.put_board(ranking.clone());
        }
        // Positions follow the rows: a reader that sees a position finds what it covers.
        self.advance(&batch.positions);
        Ok(())
    }
}
