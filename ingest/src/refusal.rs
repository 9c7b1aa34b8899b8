//! Why a batch is rejected as a whole: no event was accepted, or the outcome is unknown.

use crate::answer::Rejected;
use std::fmt;
use tally_streams::log::Doubt;

/// Why a batch is refused. Its text is the sender's.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Too many requests, or too many bytes of them, are under way.
    Overloaded,
    /// The body does not have the declared format.
    Malformed(String),
    /// It has more than [`EVENTS_MAX`](crate::EVENTS_MAX) events.
    TooManyEvents,
    /// None of its events is valid: each with its reason.
    Invalid(Vec<Rejected>),
    /// Every valid event is over a limit.
    Limited {
        /// All events, each with the reason.
        rejected: Vec<Rejected>,
        /// Seconds until all of them fit the limits again.
        retry_after_s: u32,
    },
    /// The wall clock of this process is in doubt.
    ClockInDoubt(Doubt),
    /// The log's queue is full.
    LogBusy,
    /// The log does not answer.
    LogUnavailable,
    /// The log's disk is full.
    LogFull,
    /// The log did not confirm the events: it may have them.
    OutcomeUnknown,
    /// A fault of this process. Its cause is in the process's own log.
    Internal,
}

impl Refusal {
    /// The request has nothing in it.
    pub(crate) fn empty() -> Self {
        Self::Malformed("The body is empty.".into())
    }

    /// Seconds after which the batch may be sent again; None if a retry changes nothing.
    pub fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Malformed(_) | Self::TooManyEvents | Self::Invalid(_) | Self::Internal => None,
            Self::Overloaded | Self::LogBusy | Self::LogUnavailable | Self::OutcomeUnknown => Some(1),
            Self::Limited { retry_after_s, .. } => Some(*retry_after_s),
            // By then the clock may be right again.
            Self::ClockInDoubt(_) => Some(10),
            // By then the disk may have room again.
            Self::LogFull => Some(30),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str("Too many events are in flight. No event of this request was accepted."),
            Self::Malformed(what) => f.write_str(what),
            Self::TooManyEvents => f.write_str("A request may have at most 1,000 events."),
            Self::Invalid(rejected) => match &**rejected {
                [only] => write!(f, "The event is invalid: {}.", only.error),
                all => {
                    let first = all.first().map_or("", |first| &first.error);
                    write!(f, "None of the {} events is valid; the first: {first}.", all.len())
                }
            },
            Self::Limited { rejected, .. } => {
                let first = rejected.first().map_or("", |first| &first.error);
                write!(f, "No event was accepted; the first {first}.")
            }
            Self::ClockInDoubt(doubt) => {
                write!(f, "This server's clock is in doubt: {doubt}. No event was accepted; retry later.")
            }
            Self::LogBusy => f.write_str("The log's queue is full. No event was accepted; retry."),
            Self::LogUnavailable => f.write_str("The log does not respond. No event was accepted; retry."),
            Self::LogFull => f.write_str("The log's disk is full. No event was accepted; retry once there is space."),
            // What exactly failed is the operator's business; for the sender all of it is the same uncertainty.
            Self::OutcomeUnknown => f.write_str(
                "The log did not confirm the events, so the outcome is unknown. Repeat the request with the same \
                 event_id: an event counts once.",
            ),
            Self::Internal => f.write_str("An internal error occurred. No event was accepted."),
        }
    }
}

impl std::error::Error for Refusal {}
