//! Request bodies with limits of bytes and time.

use crate::client_stream::Unread;
use crate::coding::Coding;
use crate::problem::ApiProblem;
use axum::BoxError;
use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// The body did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not arrive in time")]
struct BodyTimeout;

/// How much of an unwanted body is read at most. If the client sends more, the connection closes after the response.
const DRAIN_BYTES_MAX: usize = 16 << 20;

/// A body from the network that fails with [`BodyTimeout`] unless all of it arrives before the deadline.
///
/// When it is dropped before its end, the rest is read and discarded within limits of bytes and time: otherwise a
/// client that still sends would find the connection closed, instead of the response with the reason.
pub(crate) struct DeadlineBody {
    /// None once it has ended.
    inner: Option<Incoming>,
    deadline: Instant,
    /// Made when the body first has to be waited for: most have arrived together with the head.
    sleep: Option<Pin<Box<Sleep>>>,
    unread: Unread,
    /// The client waits for `100 Continue`, which hyper sends when the body is first polled.
    awaits_continue: bool,
}

impl DeadlineBody {
    pub(crate) fn new(inner: Incoming, timeout: Duration, unread: Unread, awaits_continue: bool) -> Self {
        Self { inner: Some(inner), deadline: Instant::now() + timeout, sleep: None, unread, awaits_continue }
    }
}

impl HttpBody for DeadlineBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.awaits_continue = false;
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            if !matches!(frame, Some(Ok(_))) {
                self.inner = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = self.deadline;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        sleep.as_mut().poll(cx).map(|()| Some(Err(BodyTimeout.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for DeadlineBody {
    fn drop(&mut self) {
        let Some(rest) = self.inner.take().filter(|rest| !rest.is_end_stream()) else { return };
        self.unread.set(true);
        // A client that did not get `100 Continue` does not send, or does so after the response.
        if self.awaits_continue {
            self.unread.set_not_asked_for();
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let (deadline, unread) = (self.deadline, self.unread.clone());
        runtime.spawn(async move {
            if timeout_at(deadline, drain(rest)).await == Ok(true) {
                unread.set(false);
            }
        });
    }
}

/// Reads the rest of a body and discards it; returns whether that was all.
async fn drain(mut rest: Incoming) -> bool {
    let mut left = DRAIN_BYTES_MAX;
    while let Some(frame) = rest.frame().await {
        let Ok(frame) = frame else { return false };
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}

/// Reads a whole body of at most `bytes_max`, decompressed if its headers name a coding; longer is 413, slower than the
/// server's body timeout 408, an unsupported coding 415.
///
/// `admit` is called with numbers of bytes before they are kept, received or decompressed, and may refuse them.
pub async fn read_body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    mut admit: impl FnMut(usize) -> Result<(), ApiProblem>,
) -> Result<Bytes, ApiProblem> {
    let coding = Coding::of(headers)?;
    let sent = read_sent(body, bytes_max, &mut admit).await?;
    match coding {
        None => Ok(sent),
        Some(coding) => coding.decode(&sent, bytes_max, admit),
    }
}

/// Reads a body as it was sent.
async fn read_sent(
    mut body: Body,
    bytes_max: usize,
    mut admit: impl FnMut(usize) -> Result<(), ApiProblem>,
) -> Result<Bytes, ApiProblem> {
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_large(bytes_max));
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(problem_of)?.into_data() else { continue };
        if first.len() + whole.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        admit(data.len())?;
        // A body that came in one piece is passed on without a copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            // The announced length is trusted only in proportion to the bytes that have arrived.
            whole.reserve((announced as usize).min(8 * (first.len() + data.len())));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// 413.
pub(crate) fn too_large(bytes_max: usize) -> ApiProblem {
    ApiProblem::payload_too_large(format!("A body may have at most {bytes_max} bytes, compressed or not."))
}

fn problem_of(error: axum::Error) -> ApiProblem {
    let mut chain = std::iter::successors(Some(&error as &(dyn Error + 'static)), |error| (*error).source());
    match chain.any(|cause| cause.is::<BodyTimeout>()) {
        true => ApiProblem::body_timeout(),
        false => ApiProblem::bad_request(format!("The body ended early: {error}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::convert::Infallible;

    async fn read(body: Body) -> Result<Bytes, u16> {
        read_body(&HeaderMap::new(), body, 10, |_| Ok(())).await.map_err(|problem| problem.status().as_u16())
    }

    #[tokio::test]
    async fn reads_up_to_the_limit_whole_or_in_pieces() {
        assert_eq!(read(Body::from("0123456789")).await, Ok("0123456789".into()));
        assert_eq!(read(Body::from("0123456789a")).await, Err(413));
        assert_eq!(read(Body::empty()).await, Ok(Bytes::new()));
        assert_eq!(read(pieces(&["01", "23", "", "456"])).await, Ok("0123456".into()));
        assert_eq!(read(pieces(&["01234", "56789a"])).await, Err(413));
    }

    #[tokio::test]
    async fn bytes_are_admitted_before_they_are_kept() {
        let mut seen = Vec::new();
        let refuse_second = |n| {
            seen.push(n);
            if seen.len() == 2 { Err(ApiProblem::too_many_requests("full", 1)) } else { Ok(()) }
        };
        let answer = read_body(&HeaderMap::new(), pieces(&["012", "3", "4"]), 10, refuse_second).await;
        assert_eq!(answer.unwrap_err().status(), 429);
        assert_eq!(seen, [3, 1]);
    }

    fn pieces(pieces: &[&'static str]) -> Body {
        Body::new(Pieces(pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect()))
    }

    /// A body that arrives in pieces, without a length.
    struct Pieces(VecDeque<Bytes>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }
}
