//! The hot path: events checked one by one and written as records, all records of a request in one buffer.

use crate::anonymous::AnonymousActors;
use crate::answer::Rejected;
use crate::caller::Caller;
use crate::cloud_event;
use crate::config::IngestConfig;
use crate::invalid::{InvalidEvent, shorten};
use crate::read_token;
use crate::taken::{Span, Taken};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tally_access::{Action, Demands};
use tally_model::{EventFields, REQUEST_HEADER, ReceiptKey, UnknownFields, from_object};
use tally_streams::log::{Headers, partition_of};

/// How much of an invalid id is repeated in its error.
const EVENT_ID_BYTES_MAX: usize = 64;
/// A short event; more of them than the buffer was made for only make it grow.
const EVENT_BYTES_TYPICAL: usize = 160;

/// Checks the events of one request.
pub(crate) struct Intake<'a> {
    config: &'a IngestConfig,
    key: &'a ReceiptKey,
    caller: &'a Caller,
    cloud: bool,
    now_ms: i64,
    anonymous: AnonymousActors<'a>,
    buffer: Vec<u8>,
    header_bytes: usize,
    spans: Vec<Span>,
    seen: usize,
    rejected: Vec<Rejected>,
    demands: Demands,
}

/// A request as it arrived.
pub(crate) struct Incoming<'r> {
    /// Whether its events are CloudEvents.
    pub(crate) cloud: bool,
    /// The time of arrival, milliseconds since 1970.
    pub(crate) now_ms: i64,
    /// The id of the request, for the header of every record.
    pub(crate) id: &'r [u8; 16],
    /// The length of its body.
    pub(crate) body_bytes: usize,
}

impl<'a> Intake<'a> {
    /// `key` signs read tokens.
    pub(crate) fn new(
        config: &'a IngestConfig,
        key: &'a ReceiptKey,
        caller: &'a Caller,
        request: &Incoming<'_>,
    ) -> Self {
        let &Incoming { cloud, now_ms, id, body_bytes } = request;
        let events = body_bytes / EVENT_BYTES_TYPICAL + 1;
        // Besides the sent bytes: the key, the time, and the fields of the caller.
        let mut buffer = Vec::with_capacity(body_bytes + 64 + events * (40 + caller.size_bytes()));
        Headers::encode(&[(REQUEST_HEADER, id)], &mut buffer);
        let (header_bytes, anonymous) = (buffer.len(), AnonymousActors::new(&config.anonymous_secret));
        let (spans, rejected, demands) = (Vec::with_capacity(events), Vec::new(), Demands::default());
        Self { config, key, caller, cloud, now_ms, anonymous, buffer, header_bytes, spans, seen: 0, rejected, demands }
    }

    /// Accepts one event, or notes the reason why not.
    pub(crate) fn take(&mut self, json: &[u8]) {
        if let Err(refusal) = self.parse(json).and_then(|fields| self.admit(fields)) {
            let refusal = if self.cloud { refusal.renamed(cloud_event::attribute) } else { refusal };
            self.reject(event_id_of(json), &refusal);
        }
        self.seen += 1;
    }

    /// The same for an event whose fields were read out of another form, with what it has as its id.
    #[cfg(feature = "grpc")]
    pub(crate) fn take_fields<'b>(&mut self, fields: Result<EventFields<'b>, InvalidEvent>, event_id: Option<&str>)
    where
        'a: 'b,
    {
        if let Err(refusal) = fields.and_then(|fields| self.admit(fields)) {
            self.reject(event_id.map(|id| shorten(id, EVENT_ID_BYTES_MAX).into_owned()), &refusal);
        }
        self.seen += 1;
    }

    fn reject(&mut self, event_id: Option<String>, refusal: &InvalidEvent) {
        self.rejected.push(Rejected { index: self.seen, event_id, error: refusal.to_string(), retry_after: None });
    }

    fn parse<'b>(&self, json: &'b [u8]) -> Result<EventFields<'b>, InvalidEvent> {
        match self.cloud {
            true => {
                let mut fields = cloud_event::parse(json)?;
                self.config.types.translate(&mut fields.event_type);
                Ok(fields)
            }
            false => Ok(EventFields::parse(json, UnknownFields::Refuse)?),
        }
    }

    fn admit<'b>(&mut self, mut fields: EventFields<'b>) -> Result<(), InvalidEvent>
    where
        'a: 'b,
    {
        self.fill(&mut fields)?;
        fields.check(self.now_ms)?;
        self.config.types.check_declared(&fields)?;
        self.check_origin(&fields)?;
        self.write(&fields);
        Ok(())
    }

    /// Fills fields that the sender may leave out.
    fn fill<'b>(&mut self, fields: &mut EventFields<'b>) -> Result<(), InvalidEvent>
    where
        'a: 'b,
    {
        let occurred_at_ms = *fields.occurred_at_ms.get_or_insert(self.now_ms);
        fields.canonicalize_ip();
        self.pin(fields)?;
        if fields.ip.is_none() {
            fields.ip = self.caller.ip.as_deref().map(Cow::Borrowed);
        }
        if fields.user_agent.is_none() {
            fields.user_agent = self.caller.user_agent.as_deref().map(Cow::Borrowed);
        }
        // Without a type, the check that follows reports the missing field.
        let Some(event_type) = fields.event_type.as_deref() else { return Ok(()) };
        let may_be_anonymous = self.config.types.allows_anonymous(event_type)?;
        if event_type == read_token::EVENT_TYPE {
            read_token::check(fields, self.key, self.now_ms, self.config.read_token_required)?;
        }
        if fields.actor_id.is_none() && may_be_anonymous {
            let name = self.anonymous.name(occurred_at_ms, fields.ip.as_deref(), fields.user_agent.as_deref());
            fields.actor_id = Some(Cow::Owned(name));
        }
        Ok(())
    }

    /// A user can act only as its own actor.
    fn pin<'b>(&self, fields: &mut EventFields<'b>) -> Result<(), InvalidEvent>
    where
        'a: 'b,
    {
        let caller: &'a Caller = self.caller;
        let Some(actor) = caller.actor() else { return Ok(()) };
        match fields.actor_id.get_or_insert(Cow::Borrowed(actor)) == actor {
            true => Ok(()),
            false => {
                Err(InvalidEvent::field("actor_id", "must be the `sub` of the token: a user can act only as itself"))
            }
        }
    }

    /// A caller without an API key cannot set `ip` and `user_agent`: they are those of the connection.
    fn check_origin(&self, fields: &EventFields<'_>) -> Result<(), InvalidEvent> {
        if self.caller.is_service() {
            return Ok(());
        }
        let said = [("ip", &fields.ip, &self.caller.ip), ("user_agent", &fields.user_agent, &self.caller.user_agent)];
        match said.into_iter().find(|(_, said, own)| said.is_some() && said.as_deref() != own.as_deref()) {
            None => Ok(()),
            Some((field, ..)) => Err(InvalidEvent::field(
                field,
                "is set by the server: leave it out; only a service with an API key (`--keys`) may set it",
            )),
        }
    }

    fn write(&mut self, fields: &EventFields<'_>) {
        let actor_id = fields.actor_id.as_deref().unwrap_or_default();
        let action = Action {
            principal: self.caller.principal.as_deref(),
            ip: fields.ip.as_deref().unwrap_or_default(),
            event_type: fields.event_type.as_deref().unwrap_or_default(),
            actor_id,
        };
        let limits = self.config.limits.as_ref();
        let places = limits.map(|limits| limits.demand(action, &mut self.demands)).unwrap_or_default();
        let actor_id = actor_id.as_bytes();
        let key = self.buffer.len();
        self.buffer.extend_from_slice(actor_id);
        let value = self.buffer.len();
        fields.write_json(&mut self.buffer);
        let partition = partition_of(actor_id, self.config.partitions);
        self.spans.push(Span { index: self.seen, partition, key, value, end: self.buffer.len(), places });
    }

    /// The number of events so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Whether any event was rejected so far.
    pub(crate) fn has_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// The records to append, and the rejected events.
    pub(crate) fn finish(self) -> Taken {
        let Self { buffer, header_bytes, spans, rejected, demands, .. } = self;
        Taken { buffer, header_bytes, spans, rejected, demands }
    }
}

/// The id of an invalid event, so that its sender can find it.
pub(crate) fn event_id_of(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, alias = "id")]
        event_id: Option<&'a RawValue>,
    }
    let named: Named<'_> = from_object(json).ok()?;
    let id: String = serde_json::from_str(named.event_id?.get()).ok()?;
    Some(shorten(&id, EVENT_ID_BYTES_MAX).into_owned())
}
