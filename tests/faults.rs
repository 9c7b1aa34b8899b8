//! The pipeline as roles apart on real Kafka, MariaDB and Redis, each test with services of its own: they are killed,
//! stopped, emptied and cut off. `examples/faults.rs` runs the same for longer.

#[path = "faults/hanging.rs"]
mod hanging;
#[path = "faults/lost_requests.rs"]
mod lost_requests;
#[path = "faults/stopping.rs"]
mod stopping;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tally_exactness::faults::FaultRun;
use tally_exactness::naive::Differences;
use tally_testkit::{Scratch, service};

/// Whether services can be started here: where a test run has Kafka, it has the rest.
fn services() -> bool {
    service("TALLY_TEST_KAFKA").is_some()
}

/// One at a time: each is six processes and three services on a few cores.
static TURN: Mutex<()> = Mutex::new(());

/// Pairs of actor and subject that are collected.
const COLLECTS: usize = 200;

fn run(events: u64, seed: u64, kills: u32, moments: u32, rate: Option<u64>) -> Differences {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = Scratch::new();
    let run = FaultRun {
        binary: Path::new(env!("CARGO_BIN_EXE_tally")),
        dir: dir.path(),
        events,
        seed,
        collects: COLLECTS,
        kills,
        moments,
        zombie: Duration::from_secs(8),
        rate,
        say: &|line| println!("{line}"),
    };
    run.run()
}

#[test]
fn a_workload_is_the_same_in_topic_table_and_hash() {
    if services() {
        let differences = run(200_000, 21, 0, 0, None);
        assert!(differences.is_empty(), "{differences}");
        for (what, least) in [
            ("counters", 20_000),
            ("subjects in the topic", 10_000),
            ("subjects in Redis", 10_000),
            ("Redis", 4),
            ("places on boards", 500),
            ("collects", COLLECTS),
            // Four stores. `liked-4m`, `busy-5m` and `rising` may be empty by the time that all is counted.
            ("boards with subjects", 4 * 6),
        ] {
            assert!(differences.compared[what] >= least, "{differences}");
        }
    }
}

#[test]
fn kills_zombies_restarts_and_cuts_lose_nothing_and_count_nothing_twice() {
    if services() {
        let differences = run(90_000, 7, 10, 2, Some(2_500));
        assert!(differences.is_empty(), "{differences}");
        for store in ["boards served", "database", "Redis"] {
            assert!(differences.compared[store] >= 12, "{differences}");
        }
        assert!(differences.compared["collects"] >= COLLECTS, "{differences}");
    }
}
