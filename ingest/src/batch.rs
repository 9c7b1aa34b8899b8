//! The input of the service: events as they arrived, and their place in the admission.

use crate::admission::Place;
use bytes::Bytes;

/// The events of one request.
pub struct Batch {
    /// How the bytes hold them.
    pub format: Format,
    /// The events, as text.
    pub events: Bytes,
    /// The room that the bytes take, from [`IngestService::open`](crate::IngestService::open).
    pub place: Place,
}

/// How bytes hold events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One event in JSON, or an array of them.
    Json,
    /// One event in JSON per line.
    Lines,
    /// One CloudEvent in JSON.
    CloudEvent,
    /// An array of CloudEvents in JSON.
    CloudEvents,
}

impl Format {
    pub(crate) fn is_cloud(self) -> bool {
        matches!(self, Self::CloudEvent | Self::CloudEvents)
    }
}
