//! The parts from which a task is restored: its checkpoint, records of its changelog, and a check against the group's
//! offset. `takeover` has their order.

use super::checkpoint::TaskCheckpoint;
use super::confirmed::{Confirmed, ConfirmedTime};
use super::envelope::{Envelope, WIRE_VERSIONS};
use super::held::Held;
use super::idle::Moves;
use super::memory::StateMemory;
use super::position::Position;
use super::snapshot::Snapshots;
use super::{NodeCounts, ProgressPending, Punctuator, Rejections, Task, TaskError};
use crate::log::{Cleanup, Log, Now};
use crate::processor::{Dataflow, OutputRecord};
use crate::store::{ChangelogEntry, ChangelogReader, StateStore, Stores};
use crate::topology::{BuildSite, Output, StoreSpec, Subtopology, Topology};
use std::path::PathBuf;
use std::sync::Arc;

/// What an operator may have done when part of a commit is missing.
pub(super) const ABORTED_BY_HAND: &str = "a transaction was aborted by hand in that partition although its coordinator \
    had committed it (docs/operations.md, \"Hanging transactions\")";

/// What every task of a thread has in common.
pub struct TaskSite<D: Dataflow> {
    /// The topology.
    pub topology: Arc<Topology<D>>,
    /// The generation of its state.
    pub generation: u16,
    /// The version of every envelope that is written.
    pub wire_version: u8,
    /// Secret seed for hashes.
    pub hash_seed: u64,
    /// The secret of the control record, for nodes that check who wrote a record.
    pub secret: [u8; 32],
    /// The transactional id of the thread.
    pub owner: Arc<str>,
    /// Those of all threads of this process, this one included: they live, and are never fenced.
    pub siblings: Arc<[Arc<str>]>,
    /// What operators have confirmed of the log's time.
    pub confirmed_times: Arc<[ConfirmedTime]>,
    /// Where checkpoints are; None keeps state in memory alone.
    pub state_dir: Option<PathBuf>,
    /// Distinguishes one boot of the machine from another.
    pub boot_id: String,
    /// The memory that state may take, for all threads of this process.
    pub memory: Arc<StateMemory>,
}

impl<D: Dataflow> TaskSite<D> {
    /// What a task of a first generation is given, with all state in memory, and the same hashes and secrets each time.
    /// `owner` has no siblings.
    pub fn in_memory(topology: Arc<Topology<D>>, owner: &str) -> Self {
        let owner = Arc::<str>::from(owner);
        Self {
            topology,
            generation: 1,
            wire_version: *WIRE_VERSIONS.end(),
            hash_seed: 7,
            secret: [7; 32],
            siblings: [owner.clone()].into(),
            owner,
            confirmed_times: [].into(),
            state_dir: None,
            boot_id: "boot".to_owned(),
            memory: StateMemory::unlimited(),
        }
    }
}

impl<D: Dataflow> Task<D> {
    /// A task that keeps its state in memory alone, as of the last commit in its changelog: the values of the changelog's
    /// records, in their order; none if it has never run.
    pub fn from_changelog<'a>(
        site: &TaskSite<D>,
        subtopology: usize,
        partition: u32,
        changelog: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, TaskError> {
        let mut task = Self::in_memory(site, subtopology, partition);
        for (offset, value) in changelog.into_iter().enumerate() {
            let halt = |reason: String| {
                let address = format!("{}/{partition}@{offset}", site.topology.subtopologies[subtopology].changelog);
                TaskError::Halt { address, reason }
            };
            let (envelope, body) = Envelope::decode(value).map_err(|error| halt(error.to_string()))?;
            task.replay(&envelope, body).map_err(|error| match error {
                TaskError::Halt { reason, .. } => halt(reason),
                other => other,
            })?;
            task.restored_records += 1;
        }
        task.committed = task.position.clone();
        Ok(task)
    }

    /// A task that has never run and keeps its state in memory alone.
    pub fn in_memory(site: &TaskSite<D>, subtopology: usize, partition: u32) -> Self {
        let spec = site.topology.subtopologies[subtopology].clone();
        let open = |(index, spec): (usize, &StoreSpec)| {
            let mut store = (spec.make)();
            let opened = store.open(&spec.name, index, None);
            debug_assert!(opened.is_ok(), "without a checkpoint there is nothing to read");
            store
        };
        let stores = spec.stores.iter().enumerate().map(open).collect();
        Self::assemble(site, spec, partition, stores, TaskCheckpoint::default())
    }

    /// The task as of its checkpoint, if that is trusted; and the checkpoint's place in the changelog.
    pub(super) fn from_checkpoint(
        site: &TaskSite<D>,
        subtopology: usize,
        partition: u32,
        is_trusted: bool,
        now: Now,
    ) -> Result<(Self, Option<u64>), TaskError> {
        let spec = site.topology.subtopologies[subtopology].clone();
        let mut stores: Vec<Box<dyn StateStore>> = spec.stores.iter().map(|store| (store.make)()).collect();
        let (checkpoint, meta) = TaskCheckpoint::open(site, &spec, partition, is_trusted, now)?;
        let meta = meta.filter(|meta| meta.generation == site.generation);
        // A checkpoint without a meta record is empty: there is nothing to read through to, only to write to.
        let behind = meta.as_ref().and(checkpoint.open.as_ref());
        let mut places = stores.iter_mut().zip(&spec.stores).enumerate();
        let opened = places.try_for_each(|(index, (store, spec))| store.open(&spec.name, index, behind.cloned()));
        if let Err(fault) = opened {
            drop((stores, checkpoint));
            if !is_trusted {
                return Err(fault.into());
            }
            tracing::warn!(task = format!("{}/{partition}", spec.name), %fault, "a checkpoint is discarded: a store cannot read it");
            return Self::from_checkpoint(site, subtopology, partition, false, now);
        }
        let mut task = Self::assemble(site, spec, partition, stores, checkpoint);
        let Some(meta) = meta else { return Ok((task, None)) };
        task.commit = meta.commit;
        task.snapshots = Snapshots::new(meta.changelog_bytes);
        task.take_position(meta.input_next, meta.upstream, meta.outputs.as_deref());
        Ok((task, Some(meta.changelog_next)))
    }

    fn assemble(
        site: &TaskSite<D>,
        subtopology: Arc<Subtopology<D>>,
        partition: u32,
        stores: Vec<Box<dyn StateStore>>,
        checkpoint: TaskCheckpoint,
    ) -> Self {
        let topology = &site.topology;
        let build = |index: usize| {
            let node = &subtopology.nodes[index];
            let seen = topology.build_site(&subtopology, index, site.hash_seed);
            node.blueprint.build(&BuildSite { secret: site.secret, ..seen })
        };
        let processors: Vec<_> = (0..subtopology.nodes.len()).map(build).collect();
        let schedules = processors.iter().enumerate().flat_map(|(node, processor)| {
            let schedules = processor.schedules().into_iter();
            schedules.map(move |s| Punctuator { node, kind: s.kind, interval_ms: s.interval_ms.max(1) })
        });
        let upstream = subtopology.upstream.map(|index| &topology.subtopologies[index]);
        let mut position = match upstream {
            None => Position::of_root(partition, 0),
            Some(upstream) => Position::behind_hop(upstream.partitions, 0),
        };
        position.outputs = vec![0; subtopology.outputs.len()];
        Self {
            name: format!("{}/{partition}", subtopology.name),
            partition,
            owner: site.owner.clone(),
            generation: site.generation,
            wire_version: site.wire_version,
            upstream_is_root: upstream.is_some_and(|upstream| upstream.upstream.is_none()),
            root_partitions: topology.subtopologies.first().map_or(1, |root| root.partitions),
            punctuators: schedules.collect(),
            processors,
            stores: Stores::new(stores),
            hops: subtopology.hops.iter().map(|_| D::Hop::default()).collect(),
            moves: Moves::new(topology.idle_topic().into()),
            confirmed: Confirmed::new(if upstream.is_none() { &site.confirmed_times } else { &[] }, partition),
            idle_margin_ms: topology.settings.idle_margin.as_millis() as i64,
            behind_clock: 0,
            checkpoint,
            snapshots: Snapshots::new(Some(0)),
            committed: position.clone(),
            position,
            commit: 0,
            moved: false,
            progress_pending: ProgressPending::Clock,
            told_all_at_ms: i64::MIN,
            told_all: false,
            wall_ms: i64::MIN,
            written: vec![false; subtopology.outputs.len()],
            held: subtopology.outputs.iter().map(|_| Held::default()).collect(),
            compacted: subtopology.outputs.iter().map(|output| is_compacted(topology, output)).collect(),
            owes_tombstones: false,
            marks_topic: topology.progress_topic().into(),
            marks: 0,
            restored_records: 0,
            proven: false,
            counts: vec![NodeCounts::default(); subtopology.nodes.len()],
            forwarded: vec![0; subtopology.nodes.len() * D::EDGE_TYPES.len()],
            rejections: Rejections::default(),
            late: Default::default(),
            over_limit: Default::default(),
            pool: Vec::new(),
            record: OutputRecord::default(),
            bytes: Vec::new(),
            subtopology,
        }
    }

    /// Lets go of the checkpoint, so that another can be begun in its place.
    pub(super) fn release_checkpoint(&mut self) {
        self.checkpoint = TaskCheckpoint::default();
        self.stores = Stores::default();
    }

    /// As of the last commit, whose number is known already.
    fn take_position(
        &mut self,
        input_next: u64,
        upstream: Vec<Vec<crate::processor::RootProgress>>,
        outputs: Option<&[(String, u64)]>,
    ) {
        self.position.input_next = input_next;
        self.position.upstream = upstream;
        let commit_of = |topic: &str| {
            let known = outputs.and_then(|outputs| outputs.iter().find(|(known, _)| known == topic));
            // If it is not noted, nothing later than the last commit can have written there.
            known.map_or(self.commit, |(_, commit)| *commit)
        };
        self.position.outputs = self.subtopology.outputs.iter().map(|output| commit_of(&output.topic)).collect();
        // What notes it down wrote them.
        self.owes_tombstones = outputs.is_none();
        self.position.clock_ms = match self.subtopology.upstream {
            None => self.position.upstream.iter().flatten().map(|own| own.clock_ms).min().unwrap_or(i64::MIN),
            Some(_) => self.position.clock_behind_hop(self.upstream_is_root, self.root_partitions),
        };
    }

    /// Applies a record of the changelog.
    pub(super) fn replay(&mut self, envelope: &Envelope<'_>, body: &[u8]) -> Result<(), TaskError> {
        let halt = |reason: String| TaskError::Halt { address: String::new(), reason };
        let subtopology = self.subtopology.clone();
        for entry in ChangelogReader::new(body) {
            let (name, entry) = entry.map_err(halt)?;
            if let ChangelogEntry::SnapshotEnd { first_offset } = entry {
                self.snapshots.read_end(first_offset);
                continue;
            }
            // Stores are sorted by name.
            let index = subtopology.stores.binary_search_by(|store| store.name.as_str().cmp(name));
            let store = index.ok().and_then(|index| self.stores.at(index));
            let store = store.ok_or_else(|| halt(format!("store `{name}` is not in this topology")))?;
            store.restore(&entry)?;
        }
        if envelope.part + 1 == envelope.parts {
            self.stores.iter_mut().for_each(|store| store.commit());
            self.commit = envelope.commit;
            self.take_position(envelope.input_next, envelope.upstream.clone(), envelope.outputs.as_deref());
        }
        self.checkpoint.changelog_bytes += body.len();
        self.check_stores()
    }

    /// The changelog decides where to go on; the group's offset and the source must agree with it.
    pub(super) fn check_position(&mut self, log: &dyn Log, group: &str, has_run: bool) -> Result<(), TaskError> {
        let source = self.source();
        let (start, _) = log.bounds(&source)?;
        let committed = log.committed(group, &source)?;
        let halt = |reason: String| Err(TaskError::Halt { address: source.to_string(), reason });
        if !has_run {
            if let Some(committed) = committed.filter(|committed| committed.offset > start) {
                return halt(format!(
                    "group `{group}` has committed offset {} and the changelog `{}` is empty: restore the changelog, \
                     or start a new generation; or {ABORTED_BY_HAND}",
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
                 commits for this group, or the changelog was cut, or {ABORTED_BY_HAND}; start a new generation",
                committed.offset
            )),
            _ if next > log.written_ends(std::slice::from_ref(&source))?.first().copied().unwrap_or_default() => {
                halt(format!(
                    "input was read up to {next}, and the topic ends before that: it was recreated, or is an older copy; \
                     restore it, or start a new generation"
                ))
            }
            _ if next < start => halt(format!(
                "input {next} is needed and the topic begins at {start}: records were deleted before they were read; \
                 start a new generation, or set the group aside"
            )),
            _ => Ok(()),
        }
    }
}

fn is_compacted<D: Dataflow>(topology: &Topology<D>, output: &Output) -> bool {
    topology.topics.get(&*output.topic).is_some_and(|topic| topic.spec.cleanup != Cleanup::Delete)
}
