//! How the runtime sees what flows: edge types, facts, and how values leave a task.

use crate::facts::NodeFacts;
use crate::hop::CombiningHop;
use crate::item::Item;
use tally_model::{OutputCommit, ProgressMark, RootPosition, TaskProgress};
use tally_streams::processor::{Dataflow, OutputProgress, OutputRecord, RootProgress};

/// The dataflow of tally.
pub enum Actions {}

impl Dataflow for Actions {
    const EDGE_TYPES: &'static [&'static str] =
        &["raw", "event", "change", "reaction", "counters", "counter", "verdict", "ranking", "top"];
    type Value = Item;
    type Hop = CombiningHop;
    type Facts = NodeFacts;

    fn types_from_outside(facts: &NodeFacts) -> Vec<String> {
        // What the database owns comes from the API's transaction alone.
        if facts.owned_types().is_empty() { facts.event_types.clone() } else { Vec::new() }
    }

    fn edge_type(item: &Item) -> usize {
        match item {
            Item::Event(_) => 1,
            Item::Change(_) | Item::Changes(_) => 2,
            Item::Reaction(_) => 3,
            Item::Counters(_) => 4,
            Item::Counter(_) => 5,
            Item::Verdict(_) => 6,
            Item::Ranking(_) => 7,
            Item::Top(_) => 8,
        }
    }

    fn write(item: &Item, out: &mut OutputRecord) {
        let json = match item {
            Item::Reaction(reaction) => {
                out.key = reaction.key();
                out.partition_key.extend_from_slice(reaction.actor_id.as_bytes());
                serde_json::to_writer(&mut out.value, reaction)
            }
            Item::Counters(counters) => {
                out.key.extend_from_slice(counters.subject_id.as_bytes());
                serde_json::to_writer(&mut out.value, counters)
            }
            Item::Counter(counter) => {
                out.key = counter.key();
                out.partition_key.extend_from_slice(counter.subject_id.as_bytes());
                serde_json::to_writer(&mut out.value, counter)
            }
            Item::Verdict(verdict) => {
                out.key.extend_from_slice(verdict.actor_id.as_deref().unwrap_or_default().as_bytes());
                serde_json::to_writer(&mut out.value, verdict)
            }
            Item::Ranking(ranking) => {
                out.key.extend_from_slice(ranking.board.as_bytes());
                serde_json::to_writer(&mut out.value, ranking)
            }
            // The topology's check lets no topic take these.
            Item::Event(_) | Item::Change(_) | Item::Changes(_) | Item::Top(_) => Ok(()),
        };
        // Only a failing writer fails here, and a vector does not.
        debug_assert!(json.is_ok());
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

fn root_position(root: &RootProgress) -> RootPosition {
    RootPosition { partition: root.partition, next_offset: root.next_offset, clock_ms: root.clock_ms }
}
