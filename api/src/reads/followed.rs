//! A partition that a feed follows: what comes, and how far the input is contained in it.

use super::totals::Template;
use std::sync::Arc;
use tally_cache::{CachedCounters, MemoryCache, Position};
use tally_model::{
    Containment, Counters, PROGRESS_HEADER, PROGRESS_KEY_PREFIX, ProgressMark, Ranking, TRUST_MS, TaskProgress,
};
use tally_streams::log::{LogError, Record, TopicPartition};

/// What a topic holds.
pub(crate) enum Content {
    /// Totals, and the names that their metrics share.
    Totals(Arc<Template>),
    /// Boards.
    Boards,
    /// Totals, of which only the subjects matter.
    Subjects,
}

/// See the module.
pub(crate) struct Followed {
    /// Of the topic.
    pub address: TopicPartition,
    /// None before the start, which depends on the content.
    pub position: Option<u64>,
    /// How far the input is contained in what was read.
    pub containment: Containment,
    /// The greatest version among what was read.
    version: i64,
    /// Whether the last record read was too old to trust the next.
    is_behind: bool,
}

impl Followed {
    /// Nothing was read yet.
    pub fn new(address: TopicPartition) -> Self {
        Self { address, position: None, containment: Containment::default(), version: 0, is_behind: false }
    }

    /// Whether a record shows that this reader lags behind what may be compacted, or the one before did.
    pub fn is_behind(&mut self, append_time_ms: i64, now_ms: i64) -> bool {
        let old = now_ms.saturating_sub(append_time_ms) > TRUST_MS;
        std::mem::replace(&mut self.is_behind, old) || old
    }

    /// Takes in a record of the internal topic.
    pub fn hear(&mut self, from: &TopicPartition, record: &Record<'_>) -> Result<(), LogError> {
        let Some(value) = record.value else { return Ok(()) };
        let progress = TaskProgress::decode(value).map_err(|error| LogError::Corrupt {
            address: format!("{from} offset {}", record.offset),
            detail: format!("progress: {error}"),
        })?;
        self.containment.hear(&progress, &self.address.topic);
        Ok(())
    }

    /// Takes what counts by now, and publishes it.
    pub fn settle(&mut self, cache: &MemoryCache) {
        if self.position.is_some_and(|position| self.containment.settle(position)) {
            self.publish(cache);
        }
    }

    /// Publishes where it stands.
    pub fn publish(&mut self, cache: &MemoryCache) {
        let Some(next_offset) = self.position else { return };
        let roots = self.containment.roots();
        self.version = self.version.max(roots.newest());
        let position = Position::new(next_offset, roots.clone(), self.version);
        cache.advance([(self.address.clone(), position)]);
    }

    /// Takes in a record of the partition.
    pub fn take(&mut self, cache: &MemoryCache, content: &Content, record: &Record<'_>) -> Result<(), LogError> {
        let (Some(key), Some(value)) = (record.key, record.value) else { return Ok(()) };
        let wrong = |what: &str, error: serde_json::Error| LogError::Corrupt {
            address: format!("{} offset {}", self.address, record.offset),
            detail: format!("{what}: {error}"),
        };
        if key.starts_with(PROGRESS_KEY_PREFIX) {
            let mark: ProgressMark = serde_json::from_slice(value).map_err(|e| wrong("progress mark", e))?;
            self.containment.read(mark);
            return Ok(());
        }
        if let Some((name, bytes)) = record.headers.iter().next().filter(|(name, _)| *name == PROGRESS_HEADER) {
            let progress = TaskProgress::decode(bytes).map_err(|error| LogError::Corrupt {
                address: format!("{} offset {}", self.address, record.offset),
                detail: format!("header `{name}`: {error}"),
            })?;
            self.containment.read(progress.mark());
        }
        let template = match content {
            Content::Totals(template) => template,
            Content::Boards => {
                let ranking: Ranking = serde_json::from_slice(value).map_err(|e| wrong("ranking", e))?;
                self.version = self.version.max(ranking.version);
                cache.put_board(ranking);
                return Ok(());
            }
            Content::Subjects => {
                std::str::from_utf8(key).into_iter().for_each(|id| cache.saw(id));
                return Ok(());
            }
        };
        // Only requested subjects are worth parsing.
        let Some(subject_id) = std::str::from_utf8(key).ok().filter(|id| cache.follows(id)) else { return Ok(()) };
        let record: Counters = serde_json::from_slice(value).map_err(|e| wrong("totals", e))?;
        let counters = record.counters.iter().map(|(metric, value)| (template.name(metric), *value)).collect();
        cache.put(subject_id, CachedCounters { counters, version: record.version });
        self.version = self.version.max(record.version);
        Ok(())
    }
}
