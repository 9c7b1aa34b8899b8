//! Beside Kafka Streams: `tally process` and a tuned Kafka Streams application with the same nodes on the same topic of
//! the same broker, one after the other, in turns; medians.
//!
//! `cargo build --release && cargo bench --bench peers -- [EVENTS] [RUNS] [FRESHNESS…]` (2,000,000 and 3 by default; of
//! the measurements of freshness those whose names are given, or all). Needs what `make setup` installs, and Maven for the
//! peer. CPU is the application's and the broker's own, from start to end of each.

mod broker;

use broker::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tally_streams::log::kafka::KafkaLog;
use tally_streams::log::{AppendBatch, Log, Polled, TopicPartition, system_clock};

const PATIENCE: Duration = Duration::from_secs(300);
/// Event rate of the freshness measurement.
const FRESH_RATE: u64 = 10_000;
const FRESH_SECONDS: u64 = 30;
const WARM_UP_SECONDS: u64 = 30;
const FRESHNESS: [&str; 3] = ["tally at 100ms", "tally at 50ms", "Kafka Streams"];

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    // No runs: freshness alone.
    let (events, runs) = (numbers.first().copied().unwrap_or(2_000_000), numbers.get(1).copied().unwrap_or(3));
    let dir = tempfile::tempdir().expect("a directory");
    let peer = build_peer();
    let mut drains: BTreeMap<&str, Vec<Drain>> = BTreeMap::new();
    for run in 0..runs {
        // A broker without the topics of the run before.
        let broker = Broker::start(&dir.path().join(format!("run-{run}")));
        let log = broker.log();
        let sent = fill(&log, events, run);
        // The broker's code is compiled while it runs: the first to use it would pay for that.
        let dir = &dir.path().join(format!("state-{run}"));
        std::fs::create_dir_all(dir).expect("a directory");
        let warm = peer_topology(dir, "warm", "user-actions", "100ms");
        Application::tally("warm", &warm, "warm-counters", &broker, dir).drain(&broker, &log, sent);
        let tally = Application::tally("peer", "benches/peers/topology.yaml", "counters", &broker, dir);
        drains.entry("tally").or_default().push(tally.drain(&broker, &log, sent));
        let streams = Application::streams(&peer, &broker, dir, "ks", &log, "user-actions");
        drains.entry("Kafka Streams").or_default().push(streams.drain(&broker, &log, sent));
        compare(&log);
        drop(broker);
        drains.entry("tally, shipped topology").or_default().push(run_shipped(dir, run, events));
        println!(
            "run {}: {}",
            run + 1,
            drains.iter().map(|(n, d)| format!("{n} {}", d[d.len() - 1])).collect::<Vec<_>>().join(" | ")
        );
    }
    println!("\n{events} events, {PARTITIONS} partitions, medians of {runs}:");
    println!("{:26} {:>10} {:>12} {:>14} {:>8}", "", "events/s", "CPU-s per M", "broker CPU-s/M", "RSS MB");
    for (name, drains) in &drains {
        println!("{name:26} {}", Drain::median(drains));
    }
    println!("\nfreshness at {FRESH_RATE}/s, from the send until a reader of committed records has it:");
    let wanted: Vec<_> = std::env::args().skip(1).filter(|arg| FRESHNESS.contains(&&**arg)).collect();
    let broker = Broker::start(&dir.path().join("freshness"));
    let log = broker.log();
    let run = |name: &str, application: &str| {
        let input = format!("user-actions-{application}");
        create_topics(&log, &[&input]);
        let application = match name {
            "Kafka Streams" => Application::streams(&peer, &broker, dir.path(), application, &log, &input),
            _ => {
                let interval = name.rsplit(' ').next().unwrap_or_default();
                let file = peer_topology(dir.path(), application, &input, interval);
                Application::tally(application, &file, &format!("{application}-counters"), &broker, dir.path())
            }
        };
        freshness(&log, &broker, &input, application)
    };
    // The broker's code is compiled while it runs.
    run("tally at 100ms", "warm");
    for name in FRESHNESS.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)) {
        println!("{name:26} {}", run(name, &name.replace(' ', "-").to_lowercase()));
    }
}

/// The topology of the peers under other names, with a commit interval of its own.
fn peer_topology(dir: &Path, application: &str, input: &str, interval: &str) -> String {
    let text = std::fs::read_to_string("benches/peers/topology.yaml").expect("the topology");
    let text = text
        .replace("application: peer", &format!("application: {application}"))
        .replace("commit_interval: 100ms", &format!("commit_interval: {interval}"))
        .replace("user-actions", input)
        .replace(" counters:  ", &format!(" {application}-counters:"))
        .replace("to: counters", &format!("to: {application}-counters"));
    let file = dir.join(format!("{application}.yaml"));
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}

/// An application that runs; killed when dropped.
struct Application {
    child: Child,
    group: String,
    hop: String,
    output: String,
    begun: Instant,
    broker_before: f64,
}

impl Application {
    fn tally(group: &str, topology: &str, output: &str, broker: &Broker, dir: &Path) -> Self {
        let mut command = Command::new("target/release/tally");
        command.args(["process", "--topology", topology, "--log", &format!("kafka://{}", broker.address)]);
        command.args(["--threads", "2", "--listen", "127.0.0.1:0", "--state"]).arg(dir.join(format!("state-{group}")));
        command.env("RUST_LOG", "warn");
        let hop = format!("{group}-user-actions-by-subject_id-repartition");
        Self::start(command, group, hop, output, broker)
    }

    fn streams(peer: &Path, broker: &Broker, dir: &Path, id: &str, log: &KafkaLog, input: &str) -> Self {
        let [hop, output, dead] = ["rep", "counters", "dlq"].map(|what| format!("{id}-{what}"));
        create_topics(log, &[input, &hop, &output, &dead]);
        let mut command = Command::new("java");
        command.args(["-Xms2g", "-Xmx2g", "-XX:+UseG1GC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"]);
        command.arg(format!("{0}/classes:{0}/lib/*", peer.display())).args(["ks.App", &format!("id={id}")]);
        command.args([format!("in={input}"), format!("out={output}"), format!("rep={hop}"), format!("dlq={dead}")]);
        command.arg(format!("bootstrap={}", broker.address));
        command.arg(format!("state={}", dir.join(format!("state-{id}")).display()));
        Self::start(command, id, hop, &output, broker)
    }

    fn start(mut command: Command, group: &str, hop: String, output: &str, broker: &Broker) -> Self {
        let (begun, broker_before) = (Instant::now(), cpu_seconds(broker.pid()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the application starts");
        let (group, output) = (group.to_owned(), output.to_owned());
        Self { child, group, hop, output, begun, broker_before }
    }

    /// Waits until everything is counted.
    fn drain(mut self, broker: &Broker, log: &KafkaLog, sent: u64) -> Drain {
        let committed = |topic: &str| committed(log, &self.group, topic).iter().sum::<u64>();
        let end = |topic: &str| ends(log, topic).map_or(u64::MAX, |ends| ends.iter().sum());
        // A hop ends with control records, whose offsets are never committed.
        while committed("user-actions") < sent || end(&self.hop) > committed(&self.hop) + 2 * u64::from(PARTITIONS) {
            assert!(self.child.try_wait().expect("its state").is_none(), "{} ended by itself", self.group);
            assert!(self.begun.elapsed() < PATIENCE, "{}: {} of {sent}", self.group, committed("user-actions"));
            std::thread::sleep(Duration::from_millis(20));
        }
        let (seconds, millions) = (self.begun.elapsed().as_secs_f64(), sent as f64 / 1e6);
        let drain = Drain {
            rate: sent as f64 / seconds,
            cpu: cpu_seconds(self.child.id()) / millions,
            broker: (cpu_seconds(broker.pid()) - self.broker_before) / millions,
            rss_mb: rss_max_mb(self.child.id()),
        };
        // What is still in the last records of the hop.
        std::thread::sleep(Duration::from_secs(2));
        self.end();
        drain
    }

    fn end(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Drain {
    rate: f64,
    cpu: f64,
    broker: f64,
    rss_mb: f64,
}

impl Drain {
    fn median(of: &[Self]) -> Self {
        let median = |value: fn(&Self) -> f64| median(of.iter().map(value));
        Self {
            rate: median(|d| d.rate),
            cpu: median(|d| d.cpu),
            broker: median(|d| d.broker),
            rss_mb: median(|d| d.rss_mb),
        }
    }
}

impl std::fmt::Display for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:>10.0} {:>12.2} {:>14.2} {:>8.0}", self.rate, self.cpu, self.broker, self.rss_mb)
    }
}

/// The topology that is shipped, with as many partitions, on a broker of its own: its topics have the same names.
fn run_shipped(dir: &Path, run: u64, events: u64) -> Drain {
    let text = std::fs::read_to_string("topology.yaml").expect("the shipped topology");
    let file = dir.join("shipped.yaml");
    std::fs::write(&file, text.replace("partitions: 8", "partitions: 4")).expect("written");
    let broker = Broker::start(&dir.join(format!("shipped-{run}")));
    let log = broker.log();
    let sent = fill(&log, events, run);
    Application::tally("tally", &file.display().to_string(), "counters", &broker, dir).drain(&broker, &log, sent)
}

fn build_peer() -> PathBuf {
    let built = Command::new("mvn").args(["-q", "-f", "benches/peers/kafka-streams/pom.xml", "package"]).status();
    assert!(built.is_ok_and(|status| status.success()), "the peer is built by Maven");
    PathBuf::from("benches/peers/kafka-streams/target")
}

/// Both have counted the same likes, views and reads.
fn compare(log: &KafkaLog) {
    let mut ours: HashMap<String, [i64; 3]> = HashMap::new();
    read(log, "counters", |key, value| {
        let json: serde_json::Value = serde_json::from_slice(value).expect("counters");
        let of = |metric: &str| json["counters"][metric].as_i64().unwrap_or_default();
        ours.insert(key.to_owned(), [of("likes"), of("views"), of("reads")]);
    });
    let mut theirs: HashMap<String, [i64; 3]> = HashMap::new();
    read(log, "ks-counters", |key, value| {
        let mut bytes = value.iter();
        let mut varint = || {
            let (mut number, mut shift) = (0u64, 0);
            for byte in bytes.by_ref() {
                number |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            number
        };
        let likes = varint();
        let likes = (likes >> 1) as i64 ^ -((likes & 1) as i64);
        theirs.insert(key.to_owned(), [likes, varint() as i64, varint() as i64]);
    });
    let differ: Vec<_> =
        theirs.iter().filter(|(subject, counts)| ours.get(*subject).unwrap_or(&[0; 3]) != *counts).collect();
    let (n, m) = (ours.len(), theirs.len());
    println!("compared {n} subjects with {m}: {} differ", differ.len());
    for (subject, counts) in differ.into_iter().take(5) {
        println!("  {subject}: Kafka Streams {counts:?}, tally {:?}", ours.get(subject));
    }
}

fn read(log: &KafkaLog, topic: &str, mut each: impl FnMut(&str, &[u8])) {
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new(topic, partition);
        let (mut next, end) = log.bounds(&at).expect("bounds");
        let mut consumer = log.consumer("").expect("a consumer");
        consumer.assign(&at, next).expect("assigned");
        while next < end {
            let Polled::Records { records, next_offset, .. } = consumer.poll(Duration::from_secs(5)).expect("records")
            else {
                continue;
            };
            for record in records {
                let record = record.expect("a record");
                let key = record.key.and_then(|key| std::str::from_utf8(key).ok()).unwrap_or("\0");
                if !key.starts_with('\0') {
                    each(key, record.value.unwrap_or_default());
                }
            }
            next = next_offset;
        }
    }
}

/// Sends at a steady rate; every fiftieth event is a view of a subject of its own, and its way is timed.
fn freshness(log: &KafkaLog, broker: &Broker, input: &str, mut application: Application) -> String {
    let appender = log.appender().expect("an appender");
    let output: Vec<_> = (0..PARTITIONS).map(|p| TopicPartition::new(&*application.output, p)).collect();
    let begun = Instant::now();
    while log.ends(&output).is_err() {
        assert!(begun.elapsed() < PATIENCE, "the application makes no topics");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut consumer = log.consumer("").expect("a consumer");
    for at in &output {
        consumer.assign(at, 0).expect("assigned");
    }
    let mut random = StdRng::seed_from_u64(1);
    let (mut sent_at, mut delays): (HashMap<String, Instant>, Vec<f64>) = (HashMap::new(), Vec::new());
    let (begun, mut number) = (Instant::now(), 0u64);
    let seconds = WARM_UP_SECONDS + FRESH_SECONDS;
    let cpu = |application: &Application| [application.child.id(), broker.pid()].map(cpu_seconds);
    let mut cpu_before = None;
    while begun.elapsed() < Duration::from_secs(seconds) {
        if begun.elapsed() > Duration::from_secs(WARM_UP_SECONDS) {
            cpu_before.get_or_insert_with(|| cpu(&application));
        }
        // Every 10 ms, as an ingest API does that many use; single records would be the broker's whole work.
        let due = (begun.elapsed().as_millis() as u64 / 10) * (FRESH_RATE / 100);
        let mut batch = AppendBatch::default();
        let now_ms = system_clock()();
        while number < due {
            number += 1;
            let probe = number.is_multiple_of(50);
            let subject =
                if probe { format!("probe:{number}") } else { format!("article:{}", random.random_range(1..20_000)) };
            if probe {
                sent_at.insert(subject.clone(), Instant::now());
            }
            let actor = format!("u{}", random.random_range(1..200_000));
            let line = format!(
                r#"{{"event_id":"f{number}","type":"view","actor_id":"{actor}","subject_id":"{subject}","occurred_at":{now_ms}}}"#
            );
            batch.push(record(&actor, line.as_bytes()));
        }
        if !batch.records.is_empty() {
            appender.append(input, batch, Box::new(|outcome| drop(outcome.expect("appended"))));
        }
        if let Polled::Records { records, .. } = consumer.poll(Duration::from_millis(2)).expect("records") {
            for record in records {
                let record = record.expect("a record");
                let key = record.key.and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
                if let Some(sent) = sent_at.remove(key)
                    && sent.duration_since(begun) > Duration::from_secs(WARM_UP_SECONDS)
                {
                    delays.push(sent.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    }
    let (before, after) = (cpu_before.unwrap_or_default(), cpu(&application));
    let cores = |of: usize| (after[of] - before[of]) / FRESH_SECONDS as f64;
    application.end();
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let (n, lost) = (delays.len(), sent_at.len());
    let took = format!("{n} probes, {lost} not seen: p50 {:.0} ms, p99 {:.0} ms", at(0.5), at(0.99));
    format!("{took}; cores: application {:.2}, broker {:.2}", cores(0), cores(1))
}
