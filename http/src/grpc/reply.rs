//! Responses: messages, and the status behind them.

use super::call::GRPC;
use super::message::PREFIX_BYTES;
use super::status;
use crate::problem::ApiProblem;
use crate::request_id::RequestId;
use axum::body::{Body, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tally_proto::Message;
use tokio::sync::mpsc;

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The response of a unary call.
pub fn reply(message: &impl Message) -> Response {
    let body = Full::new(framed(message)).with_trailers(std::future::ready(Some(Ok(status::ok()))));
    response(Body::new(body))
}

/// The response of a call with several messages: those that `produce` sends, and how it ends. `produce` runs as a task of
/// its own. Once the client has left, sending fails; `produce` should end then. `request` are the extensions of the call.
pub fn reply_stream<M, F>(request: &Extensions, produce: impl FnOnce(Replies<M>) -> F) -> Response
where
    F: Future<Output = Result<(), ApiProblem>> + Send + 'static,
{
    // The next message is made while the client takes the last one.
    let (sender, frames) = mpsc::channel(1);
    let id = request.get::<RequestId>().cloned().unwrap_or_else(RequestId::new);
    let made = produce(Replies { sender: sender.clone(), _of: PhantomData });
    let end = id.clone();
    tokio::spawn(id.scope(async move {
        let status = match made.await {
            Ok(()) => status::ok(),
            Err(problem) => status::of_problem(&problem, &end),
        };
        // The client may have left.
        let _ = sender.send(Frame::trailers(status)).await;
    }));
    response(Body::new(Produced(frames)))
}

/// Sends the messages of a response.
pub struct Replies<M> {
    sender: mpsc::Sender<Frame<Bytes>>,
    _of: PhantomData<fn(M)>,
}

/// The client has left, or the call has ended at its deadline.
#[derive(Debug, PartialEq, Eq)]
pub struct Left;

impl<M: Message> Replies<M> {
    /// Sends a message as soon as the client has taken those before.
    pub async fn send(&self, message: &M) -> Result<(), Left> {
        self.sender.send(Frame::data(framed(message))).await.map_err(|_| Left)
    }

    /// Waits until the client has left, or the call has ended at its deadline.
    pub async fn left(&self) {
        self.sender.closed().await;
    }
}

/// A body that is produced frame by frame.
pub(super) struct Produced(pub mpsc::Receiver<Frame<Bytes>>);

impl HttpBody for Produced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(Ok))
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    // Responses are far below 4 GiB.
    bytes.put_u32(length as u32);
    // There is room for it.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    *response.headers_mut() = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(GRPC)),
        (ACCEPT_ENCODING, HeaderValue::from_static("identity,gzip,zstd")),
    ]);
    response
}
