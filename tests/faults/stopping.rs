//! SIGTERM while the services that a process depends on are dead: it ends within the 10 s that are promised.

use crate::{TURN, services};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;
use tally_exactness::faults::Services;
use tally_testkit::{Client, Scratch, Service, Site, wait_until};

/// What is promised.
const PROMISED: Duration = Duration::from_secs(10);

/// How a service is dead.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    /// SIGSTOP: it accepts connections and never responds.
    Frozen,
    /// SIGKILL: connections are refused.
    Killed,
}

/// Every process is in each of these, so that one dead service covers the case of every process that needs only this
/// one. Each list has services of its own and ends where Kafka is killed: a broker that is killed may leave a
/// transaction hanging (docs/operations.md), and nothing gets ready behind it.
const TABLE: [&[(Death, &[&str])]; 2] = [
    &[
        (Death::Frozen, &["kafka"]),
        (Death::Frozen, &["mariadb"]),
        (Death::Frozen, &["redis"]),
        (Death::Frozen, &["kafka", "mariadb", "redis"]),
        (Death::Killed, &["mariadb", "redis"]),
        (Death::Killed, &["kafka"]),
    ],
    &[(Death::Killed, &["kafka", "mariadb", "redis"])],
];

#[test]
fn every_role_ends_in_time_whatever_is_dead() {
    if services() {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let late: Vec<_> = TABLE.iter().flat_map(|rows| late_ends(rows)).collect();
        assert!(late.is_empty(), "{}", late.join("\n"));
    }
}

/// Those that did not end as promised, row after row with the same services.
fn late_ends(rows: &[(Death, &[&str])]) -> Vec<String> {
    let dir = Scratch::new();
    let services = Services::start(dir.path());
    let sites = sites(&services, dir.path());
    let mut late = Vec::new();
    for (death, dead) in rows {
        let mut running: Vec<_> = sites.iter().map(|(name, site)| (*name, site.spawn())).collect();
        running.iter_mut().for_each(|(_, service)| service.wait_until_ready());
        for (_, site) in &sites {
            wait_until("everything to be ready", || {
                Client(site.listen.clone()).get("/readyz").ok().filter(|answer| answer.status == 200)
            });
        }
        for service in *dead {
            match death {
                Death::Frozen => services.pause(service),
                Death::Killed => services.kill(service),
            }
        }
        let ends = end(&sites, running);
        println!("{death:?} {dead:?}: {ends:?}");
        for (name, code, took) in ends {
            if code != Some(0) || took >= PROMISED {
                late.push(format!("{name} with {dead:?} {death:?} ended with {code:?} after {took:?}"));
            }
        }
        for service in *dead {
            match death {
                Death::Frozen => services.resume(service),
                Death::Killed => services.start_again(service),
            }
        }
    }
    late
}

/// Each role, and all of them in one process: on Kafka, and on an embedded log.
fn sites(services: &Services, dir: &Path) -> Vec<(&'static str, Site)> {
    let site = |name: &'static str, role: &str, flags: &[(&str, String)]| {
        let home = dir.join(name);
        std::fs::create_dir_all(&home).unwrap();
        let mut site = Site::new(env!("CARGO_BIN_EXE_tally"), &home);
        let mut role = vec![role.to_owned()];
        role.extend(flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]));
        site.role = Some(role);
        (name, site)
    };
    let kafka = ("--log", services.log_url());
    let (mariadb, redis) = (("--database", services.database_url()), ("--cache", services.cache_url()));
    let state = |name: &str| ("--state", dir.join(name).join("state").display().to_string());
    let file = |name: &str| dir.join("embedded").join(name).display().to_string();
    let embedded = [
        ("--log", format!("embedded:{}", file("log"))),
        ("--database", format!("sqlite:{}", file("tally.db"))),
        ("--cache", format!("{}?prefix=embedded:", services.cache_url())),
        state("embedded"),
    ];
    // Its limits are what an ingest needs Redis for.
    let limit = ("--limit-actor", "1000000".to_owned());
    vec![
        site("ingest", "ingest", &[kafka.clone(), redis.clone(), limit]),
        site("process", "process", &[kafka.clone(), state("process")]),
        site("sink", "sink", &[kafka.clone(), mariadb.clone(), redis.clone(), state("sink")]),
        site("api", "api", &[kafka.clone(), mariadb.clone(), redis.clone()]),
        site("run", "run", &[kafka, mariadb, redis, state("run")]),
        site("embedded", "run", &embedded),
    ]
}

/// SIGTERM to all at the same time, in the middle of requests.
fn end(
    sites: &[(&'static str, Site)],
    running: Vec<(&'static str, Service)>,
) -> Vec<(&'static str, Option<i32>, Duration)> {
    for (_, site) in sites {
        for path in ["/v1/events", "/v1/counters?subject_id=article:1", "/v1/subjects/article:1/collects/u1"] {
            let client = Client(site.listen.clone());
            // The thread is not joined: the answer may never arrive.
            std::thread::spawn(move || match path {
                "/v1/events" => {
                    let event = br#"{"event_id":"e1","type":"share","actor_id":"u1","subject_id":"article:1"}"#;
                    client.post(path, "application/json", event)
                }
                collect if collect.ends_with("/u1") => client.exchange("PUT", path, &[], b""),
                _ => client.get(path),
            });
        }
    }
    std::thread::scope(|scope| {
        let ending = running.into_iter().map(|(name, service)| {
            let ending = scope.spawn(move || service.terminate());
            (name, ending)
        });
        let ending: Vec<_> = ending.collect();
        let ended = ending.into_iter().map(|(name, ending)| {
            let (status, took) = ending.join().unwrap();
            (name, status.code(), took)
        });
        ended.collect()
    })
}
