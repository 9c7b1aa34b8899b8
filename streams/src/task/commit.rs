//! How the work of a task is committed or rolled back with the transaction of its thread.

use super::envelope::{Envelope, OutputCommits, PART_BYTES_MAX, VALUES_ONLY};
use super::held::Held;
use super::{NodeCounts, ProgressPending, Task, TaskError};
use crate::log::{CommittedOffset, Now, ProducerRecord, TopicPartition, TransactionalProducer};
use crate::processor::{Dataflow, Hop, OutputProgress, RootProgress};
use crate::store::ChangelogWriter;

/// Progress goes to destinations without data within this time after positions moved.
const PROGRESS_MOVED_MS: i64 = 200;
/// Progress goes to all destinations at least this often.
const PROGRESS_ALWAYS_MS: i64 = 5_000;

/// The buffer for larger records is freed after them.
const PART_BYTES_KEPT: usize = 64 << 10;

impl<D: Dataflow> Task<D> {
    /// Whether there is something to commit.
    pub fn wants_commit(&self, now: Now) -> bool {
        self.moved || self.owes_progress(now)
    }

    fn owes_progress(&self, now: Now) -> bool {
        let since_ms = now.since_ms(self.told_all_at_ms);
        match self.progress_pending {
            ProgressPending::Nothing => false,
            ProgressPending::Positions => since_ms >= PROGRESS_MOVED_MS,
            ProgressPending::Clock => since_ms >= PROGRESS_ALWAYS_MS && self.position.clock_ms > i64::MIN,
        }
    }

    /// Roughly how much memory the open transaction holds, in bytes.
    pub fn open_bytes(&self) -> usize {
        self.hops.iter().map(Hop::size_bytes).sum()
    }

    /// Writes everything that the open transaction still lacks: values that nodes held back, hops, progress, changelog.
    /// Returns the offset to commit with it, with the owner as metadata: a successor has to fence it.
    pub fn prepare_commit(
        &mut self,
        now: Now,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(TopicPartition, CommittedOffset), TaskError> {
        for node in 0..self.processors.len() {
            self.call(node, producer, |processor, context| processor.flush(context))?;
        }
        self.check_stores()?;
        self.told_all = self.owes_progress(now);
        let own = self.subtopology.upstream.is_none();
        let mut progress = self.position.progress(own || self.upstream_is_root, self.root_partitions);
        if let Some(due_ms) = self.processors.iter().filter_map(|processor| processor.owes_since()).min() {
            // What is still to be sent counts as of an earlier time.
            progress.iter_mut().for_each(|root| root.clock_ms = root.clock_ms.min(due_ms.saturating_sub(1)));
        }
        let envelope = Envelope {
            wire_version: self.wire_version,
            generation: self.generation,
            task: self.partition,
            owner: &self.owner.clone(),
            commit: self.commit + 1,
            part: 0,
            parts: 1,
            input_next: self.position.input_next,
            progress: progress.clone(),
            upstream: Vec::new(),
            outputs: None,
        };
        self.send_hops(&envelope, producer)?;
        self.send_progress(&progress, producer)?;
        self.moves.send(self.position.input_next, producer)?;
        self.send_changelog(envelope, producer)?;
        let metadata = self.owner.to_string();
        Ok((self.source(), CommittedOffset { offset: self.position.input_next, metadata }))
    }

    fn send_hops(
        &mut self,
        envelope: &Envelope<'_>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let subtopology = self.subtopology.clone();
        for (hop, repartition) in self.hops.iter_mut().zip(&subtopology.hops) {
            let mut bodies: Vec<Vec<Vec<u8>>> = vec![Vec::new(); repartition.partitions as usize];
            hop.drain(repartition.partitions, PART_BYTES_MAX, &mut |partition, body| {
                if let Some(bodies) = bodies.get_mut(partition as usize) {
                    bodies.push(body);
                }
            });
            for (partition, mut bodies) in (0..).zip(bodies) {
                if bodies.is_empty() && self.told_all {
                    bodies.push(Vec::new());
                }
                send_parts(&repartition.topic, partition, envelope, &bodies, &mut self.bytes, producer)?;
            }
        }
        Ok(())
    }

    fn send_progress(
        &mut self,
        progress: &[RootProgress],
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        if self.wire_version >= VALUES_ONLY {
            return self.send_last(progress, producer);
        }
        for output in 0..self.written.len() {
            let written = std::mem::take(&mut self.written[output]);
            if self.subtopology.outputs[output].co_partitioned && (written || self.told_all) {
                self.record.clear();
                D::write_progress(&self.name, self.generation, progress, self.next_version(), &mut self.record);
                self.send_output(output, &[], producer)?;
            }
        }
        Ok(())
    }

    /// Sends the last record for each output partition, with the progress as of this commit, and writes progress to the
    /// internal topic if due.
    fn send_last(
        &mut self,
        progress: &[RootProgress],
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let (commit, subtopology) = (self.commit + 1, self.subtopology.clone());
        let progress =
            OutputProgress { task: &self.name, generation: self.generation, commit, roots: progress, outputs: &[] };
        let is_written = self.written.contains(&true);
        let header = if is_written { D::encode_progress(&progress) } else { Vec::new() };
        for (index, output) in subtopology.outputs.iter().enumerate().filter(|(_, output)| output.co_partitioned) {
            let (topic, partition) = (&*output.topic, self.partition);
            if self.owes_tombstones && self.compacted[index] {
                self.record.clear();
                D::write_progress(&self.name, self.generation, &[], 0, &mut self.record);
                let key = Some(self.record.key.as_slice());
                producer.send(ProducerRecord { topic, partition, key, value: None, headers: &[] })?;
            }
            if self.written[index] {
                self.position.outputs[index] = commit;
                self.held[index].send(topic, partition, Some((D::PROGRESS_HEADER, header.as_slice())), producer)?;
            }
        }
        self.written.fill(false);
        if self.told_all {
            let value = D::encode_progress(&OutputProgress { outputs: &self.output_commits(), ..progress });
            let (topic, partition, headers) = (&*self.marks_topic, self.partition, &[][..]);
            let (key, value) = (Some(self.name.as_bytes()), Some(value.as_slice()));
            producer.send(ProducerRecord { topic, partition, key, value, headers })?;
        }
        Ok(())
    }

    /// By topic of which the task owns a partition, the last commit that wrote there.
    pub(super) fn output_commits(&self) -> OutputCommits {
        let outputs = self.subtopology.outputs.iter().zip(&self.position.outputs);
        let own = outputs.filter(|(output, _)| output.co_partitioned);
        own.map(|(output, commit)| (output.topic.to_string(), *commit)).collect()
    }

    fn send_changelog(
        &mut self,
        mut envelope: Envelope<'_>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let mut writer = ChangelogWriter::new(PART_BYTES_MAX);
        self.stores.iter_mut().filter(|store| store.has_changes()).for_each(|store| store.write_changes(&mut writer));
        self.write_snapshot(&mut writer)?;
        let mut bodies = writer.finish();
        self.checkpoint.changelog_bytes += bodies.iter().map(Vec::len).sum::<usize>();
        if bodies.is_empty() {
            // The changelog is authoritative for positions, so it gets them even if no store changed.
            bodies.push(Vec::new());
        }
        envelope.upstream = self.position.upstream.clone();
        envelope.outputs = (self.wire_version >= VALUES_ONLY).then(|| self.output_commits());
        let written =
            send_parts(&self.subtopology.changelog, self.partition, &envelope, &bodies, &mut self.bytes, producer)?;
        self.snapshots.written(written);
        Ok(())
    }

    /// The log has committed the transaction.
    pub fn committed(&mut self, now: Now) {
        self.stores.iter_mut().for_each(|store| store.commit());
        self.snapshots.commit();
        self.moves.committed(self.position.input_next);
        self.confirmed.commit();
        self.committed = self.position.clone();
        self.commit += 1;
        self.moved = self.processors.iter().any(|processor| processor.owes_since().is_some());
        for (node, processor) in self.subtopology.nodes.iter().zip(&mut self.processors) {
            for (window, count) in processor.take_late() {
                *self.late.entry((node.name.clone(), window)).or_default() += count;
            }
            let count = processor.take_over_limit();
            if count > 0 {
                *self.over_limit.entry(node.name.clone()).or_default() += count;
            }
        }
        if self.told_all {
            self.progress_pending = ProgressPending::Nothing;
            self.told_all_at_ms = now.monotonic_ms;
        }
        if self.wire_version >= VALUES_ONLY {
            self.owes_tombstones = false;
            self.marks += u64::from(self.told_all);
        }
        if !self.proven {
            self.proven = true;
            if let Some(checkpoint) = &self.checkpoint.open {
                checkpoint.proven();
            }
        }
    }

    /// The log has aborted the transaction: everything is as after the last commit.
    pub fn rollback(&mut self) {
        self.stores.iter_mut().for_each(|store| store.rollback());
        self.snapshots.rollback();
        self.hops.iter_mut().for_each(Hop::clear);
        self.processors.iter_mut().for_each(|processor| processor.discard());
        self.moves.rollback();
        self.confirmed.rollback();
        self.written.fill(false);
        // What is done again is counted again.
        self.counts.fill(NodeCounts::default());
        self.forwarded.fill(0);
        self.held.iter_mut().for_each(Held::clear);
        self.position = self.committed.clone();
        self.moved = self.processors.iter().any(|processor| processor.owes_since().is_some());
    }
}

/// Writes the bodies of a commit for one partition, each in its envelope. Returns the bytes of all.
fn send_parts(
    topic: &str,
    partition: u32,
    envelope: &Envelope<'_>,
    bodies: &[Vec<u8>],
    bytes: &mut Vec<u8>,
    producer: &mut dyn TransactionalProducer,
) -> Result<usize, TaskError> {
    let parts = bodies.len() as u32;
    let mut written = 0;
    for (part, body) in (0..).zip(bodies) {
        let last = part + 1 == parts;
        let mut header = Envelope { part, parts, ..envelope.clone() };
        if !last {
            // Positions count from the last part only.
            (header.progress, header.upstream, header.outputs) = (Vec::new(), Vec::new(), None);
        }
        bytes.clear();
        header.encode(body, bytes);
        written += bytes.len();
        producer.send(ProducerRecord { topic, partition, key: None, value: Some(bytes), headers: &[] })?;
    }
    bytes.clear();
    bytes.shrink_to(PART_BYTES_KEPT);
    Ok(written)
}
