//! A task and its checkpoint: when it is written, and how the task continues without one if the disk refuses it.

use super::envelope::VALUES_ONLY;
use super::restore::TaskSite;
use super::{Task, TaskError};
use crate::log::{Log, Now};
use crate::processor::Dataflow;
use crate::store::{Checkpoint, CheckpointMeta, CheckpointSite, StoreError};
use crate::topology::Subtopology;
use std::path::PathBuf;
use std::sync::Arc;

/// The checkpoint of a task.
#[derive(Default)]
pub(super) struct TaskCheckpoint {
    /// None keeps state in memory alone.
    site: Option<CheckpointSite>,
    /// None also if the disk refused to open it.
    pub open: Option<Arc<Checkpoint>>,
    /// Why the last attempt to open or write it failed; None after a success.
    fault: Option<StoreError>,
    /// Bytes of changelog since the last checkpoint, and the time of the last attempt, by the monotonic clock.
    pub changelog_bytes: usize,
    pub tried_at_ms: i64,
}

impl TaskCheckpoint {
    /// Opens the checkpoint of a task, or begins an empty one in its place.
    pub fn open<D: Dataflow>(
        site: &TaskSite<D>,
        subtopology: &Subtopology<D>,
        partition: u32,
        is_trusted: bool,
        now: Now,
    ) -> Result<(Self, Option<CheckpointMeta>), StoreError> {
        let site = site_of(site, subtopology, partition);
        let mut own = Self { site, tried_at_ms: now.monotonic_ms, ..Self::default() };
        let names: Vec<_> = subtopology.stores.iter().map(|store| store.name.as_str()).collect();
        let opened = match &own.site {
            None => return Ok((own, None)),
            Some(site) if is_trusted => Checkpoint::open(site, &names),
            Some(site) => Checkpoint::begin(site, &names).map(|checkpoint| (checkpoint, None)),
        };
        match opened {
            Ok((checkpoint, meta)) => {
                own.open = Some(Arc::new(checkpoint));
                Ok((own, meta))
            }
            Err(busy @ StoreError::InUse(_)) => Err(busy),
            Err(fault) => {
                own.fault = Some(fault);
                Ok((own, None))
            }
        }
    }

    /// Marks a checkpoint that cannot be read: the rebuilt task starts from the changelog.
    pub(super) fn distrust(&self, fault: StoreError) -> TaskError {
        if let Some(checkpoint) = &self.open {
            checkpoint.distrust();
        }
        fault.into()
    }
}

fn site_of<D: Dataflow>(site: &TaskSite<D>, subtopology: &Subtopology<D>, partition: u32) -> Option<CheckpointSite> {
    let TaskSite { generation, hash_seed, .. } = site;
    let task = format!("{}-{partition}", subtopology.name);
    Some(CheckpointSite {
        dir: PathBuf::from(site.state_dir.as_ref()?).join(format!("generation-{generation}")).join(&task),
        boot_id: site.boot_id.clone(),
        // The seed is the log's own.
        owner: format!("{task} of generation {generation} of log {hash_seed:016x}"),
    })
}

impl<D: Dataflow> Task<D> {
    /// Whether a checkpoint is worth its cost: `bytes_max` of changelog, or `age_ms_max` with any. After a failure only
    /// time counts.
    pub fn wants_checkpoint(&self, now: Now, bytes_max: usize, age_ms_max: i64) -> bool {
        let TaskCheckpoint { site, fault, changelog_bytes, tried_at_ms, .. } = &self.checkpoint;
        let is_large = *changelog_bytes >= bytes_max && fault.is_none();
        let is_owed = *changelog_bytes > 0 || fault.is_some();
        site.is_some() && (is_large || (is_owed && now.since_ms(*tried_at_ms) >= age_ms_max))
    }

    /// Whether it has replayed so much changelog that a checkpoint is worth its cost.
    pub(super) fn wants_spill(&self, bytes_max: usize) -> bool {
        self.checkpoint.site.is_some() && self.checkpoint.changelog_bytes >= bytes_max
    }

    /// When the last checkpoint was written or tried, or the task opened, by the monotonic clock.
    pub fn checkpointed_at_ms(&self) -> i64 {
        self.checkpoint.tried_at_ms
    }

    /// Why the task has no current checkpoint, where it should have one.
    pub fn checkpoint_fault(&self) -> Option<&StoreError> {
        self.checkpoint.fault.as_ref()
    }

    /// Writes a checkpoint; whether it could. There is no open transaction, so all that was committed lies below the
    /// written end of the changelog, also where readers do not see it yet.
    pub fn write_checkpoint(&mut self, log: &dyn Log, now: Now) -> Result<bool, TaskError> {
        if self.checkpoint.site.is_none() {
            return Ok(true);
        }
        self.checkpoint.tried_at_ms = now.monotonic_ms;
        let changelog_next = log.written_ends(&[self.changelog()])?.first().copied().unwrap_or_default();
        self.try_checkpoint(changelog_next)
    }

    /// Writes a checkpoint while the task is restored: its changelog was read up to `changelog_next`, where no commit is
    /// open.
    pub(super) fn spill(&mut self, changelog_next: u64, now: Now) -> Result<bool, TaskError> {
        self.checkpoint.tried_at_ms = now.monotonic_ms;
        self.committed = self.position.clone();
        self.try_checkpoint(changelog_next)
    }

    fn try_checkpoint(&mut self, changelog_next: u64) -> Result<bool, TaskError> {
        self.check_stores()?;
        match self.write_checkpoint_at(changelog_next) {
            Ok(()) => {
                if let Some(checkpoint) = &self.checkpoint.open {
                    self.stores.iter_mut().for_each(|store| store.checkpointed(checkpoint));
                }
                (self.checkpoint.fault, self.checkpoint.changelog_bytes) = (None, 0);
                Ok(true)
            }
            Err(fault @ (StoreError::Unwritten(_) | StoreError::InUse(_))) => {
                self.checkpoint.fault = Some(fault);
                Ok(false)
            }
            // It cannot even be read, perhaps, and some of the state may be nowhere else but in the changelog.
            Err(fault) => Err(self.checkpoint.distrust(fault)),
        }
    }

    /// Whether stores could read all that they needed of the checkpoint. If not, nothing that they wrote since may be kept.
    pub(super) fn check_stores(&mut self) -> Result<(), TaskError> {
        match self.stores.iter_mut().find_map(|store| store.take_fault()) {
            Some(fault) => Err(self.checkpoint.distrust(fault)),
            None => Ok(()),
        }
    }

    fn write_checkpoint_at(&mut self, changelog_next: u64) -> Result<(), StoreError> {
        let Some(site) = &self.checkpoint.site else { return Ok(()) };
        let checkpoint = match &self.checkpoint.open {
            Some(checkpoint) => checkpoint.clone(),
            None => {
                // What is there was not read at the start: this one gets all that memory has.
                let names: Vec<_> = self.subtopology.stores.iter().map(|store| store.name.as_str()).collect();
                let begun = Arc::new(Checkpoint::begin(site, &names)?);
                self.checkpoint.open.insert(begun).clone()
            }
        };
        let meta = CheckpointMeta {
            generation: self.generation,
            changelog_next,
            input_next: self.committed.input_next,
            commit: self.commit,
            upstream: self.committed.upstream.clone(),
            // Only a commit that the log has notes it down.
            outputs: (self.wire_version >= VALUES_ONLY && !self.owes_tombstones).then(|| self.output_commits()),
            changelog_bytes: self.snapshots.changelog_bytes(),
        };
        checkpoint.write(&meta, |out| self.stores.iter_mut().try_for_each(|store| store.checkpoint(out)))
    }

    /// Syncs the checkpoint so that it survives a crash of the operating system; the last call before a task is
    /// dropped. If that fails, the checkpoint may be discarded after such a crash; nothing is lost.
    pub fn close(&mut self) {
        if let Some(Err(fault)) = self.checkpoint.open.as_ref().map(|checkpoint| checkpoint.close()) {
            self.checkpoint.fault = Some(fault);
        }
    }

    /// Loads part of the checkpoint into memory; false when all is there, or some was evicted.
    pub fn hydrate(&mut self, entries_max: usize) -> Result<bool, TaskError> {
        for store in self.stores.iter_mut() {
            match store.hydrate(entries_max) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(fault) => return Err(self.checkpoint.distrust(fault)),
            }
        }
        Ok(false)
    }
}
