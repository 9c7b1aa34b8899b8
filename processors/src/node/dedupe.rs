//! `type: dedupe`: an event counts once. The key is (actor_id, event_id).
//!
//! Invariant: an id is forgotten only once every repeat of it is late. So an event that carries its time counts at most
//! once. An event that arrives more than `late_after` after its time gets the verdict `late`; a repeat gets
//! `duplicate`. Events with a number of the database pass: their toggle detects repeats by it.

use crate::counting::windows::HOUR_MS;
use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_schema;
use crate::item::Item;
use crate::params::NoParams;
use tally_model::VerdictKind;
use tally_streams::processor::{Context, Forgotten, Origin, Processor, PunctuationType, Reject, Schedule};
use tally_streams::store::{Hash128, StoreHandle, WindowStore};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, ParamError, Params, Parsed, StorePart, StoreSpec};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "dedupe",
    about: "drops repeats and late events",
    input: EdgeType::Event.name(),
    outputs: &[EdgeType::Event.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: Vec::new,
    parse,
};

/// Ids that were seen, each kept until repeats are late.
type Seen = WindowStore<Hash128, (), HOUR_MS>;

/// A checked `dedupe` node.
pub struct Dedupe {
    node: String,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    params.parse::<NoParams>()?;
    Ok(Box::new(Dedupe { node: node.to_owned() }))
}

impl Blueprint<Actions> for Dedupe {
    fn stores(&self) -> Vec<StoreSpec> {
        vec![StoreSpec {
            name: self.node.clone(),
            kind: "window",
            schema_version: 1,
            windows: vec![StorePart::Rule("late_after".to_owned())],
            make: Seen::make,
        }]
    }

    fn check(&self, site: &BuildSite<'_, Actions>) -> Result<(), Vec<ParamError>> {
        let errors = event_schema::refuse_closed(site);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        Box::new(DedupeProcessor {
            node: self.node.clone(),
            seen: site.store(&self.node),
            late_after_ms: site.settings.late_after.as_millis() as i64,
            hash_seed: site.hash_seed,
        })
    }
}

struct DedupeProcessor {
    node: String,
    seen: StoreHandle<Seen>,
    late_after_ms: i64,
    hash_seed: u64,
}

impl Processor<Actions> for DedupeProcessor {
    fn process(&mut self, context: &mut Context<'_, Actions>, item: &Item) -> Result<(), Reject<Item>> {
        let Item::Event(action) = item else { return Ok(()) };
        if action.seq.is_some() {
            context.pass();
            return Ok(());
        }
        let event = &action.event;
        let keep_until_ms = event.occurred_at_ms + self.late_after_ms;
        let Origin { append_time_ms, forgotten, .. } = *context.origin();
        let is_forgotten =
            |forgotten: Forgotten| event.occurred_at_ms < forgotten.before_ms && keep_until_ms < forgotten.clock_ms;
        if append_time_ms > keep_until_ms || forgotten.is_some_and(is_forgotten) {
            let late_ms = append_time_ms - event.occurred_at_ms;
            let reason = match append_time_ms > keep_until_ms {
                true => format!("came {} s after its time", late_ms / 1000),
                false => "came after the clock was set, and may have been counted before".to_owned(),
            };
            let verdict = action.verdict(context, VerdictKind::Late, &self.node, reason);
            context.forward(verdict);
            return Ok(());
        }
        let id = Hash128::of(self.hash_seed, &[event.actor_id().as_bytes(), event.event_id().as_bytes()]);
        if context.store(self.seen).insert(&id, keep_until_ms, ()) {
            context.pass();
        } else {
            let reason = "counted before".to_owned();
            let verdict = action.verdict(context, VerdictKind::Duplicate, &self.node, reason);
            context.forward(verdict);
        }
        Ok(())
    }

    fn schedules(&self) -> Vec<Schedule> {
        vec![Schedule { kind: PunctuationType::Clock, interval_ms: HOUR_MS }]
    }

    fn punctuate(&mut self, context: &mut Context<'_, Actions>, _kind: PunctuationType, time_ms: i64) {
        context.store(self.seen).expire(time_ms);
    }
}
