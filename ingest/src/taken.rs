//! The records of a request, before it is known how many of them may be sent.

use crate::answer::Rejected;
use crate::intake::event_id_of;
use bytes::Bytes;
use tally_access::{Demands, Grants, Places};
use tally_streams::log::{AppendBatch, OwnedRecord};

/// The valid events of a request as records, and the others.
pub(crate) struct Taken {
    pub(crate) buffer: Vec<u8>,
    pub(crate) header_bytes: usize,
    pub(crate) spans: Vec<Span>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) demands: Demands,
}

/// A record's places in the buffer: its key ends where its value begins.
pub(crate) struct Span {
    /// The event's place in the request.
    pub(crate) index: usize,
    pub(crate) partition: u32,
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) end: usize,
    /// Its demands on the rate limits.
    pub(crate) places: Places,
}

impl Taken {
    /// Rejects events above a limit. Returns the seconds after which the last of them may be sent again.
    pub(crate) fn limit(&mut self, mut grants: Grants) -> Option<u32> {
        let Self { buffer, spans, rejected, .. } = self;
        let mut retry_after_s = None;
        spans.retain(|span| {
            let Err(over) = grants.take(span.places.as_slice()) else { return true };
            retry_after_s = retry_after_s.max(Some(over.retry_after_s));
            let event_id = event_id_of(&buffer[span.value..span.end]);
            let (error, retry_after) = (format!("exceeds {over}"), Some(over.retry_after_s));
            rejected.push(Rejected { index: span.index, event_id, error, retry_after });
            false
        });
        if retry_after_s.is_some() {
            rejected.sort_unstable_by_key(|rejected| rejected.index);
        }
        retry_after_s
    }

    /// The records in the order of their events, and the events that became none.
    pub(crate) fn finish(self) -> (AppendBatch, Vec<Rejected>) {
        let buffer = Bytes::from(self.buffer);
        let headers = buffer.slice(..self.header_bytes);
        let record = |span: Span| OwnedRecord {
            partition: span.partition,
            key: Some(buffer.slice(span.key..span.value)),
            value: Some(buffer.slice(span.value..span.end)),
            headers: headers.clone(),
        };
        (AppendBatch { records: self.spans.into_iter().map(record).collect() }, self.rejected)
    }
}
