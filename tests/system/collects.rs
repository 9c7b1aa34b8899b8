//! 64 connections that collect and uncollect, with SIGKILL of the process in the middle: rows and counts agree at every
//! moment, and after a rest the pipeline has counted the same.

use super::{assert_exact, binary};
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;
use tally::workload::Random;
use tally_exactness::naive::{Differences, Model, Stored, compare_stored, number, read_history};
use tally_exactness::{stop, verdict_kinds};
use tally_testkit::{Client, Scratch, ServerDatabase, Site, server_databases, wait_until};

const LANES: u64 = 64;
const SUBJECTS: u64 = 5;
/// Fewer than lanes: the same actor comes over several connections.
const ACTORS: u64 = 40;
/// The test continues until this many different pairs of actor and subject were collected,
const PAIRS_MIN: usize = 100;
/// and the tables were looked at so often.
const LOOKS_MIN: u32 = 10;

/// Subjects whose count differs from their rows, in one snapshot.
const DISAGREEMENTS: &str = "SELECT COUNT(*) FROM (SELECT c.subject_id AS subject_id, SUM(c.active) AS rows_on \
    FROM collects c GROUP BY c.subject_id) r LEFT JOIN collect_counts n ON n.subject_id = r.subject_id \
    WHERE r.rows_on <> COALESCE(n.value, 0)";

/// How many requests were answered, and how often the tables were looked at.
struct Done {
    answers: u32,
    looks: u32,
}

/// Collects and uncollects from all lanes until the kills are done, and enough has happened.
fn run(site: &Site, url: &str, kills: u32, pause: Duration) -> Done {
    let client = Client(site.listen.clone());
    let (over, answers, looks) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let pairs = Mutex::new(HashSet::new());
    let service = thread::scope(|scope| {
        let mut service = site.start();
        for lane in 0..LANES {
            let (client, over, answers, pairs) = (&client, &over, &answers, &pairs);
            scope.spawn(move || {
                let mut random = Random::new(lane);
                while !over.load(Ordering::Relaxed) {
                    let subject = format!("article:{}", random.below(SUBJECTS));
                    let actor = format!("u{}", random.below(ACTORS));
                    let active = random.chance(5_500);
                    if let Some(count) = client.collect(&subject, &actor, active) {
                        assert!((0..=ACTORS as i64).contains(&count), "{count}");
                        answers.fetch_add(1, Ordering::Relaxed);
                        if active {
                            pairs.lock().unwrap().insert((subject, actor));
                        }
                    }
                }
            });
        }
        let look = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(number(url, DISAGREEMENTS), 0, "after {looks:?} looks");
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..kills {
            let before = answers.load(Ordering::Relaxed);
            wait_until("answers", || (answers.load(Ordering::Relaxed) > before + 200).then_some(()));
            // The moment is what is tried out here; nothing is waited for.
            thread::sleep(pause);
            service.kill();
            service = site.start();
        }
        wait_until("enough to be collected and looked at", || {
            let is_enough = pairs.lock().unwrap().len() >= PAIRS_MIN && looks.load(Ordering::Relaxed) >= LOOKS_MIN;
            // A failed thread never checks again.
            (is_enough || look.is_finished()).then_some(())
        });
        over.store(true, Ordering::Relaxed);
        look.join().unwrap();
        service
    });
    wait_until("the outbox to be empty", || (number(url, "SELECT COUNT(*) FROM outbox") == 0).then_some(()));
    client.wait_until_applied();
    let subjects: Vec<_> = (0..SUBJECTS).map(|subject| format!("article:{subject}")).collect();
    for (subject, counters) in client.counters(&subjects) {
        let count = "SELECT CAST(COALESCE(SUM(value), 0) AS SIGNED) FROM collect_counts WHERE subject_id";
        let sql = format!("{count} = '{subject}'");
        assert_eq!(counters["collects"], number(url, &sql), "{subject}");
    }
    stop(service);
    Done { answers: answers.into_inner(), looks: looks.into_inner() }
}

/// The log, the rows and the topic of totals agree.
fn compare(site: &Site, stored: &Stored, done: &Done) {
    let mut model = Model::default();
    read_history(&site.log_dir(), |record| model.take(record));
    let mut differences = Differences::default();
    compare_stored(&model, stored, &mut differences);
    println!("{} answers, {} looks, {} records; {differences}", done.answers, done.looks, model.records);
    assert_exact(&differences);
    assert!(verdict_kinds(&model).is_empty() && model.dead_letters.is_empty(), "nothing is refused behind the API");
    assert!(differences.compared["collects"] >= PAIRS_MIN, "{differences}");
}

#[test]
fn collects_agree_at_every_moment_whatever_is_killed() {
    let dir = Scratch::new();
    let site = Site::new(binary(), dir.path());
    let url = site.database_url();
    stop(site.start());
    let done = run(&site, &url, 2, Duration::from_millis(70));
    compare(&site, &Stored::read(&site.database_url()), &done);
}

/// The same with the tables on a server.
#[test]
fn collects_agree_on_a_server_as_well() {
    server_databases().iter().for_each(collect_on);
}

fn collect_on(database: &ServerDatabase) {
    let dir = Scratch::new();
    let mut site = Site::new(binary(), dir.path());
    let log = format!("embedded:{}", site.log_dir().display());
    let state = site.state_dir.display().to_string();
    site.role = Some(["run", "--log", &log, "--database", &database.url, "--state", &state].map(str::to_owned).into());
    stop(site.start());
    let done = run(&site, &database.url, 2, Duration::from_millis(70));
    compare(&site, &Stored::read(&database.url), &done);
}
