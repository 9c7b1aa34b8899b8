//! The runtime's Prometheus metrics.

use super::refusals::Refusals;
use crate::processor::Dataflow;
use crate::task::{Rejections, Task};
use crate::topology::Subtopology;
use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The runtime's metrics. Cheap to clone; label handles are looked up once per commit, never per record.
#[derive(Clone)]
pub struct StreamMetrics {
    /// Values that a node took.
    pub node_processed: IntCounterVec,
    /// Values that a node passed on, by their edge type.
    pub node_forwarded: IntCounterVec,
    /// Values that a node could not take.
    pub node_rejected: IntCounterVec,
    /// Events that came too late for a window, by node and window.
    pub late: IntCounterVec,
    /// Events that counted for `kind:_other`, by node.
    pub over_limit: IntCounterVec,
    /// Transactions.
    pub commits: IntCounter,
    /// Transactions that were aborted and done again.
    pub aborts: IntCounter,
    /// Times that a thread rebuilt its tasks from the log.
    pub rebuilds: IntCounter,
    /// Times that a producer was replaced since an answer was lost.
    pub replacements: IntCounter,
    /// How long a commit takes.
    pub commit_seconds: Histogram,
    /// How long a checkpoint takes.
    pub checkpoint_seconds: Histogram,
    /// Checkpoints that the disk did not take.
    pub checkpoint_failures: IntCounter,
    /// Tasks whose last checkpoint failed, by thread.
    pub checkpoints_failing: IntGaugeVec,
    /// Snapshots that have shortened a changelog.
    pub snapshots: IntCounter,
    /// Bytes of changelogs, by thread and subtopology.
    pub changelog_bytes: IntGaugeVec,
    /// How long a task takes from assignment to ready.
    pub restore_seconds: Histogram,
    /// Records of changelogs that were read to bring tasks up to date.
    pub restored_records: IntCounter,
    /// Tasks, by thread and subtopology.
    pub tasks: IntGaugeVec,
    /// Entries in memory, by thread and store.
    pub store_entries: IntGaugeVec,
    /// Bytes of state in memory, by thread.
    pub state_bytes: IntGaugeVec,
    /// Entries that were evicted from memory.
    pub state_evictions: IntCounter,
    /// Entries that were read from checkpoints, each because it was needed.
    pub state_reads: IntCounter,
    /// Records whose append time lay below the clock of their task.
    pub behind_clock: IntCounter,
    /// Partitions of the root topic, by thread, whose next record lies ahead and is waited for.
    pub ahead: IntGaugeVec,
    /// The clock of each task, in seconds since 1970; none where a task has none yet.
    pub task_clock: GaugeVec,
    refusals: Arc<Refusals>,
}

impl StreamMetrics {
    /// Registers everything.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone())).map(|()| counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let histogram = |name: &str, help: &str| {
            let buckets = prometheus::exponential_buckets(0.000_5, 2.0, 16)?;
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone())).map(|()| histogram)
        };
        let clocks = Opts::new("tally_task_clock_seconds", "Clock of a task since 1970; absent until it has one.");
        let task_clock = GaugeVec::new(clocks, &["task"])?;
        registry.register(Box::new(task_clock.clone()))?;
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone())).map(|()| gauges)
        };
        Ok(Self {
            node_processed: counters("tally_node_records_total", "Values that a node processed.", &["node"])?,
            node_forwarded: counters(
                "tally_node_forwarded_total",
                "Values that a node forwarded to other nodes or topics, by their edge type.",
                &["node", "value"],
            )?,
            node_rejected: counters(
                "tally_node_rejected_total",
                "Values that a node could not process: sent to the dead-letter queue, or skipped.",
                &["node"],
            )?,
            late: counters(
                "tally_late_for_window_total",
                "Events that came too late for a window of a node: counted in its totals and in windows that were still open.",
                &["node", "window"],
            )?,
            over_limit: counters(
                "tally_over_subject_limit_total",
                "Events that a node counted for `kind:_other`, because it has as many subjects as its `max_subjects` allows.",
                &["node"],
            )?,
            commits: counter("tally_commits_total", "Committed transactions of stream threads.")?,
            aborts: counter("tally_aborts_total", "Transactions that were rolled back and processed again.")?,
            rebuilds: counter(
                "tally_rebuilds_total",
                "Times that a stream thread dropped its tasks and rebuilt them from checkpoint and changelog.",
            )?,
            replacements: counter(
                "tally_producer_replacements_total",
                "Times that a thread's producer was replaced because the response to a transaction request was lost.",
            )?,
            commit_seconds: histogram(
                "tally_commit_seconds",
                "Time to write and commit a transaction of a stream thread.",
            )?,
            checkpoint_seconds: histogram("tally_checkpoint_seconds", "Time to write the checkpoint of a task.")?,
            checkpoint_failures: counter(
                "tally_checkpoint_failures_total",
                "Checkpoints that could not be written or opened; the tasks continue without.",
            )?,
            checkpoints_failing: gauges(
                "tally_checkpoints_failing",
                "Tasks whose last checkpoint failed: their restore replays more of the changelog.",
                &["thread"],
            )?,
            snapshots: counter("tally_snapshots_total", "Changelogs of tasks that a complete snapshot has shortened.")?,
            changelog_bytes: gauges(
                "tally_changelog_bytes",
                "Bytes of the changelogs of a thread's tasks; after an upgrade only those written since the last checkpoint, until the first snapshot.",
                &["thread", "subtopology"],
            )?,
            restore_seconds: histogram(
                "tally_restore_seconds",
                "Time from the assignment of a task until it processes records.",
            )?,
            restored_records: counter(
                "tally_restored_records_total",
                "Changelog records read to restore tasks; with a checkpoint, only those after it.",
            )?,
            tasks: gauges("tally_tasks", "Tasks of a stream thread.", &["thread", "subtopology"])?,
            store_entries: gauges("tally_store_entries", "Entries of a state store in memory.", &["thread", "store"])?,
            state_bytes: gauges(
                "tally_state_bytes",
                "Memory that the state of a thread's tasks takes, estimated; --state-mib limits the sum.",
                &["thread"],
            )?,
            state_evictions: counter(
                "tally_state_evictions_total",
                "Entries of state that were evicted from memory; checkpoints have them.",
            )?,
            state_reads: counter(
                "tally_state_reads_total",
                "Entries of state that were read from checkpoints because a record needed them.",
            )?,
            behind_clock: counter(
                "tally_records_behind_clock_total",
                "Records of the root topic whose append time was before their task's clock; they are processed as of the clock.",
            )?,
            ahead: gauges(
                "tally_partitions_ahead",
                "Partitions of the root topic that wait because their next record lies more than --clock-jump ahead.",
                &["thread"],
            )?,
            task_clock,
            refusals: Arc::default(),
        })
    }

    /// What a thread's tasks hold and have done since the last call.
    pub(super) fn report<'a, D: Dataflow>(
        &self,
        owner: &str,
        subtopologies: &[Arc<Subtopology<D>>],
        tasks: impl Iterator<Item = &'a mut Task<D>>,
    ) {
        // A thread that has given up the last task of a subtopology has none.
        let mut counts: BTreeMap<Arc<str>, (i64, u64)> =
            subtopologies.iter().map(|one| (one.name.clone(), (0, 0))).collect();
        let mut entries: BTreeMap<String, i64> = BTreeMap::new();
        let mut rejected = Rejections::default();
        for task in tasks {
            rejected.append(&mut task.take_rejections());
            let (count, bytes) = counts.entry(task.subtopology().name.clone()).or_default();
            (*count, *bytes) = (*count + 1, *bytes + task.changelog_bytes());
            for (name, count) in task.store_entries() {
                *entries.entry(name).or_default() += count as i64;
            }
            let clock_ms = task.position().clock_ms;
            if clock_ms > i64::MIN {
                self.task_clock.with_label_values(&[task.name()]).set(clock_ms as f64 / 1_000.0);
            }
            self.behind_clock.inc_by(task.take_behind_clock());
            self.state_reads.inc_by(task.take_reads());
            for (node, counts) in task.take_counts() {
                // Also 0: the counter must exist before the node gets its first value.
                self.node_processed.with_label_values(&[node]).inc_by(counts.processed);
                if counts.rejected > 0 {
                    self.node_rejected.with_label_values(&[node]).inc_by(counts.rejected);
                }
            }
            for (node, window, count) in task.take_late() {
                self.late.with_label_values(&[node, window]).inc_by(count);
            }
            for (node, count) in task.take_over_limit() {
                self.over_limit.with_label_values(&[node]).inc_by(count);
            }
            for (node, value, count) in task.take_forwarded().filter(|(.., count)| *count > 0) {
                self.node_forwarded.with_label_values(&[node.as_ref(), value]).inc_by(count);
            }
        }
        self.refusals.report(&mut rejected, Instant::now());
        for (subtopology, (count, bytes)) in counts {
            self.tasks.with_label_values(&[owner, subtopology.as_ref()]).set(count);
            self.changelog_bytes.with_label_values(&[owner, subtopology.as_ref()]).set(bytes as i64);
        }
        for (store, count) in entries {
            self.store_entries.with_label_values(&[owner, store.as_str()]).set(count);
        }
    }
}
