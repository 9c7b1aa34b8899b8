//! Live streams by the thousand: what a connection costs in memory, and how long after an event was sent to the ingest API its
//! count reaches the readers.
//!
//! `cargo build --release && cargo bench --bench live -- [CONNECTIONS] [EVENTS]` (10,000 and 60 by default). Reader and
//! server share the machine and use loopback; the limit on open files must be above the number of connections. All
//! readers watch the same subject: each event is one record in the log and CONNECTIONS events on as many sockets.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tally_testkit::{Client, Site, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Pause between two events: each has reached all readers before the next is sent.
const PAUSE: Duration = Duration::from_millis(400);

/// When each number of views was first read, on one connection.
type Seen = Vec<(i64, Instant)>;

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let connections = numbers.first().copied().unwrap_or(10_000);
    let events = numbers.get(1).copied().unwrap_or(60);
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/tally");
    assert!(binary.exists(), "build it first: cargo build --release");
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::new(&binary, dir.path());
    let service = site.start();
    let client = Client(site.listen.clone());
    view(&client, 0);
    client.wait_until_applied();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let before = (anonymous_kb(service.id()), cpu_seconds(service.id()));
    let (open, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::<Seen>::new())));
    for _ in 0..connections {
        let (address, open, seen) = (site.listen.clone(), open.clone(), seen.clone());
        runtime.spawn(async move {
            let read = read(&address, events as i64 + 1, &open).await;
            seen.lock().await.push(read.expect("a stream that goes on"));
        });
    }
    wait_until("all streams to be open", || (open.load(Ordering::Relaxed) == connections).then_some(()));
    let (kb, cpu_open) = (anonymous_kb(service.id()) - before.0, cpu_seconds(service.id()));
    let mut sent = Vec::new();
    for number in 1..=events {
        sent.push(Instant::now());
        view(&client, number);
        std::thread::sleep(PAUSE);
    }
    wait_until("the last event to be read by all", || (seen.blocking_lock().len() == connections).then_some(()));
    let cpu = cpu_seconds(service.id()) - cpu_open;
    let kb_after = anonymous_kb(service.id()) - before.0;
    let (mut from_sent, mut from_first) = (Vec::new(), Vec::new());
    let seen = seen.blocking_lock();
    for (number, sent) in (2..).zip(&sent) {
        let at = |seen: &Seen| seen.iter().find(|(views, _)| *views >= number).map(|(_, at)| *at);
        let all: Vec<_> = seen.iter().filter_map(at).collect();
        let first = all.iter().min().copied().expect("a reader has it");
        from_sent.extend(all.iter().map(|at| (*at - *sent).as_secs_f64() * 1e3));
        from_first.extend(all.iter().map(|at| (*at - first).as_secs_f64() * 1e3));
    }
    println!("{connections} streams of one subject, {events} events, one every {PAUSE:?}:");
    println!(
        "  anonymous memory per connection, KiB: {:.1} open, {:.1} after the events",
        per(kb, connections),
        per(kb_after, connections)
    );
    println!("  CPU-s to open all: {:.2}; per event to all: {:.3}", cpu_open - before.1, cpu / events as f64);
    for (what, mut ms) in [("sent to the ingest API -> read", from_sent), ("first reader -> this one", from_first)] {
        ms.sort_by(f64::total_cmp);
        let at = |share: f64| ms[((ms.len() - 1) as f64 * share) as usize];
        println!("  {what}, ms: p50 {:.0}, p99 {:.0}, most {:.0}", at(0.5), at(0.99), at(1.0));
    }
    drop(seen);
    let (status, took) = service.terminate();
    println!("  SIGTERM with open streams: {status}, {took:?}");
}

fn per(kb: i64, connections: usize) -> f64 {
    kb as f64 / connections as f64
}

fn view(client: &Client, number: usize) {
    let line = format!(r#"{{"event_id":"e{number}","type":"view","actor_id":"u{number}","subject_id":"article:1"}}"#);
    let answer = client.post("/v1/events", "application/json", line.as_bytes()).expect("the ingest API answers");
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Reads one stream until it shows this many views.
async fn read(address: &str, until: i64, open: &AtomicUsize) -> io::Result<Seen> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /v1/live?subject_id=article:1 HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let (mut seen, mut unread, mut buffer) = (Seen::new(), Vec::new(), [0; 2048]);
    loop {
        let len = stream.read(&mut buffer).await?;
        let now = Instant::now();
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        unread.extend_from_slice(&buffer[..len]);
        while let Some(end) = unread.windows(2).position(|pair| pair == b"}\n") {
            let event: Vec<u8> = unread.drain(..end + 2).collect();
            let Some(views) = views(&event) else { continue };
            if seen.is_empty() {
                open.fetch_add(1, Ordering::Relaxed);
            }
            seen.push((views, now));
            if views >= until {
                // Open until the end, like every reader that stays.
                std::mem::forget(stream);
                return Ok(seen);
            }
        }
    }
}

/// The views in an event.
fn views(event: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(event).ok()?;
    let (_, rest) = text.split_once("\"views\":")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn anonymous_kb(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

/// Processor time of a process, seconds.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
