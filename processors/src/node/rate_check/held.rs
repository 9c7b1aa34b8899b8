//! Events that a rate rule holds back until its window ends.

use crate::dataflow::Actions;
use crate::event_types::EventTypes;
use crate::item::{Action, Item, verdict};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use tally_model::{Event, EventFields, UnknownFields, VerdictKind};
use tally_streams::processor::{Context, Origin, Released};
use tally_streams::store::{DueStore, Hash128, StoreValue};

/// By rule, key and window, each until its window ends.
pub type HeldEvents = DueStore<Hash128, Held>;

/// An event and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    offset: u64,
    append_time_ms: i64,
    request: Option<[u8; 16]>,
    /// The rule's name.
    rule: String,
    event: Event,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    offset: u64,
    append_time_ms: i64,
    request: Option<[u8; 16]>,
    rule: Cow<'a, str>,
    /// JSON, as the log keeps it.
    #[serde(borrow)]
    event: Cow<'a, [u8]>,
}

impl Held {
    /// The current event.
    pub fn new(context: &Context<'_, Actions>, rule: &str, action: &Action) -> Self {
        let Origin { offset, append_time_ms, request, .. } = *context.origin();
        Self { offset, append_time_ms, request, rule: rule.to_owned(), event: action.event.clone() }
    }

    /// The time that orders toggles.
    pub fn effective_ms(&self) -> i64 {
        self.event.occurred_at_ms.min(self.append_time_ms)
    }

    /// The verdict to write for it.
    pub fn verdict(&self, context: &Context<'_, Actions>, kind: VerdictKind, node: &str) -> Item {
        let (event_id, actor_id) = (Some(self.event.event_id()), Some(self.event.actor_id()));
        let origin = self.origin(context, self.append_time_ms);
        verdict(&origin, context.version(), kind, node, self.rule.clone(), event_id, actor_id)
    }

    /// Forwards it, as of its due time.
    pub fn release(self, context: &mut Context<'_, Actions>, event_types: &EventTypes, due_ms: i64) {
        let mut json = Vec::new();
        self.event.write_json(&mut json);
        let (origin, effective_ms) = (self.origin(context, due_ms), self.effective_ms());
        let record = (self.event.actor_id().as_bytes().to_vec(), json);
        // The topology may have changed since, so that no node takes it any more.
        let kind = event_types.kind(self.event.event_type()).unwrap_or(usize::MAX);
        let value = Item::Event(Action { event: self.event, kind, effective_ms, seq: None, closed: false });
        context.release(Released { value, origin, record });
    }

    fn origin(&self, context: &Context<'_, Actions>, clock_ms: i64) -> Origin {
        let Self { offset, append_time_ms, request, .. } = *self;
        Origin { partition: context.origin().partition, offset, append_time_ms, clock_ms, request, ..Origin::default() }
    }
}

impl StoreValue for Held {
    /// Postcard of [`Stored`].
    fn encode(&self, out: &mut Vec<u8>) {
        let mut json = Vec::new();
        self.event.write_json(&mut json);
        let Self { offset, append_time_ms, request, rule, .. } = self;
        let (offset, append_time_ms, request) = (*offset, *append_time_ms, *request);
        let stored = Stored { offset, append_time_ms, request, rule: Cow::Borrowed(rule), event: json.into() };
        if let Ok(bytes) = postcard::to_extend(&stored, std::mem::take(out)) {
            *out = bytes;
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let Stored { offset, append_time_ms, request, rule, event } = postcard::from_bytes(bytes).ok()?;
        // It was checked on arrival; rules that have changed since do not apply.
        let fields = EventFields::parse(&event, UnknownFields::Ignore).ok()?;
        let event = Event::from_stored(&fields, append_time_ms).ok()?;
        Some(Self { offset, append_time_ms, request, rule: rule.into_owned(), event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_bytes_are_what_they_have_always_been() {
        let json = br#"{"event_id":"e1","type":"like","actor_id":"u1","subject_id":"a:1","occurred_at":77}"#;
        let event = Event::from_log(json, 99).unwrap();
        let held =
            |request| Held { offset: 300, append_time_ms: 99, request, rule: "toggle".into(), event: event.clone() };
        for (held, head) in [
            (held(None), b"\xac\x02\xc6\x01\x00\x06toggle\x53".to_vec()),
            (held(Some([7; 16])), [b"\xac\x02\xc6\x01\x01".as_slice(), &[7; 16], b"\x06toggle\x53"].concat()),
        ] {
            let mut bytes = Vec::new();
            held.encode(&mut bytes);
            assert_eq!(bytes, [head.as_slice(), json].concat());
            assert_eq!(Held::decode(&bytes), Some(held));
            assert_eq!(Held::decode(&bytes[..bytes.len() - 1]), None);
        }
    }
}
