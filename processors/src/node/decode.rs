//! `type: decode`: raw records become events. Invalid events, and events under the wrong key or in the wrong partition,
//! are rejected with a reason.

use crate::dataflow::Actions;
use crate::edge::EdgeType;
use crate::event_types::EventTypes;
use crate::item::{Action, Item, verdict};
use crate::mistake::Mistake;
use crate::params::NoParams;
use serde::de::IgnoredAny;
use tally_model::{
    DeclarationError, Event, EventDeclaration, EventError, EventFields, MAC_HEADER, SEQ_HEADER, SequenceKey,
    UnknownFields, VerdictKind,
};
use tally_streams::log::{Record, partition_of};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, NodeType, Params, Parsed, StoreSpec};

/// The node type.
pub const NODE_TYPE: NodeType<Actions> = NodeType {
    name: "decode",
    about: "turns raw records into events",
    input: EdgeType::Raw.name(),
    outputs: &[EdgeType::Event.name(), EdgeType::Verdict.name()],
    key: None,
    partitions: None,
    then: None,
    params: Vec::new,
    parse,
};

/// A checked `decode` node.
pub struct Decode {
    node: String,
}

fn parse(node: &str, params: &Params) -> Parsed<Actions> {
    params.parse::<NoParams>()?;
    Ok(Box::new(Decode { node: node.to_owned() }))
}

impl Blueprint<Actions> for Decode {
    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let owns = |kind| site.nodes.iter().any(|(_, facts)| facts.owned_types().contains(kind));
        Box::new(DecodeProcessor {
            node: self.node.clone(),
            event_types: EventTypes::new(site),
            owned: site.kinds.iter().map(owns).collect(),
            declarations: site.kinds.iter().map(|kind| site.declarations.get(kind).cloned()).collect(),
            sequence_key: SequenceKey(site.secret),
        })
    }
}

struct DecodeProcessor {
    node: String,
    event_types: EventTypes,
    /// By kind, whether such events need a number of the database.
    owned: Vec<bool>,
    /// By kind, what is declared about it.
    declarations: Vec<Option<EventDeclaration>>,
    sequence_key: SequenceKey,
}

impl DecodeProcessor {
    fn decode(&self, context: &Context<'_, Actions>, record: &Record<'_>) -> Result<Action, Mistake> {
        let json = record.value.ok_or("the record has no value")?;
        let append_time_ms = context.origin().append_time_ms;
        let fields = EventFields::parse(json, UnknownFields::Ignore).map_err(|error| unreadable(json, &error))?;
        let kind = fields.event_type.as_deref().and_then(|event_type| self.event_types.kind(event_type));
        let seq = match kind.filter(|kind| self.owned[*kind]) {
            Some(_) => Some(self.seq(record, json)?),
            None => None,
        };
        // The row exists, whatever the clock of its host was, so the time is not checked.
        let now_ms = if seq.is_some() { i64::MAX } else { append_time_ms };
        let mut event =
            Event::checked(&fields, now_ms, append_time_ms).map_err(|e| Mistake::of_json(&e.to_string()))?;
        let actor_id = event.actor_id();
        if record.key != Some(actor_id.as_bytes()) {
            let key = record.key.map_or("none".to_owned(), |key| format!("`{}`", String::from_utf8_lossy(key)));
            let detail = format!("key {key}, actor_id `{actor_id}`");
            return Err(Mistake::new("the record's key is not its actor_id: send that as the key", detail));
        }
        let (partitions, found) = (context.partitions(), context.origin().partition);
        let home = partition_of(actor_id.as_bytes(), partitions);
        if home != found {
            let detail = format!("actor `{actor_id}` belongs to partition {home} of {partitions}, not {found}");
            return Err(Mistake::new(WRONG_PARTITION, detail));
        }
        let Some(kind) = kind else {
            let detail = format!("`{}`", event.event_type());
            return Err(Mistake::new("`type` is counted by no processor of the topology", detail));
        };
        if let Some(declaration) = &self.declarations[kind] {
            event
                .check_declared(declaration)
                .map_err(|DeclarationError { field, reason, found }| Mistake { reason, detail: found }.of(field))?;
        }
        let effective_ms = event.occurred_at_ms.min(append_time_ms);
        Ok(Action { event, kind, effective_ms, seq, closed: false })
    }

    fn seq(&self, record: &Record<'_>, json: &[u8]) -> Result<i64, Mistake> {
        let (seq, mac) = (record.headers.get(SEQ_HEADER), record.headers.get(MAC_HEADER));
        self.sequence_key.verify(seq, mac, json).map_err(|e| e.to_string().into())
    }
}

/// The fix in terms of librdkafka, on which most clients other than Java's are based.
const WRONG_PARTITION: &str = "the record is not in the partition that murmur2 of its key names: \
    set `partitioner=murmur2_random` in the producer";

/// The record is not JSON, or does not have the form of an event.
fn unreadable(json: &[u8], error: &EventError) -> Mistake {
    if let Err(error) = std::str::from_utf8(json) {
        return Mistake::new("not JSON: invalid UTF-8", format!("byte {}", error.valid_up_to()));
    }
    match serde_json::from_slice::<IgnoredAny>(json) {
        Err(error) => Mistake::of_json(&error.to_string()).at("not JSON"),
        Ok(IgnoredAny) => Mistake::of_json(&error.to_string()),
    }
}

impl Processor<Actions> for DecodeProcessor {
    fn process(&mut self, _context: &mut Context<'_, Actions>, _item: &Item) -> Result<(), Reject<Item>> {
        Err(Reject::new("`decode` reads raw records"))
    }

    fn process_record(&mut self, context: &mut Context<'_, Actions>, record: &Record<'_>) -> Result<(), Reject<Item>> {
        match self.decode(context, record) {
            Ok(action) => {
                context.forward(Item::Event(action));
                Ok(())
            }
            Err(Mistake { reason, detail }) => {
                // The sender may wait for the outcome: the verdict has as much as can be read.
                let fields = EventFields::parse(record.value.unwrap_or_default(), UnknownFields::Ignore);
                let fields = fields.unwrap_or_default();
                let origin = context.origin();
                let known = fields.event_id.is_some() || origin.request.is_some();
                let (event_id, actor_id) = (fields.event_id.as_deref(), fields.actor_id.as_deref());
                let kind = VerdictKind::Dead;
                let item = verdict(origin, context.version(), kind, &self.node, reason.clone(), event_id, actor_id);
                Err(Reject { reason, detail, verdict: known.then(|| Box::new(item)) })
            }
        }
    }
}
