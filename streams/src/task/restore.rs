//! How a task comes to be: checkpoint, then the changelog's tail, then a check against the group's offset.

use super::envelope::Envelope;
use super::position::Position;
use super::{NodeCounts, Punctuator, Task, TaskError, Untold};
use crate::log::{Consumer, Log, LogError, Polled, Record, TopicPartition};
use crate::processor::{Dataflow, OutputRecord};
use crate::store::{ChangelogReader, Checkpoint, StateStore, Stores};
use crate::topology::{Subtopology, Topology};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The longest that a restore waits for the next batch of a changelog that has more.
const RESTORE_WAIT: Duration = Duration::from_secs(30);

/// What every task of a thread has in common.
pub struct TaskSite<D: Dataflow> {
    /// The topology.
    pub topology: Arc<Topology<D>>,
    /// The generation of its state.
    pub generation: u16,
    /// Secret seed for hashes.
    pub hash_seed: u64,
    /// The transactional id of the thread.
    pub owner: Arc<str>,
    /// Where checkpoints are; None keeps state in memory alone.
    pub state_dir: Option<PathBuf>,
    /// Tells one boot of the machine from another.
    pub boot_id: String,
}

impl<D: Dataflow> Task<D> {
    /// A task as it was at its last commit. `committed` is the group's offset for its source, if there is one.
    pub fn open(
        site: &TaskSite<D>,
        log: &dyn Log,
        subtopology: usize,
        partition: u32,
        now_ms: i64,
    ) -> Result<Self, TaskError> {
        let (mut task, mut changelog_next) = Self::from_checkpoint(site, subtopology, partition, now_ms)?;
        let changelog = TopicPartition::new(task.subtopology.changelog.clone(), partition);
        let (start, end) = log.bounds(&changelog)?;
        if changelog_next.is_some_and(|next| next < start || next > end) {
            // The changelog no longer has what follows the checkpoint, or is another one: the checkpoint is worthless.
            task.discard_checkpoint(site)?;
            (task, changelog_next) = Self::from_checkpoint(site, subtopology, partition, now_ms)?;
        }
        let from = changelog_next.unwrap_or(start);
        let has_run = from < end || changelog_next.is_some();
        if from < end {
            task.replay_changelog(log, &changelog, from, end)?;
        }
        task.check_position(log, &site.topology.settings.application, has_run)?;
        task.committed = task.position.clone();
        Ok(task)
    }

    /// A task that has never run and keeps its state in memory alone.
    pub fn in_memory(site: &TaskSite<D>, subtopology: usize, partition: u32) -> Self {
        let spec = site.topology.subtopologies[subtopology].clone();
        let stores = spec.stores.iter().map(|store| (store.make)()).collect();
        Self::assemble(site, spec, partition, stores, None, 0)
    }

    fn from_checkpoint(
        site: &TaskSite<D>,
        subtopology: usize,
        partition: u32,
        now_ms: i64,
    ) -> Result<(Self, Option<u64>), TaskError> {
        let spec = site.topology.subtopologies[subtopology].clone();
        let mut stores: Vec<Box<dyn StateStore>> = spec.stores.iter().map(|store| (store.make)()).collect();
        let opened = match Self::checkpoint_dir(site, &spec, partition) {
            Some(dir) => {
                let names: Vec<_> = spec.stores.iter().map(|store| store.name.as_str()).collect();
                let (checkpoint, meta) = Checkpoint::open(&dir, &names, &site.boot_id)?;
                Some((Arc::new(checkpoint), meta.filter(|meta| meta.generation == site.generation)))
            }
            None => None,
        };
        let (checkpoint, meta) = opened.map_or((None, None), |(checkpoint, meta)| (Some(checkpoint), meta));
        for (index, (store, spec)) in stores.iter_mut().zip(&spec.stores).enumerate() {
            // A checkpoint without a meta record is empty: there is nothing to read through to, only to write to.
            store.open(&spec.name, index, meta.as_ref().and(checkpoint.clone()))?;
        }
        let mut task = Self::assemble(site, spec, partition, stores, checkpoint, now_ms);
        let Some(meta) = meta else { return Ok((task, None)) };
        task.commit = meta.commit;
        task.take_position(meta.input_next, meta.upstream);
        Ok((task, Some(meta.changelog_next)))
    }

    fn assemble(
        site: &TaskSite<D>,
        subtopology: Arc<Subtopology<D>>,
        partition: u32,
        stores: Vec<Box<dyn StateStore>>,
        checkpoint: Option<Arc<Checkpoint>>,
        now_ms: i64,
    ) -> Self {
        let topology = &site.topology;
        let build = |index: usize| {
            let node = &subtopology.nodes[index];
            node.blueprint.build(&topology.build_site(&subtopology, index, site.hash_seed))
        };
        let processors: Vec<_> = (0..subtopology.nodes.len()).map(build).collect();
        let schedules = processors.iter().enumerate().flat_map(|(node, processor)| {
            let schedules = processor.schedules().into_iter();
            schedules.map(move |s| Punctuator { node, kind: s.kind, interval_ms: s.interval_ms.max(1) })
        });
        let upstream = subtopology.upstream.map(|index| &topology.subtopologies[index]);
        let position = match upstream {
            None => Position::of_root(partition, 0),
            Some(upstream) => Position::behind_hop(upstream.partitions, 0),
        };
        Self {
            name: format!("{}/{partition}", subtopology.name),
            partition,
            owner: site.owner.clone(),
            generation: site.generation,
            upstream_is_root: upstream.is_some_and(|upstream| upstream.upstream.is_none()),
            root_partitions: topology.subtopologies.first().map_or(1, |root| root.partitions),
            punctuators: schedules.collect(),
            processors,
            stores: Stores::new(stores),
            hops: subtopology.hops.iter().map(|_| D::Hop::default()).collect(),
            checkpoint,
            committed: position.clone(),
            position,
            commit: 0,
            moved: false,
            untold: Untold::Clock,
            told_all_at_ms: 0,
            told_all: false,
            wall_ms: i64::MIN,
            written: vec![false; subtopology.outputs.len()],
            changelog_bytes: 0,
            checkpointed_at_ms: now_ms,
            proven: false,
            counts: vec![NodeCounts::default(); subtopology.nodes.len()],
            pool: Vec::new(),
            record: OutputRecord::default(),
            bytes: Vec::new(),
            subtopology,
        }
    }

    fn checkpoint_dir(site: &TaskSite<D>, subtopology: &Subtopology<D>, partition: u32) -> Option<PathBuf> {
        let dir = site.state_dir.as_ref()?;
        Some(dir.join(format!("generation-{}", site.generation)).join(format!("{}-{partition}", subtopology.name)))
    }

    fn discard_checkpoint(&mut self, site: &TaskSite<D>) -> Result<(), TaskError> {
        self.checkpoint = None;
        self.stores = Stores::default();
        if let Some(dir) = Self::checkpoint_dir(site, &self.subtopology, self.partition) {
            std::fs::remove_dir_all(&dir).map_err(|e| {
                let reason = format!("the checkpoint is older than the changelog and cannot be removed: {e}");
                TaskError::Halt { address: dir.display().to_string(), reason }
            })?;
        }
        Ok(())
    }

    fn take_position(&mut self, input_next: u64, upstream: Vec<Vec<crate::processor::RootProgress>>) {
        self.position.input_next = input_next;
        self.position.upstream = upstream;
        self.position.clock_ms = match self.subtopology.upstream {
            None => self.position.upstream.iter().flatten().map(|own| own.clock_ms).min().unwrap_or(i64::MIN),
            Some(_) => self.position.clock_behind_hop(self.upstream_is_root, self.root_partitions),
        };
    }

    /// Brings the stores from the checkpoint to the last commit.
    fn replay_changelog(
        &mut self,
        log: &dyn Log,
        changelog: &TopicPartition,
        from: u64,
        end: u64,
    ) -> Result<(), TaskError> {
        let mut consumer = log.consumer("")?;
        consumer.assign(changelog, from)?;
        let mut next = from;
        while next < end {
            next = self.replay_batch(consumer.as_mut(), changelog, next)?;
        }
        Ok(())
    }

    fn replay_batch(
        &mut self,
        consumer: &mut dyn Consumer,
        changelog: &TopicPartition,
        next: u64,
    ) -> Result<u64, TaskError> {
        match consumer.poll(RESTORE_WAIT)? {
            Polled::Records { records, next_offset, .. } => {
                for record in records {
                    self.replay_record(changelog, &record?)?;
                }
                Ok(next_offset)
            }
            _ => {
                let reason = "the changelog gave nothing for 30 s though it has more: is the log away?".to_owned();
                Err(TaskError::Log(LogError::Uncertain(format!("{changelog}@{next}: {reason}"))))
            }
        }
    }

    fn replay_record(&mut self, changelog: &TopicPartition, record: &Record<'_>) -> Result<(), TaskError> {
        let halt = |reason: String| TaskError::Halt { address: format!("{changelog}@{}", record.offset), reason };
        let bytes = record.value.unwrap_or_default();
        let (envelope, body) = Envelope::decode(bytes).map_err(|e| halt(e.to_string()))?;
        if envelope.generation != self.generation {
            return Err(halt(format!("written by generation {}", envelope.generation)));
        }
        let subtopology = self.subtopology.clone();
        for entry in ChangelogReader::new(body) {
            let (name, entry) = entry.map_err(halt)?;
            // Stores are sorted by name.
            let index = subtopology.stores.binary_search_by(|store| store.name.as_str().cmp(name));
            let store = index.ok().and_then(|index| self.stores.at(index));
            let store = store.ok_or_else(|| halt(format!("store `{name}` is not in this topology")))?;
            store.restore(&entry)?;
        }
        if envelope.part + 1 == envelope.parts {
            self.stores.iter_mut().for_each(|store| store.commit());
            self.commit = envelope.commit;
            self.take_position(envelope.input_next, envelope.upstream);
        }
        self.changelog_bytes += body.len();
        Ok(())
    }

    /// The changelog decides where to go on; the group's offset and the source must agree with it.
    fn check_position(&mut self, log: &dyn Log, group: &str, has_run: bool) -> Result<(), TaskError> {
        let source = self.source();
        let (start, _) = log.bounds(&source)?;
        let committed = log.committed(group, &source)?;
        let halt = |reason: String| Err(TaskError::Halt { address: source.to_string(), reason });
        if !has_run {
            if let Some(committed) = committed.filter(|committed| committed.offset > start) {
                return halt(format!(
                    "group `{group}` has committed offset {} and the changelog `{}` is empty: restore the changelog, \
                     or start a new generation",
                    committed.offset, self.subtopology.changelog
                ));
            }
            self.position.input_next = start;
            if let Some(own) = self.position.upstream.first_mut().and_then(|said| said.first_mut()) {
                own.next_offset = start;
            }
            return Ok(());
        }
        let next = self.position.input_next;
        match committed {
            Some(committed) if committed.offset > next => halt(format!(
                "group `{group}` has committed offset {}, and the changelog ends at input {next}: something else \
                 commits for this group, or the changelog was cut; start a new generation",
                committed.offset
            )),
            _ if next < start => halt(format!(
                "input {next} is needed and the topic begins at {start}: records were deleted before they were read; \
                 start a new generation, or set the group aside"
            )),
            _ => Ok(()),
        }
    }
}
