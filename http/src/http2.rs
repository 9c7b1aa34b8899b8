//! One connection of HTTP/2 with prior knowledge, for gRPC; every other route answers on it too.

use crate::body::DeadlineBody;
use crate::client_stream::{ClientStream, Unread};
use crate::connection::until_done;
use crate::grpc;
use crate::server::ServerConfig;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What a client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// When to look again at a preface of which only the beginning has arrived.
const REST_OF_PREFACE: Duration = Duration::from_millis(5);
/// Requests of one connection at a time; later ones wait in the client.
const STREAMS_MAX: u32 = 100;
/// The longest frame of a body, which is buffered whole: a batch of 500 events fits one.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// Whether the client begins with the preface of HTTP/2, without taking a byte out of the connection. An error if no
/// byte arrives within `patience`.
pub(crate) async fn speaks(stream: &TcpStream, patience: Duration) -> io::Result<bool> {
    let begins = async {
        let mut first = [0; PREFACE.len()];
        loop {
            let arrived = stream.peek(&mut first).await?;
            if arrived == 0 || !PREFACE.starts_with(&first[..arrived]) {
                return Ok(false);
            }
            if arrived == PREFACE.len() {
                return Ok(true);
            }
            sleep(REST_OF_PREFACE).await;
        }
    };
    timeout(patience, begins).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Serves requests until the client leaves, does not answer pings any more, or `shutdown` is cancelled and the requests
/// in flight are done.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    config: &ServerConfig,
    shutdown: CancellationToken,
) {
    let &ServerConfig { body_timeout, write_timeout, header_timeout, header_bytes_max, .. } = config;
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let is_grpc = grpc::is_grpc(request.headers());
        let mut request = request.map(|body| match body.is_end_stream() {
            true => Body::empty(),
            // A stream of messages may last; a single message has a limit of its own.
            false if is_grpc => Body::new(body),
            false => Body::new(DeadlineBody::new(body, body_timeout, Unread::default(), false)),
        });
        request.extensions_mut().insert(ConnectInfo(peer));
        let routes = routes.clone();
        async move {
            match is_grpc {
                true => grpc::call(request, |request| routes.call(request)).await,
                false => routes.call(request).await,
            }
        }
    });
    let mut protocol = http2::Builder::new(TokioExecutor::new());
    protocol
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(u32::try_from(header_bytes_max).unwrap_or(u32::MAX))
        // Clients of gRPC keep connections open: a ping finds those whose client is gone.
        .keep_alive_interval(Some(write_timeout))
        .keep_alive_timeout(header_timeout);
    let io = TokioIo::new(ClientStream::new(stream, write_timeout, None, Unread::default()));
    until_done(protocol.serve_connection(io, service), |connection| connection.graceful_shutdown(), peer, shutdown)
        .await;
}
