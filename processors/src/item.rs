//! What flows along the edges, and how it leaves a task.

use crate::hop::CombiningHop;
use tally_model::{
    Change, CounterWindow, Counters, Event, OutputCommit, PartitionTop, ProgressMark, Ranking, Reaction, RootPosition,
    SubjectChanges, TaskProgress, Verdict, VerdictKind, hex,
};
use tally_streams::processor::{Context, Dataflow, Origin, OutputProgress, OutputRecord, RootProgress};

/// The dataflow of tally.
pub enum Actions {}

/// A value on an edge.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Edge type `event`.
    Event(Action),
    /// Edge type `change`, before the hop.
    Change(Change),
    /// Edge type `change`, behind the hop: combined.
    Changes(SubjectChanges),
    /// Edge type `reaction`.
    Reaction(Reaction),
    /// Edge type `counters`.
    Counters(Counters),
    /// Edge type `counter`.
    Counter(CounterWindow),
    /// Edge type `verdict`.
    Verdict(Verdict),
    /// Edge type `ranking`.
    Ranking(Ranking),
    /// Edge type `top`: a board in one partition, on its way to all of it.
    Top(PartitionTop),
}

/// An event and the time that it counts at.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The event.
    pub event: Event,
    /// The smaller of its own time and the log's: chooses windows and minutes, and orders toggles.
    pub effective_ms: i64,
    /// Its number among the events of its actor and subject, where the database gives out such numbers: it then orders
    /// the toggle. No other rule applies, because the row that it tells of is written already.
    pub seq: Option<i64>,
}

impl Action {
    /// What to tell those who wait for this event.
    pub fn verdict(&self, context: &Context<'_, Actions>, kind: VerdictKind, node: &str, reason: String) -> Item {
        let Event { event_id, actor_id, .. } = &self.event;
        verdict(context.origin(), context.version(), kind, node, reason, Some(event_id), Some(actor_id))
    }
}

/// A verdict on a record, perhaps of unknown ids.
pub(crate) fn verdict(
    origin: &Origin,
    version: i64,
    kind: VerdictKind,
    node: &str,
    reason: String,
    event_id: Option<&str>,
    actor_id: Option<&str>,
) -> Item {
    Item::Verdict(Verdict {
        partition: origin.partition,
        offset: origin.offset,
        request: origin.request.map(|bytes| hex(&bytes)),
        event_id: event_id.map(Into::into),
        actor_id: actor_id.map(Into::into),
        verdict: kind,
        reason,
        node: node.to_owned(),
        appended_at_ms: origin.append_time_ms,
        version,
    })
}

impl Dataflow for Actions {
    const EDGE_TYPES: &'static [&'static str] =
        &["raw", "event", "change", "reaction", "counters", "counter", "verdict", "ranking", "top"];
    type Value = Item;
    type Hop = CombiningHop;

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
