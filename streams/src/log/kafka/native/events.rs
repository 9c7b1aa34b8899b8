//! The events of a producer: delivery reports, errors, lines of the trace.

use super::super::context::{self, Quiet};
use super::text;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::ffi::c_int;
use std::time::Duration;

/// What was taken from a producer's queue of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log::kafka) enum Served {
    /// Nothing came in time.
    Nothing,
    /// Delivery reports, or something for the trace.
    Event,
    /// The client has failed permanently.
    FatalError,
}

/// Waits for an event and takes it: `delivered` gets an event of delivery reports, the others are reported.
pub(super) fn serve(
    client: &Client<Quiet>,
    timeout: Duration,
    delivered: impl FnOnce(*mut sys::rd_kafka_event_t),
) -> Served {
    let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let mut served = Served::Event;
    // SAFETY: the client is alive. Queue and event are ours and are given back; what the event lends is copied before.
    unsafe {
        let queue = sys::rd_kafka_queue_get_main(client.native_ptr());
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
        sys::rd_kafka_queue_destroy(queue);
        if event.is_null() {
            return Served::Nothing;
        }
        match sys::rd_kafka_event_type(event) {
            sys::RD_KAFKA_EVENT_DR => delivered(event),
            sys::RD_KAFKA_EVENT_ERROR => {
                let error = KafkaError::Global(sys::rd_kafka_event_error(event).into());
                if error.rdkafka_error_code() == Some(Code::Fatal) {
                    served = Served::FatalError;
                }
                context::report(&error, &text(sys::rd_kafka_event_error_string(event)));
            }
            sys::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
                if sys::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) == 0 {
                    tracing::debug!(level, facility = text(facility), "{}", text(line));
                }
            }
            _ => {}
        }
        sys::rd_kafka_event_destroy(event);
    }
    served
}
