//! The body of one stream.

use super::event::{EventId, PREAMBLE};
use super::hub::{Hub, Watched};
use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::Frame;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;

/// Events for one reader, which leaves the hub when this is dropped.
pub struct Stream {
    hub: Arc<Hub>,
    reader: u64,
    of: Box<[Watched]>,
    /// Collected and not yet polled by the connection, which polls when it has room.
    collected: VecDeque<Bytes>,
    _slot: OwnedSemaphorePermit,
}

impl Stream {
    /// A stream without events yet; None once no stream may begin any more. See [`Hub::join`].
    pub fn join(
        hub: &Arc<Hub>,
        of: Box<[Watched]>,
        slot: OwnedSemaphorePermit,
        watch: impl FnMut(&Watched),
    ) -> Option<Self> {
        let reader = hub.join(&of, watch)?;
        Some(Self { hub: hub.clone(), reader, of, collected: VecDeque::from([PREAMBLE]), _slot: slot })
    }

    /// Sends first what the reader has not seen.
    pub fn begin(&self, seen: Option<EventId>) {
        self.hub.begin(self.reader, &self.of, seen);
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let stream = &mut *self;
        if stream.collected.is_empty() {
            match ready!(stream.hub.poll(stream.reader, &stream.of, cx)) {
                Some(collected) => stream.collected = collected,
                None => return Poll::Ready(None),
            }
        }
        Poll::Ready(stream.collected.pop_front().map(|event| Ok(Frame::data(event))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.hub.leave(self.reader, &self.of);
    }
}
