//! `type: decode`: raw records become events. What is no valid event, or sits under the wrong key or partition, is
//! rejected with its reason.

use crate::item::{Action, Actions, Item, verdict};
use crate::metric::{event_types_of, owned_types_of};
use serde::Deserialize;
use std::any::Any;
use std::collections::BTreeSet;
use tally_model::{Event, EventFields, MAC_HEADER, SEQ_HEADER, SequenceKey, UnknownFields, VerdictKind};
use tally_streams::log::{Record, partition_of};
use tally_streams::processor::{Context, Processor, Reject};
use tally_streams::topology::{Blueprint, BuildSite, ParamError, Params, StoreSpec};

/// No parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeParams {}

/// A checked `decode` node.
pub struct Decode {
    node: String,
}

/// For the registry.
pub fn parse(node: &str, params: &Params) -> Result<Box<dyn Blueprint<Actions>>, Vec<ParamError>> {
    params.parse::<DecodeParams>()?;
    Ok(Box::new(Decode { node: node.to_owned() }))
}

impl Blueprint<Actions> for Decode {
    fn stores(&self) -> Vec<StoreSpec> {
        Vec::new()
    }

    fn build(&self, site: &BuildSite<'_, Actions>) -> Box<dyn Processor<Actions>> {
        let event_types = site.nodes.iter().flat_map(|(_, blueprint)| event_types_of(*blueprint)).collect();
        let owned_types = site.nodes.iter().flat_map(|(_, blueprint)| owned_types_of(*blueprint)).collect();
        let sequence_key = SequenceKey(site.secret);
        Box::new(DecodeProcessor { node: self.node.clone(), event_types, owned_types, sequence_key })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct DecodeProcessor {
    node: String,
    event_types: BTreeSet<String>,
    /// Those among them that need a number of the database.
    owned_types: BTreeSet<String>,
    sequence_key: SequenceKey,
}

impl DecodeProcessor {
    fn decode(&self, context: &Context<'_, Actions>, record: &Record<'_>) -> Result<Action, String> {
        let json = record.value.ok_or("the record has no value")?;
        let append_time_ms = context.origin().append_time_ms;
        let fields = EventFields::parse(json, UnknownFields::Ignore).map_err(|e| e.to_string())?;
        let seq = match fields.event_type.as_deref().filter(|event_type| self.owned_types.contains(*event_type)) {
            Some(_) => Some(self.seq(record, json)?),
            None => None,
        };
        // A row is there whatever the clock of the host was that wrote it.
        let now_ms = if seq.is_some() { i64::MAX } else { append_time_ms };
        fields.check(now_ms).map_err(|e| e.to_string())?;
        let event = Event::from_fields(&fields, append_time_ms).map_err(|e| e.to_string())?;
        if record.key != Some(event.actor_id.as_bytes()) {
            return Err("the record's key is not its actor_id".to_owned());
        }
        let home = partition_of(event.actor_id.as_bytes(), context.partitions());
        if home != context.origin().partition {
            return Err(format!("actor `{}` belongs to partition {home} (murmur2 of the key)", event.actor_id));
        }
        if !self.event_types.contains(&*event.event_type) {
            return Err(format!("`type` `{}` is counted by no processor of the topology", event.event_type));
        }
        let effective_ms = event.occurred_at_ms.min(append_time_ms);
        Ok(Action { event, effective_ms, seq })
    }

    fn seq(&self, record: &Record<'_>, json: &[u8]) -> Result<i64, String> {
        let (seq, mac) = (record.headers.get(SEQ_HEADER), record.headers.get(MAC_HEADER));
        self.sequence_key.verify(seq, mac, json).map_err(|e| e.to_string())
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
            Err(reason) => {
                // Somebody may be waiting for it all the same: tell them as much as can be read.
                let fields = EventFields::parse(record.value.unwrap_or_default(), UnknownFields::Ignore);
                let fields = fields.unwrap_or_default();
                let origin = context.origin();
                let known = fields.event_id.is_some() || origin.request.is_some();
                let (event_id, actor_id) = (fields.event_id.as_deref(), fields.actor_id.as_deref());
                let kind = VerdictKind::Dead;
                let item = verdict(origin, context.version(), kind, &self.node, reason.clone(), event_id, actor_id);
                Err(Reject { reason, verdict: known.then(|| Box::new(item)) })
            }
        }
    }
}
