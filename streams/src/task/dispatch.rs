//! How a value runs through the nodes of a task.

use super::envelope::VALUES_ONLY;
use super::{Input, Passage, Task, TaskError};
use crate::log::{Header, Headers, ProducerRecord, Record, TransactionalProducer, partition_of};
use crate::processor::{Context, Dataflow, Hop, Origin, Processor, Reject, Released, Sent, Way};
use crate::topology::{OnError, Route, Target};

/// A buffer of more values is an exception, such as when many held records are due at once: its memory is freed.
const SENT_KEPT: usize = 256;

impl<D: Dataflow> Task<D> {
    /// Lets a node forward something outside of a record; whether it did.
    pub(super) fn call(
        &mut self,
        node: usize,
        producer: &mut dyn TransactionalProducer,
        f: impl FnOnce(&mut Box<dyn Processor<D>>, &mut Context<'_, D>),
    ) -> Result<bool, TaskError> {
        let mut sent = self.pool.pop().unwrap_or_default();
        let version = self.next_version();
        let clock_ms = self.position.clock_ms;
        let origin = Origin { partition: self.partition, append_time_ms: clock_ms, clock_ms, ..Origin::default() };
        let partitions = self.subtopology.partitions;
        let mut context = Context { origin: &origin, partitions, version, stores: &mut self.stores, sent: &mut sent };
        f(&mut self.processors[node], &mut context);
        let has_sent = !sent.is_empty();
        if has_sent {
            let subtopology = self.subtopology.clone();
            let passage = Passage { subtopology: &subtopology, origin: &origin, source: None };
            for sent in &sent {
                match sent {
                    Sent::Value(way, value) => self.route(node, *way, value, &passage, producer)?,
                    Sent::Released(way, released) => self.release(node, *way, released, &passage, producer)?,
                    Sent::Input(_) => {}
                }
            }
        }
        self.give_back(sent);
        Ok(has_sent)
    }

    /// Takes what a node held back through everything downstream of it, as the record that brought it.
    fn release(
        &mut self,
        node: usize,
        way: Way,
        released: &Released<D::Value>,
        passage: &Passage<'_, D>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let Released { value, origin, record: (key, bytes) } = released;
        let mut headers = Vec::new();
        if let Some(request) = &origin.request {
            Headers::encode(&[(D::REQUEST_HEADER, request)], &mut headers);
        }
        let record = Record {
            offset: origin.offset,
            append_time_ms: origin.append_time_ms,
            key: Some(key),
            value: Some(bytes),
            headers: Headers::encoded(&headers),
        };
        self.route(node, way, value, &Passage { origin, source: Some(&record), ..*passage }, producer)
    }

    /// Runs a node and everything downstream of it, depth first.
    pub(super) fn dispatch(
        &mut self,
        node: usize,
        input: Input<'_, D::Value>,
        passage: &Passage<'_, D>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let mut sent = self.pool.pop().unwrap_or_default();
        let version = self.next_version();
        let Passage { subtopology, origin, source } = *passage;
        let partitions = subtopology.partitions;
        let mut context = Context { origin, partitions, version, stores: &mut self.stores, sent: &mut sent };
        self.counts[node].processed += 1;
        let processor = &mut self.processors[node];
        let outcome = match (&input, source) {
            (Input::Value(value), _) => processor.process(&mut context, value),
            (Input::Record, Some(record)) => processor.process_record(&mut context, record),
            (Input::Record, None) => Ok(()),
        };
        match outcome {
            Ok(()) => {
                for sent in &sent {
                    match (sent, &input) {
                        (Sent::Value(way, value), _) => self.route(node, *way, value, passage, producer)?,
                        (Sent::Input(way), Input::Value(value)) => self.route(node, *way, value, passage, producer)?,
                        (Sent::Input(_), Input::Record) => {}
                        // What was held back is due by the clock, not by a record.
                        (Sent::Released(..), _) => {}
                    }
                }
            }
            Err(reject) => self.reject(node, reject, passage, producer)?,
        }
        self.give_back(sent);
        Ok(())
    }

    /// The buffer of a call of a node, for the next one.
    fn give_back(&mut self, mut sent: Vec<Sent<D::Value>>) {
        sent.clear();
        sent.shrink_to(SENT_KEPT);
        self.pool.push(sent);
    }

    pub(super) fn route(
        &mut self,
        node: usize,
        way: Way,
        value: &D::Value,
        passage: &Passage<'_, D>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let edge_type = D::edge_type(value);
        let writer = &passage.subtopology.nodes[node];
        let route = match way {
            Way::ByType => writer.routes.get(edge_type),
            Way::Named(output) => writer.named.get(output).map(|named| &named.route),
        };
        let Some(route) = route else { return Ok(()) };
        if !route.targets().is_empty() {
            self.forwarded[node * D::EDGE_TYPES.len() + edge_type] += 1;
        }
        self.send(route, value, &writer.facts, passage, producer)
    }

    /// Passes a value that came through a hop to the nodes that take its kind.
    pub(super) fn enter(
        &mut self,
        route: &Route,
        value: &D::Value,
        passage: &Passage<'_, D>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        for target in route.of_kind(D::kind(value)) {
            if let Target::Node(next) = target {
                self.dispatch(*next, Input::Value(value), passage, producer)?;
            }
        }
        Ok(())
    }

    /// Passes a value of a node with these facts to every target that takes its kind.
    fn send(
        &mut self,
        route: &Route,
        value: &D::Value,
        writer: &D::Facts,
        passage: &Passage<'_, D>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        for target in route.of_kind(D::kind(value)) {
            match target {
                Target::Node(next) => self.dispatch(*next, Input::Value(value), passage, producer)?,
                Target::Hop(hop) => self.hops[*hop].add(value),
                Target::Output(output) => {
                    self.record.clear();
                    D::write(value, writer, &mut self.record);
                    self.send_output(*output, &[], producer)?;
                    self.written[*output] = true;
                }
            }
        }
        Ok(())
    }

    /// generation << 48 | the number that the open transaction will commit under.
    pub(super) fn next_version(&self) -> i64 {
        (i64::from(self.generation) << 48) | (self.commit + 1) as i64
    }

    pub(super) fn send_output(
        &mut self,
        output: usize,
        headers: &[Header<'_>],
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        let index = output;
        let output = &self.subtopology.outputs[index];
        if output.co_partitioned && self.wire_version >= VALUES_ONLY {
            // Whether it is the last of its commit, and carries how far the task is, shows later.
            let held = &mut self.held[index];
            held.send(&output.topic, self.partition, None, producer)?;
            held.put(&mut self.record, headers);
            return Ok(());
        }
        let partition = if output.co_partitioned {
            self.partition
        } else if self.record.partition_key.is_empty() {
            partition_of(&self.record.key, output.partitions)
        } else {
            partition_of(&self.record.partition_key, output.partitions)
        };
        Ok(producer.send(ProducerRecord {
            topic: &output.topic,
            partition,
            key: Some(&self.record.key),
            value: Some(&self.record.value),
            headers,
        })?)
    }

    /// Handles a value that a node rejects, by the node's policy.
    pub(super) fn reject(
        &mut self,
        node: usize,
        reject: Reject<D::Value>,
        passage: &Passage<'_, D>,
        producer: &mut dyn TransactionalProducer,
    ) -> Result<(), TaskError> {
        self.counts[node].rejected += 1;
        let Passage { subtopology, origin, source } = *passage;
        let (name, policy) = (&subtopology.nodes[node].name, subtopology.nodes[node].on_error);
        let reason = match &reject.detail {
            Some(detail) => format!("{} ({detail})", reject.reason),
            None => reject.reason.clone(),
        };
        let halt = |reason| Err(TaskError::Halt { address: format!("{}@{}", self.source(), origin.offset), reason });
        // What another task wrote is never put aside: it would be missing from the counts without a trace.
        let Some(record) = source else {
            return halt(format!("node `{name}` cannot take an internal record: {reason}"));
        };
        if policy == OnError::Halt {
            return halt(format!("node `{name}` (on_error: halt): {reason}"));
        }
        self.rejections.note(name, &reject, &subtopology.source, origin);
        if let (OnError::DeadLetter, Some(output)) = (policy, subtopology.dead_letters) {
            self.record.clear();
            self.record.key.extend_from_slice(record.key.unwrap_or_default());
            self.record.value.extend_from_slice(record.value.unwrap_or_default());
            let (partition, offset) = (origin.partition.to_string(), origin.offset.to_string());
            let mut headers: Vec<Header<'_>> = vec![
                ("reason", reject.reason.as_bytes()),
                ("node", name.as_bytes()),
                ("topic", subtopology.source.as_bytes()),
                ("partition", partition.as_bytes()),
                ("offset", offset.as_bytes()),
                // Always, so that a header of this name that the record has is not taken for it.
                ("detail", reject.detail.as_deref().unwrap_or_default().as_bytes()),
            ];
            headers.extend(record.headers.iter());
            self.send_output(output, &headers, producer)?;
            self.written[output] = true;
        }
        match reject.verdict {
            Some(verdict) => self.route(node, Way::ByType, &verdict, passage, producer),
            None => Ok(()),
        }
    }
}
