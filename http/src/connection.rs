//! One connection, from its first byte to its last.

use crate::body::DeadlineBody;
use crate::client_stream::{ClientStream, Unread};
use crate::head_timer::HeadTimer;
use crate::http2;
use crate::problem::{ApiProblem, PROBLEM_JSON};
use crate::request_id::RequestId;
use crate::server::ServerConfig;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// hyper refuses to work with less.
const BUFFER_BYTES_MIN: usize = 8 << 10;
/// Bodies are read in pieces of up to this.
const BUFFER_BYTES: usize = 256 << 10;
/// How long a refused client gets to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves requests until the client leaves, is too slow, or `shutdown` is cancelled and the request in flight is done.
pub(crate) async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    config: &ServerConfig,
    shutdown: CancellationToken,
) {
    // Answers are written whole; waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    match shutdown.run_until_cancelled(http2::speaks(&stream, config.header_timeout)).await {
        Some(Ok(true)) => http2::serve(stream, peer, router, config, shutdown).await,
        Some(Ok(false)) => serve_http1(stream, peer, router, config, shutdown).await,
        Some(Err(error)) => tracing::debug!(%peer, %error, "a connection ended before its first byte"),
        None => {}
    }
}

async fn serve_http1(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    config: &ServerConfig,
    shutdown: CancellationToken,
) {
    let &ServerConfig { header_timeout, body_timeout, write_timeout, header_bytes_max, .. } = config;
    let routes = TowerToHyperService::new(router);
    let unread = Unread::default();
    let seen = unread.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let awaits_continue = request.headers().contains_key(EXPECT) && request.version() == Version::HTTP_11;
        let mut request = request.map(|body| match body.is_end_stream() {
            true => Body::empty(),
            false => Body::new(DeadlineBody::new(body, body_timeout, seen.clone(), awaits_continue)),
        });
        request.extensions_mut().insert(ConnectInfo(peer));
        let (answer, seen) = (hyper::service::Service::call(&routes, request), seen.clone());
        async move {
            let mut answer = answer.await;
            if seen.is_not_asked_for()
                && let Ok(answer) = &mut answer
            {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    });
    let mut protocol = http1::Builder::new();
    protocol
        .timer(HeadTimer::new(header_timeout))
        .header_read_timeout(header_timeout)
        .max_buf_size(BUFFER_BYTES.max(header_bytes_max))
        .max_header_size(header_bytes_max.max(BUFFER_BYTES_MIN));
    let io = TokioIo::new(ClientStream::new(stream, write_timeout, Some(header_bytes_max), unread));
    until_done(protocol.serve_connection(io, service), |connection| connection.graceful_shutdown(), peer, shutdown)
        .await;
}

/// Waits for the end of a connection; once `shutdown` is cancelled, it takes no further requests.
pub(crate) async fn until_done<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down_gracefully: impl FnOnce(Pin<&mut C>),
    peer: SocketAddr,
    shutdown: CancellationToken,
) {
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            shut_down_gracefully(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

/// Answers 503 to a connection beyond the limit, without reading its request.
pub(crate) async fn refuse(mut stream: TcpStream) {
    let problem = ApiProblem::unavailable("This server has reached its connection limit.", 1);
    let body = problem.to_json(RequestId::new().as_str());
    let mut answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    let goodbye = async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        // Closing with the request unread would reset the connection, and the client might never see the answer.
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, goodbye).await;
}
