//! A rolling restart under load: two of each role on Kafka, MariaDB and Redis, 5,000 events a second; each process gets
//! SIGTERM, is waited for, started again and waited for, one after the other. A sender tries the other ingest API where
//! one does not take connections, as a load balancer does; so do readers.
//!
//! `cargo build --release && cargo bench --bench rolling -- [RATE]`. Prints what the ingest APIs answered, and how old the reads
//! were meanwhile.

mod broker;

use broker::Broker;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tally_model::parse_ms;
use tally_streams::log::system_clock;
use tally_testkit::{Client, Service, Site};

/// Events of a request.
const BATCH: u64 = 50;
/// Who send at the same time, each a request after the other.
const SENDERS: u64 = 16;
/// Before the first restart, and after the last.
const REST: Duration = Duration::from_secs(5);
/// Between two reads.
const READ_EVERY: Duration = Duration::from_millis(20);

const ROLES: [&str; 8] = ["ingest", "ingest", "process", "process", "sink", "sink", "api", "api"];

fn main() {
    let rate = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(5_000u64);
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::with(dir.path(), &["kafka", "mariadb", "redis"]);
    let sites: Vec<_> = (0..).zip(ROLES).map(|(number, role)| site(&broker, dir.path(), role, number)).collect();
    let mut services: Vec<_> = sites.iter().map(|site| Some(site.spawn())).collect();
    services.iter_mut().flatten().for_each(Service::wait_until_ready);
    let of = |role: &str| {
        let of_role = sites.iter().zip(ROLES).filter(|(_, known)| *known == role);
        of_role.map(|(site, _)| Client(site.listen.clone())).collect::<Vec<_>>()
    };
    let (ingest, apis) = (of("ingest"), of("api"));
    let of_every_partition = (0..100).map(|id| format!("subject_id=article:{id}")).collect::<Vec<_>>().join("&");
    tally_testkit::wait_until("reads to know their time", || {
        let answer = apis[0].get(&format!("/v1/counters?{of_every_partition}")).ok()?;
        answer.json()["as_of"].as_str().and_then(parse_ms).filter(|as_of| *as_of > 0)
    });
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    std::thread::scope(|scope| {
        let (ingest, stop) = (&ingest, &stop);
        let senders: Vec<_> =
            (0..SENDERS).map(|sender| scope.spawn(move || send(ingest, sender, rate, stop))).collect();
        let reader = scope.spawn(|| read(&apis, stop));
        std::thread::sleep(REST);
        for (number, role) in ROLES.iter().enumerate() {
            let Some(service) = services[number].take() else { continue };
            let begun = Instant::now();
            let (status, took) = service.terminate();
            let mut service = sites[number].spawn();
            service.wait_until_ready();
            let client = Client(sites[number].listen.clone());
            tally_testkit::wait_until("a role to be ready", || {
                client.get("/readyz").ok().filter(|answer| answer.status == 200)
            });
            println!("{role}: {status}, stopped in {took:.1?}, ready again {:.1?} after SIGTERM", begun.elapsed());
            services[number] = Some(service);
        }
        std::thread::sleep(REST);
        stop.store(true, Ordering::Relaxed);
        let mut answers = BTreeMap::<String, u64>::new();
        for (answer, count) in senders.into_iter().flat_map(|sender| sender.join().expect("a sender")) {
            *answers.entry(answer).or_default() += count;
        }
        let sent = answers.values().sum::<u64>() * BATCH;
        println!(
            "answers of the ingest APIs: {answers:?}, {:.0} events/s",
            sent as f64 / begun.elapsed().as_secs_f64()
        );
        println!("{}", reader.join().expect("the reader"));
    });
    apis[0].wait_until_applied();
}

fn site(broker: &Broker, dir: &Path, role: &str, number: u32) -> Site {
    let home = dir.join(format!("{role}-{number}"));
    std::fs::create_dir_all(&home).expect("a directory");
    let mut site = Site::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/tally"), &home);
    let mut flags = vec![role.to_owned(), "--log".to_owned(), format!("kafka://{}", broker.address)];
    if matches!(role, "sink" | "api") {
        flags.extend(["--database".to_owned(), broker.database.clone(), "--cache".to_owned(), broker.redis.clone()]);
    }
    if matches!(role, "process" | "sink") {
        flags.extend(["--state".to_owned(), site.state_dir.display().to_string()]);
    }
    site.role = Some(flags);
    site
}

/// Sends one sender's share of the rate; what came back, by kind.
fn send(ingest: &[Client], sender: u64, rate: u64, stop: &AtomicBool) -> BTreeMap<String, u64> {
    let (mut answers, mut sent, begun) = (BTreeMap::new(), 0, Instant::now());
    let share = (rate / SENDERS) as f64;
    while !stop.load(Ordering::Relaxed) {
        if begun.elapsed().as_secs_f64() * share < sent as f64 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut body = String::new();
        for _ in 0..BATCH {
            let number = sent * SENDERS + sender;
            sent += 1;
            let (actor, subject, now_ms) = (number * 7919 % 200_000, number * 104_729 % 20_000, system_clock()());
            body += &format!(
                "{{\"event_id\":\"r{number}\",\"type\":\"view\",\"actor_id\":\"u{actor}\",\"subject_id\":\"article:{subject}\",\"occurred_at\":{now_ms}}}\n"
            );
        }
        let turn = (sent / BATCH + sender) as usize;
        let post = |client: &Client| client.post("/v1/events", "application/x-ndjson", body.as_bytes());
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        let answer = match post(&ingest[turn % ingest.len()]) {
            Err(error) if refused(&error) => post(&ingest[(turn + 1) % ingest.len()]),
            answer => answer,
        };
        let kind = answer.map_or_else(|error| error.to_string(), |answer| answer.status.to_string());
        *answers.entry(kind).or_default() += 1;
    }
    answers
}

/// Reads all the time; how old the answers were.
fn read(apis: &[Client], stop: &AtomicBool) -> String {
    let (mut ages, mut failed, mut number) = (Vec::new(), 0, 0usize);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let path = format!("/v1/subjects/article:{}/counters", number % 20_000);
        let answer = apis[number % apis.len()].get(&path).or_else(|_| apis[(number + 1) % apis.len()].get(&path));
        match answer {
            Ok(answer) if answer.status == 200 => {
                let as_of = answer.json()["as_of"].as_str().and_then(parse_ms);
                ages.push((system_clock()() - as_of.unwrap_or(0)) as f64 / 1e3);
            }
            _ => failed += 1,
        }
        std::thread::sleep(READ_EVERY);
    }
    ages.sort_by(f64::total_cmp);
    let at = |share: f64| ages.get((ages.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    format!(
        "{} reads, {failed} failed; age in s: p50 {:.2}, p99 {:.2}, oldest {:.2}",
        ages.len(),
        at(0.5),
        at(0.99),
        ages.last().copied().unwrap_or(f64::NAN)
    )
}
