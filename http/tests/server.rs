//! Clients that are slow, silent or too many, and a server that is asked to stop.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use prometheus::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally_http::{Edge, Server, ServerConfig, Stopped, read_body};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SHORT: Duration = Duration::from_millis(100);
/// Nothing here may take this long: tests that wait for a condition give up then.
const FOREVER: Duration = Duration::from_secs(120);

struct Running {
    address: SocketAddr,
    registry: Registry,
    shutdown: CancellationToken,
    task: JoinHandle<Stopped>,
    /// Told when a request has reached `/wait`.
    entered: Arc<Notify>,
    /// Lets the request at `/wait` go on.
    proceed: Arc<Notify>,
}

async fn start(config: ServerConfig) -> Running {
    let registry = Registry::new();
    let (entered, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, go) = (entered.clone(), proceed.clone());
    let wait = async move || {
        told.notify_one();
        go.notified().await;
        "done"
    };
    let endless = async || Body::new(Endless);
    let routes = Router::new()
        .route("/", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/wait", get(wait))
        .route("/endless", get(endless))
        .route("/body", post(async |body: Body| read_body(body, 100, |_| Ok(())).await.map(|b| b.len().to_string())));
    let router = Edge::new(&registry, FOREVER).unwrap().wrap(routes);
    let server = Server::new(config, &registry).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let stop = shutdown.clone();
    let task = tokio::spawn(async move { server.serve(listener, router, stop).await });
    Running { address, registry, shutdown, task, entered, proceed }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn connections(&self) -> i64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "tally_http_connections").unwrap();
        family.get_metric()[0].get_gauge().get_value() as i64
    }
}

struct Endless;

impl axum::body::HttpBody for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes::Bytes::from_static(&[b'x'; 1 << 16])))))
    }
}

fn patient() -> ServerConfig {
    ServerConfig { header_timeout: FOREVER, body_timeout: FOREVER, write_timeout: FOREVER, ..Default::default() }
}

/// Everything until the server closes.
async fn read_to_end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(FOREVER, stream.read_to_end(&mut bytes)).await;
    // A reset is an end as well.
    let _ = read.expect("the server never closed the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer from a connection that stays open: everything until `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.ends_with(end) {
        let n = tokio::time::timeout(FOREVER, stream.read(&mut buffer)).await.expect("no answer").unwrap();
        assert!(n > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    text
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < FOREVER, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn handlers_know_the_peer_and_connections_are_kept() {
    let server = start(patient()).await;
    let mut stream = server.connect().await;
    let me = stream.local_addr().unwrap().to_string();
    for _ in 0..2 {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(read_until(&mut stream, &me).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn slow_heads_and_silent_connections_are_closed() {
    let server = start(ServerConfig { header_timeout: SHORT, ..patient() }).await;
    let begun = Instant::now();
    let mut streams = Vec::new();
    for begin in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        for _ in 0..10 {
            let mut stream = server.connect().await;
            stream.write_all(begin.as_bytes()).await.unwrap();
            streams.push(stream);
        }
    }
    // One that was served and then says nothing more.
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    streams.push(idle);
    for stream in streams {
        read_to_end(stream).await;
    }
    assert!(begun.elapsed() >= SHORT);
    eventually("all slots are free", async || server.connections() == 0).await;
}

#[tokio::test]
async fn a_head_that_drips_gets_no_more_time() {
    let server = start(ServerConfig { header_timeout: SHORT, ..patient() }).await;
    let mut stream = server.connect().await;
    let drip = async {
        let mut sent = stream.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await;
        while sent.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            sent = stream.write_all(b"a").await;
        }
    };
    tokio::time::timeout(FOREVER, drip).await.expect("the server never closed the connection");
}

#[tokio::test]
async fn a_slow_body_is_408() {
    let server = start(ServerConfig { body_timeout: SHORT, ..patient() }).await;
    for begin in [
        "content-length: 10\r\n\r\n",
        "content-length: 10\r\n\r\n12345",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(format!("POST /body HTTP/1.1\r\nhost: x\r\n{begin}").as_bytes()).await.unwrap();
        let answer = read_to_end(stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains("urn:tally:problem:body-timeout"));
    }
}

#[tokio::test]
async fn bodies_in_time_are_read_whole() {
    let server = start(patient()).await;
    let mut stream = server.connect().await;
    stream.write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n01234").await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    stream.write_all(b"56789").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n10").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_long_head_is_431_and_a_long_body_413() {
    let server = start(patient()).await;
    let mut stream = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(40 << 10));
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_to_end(stream).await.starts_with("HTTP/1.1 431"));

    let mut stream = server.connect().await;
    stream.write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 101\r\n\r\n").await.unwrap();
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("at most 100 bytes"), "{answer}");
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let server = start(ServerConfig { connections_max: 2, ..patient() }).await;
    let first = server.connect().await;
    let _second = server.connect().await;
    eventually("both are accepted", async || server.connections() == 2).await;

    let mut third = server.connect().await;
    third.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = read_until(&mut third, "}").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1\r\n"), "{answer}");
    let problem: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_ne!(problem["request_id"], "");

    drop(first);
    eventually("a freed slot serves again", async || {
        let mut stream = server.connect().await;
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        read_to_end(stream).await.starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let server = start(ServerConfig { write_timeout: SHORT, ..patient() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    read_one_byte(&mut stream).await;
    eventually("the connection is gone", async || server.connections() == 0).await;
}

async fn read_one_byte(stream: &mut TcpStream) {
    tokio::time::timeout(FOREVER, stream.read_u8()).await.expect("no answer").unwrap();
}

#[tokio::test]
async fn a_stop_finishes_the_request_in_flight_and_takes_no_new_ones() {
    let server = start(ServerConfig { shutdown_deadline: FOREVER, ..patient() }).await;
    let idle = server.connect().await;
    let mut kept = server.connect().await;
    kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    read_one_byte(&mut kept).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;

    server.shutdown.cancel();
    read_to_end(idle).await;
    read_to_end(kept).await;
    eventually("the port is closed", async || TcpStream::connect(server.address).await.is_err()).await;
    assert!(!server.task.is_finished());

    server.proceed.notify_one();
    let answer = read_to_end(busy).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    assert_eq!(server.task.await.unwrap(), Stopped { cut: 0 });
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_at_the_deadline() {
    let server = start(ServerConfig { shutdown_deadline: SHORT, ..patient() }).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.entered.notified().await;
    server.shutdown.cancel();
    assert_eq!(read_to_end(busy).await, "");
    assert_eq!(server.task.await.unwrap(), Stopped { cut: 1 });
}
