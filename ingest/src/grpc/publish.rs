//! `tally.v1.Events`.

use super::EventsService;
use super::event::take_all;
use crate::BODY_BYTES_MAX;
use crate::admission::Place;
use crate::answer::{Accepted, Rejected};
use crate::caller::Caller;
use crate::http::caller_of;
use crate::refusal::Refusal;
use axum::extract::{Request, State};
use axum::response::Response;
use tally_http::ApiProblem;
use tally_http::grpc::{Messages, read_message, reply, reply_stream};
use tally_proto::tally::v1::{
    Event, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse, RejectedEvent,
};

/// `Publish`.
pub(super) async fn publish(State(state): State<EventsService>, request: Request) -> Result<Response, ApiProblem> {
    let (parts, body) = request.into_parts();
    let mut place = state.service.open()?;
    let admit = |bytes| place.grow(bytes).map_err(Into::into);
    let request: PublishRequest = read_message(&parts.headers, body, BODY_BYTES_MAX, admit).await?;
    let caller = caller_of(&parts, &state.trusted_proxies);
    let Accepted { accepted, rejected, receipt } = state.take(caller, request.events, place).await?;
    Ok(reply(&PublishResponse { accepted: count(accepted), rejected: rejected_events(rejected), receipt }))
}

/// `PublishStream`.
pub(super) async fn publish_stream(
    State(state): State<EventsService>,
    request: Request,
) -> Result<Response, ApiProblem> {
    let (parts, body) = request.into_parts();
    let mut messages = Messages::of(&parts.headers, body, BODY_BYTES_MAX)?;
    let caller = caller_of(&parts, &state.trusted_proxies);
    let slot = state.streams.clone().try_acquire_owned();
    let slot =
        slot.map_err(|_| ApiProblem::unavailable("This process has reached its limit of calls of PublishStream.", 5))?;
    Ok(reply_stream(&parts.extensions, async move |replies| {
        let _slot = slot;
        loop {
            // An idle stream takes no place.
            let mut place = None;
            let admit = |bytes| {
                let place = match &mut place {
                    Some(place) => place,
                    none => none.insert(state.service.open()?),
                };
                Place::grow(place, bytes).map_err(ApiProblem::from)
            };
            let message = tokio::select! {
                message = messages.next::<PublishStreamRequest>(admit) => message?,
                () = replies.left() => return Ok(()),
                () = state.stopping.cancelled() => {
                    return Err(ApiProblem::shutting_down());
                }
            };
            let Some(PublishStreamRequest { events }) = message else { return Ok(()) };
            let place = place.map_or_else(|| state.service.open(), Ok)?;
            let response = match state.take(caller.clone(), events, place).await {
                Ok(Accepted { accepted, rejected, receipt }) => {
                    PublishStreamResponse { accepted: count(accepted), rejected: rejected_events(rejected), receipt }
                }
                // The next batch may have valid events.
                Err(Refusal::Invalid(rejected) | Refusal::Limited { rejected, .. }) => {
                    PublishStreamResponse { accepted: 0, rejected: rejected_events(rejected), receipt: String::new() }
                }
                Err(refusal) => return Err(refusal.into()),
            };
            if replies.send(&response).await.is_err() {
                return Ok(());
            }
        }
    }))
}

impl EventsService {
    async fn take(&self, caller: Caller, events: Vec<Event>, place: Place) -> Result<Accepted, Refusal> {
        let form = (false, place.bytes());
        self.service.take_by(caller, place, form, move |intake| take_all(intake, &events)).await
    }
}

fn rejected_events(rejected: Vec<Rejected>) -> Vec<RejectedEvent> {
    let message = |Rejected { index, event_id, error, retry_after }| RejectedEvent {
        index: count(index),
        event_id,
        error,
        retry_after_s: retry_after,
    };
    rejected.into_iter().map(message).collect()
}

/// A batch has at most a thousand events.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
