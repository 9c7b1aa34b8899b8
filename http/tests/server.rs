//! Clients that are slow, silent or too many, and a server that stops.

mod fixture;

use fixture::{SHORT, patient, read_to_end, read_until, start};
use std::time::{Duration, Instant};
use tally_http::{ServerConfig, Stopped};
use tally_testkit::{PATIENCE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    // A client that was served and then sends nothing more.
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
    tokio::time::timeout(PATIENCE, drip).await.expect("the server never closed the connection");
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
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(80 << 10));
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(stream).await;
    assert!(answer.starts_with("HTTP/1.1 431") && answer.contains("urn:tally:problem:head-too-large"), "{answer}");

    let mut stream = server.connect().await;
    stream.write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 101\r\n\r\n").await.unwrap();
    stream.write_all(&[b'x'; 101]).await.unwrap();
    let answer = read_until(&mut stream, "}").await;
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
    tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("no answer").unwrap();
}

#[tokio::test]
async fn a_stop_finishes_the_request_in_flight_and_takes_no_new_ones() {
    let server = start(ServerConfig { shutdown_deadline: PATIENCE, ..patient() }).await;
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
