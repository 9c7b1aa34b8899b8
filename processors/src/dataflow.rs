//! The values that flow, as the runtime sees them: edge types, facts, and the encoding of outputs.

use crate::declaration;
use crate::edge::EdgeType;
use crate::facts::NodeFacts;
use crate::hop::CombiningHop;
use crate::item::Item;
use crate::written_fields::is_written;
use tally_model::{EventDeclaration, OutputCommit, OutputValue, ProgressMark, RootPosition, TaskProgress};
use tally_streams::processor::{Dataflow, OutputProgress, OutputRecord, RootProgress, SideOutput};
use tally_streams::topology::{ParamError, Params};

/// The dataflow of tally.
pub enum Actions {}

impl Dataflow for Actions {
    const EDGE_TYPES: &'static [&'static str] = EdgeType::NAMES;
    const RAW: &'static str = EdgeType::Raw.name();
    const ROOT: &'static str = EdgeType::Event.name();
    const SIDE_OUTPUT: SideOutput = SideOutput { topic: tally_model::VERDICTS_TOPIC, value: EdgeType::Verdict.name() };
    const ONE_WRITER: &'static [&'static str] = &[EdgeType::Counters.name()];
    const REKEYED: &'static [&'static str] = &[EdgeType::Change.name()];
    const INTERMEDIATE: &'static [&'static str] = &[EdgeType::Event.name(), EdgeType::Change.name()];
    const REQUEST_HEADER: &'static str = tally_model::REQUEST_HEADER;
    type Value = Item;
    type Hop = CombiningHop;
    type Facts = NodeFacts;
    type Declaration = EventDeclaration;

    fn declare(event_type: &str, params: &Params) -> Result<EventDeclaration, Vec<ParamError>> {
        declaration::parse(event_type, params)
    }

    fn takes_declared(facts: &NodeFacts) -> bool {
        facts.takes_declared
    }

    fn written_key(edge_type: &str) -> Option<&'static str> {
        (edge_type == EdgeType::Event.name()).then_some("actor_id")
    }

    fn types_from_outside(facts: &NodeFacts) -> Vec<String> {
        // Events that the database owns come only from the API's transaction.
        if facts.owned_types().is_empty() { facts.event_types.clone() } else { Vec::new() }
    }

    fn edge_type(item: &Item) -> usize {
        let edge_type = match item {
            Item::Event(_) => EdgeType::Event,
            Item::Change(_) | Item::Changes(_) | Item::Contribution(_) => EdgeType::Change,
            Item::Reaction(_) => EdgeType::Reaction,
            Item::Counters(_) => EdgeType::Counters,
            Item::Counter(_) => EdgeType::CounterWindow,
            Item::Verdict(_) => EdgeType::Verdict,
            Item::Ranking(_) => EdgeType::Ranking,
            Item::Top(_) => EdgeType::Top,
        };
        edge_type as usize
    }

    fn kinds_taken(facts: &NodeFacts) -> &[String] {
        &facts.event_types
    }

    fn kind(item: &Item) -> usize {
        match item {
            Item::Event(action) => action.kind,
            _ => usize::MAX,
        }
    }

    fn write(item: &Item, writer: &NodeFacts, out: &mut OutputRecord) {
        match item {
            Item::Event(action) => {
                out.key.extend_from_slice(action.event.actor_id().as_bytes());
                action.event.write_fields(|field| is_written(&writer.written_fields, field), &mut out.value);
            }
            Item::Reaction(reaction) => write_value(reaction, out),
            Item::Counters(counters) => write_value(counters, out),
            Item::Counter(counter) => write_value(counter, out),
            Item::Verdict(verdict) => write_value(verdict, out),
            Item::Ranking(ranking) => write_value(ranking, out),
            // The topology's check lets no topic take these.
            Item::Change(_) | Item::Changes(_) | Item::Contribution(_) | Item::Top(_) => {}
        }
    }

    const PROGRESS_HEADER: &'static str = tally_model::PROGRESS_HEADER;

    fn encode_progress(progress: &OutputProgress<'_>) -> Vec<u8> {
        let output = |(topic, commit): &(String, u64)| OutputCommit { topic: topic.clone(), commit: *commit };
        let progress = TaskProgress {
            task: progress.task.to_owned(),
            generation: progress.generation,
            commit: progress.commit,
            roots: progress.roots.iter().map(root_position).collect(),
            outputs: progress.outputs.iter().map(output).collect(),
        };
        progress.encode()
    }

    fn write_progress(task: &str, generation: u16, roots: &[RootProgress], version: i64, out: &mut OutputRecord) {
        let roots = roots.iter().map(root_position).collect();
        let mark = ProgressMark { task: task.to_owned(), generation, roots, version };
        out.key = ProgressMark::key(task);
        let json = serde_json::to_writer(&mut out.value, &mark);
        debug_assert!(json.is_ok());
    }
}

fn write_value(value: &impl OutputValue, out: &mut OutputRecord) {
    value.write_key(&mut out.key);
    out.partition_key.extend_from_slice(value.partition_key().unwrap_or_default().as_bytes());
    let json = serde_json::to_writer(&mut out.value, value);
    // Only a failing writer fails here, and a vector does not.
    debug_assert!(json.is_ok());
}

fn root_position(root: &RootProgress) -> RootPosition {
    RootPosition { partition: root.partition, next_offset: root.next_offset, clock_ms: root.clock_ms }
}
