//! Ingest API and reads beside a Go service that does the same, and reads of a board: the processor time of 10,000 requests.
//!
//! `cargo build --release && cargo bench --bench edge -- [SECONDS] [RUNS]` (6 and 3 by default; medians). Needs what
//! `make setup` installs, Go for the peer, and wrk. wrk, broker, Redis and server share the machine, so requests a
//! second depend mostly on the other processes; CPU time is the figure.
//!
//! The Go service reads Redis for each request. `tally api` has hot subjects in a view that the topic `counters` feeds,
//! and reads Redis for others; it is measured with a view that has everything, as it has when the subjects asked for are
//! hot.

mod broker;

use broker::*;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tally_streams::log::{AppendBatch, Log, system_clock};
use tally_testkit::{Client, Service, Site};

const SUBJECTS: u64 = 20_000;
const CONNECTIONS: [u32; 2] = [64, 256];
const WARM_UP_SECONDS: u64 = 2;

/// What wrk sends: a name, the events of a request, the subjects of a request.
const LOADS: [(&str, u32, u32); 4] = [("POST one", 0, 0), ("POST 100", 100, 0), ("GET one", 0, 1), ("GET 20", 0, 20)];

/// The first page of a board, with the counters of its 50 subjects.
const BOARD: (&str, u32, u32) = ("GET board", 0, 0);

struct Server {
    name: &'static str,
    posts: (String, u32, &'static str),
    gets: (String, u32, [[&'static str; 3]; 2]),
}

struct Measured {
    rate: f64,
    p99_ms: f64,
    cpu: f64,
    rss_mb: f64,
    refused: u64,
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let (seconds, runs) = (numbers.first().copied().unwrap_or(6), numbers.get(1).copied().unwrap_or(3));
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::with(dir.path(), &["kafka", "redis"]);
    let go = Peer::start(&broker, dir.path());
    let (ingest, api) = (tally(&broker, dir.path(), "ingest"), tally(&broker, dir.path(), "api"));
    let (ingest_process, api_process) = (ingest.start(), fill_view(&broker, dir.path(), &api));
    let servers = [
        Server {
            name: "tally",
            posts: (ingest.listen.clone(), ingest_process.id(), "/v1/events"),
            gets: (
                api.listen.clone(),
                api_process.id(),
                [["/v1/subjects/", "", "/counters"], ["/v1/counters?subject_id=", "&subject_id=", ""]],
            ),
        },
        Server {
            name: "Go",
            posts: (go.address.clone(), go.child.id(), "/events"),
            gets: (
                go.address.clone(),
                go.child.id(),
                [["/counters/", "", ""], ["/counters?subject=", "&subject=", ""]],
            ),
        },
    ];
    println!(
        "{:10} {:>5} {:8} {:>12} {:>8} {:>16} {:>8}",
        "", "conns", "", "requests/s", "p99 ms", "CPU-s per 10,000", "RSS MB"
    );
    for connections in CONNECTIONS {
        for load in LOADS {
            let mut cpu = Vec::new();
            for server in &servers {
                server.load(load, connections, WARM_UP_SECONDS);
                let all: Vec<_> = (0..runs).map(|_| server.load(load, connections, seconds)).collect();
                let of = |value: fn(&Measured) -> f64| median(all.iter().map(value));
                let refused: u64 = all.iter().map(|measured| measured.refused).sum();
                println!(
                    "{:10} {connections:>5} {:8} {:>12.0} {:>8.2} {:>16.3} {:>8.0}{}",
                    load.0,
                    server.name,
                    of(|m| m.rate),
                    of(|m| m.p99_ms),
                    of(|m| m.cpu),
                    of(|m| m.rss_mb),
                    if refused > 0 { format!("  {refused} answers were no success") } else { String::new() }
                );
                cpu.push(of(|m| m.cpu));
            }
            println!("{:10} {connections:>5} tally / Go: {:.2}", load.0, cpu[0] / cpu[1]);
        }
        // The peer has no boards.
        let board = || servers[0].load(BOARD, connections, seconds);
        let all: Vec<_> = (0..runs).map(|_| board()).collect();
        let of = |value: fn(&Measured) -> f64| median(all.iter().map(value));
        let (rate, p99_ms, cpu, rss_mb) = (of(|m| m.rate), of(|m| m.p99_ms), of(|m| m.cpu), of(|m| m.rss_mb));
        println!("{:10} {connections:>5} {:8} {rate:>12.0} {p99_ms:>8.2} {cpu:>16.3} {rss_mb:>8.0}", BOARD.0, "tally");
    }
}

impl Server {
    fn load(&self, load: (&str, u32, u32), connections: u32, seconds: u64) -> Measured {
        let (_, batch, count) = load;
        let (address, pid, path, script) = match count {
            _ if load == BOARD => (&self.gets.0, self.gets.1, "/v1/rankings/hot", None),
            0 => (&self.posts.0, self.posts.1, self.posts.2, Some("benches/edge/post.lua")),
            _ => (&self.gets.0, self.gets.1, "", Some("benches/edge/get.lua")),
        };
        let [prefix, separator, suffix] = self.gets.2[usize::from(count > 1)];
        let before = cpu_seconds(pid);
        let mut wrk = Command::new("wrk");
        wrk.args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{seconds}s"), "--latency"]);
        if let Some(script) = script {
            wrk.args(["-s", script]);
        }
        wrk.arg(format!("http://{address}{path}"));
        wrk.env("BATCH", batch.to_string()).env("NOW_MS", system_clock()().to_string());
        wrk.env("COUNT", count.to_string()).env("PREFIX", prefix).env("SEPARATOR", separator).env("SUFFIX", suffix);
        let output = wrk.stderr(Stdio::inherit()).output().expect("wrk runs");
        let cpu = cpu_seconds(pid) - before;
        let said = String::from_utf8_lossy(&output.stdout);
        let word = |before: &str| {
            let line = said.lines().find(|line| line.trim().starts_with(before))?;
            line.trim().trim_start_matches(before).split_whitespace().next().map(str::to_owned)
        };
        let requests = said.lines().find(|line| line.contains(" requests in ")).expect("what wrk says");
        let requests: f64 = requests.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
        Measured {
            rate: word("Requests/sec:").and_then(|rate| rate.parse().ok()).unwrap_or(f64::NAN),
            p99_ms: word("99%").map_or(f64::NAN, |text| milliseconds(&text)),
            cpu: cpu / requests * 10_000.0,
            rss_mb: rss_max_mb(pid),
            refused: word("Non-2xx or 3xx responses:").and_then(|n| n.parse().ok()).unwrap_or(0),
        }
    }
}

/// As wrk writes durations.
fn milliseconds(text: &str) -> f64 {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text.trim_end_matches(unit).parse().unwrap_or(f64::NAN);
    match unit {
        "us" => number / 1e3,
        "s" => number * 1e3,
        _ => number,
    }
}

fn tally(broker: &Broker, dir: &Path, role: &str) -> Site {
    let home = dir.join(role);
    std::fs::create_dir_all(&home).expect("a directory");
    let mut site = Site::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/tally"), &home);
    let mut flags = vec![role.to_owned(), "--log".to_owned(), format!("kafka://{}", broker.address)];
    if matches!(role, "sink" | "api") {
        flags.extend(["--database".to_owned(), format!("sqlite:{}", dir.join("tally.db").display())]);
        flags.extend(["--cache".to_owned(), broker.redis.clone()]);
    }
    if matches!(role, "process" | "sink") {
        flags.extend(["--state".to_owned(), site.state_dir.display().to_string()]);
    }
    site.role = Some(flags);
    site
}

/// Counts an event of each subject into Redis, and reads each subject once.
fn fill_view(broker: &Broker, dir: &Path, api: &Site) -> Service {
    let others = ["process", "sink"].map(|role| tally(broker, dir, role));
    let running = others.each_ref().map(Site::start);
    let service = api.start();
    let log = broker.log();
    let appender = log.appender().expect("an appender");
    let mut batch = AppendBatch::default();
    for number in 0..SUBJECTS * 3 {
        let (actor, now_ms) = (format!("u{number}"), system_clock()());
        let line = format!(
            r#"{{"event_id":"e{number}","type":"{}","actor_id":"{actor}","subject_id":"article:{}","occurred_at":{now_ms},"duration_ms":9000}}"#,
            ["view", "like", "read"][number as usize % 3],
            number / 3
        );
        batch.push(record_of(&actor, line.as_bytes(), 8));
    }
    append(&*appender, batch);
    let client = Client(api.listen.clone());
    client.wait_until_applied();
    for service in running {
        service.terminate();
    }
    for first in (0..SUBJECTS).step_by(100) {
        let subjects: Vec<_> = (first..first + 100).map(|number| format!("article:{number}")).collect();
        let counters = client.counters(&subjects);
        assert!(counters.values().all(|counters| counters["views"] == 1), "{counters:?}");
    }
    service
}

/// The Go service; killed when dropped.
struct Peer {
    child: Child,
    address: String,
}

impl Peer {
    fn start(broker: &Broker, dir: &Path) -> Self {
        let binary: PathBuf = dir.join("edge");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/edge");
        let built = Command::new("go").args(["build", "-o"]).arg(&binary).arg(".").current_dir(source).status();
        assert!(built.is_ok_and(|status| status.success()), "the peer is built by Go");
        create_topics(&broker.log(), &["edge-go-events"]);
        let redis = broker.redis.trim_start_matches("redis://");
        let mut connection = redis::Client::open(broker.redis.as_str()).and_then(|client| client.get_connection());
        let connection = connection.as_mut().expect("Redis answers");
        let mut pipeline = redis::pipe();
        for number in 0..SUBJECTS {
            let fields = [("likes", 1), ("views", 1), ("reads", 1), ("uv", 1)];
            pipeline.hset_multiple(format!("c:article:{number}"), &fields).ignore();
        }
        pipeline.query::<()>(connection).expect("Redis takes the counters");
        let address = format!("127.0.0.1:{}", tally_testkit::quiet_port());
        let mut command = Command::new(binary);
        command.envs([("LISTEN", address.as_str()), ("REDIS", redis), ("KAFKA", &broker.address)]);
        let child = command.stdin(Stdio::null()).spawn().expect("the peer starts");
        let client = Client(address.clone());
        tally_testkit::wait_until("the peer", || client.get("/counters/article:1").ok());
        std::thread::sleep(Duration::from_millis(100));
        Self { child, address }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
