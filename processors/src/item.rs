//! The values on the edges.

use crate::mistake::Mistake;
use tally_model::{
    Change, Contribution, CounterWindow, Counters, Event, PartitionTop, Ranking, Reaction, SubjectChanges, Verdict,
    VerdictKind, hex,
};
use tally_streams::processor::{Context, Dataflow, Origin, Reject};

/// A value on an edge.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Edge type `event`.
    Event(Action),
    /// Edge type `change`, before the hop.
    Change(Change),
    /// Edge type `change`, behind the hop: combined.
    Changes(SubjectChanges),
    /// Edge type `change`: what an event adds to the values of an `aggregate` node. Behind the hop, what several add.
    Contribution(Contribution),
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
    /// Edge type `top`: a board of one partition, sent to the merge of all partitions.
    Top(PartitionTop),
}

/// An event and the time that it counts at.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The event.
    pub event: Event,
    /// Its type: a place in [`Topology::kinds`](tally_streams::topology::Topology::kinds), or a greater number where no node
    /// takes it.
    pub kind: usize,
    /// The smaller of its own time and the log's: chooses windows and minutes, and orders toggles.
    pub effective_ms: i64,
    /// Its number among the events of its actor and subject, if the database assigns such numbers: the number then
    /// orders the toggle. No other rule applies, because the event's row is written already.
    pub seq: Option<i64>,
    /// Whether it is a closed window rather than an event that a client sent: a closed window has no receipt, and gets no
    /// verdict.
    pub closed: bool,
}

impl Item {
    /// The event, if it is one that was sent. Those of the database reach their own toggle alone: the relay may repeat them,
    /// and only the toggle detects that.
    pub fn sent_event(&self) -> Option<&Action> {
        match self {
            Self::Event(action) if action.seq.is_none() => Some(action),
            _ => None,
        }
    }
}

impl Action {
    /// The verdict on this event, for its receipt.
    pub fn verdict<D: Dataflow>(
        &self,
        context: &Context<'_, D>,
        kind: VerdictKind,
        node: &str,
        reason: String,
    ) -> Item {
        let (event_id, actor_id) = (Some(self.event.event_id()), Some(self.event.actor_id()));
        verdict(context.origin(), context.version(), kind, node, reason, event_id, actor_id)
    }

    /// The rejection of this event by a node, with the verdict `dead` for its receipt.
    pub(crate) fn reject<D: Dataflow>(&self, context: &Context<'_, D>, node: &str, mistake: Mistake) -> Reject<Item> {
        let Mistake { reason, detail } = mistake;
        let verdict = || Box::new(self.verdict(context, VerdictKind::Dead, node, reason.clone()));
        let verdict = (!self.closed).then(verdict);
        Reject { reason, detail, verdict }
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
