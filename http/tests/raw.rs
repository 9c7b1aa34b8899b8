//! What goes over a plain socket: clients of every kind get an answer, and see it.

mod fixture;

use fixture::{Running, patient, read_to_end, read_until, start};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tokio::io::AsyncWriteExt;

/// More than fits in the buffers of a connection on loopback.
const LARGE_BYTES: usize = 12 << 20;

/// What comes back for these bytes until the server closes; they are all sent before anything is read.
async fn exchange(server: &Running, sent: impl AsRef<[u8]>) -> String {
    let mut stream = server.connect().await;
    stream.write_all(sent.as_ref()).await.expect("the server takes what it is sent");
    read_to_end(stream).await
}

/// Status and problem type of an answer.
fn problem(answer: &str) -> (u16, String) {
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let id = problem["request_id"].as_str().unwrap_or("?");
    assert!(head.contains("content-type: application/problem+json"), "{answer}");
    assert!(head.contains(&format!("x-request-id: {id}")), "{answer}");
    (status, problem["type"].as_str().unwrap_or_default().trim_start_matches("urn:tally:problem:").to_owned())
}

#[tokio::test]
async fn a_request_names_its_host_once_and_its_address_can_be_decoded() {
    let server = start(patient()).await;
    for wrong in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
        "GET / HTTP/1.1\r\nhost: a, b c\r\n",
        "GET /nowhere HTTP/1.1\r\n",
        "POST /body HTTP/1.1\r\ncontent-length: 0\r\n",
        "GET http://a/ HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\nhost: b\r\n",
        "GET /%zz HTTP/1.1\r\nhost: a\r\n",
        "GET /a%2 HTTP/1.1\r\nhost: a\r\n",
        "GET /?a=%zz HTTP/1.1\r\nhost: a\r\n",
        "GET /query?% HTTP/1.1\r\nhost: a\r\n",
        "GET /query?%2=1 HTTP/1.0\r\n",
    ] {
        let answer = exchange(&server, format!("{wrong}connection: close\r\n\r\n")).await;
        assert_eq!(problem(&answer), (400, "bad-request".into()), "{wrong}");
    }
    for good in [
        "GET / HTTP/1.1\r\nhost:\r\n",
        "GET / HTTP/1.1\r\nHOST: [::1]:80\r\n",
        "GET http://a/ HTTP/1.1\r\nhost: b\r\n",
        "GET / HTTP/1.0\r\n",
        "GET /query?a=%E7%94%A8+%25 HTTP/1.0\r\n",
    ] {
        let answer = exchange(&server, format!("{good}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200"), "{good}: {answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_parsed_is_a_problem_too() {
    let server = start(patient()).await;
    let (long, many) = ("x".repeat(70 << 10), "a: b\r\n".repeat(101));
    for (sent, expected) in [
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {long}\r\n\r\n"), (431, "head-too-large")),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), (431, "head-too-large")),
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), (431, "head-too-large")),
        ("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n".into(), (400, "bad-request")),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n".into(), (400, "bad-request")),
        ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n".into(), (400, "bad-request")),
        ("GET / HTTP/3.0\r\nhost: a\r\n\r\n".into(), (400, "bad-request")),
        ("GET / / HTTP/1.1\r\nhost: a\r\n\r\n".into(), (400, "bad-request")),
        ("POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n".into(), (400, "bad-request")),
        (
            "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".into(),
            (400, "bad-request"),
        ),
        ("POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n".into(), (400, "bad-request")),
    ] {
        // Whatever follows the mistake is sent before the answer is read.
        let answer = exchange(&server, [sent.as_bytes(), &vec![b'x'; LARGE_BYTES]].concat()).await;
        assert_eq!(problem(&answer), (expected.0, expected.1.into()), "{}", &sent[..sent.len().min(80)]);
    }
    let roomy = start(tally_http::ServerConfig { header_bytes_max: 128 << 10, ..patient() }).await;
    let answer = exchange(&roomy, format!("GET /{} HTTP/1.1\r\n\r\n", &long[..65_535])).await;
    assert_eq!(problem(&answer), (414, "address-too-long".into()));
    // Behind another request on the same connection as well.
    let answer = exchange(&server, "GET /query HTTP/1.1\r\nhost: a\r\n\r\nnonsense\r\n\r\n").await;
    let (first, second) = answer.split_once("\r\n\r\n0HTTP/1.1 400").expect(&answer);
    assert!(first.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(problem(&format!("HTTP/1.1 400{second}")), (400, "bad-request".into()));
}

#[tokio::test]
async fn a_hundred_subjects_in_any_script_fit_in_an_address() {
    let server = start(patient()).await;
    let id = format!("article:{}", "用".repeat(40));
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let query = vec![format!("subject_id={encoded}"); 100].join("&");
    assert!(id.len() == 128 && query.len() > 38_000, "{}", query.len());
    let answer =
        exchange(&server, format!("GET /query?{query} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.ends_with(&format!("\r\n\r\n{}", query.len())), "{answer}");
}

#[tokio::test]
async fn a_client_that_sends_an_unwanted_body_gets_the_reason_and_keeps_its_connection() {
    let server = start(patient()).await;
    for (path, expected) in [
        ("POST /nowhere", (404, "not-found")),
        ("POST /%zz", (400, "bad-request")),
        ("PUT /body", (405, "method-not-allowed")),
        ("POST /body", (413, "payload-too-large")),
        ("POST /never", (403, "refused")),
        ("POST /full", (429, "too-many-requests")),
        ("POST /away", (503, "unavailable")),
    ] {
        for chunked in [false, true] {
            let mut stream = server.connect().await;
            let body = vec![b'x'; LARGE_BYTES];
            let (framing, before, behind) = match chunked {
                false => (format!("content-length: {LARGE_BYTES}"), String::new(), ""),
                true => ("transfer-encoding: chunked".into(), format!("{LARGE_BYTES:x}\r\n"), "\r\n0\r\n\r\n"),
            };
            let head = format!("{path} HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{before}");
            let sent = [head.as_bytes(), &body, behind.as_bytes()].concat();
            stream.write_all(&sent).await.expect("the server takes what it is sent");
            let answer = read_until(&mut stream, "}").await;
            assert_eq!(problem(&answer), (expected.0, expected.1.into()), "{path}");
            // The connection is as good as before.
            stream.write_all(b"GET /query HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            assert!(read_to_end(stream).await.starts_with("HTTP/1.1 200"), "{path}");
        }
        // A client of HTTP/1.0, and one that sends more than is read: the connection closes after the response.
        for (version, bytes) in [("1.0", LARGE_BYTES), ("1.1", 2 * LARGE_BYTES)] {
            let head = format!("{path} HTTP/{version}\r\nhost: a\r\ncontent-length: {bytes}\r\n\r\n");
            let answer = exchange(&server, [head.as_bytes(), &vec![b'x'; bytes]].concat()).await;
            assert_eq!(problem(&answer), (expected.0, expected.1.into()), "{path} {version}");
        }
    }
}

#[tokio::test]
async fn expect_continue_is_answered_only_if_the_body_is_wanted() {
    let server = start(patient()).await;
    let head = |path: &str, bytes: usize| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: {bytes}\r\n\r\n")
    };
    let mut stream = server.connect().await;
    stream.write_all(head("/body", 5).as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"01234").await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n5").await.starts_with("HTTP/1.1 200"));

    for (path, status) in [("/nowhere", 404), ("/body", 413), ("/full", 429)] {
        let mut stream = server.connect().await;
        stream.write_all(head(path, LARGE_BYTES).as_bytes()).await.unwrap();
        // Nothing of the body has been sent, and the answer is there; the connection ends with it.
        let answer = read_to_end(stream).await;
        assert_eq!(problem(&answer).0, status, "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        // Some clients do not wait for 100.
        let answer = exchange(&server, [head(path, LARGE_BYTES).as_bytes(), &vec![b'x'; LARGE_BYTES]].concat()).await;
        assert_eq!(problem(&answer).0, status, "{answer}");
    }
}

#[tokio::test]
async fn requests_may_come_in_one_piece() {
    let server = start(patient()).await;
    let post = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let close = "GET /query?abc HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let sent = [&post("/body", "12"), &post("/nowhere", "unwanted"), &post("/body", ""), close].map(|s| s.to_owned());
    let answer = exchange(&server, sent.concat()).await;
    let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "404", "200", "200"], "{answer}");
    assert!(answer.ends_with("\r\n\r\n3"), "{answer}");
}

#[tokio::test]
async fn bodies_come_in_chunks_or_compressed() {
    let server = start(patient()).await;
    let post = |lines: &str, body: &[u8]| {
        let head = format!("POST /body HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let chunks = b"3;a=b\r\nabc\r\n0002\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n";
    let answer = exchange(&server, post("transfer-encoding: chunked", chunks)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n5"), "{answer}");
    for broken in [&b"zz\r\nabc\r\n"[..], b"3\r\nabcd\r\n", b"ffffffffffffffffff\r\n"] {
        let answer = exchange(&server, post("transfer-encoding: chunked", broken)).await;
        assert_eq!(problem(&answer), (400, "bad-request".into()), "{answer}");
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&[b'x'; 100]).unwrap();
    let packed = encoder.finish().unwrap();
    let lines = format!("content-encoding: gzip\r\ncontent-length: {}", packed.len());
    let answer = exchange(&server, post(&lines, &packed)).await;
    assert!(answer.ends_with("\r\n\r\n100"), "{answer}");
    let chunked = [format!("{:x}\r\n", packed.len()).as_bytes(), &packed, b"\r\n0\r\n\r\n"].concat();
    let answer = exchange(&server, post("content-encoding: gzip\r\ntransfer-encoding: chunked", &chunked)).await;
    assert!(answer.ends_with("\r\n\r\n100"), "{answer}");
    for (lines, status) in [("content-encoding: br", 415), ("content-encoding: gzip\r\ncontent-encoding: gzip", 415)] {
        let lines = format!("{lines}\r\ncontent-length: {LARGE_BYTES}");
        let answer = exchange(&server, post(&lines, &vec![b'x'; LARGE_BYTES])).await;
        assert_eq!(problem(&answer), (status, "unsupported-content-encoding".into()), "{answer}");
        assert!(answer.contains("accept-encoding: gzip, zstd\r\n"), "{answer}");
    }
}
