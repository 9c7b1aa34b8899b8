//! Collects on either database: what a request changes, what the relay writes, and what several processes do at once.

use super::fixture::collects::collects_parts;
use super::fixture::{Answer, World, key};
use super::{block_on, futures};
use axum::http::StatusCode;
use prometheus::Registry;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tally_access::{AccessMetrics, ActionLimits, Buckets};
use tally_api::{Collects, CollectsParts, WriteAddress, collects_router, router};
use tally_model::{Receipt, SequenceKey, hex};
use tally_streams::log::{AppendBatch, Appender, Completion, Log, LogError, Polled, TopicPartition};
use tally_testkit::server_databases;

/// On a file, and on every server there is.
fn on_each(test: impl AsyncFn(World)) {
    block_on(async { test(World::new().await).await });
    for database in server_databases() {
        block_on(async { test(World::on_server(&database.url).await).await });
    }
}

/// A log that does not answer.
struct Away;

impl Appender for Away {
    fn append(&self, _: &str, _: AppendBatch, done: Completion) {
        done(Err(LogError::Unavailable("it is away".into())));
    }
}

/// One process among those that share the database.
fn process(parts: CollectsParts) -> Arc<Collects> {
    Collects::start(parts, &Registry::new()).unwrap()
}

async fn ask(world: &World, collects: &Arc<Collects>, method: &str, path: &str) -> Answer {
    let routes = router(world.api.clone()).merge(collects_router(collects.clone()));
    World::ask(routes.into_router(None), method, path).await
}

async fn set(world: &World, collects: &Arc<Collects>, active: bool, subject: &str, actor: &str) -> Value {
    let path = format!("/v1/subjects/{subject}/collects/{actor}");
    let answer = ask(world, collects, if active { "PUT" } else { "DELETE" }, &path).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.body["active"], active);
    answer.body
}

/// (actor, subject) -> numbers in the order of the log, with the state of each. Every MAC is checked.
type Told = BTreeMap<(String, String), Vec<(i64, bool)>>;

fn told(world: &World) -> Told {
    let mut told = Told::new();
    for partition in 0..2 {
        let address = TopicPartition::new("user-actions", partition);
        let (mut next, end) = world.log.bounds(&address).unwrap();
        let mut consumer = world.log.consumer("").unwrap();
        consumer.assign(&address, next).unwrap();
        while next < end {
            let Polled::Records { records, next_offset, .. } = consumer.poll(Duration::from_secs(5)).unwrap() else {
                panic!("nothing came")
            };
            for record in records.map(Result::unwrap) {
                let (value, header) = (record.value.unwrap(), |name| record.headers.get(name));
                let seq = SequenceKey(key().secret).verify(header("seq"), header("mac"), value).unwrap();
                let event: Value = serde_json::from_slice(value).unwrap();
                assert_eq!(header("b").map(hex).as_deref(), event["event_id"].as_str());
                assert_eq!(record.key, event["actor_id"].as_str().map(str::as_bytes));
                let of = |name: &str| event[name].as_str().unwrap().to_owned();
                told.entry((of("actor_id"), of("subject_id"))).or_default().push((seq, of("type") == "collect"));
            }
            next = next_offset;
        }
    }
    told
}

/// The states, ordered by number. Each came at least once, for the first time in order, and none is missing: a change
/// is always one from what was before.
fn whole(told: &[(i64, bool)]) -> Vec<bool> {
    let mut first = Vec::new();
    told.iter().for_each(|told| {
        if !first.contains(told) {
            first.push(*told)
        }
    });
    assert!(first.is_sorted_by_key(|told| told.0), "{told:?}");
    let says: Vec<_> = first.iter().map(|told| told.1).collect();
    assert!(says.iter().enumerate().all(|(at, says)| *says == (at % 2 == 0)), "{told:?}");
    says
}

async fn wait_for_empty_outbox(world: &World) {
    wait_for_outbox(world, 0).await;
}

async fn wait_for_outbox(world: &World, rows: i64) {
    for _ in 0..2_000 {
        if world.numbers("SELECT COUNT(*) FROM outbox").await == [rows] {
            return;
        }
        // Between two questions: the row is what is waited for.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the outbox never has {rows} rows");
}

#[test]
fn a_change_is_made_once_and_told_once() {
    on_each(async |world| {
        let collects = process(collects_parts(&world));
        let answer = set(&world, &collects, true, "article:1", "u1").await;
        assert_eq!(
            (&answer["count"], &answer["subject_id"], &answer["actor_id"]),
            (&json!(1), &json!("article:1"), &json!("u1"))
        );
        let receipt = Receipt::decode(answer["receipt"].as_str().unwrap(), &key()).unwrap();
        assert_eq!(receipt.offsets.len(), 1);
        let again = set(&world, &collects, true, "article:1", "u1").await;
        assert_eq!((&again["count"], &again["receipt"]), (&json!(1), &Value::Null));
        assert_eq!(set(&world, &collects, true, "article:1", "u%7e2").await["count"], 2);
        assert_eq!(set(&world, &collects, false, "article:1", "nobody").await["count"], 2);
        assert_eq!(set(&world, &collects, false, "article:2", "u1").await["count"], 0);
        assert_eq!(set(&world, &collects, false, "article:1", "u1").await["count"], 1);
        assert_eq!(set(&world, &collects, false, "article:1", "u1").await["count"], 1);
        assert_eq!(set(&world, &collects, true, "article:1", "u1").await["count"], 2);
        wait_for_empty_outbox(&world).await;
        let of = |actor: &str| (actor.to_owned(), "article:1".to_owned());
        let told = told(&world);
        assert_eq!(whole(&told[&of("u1")]), [true, false, true]);
        assert_eq!(whole(&told[&of("u~2")]), [true]);
        // A subject that was never collected has no row.
        assert_eq!((told.len(), world.numbers("SELECT active FROM collects").await), (2, vec![1, 1]));
    });
}

#[test]
fn lists_and_viewers_see_it_at_once() {
    on_each(async |world| {
        let collects = process(collects_parts(&world));
        // By this name it is a list, and by this name an actor.
        for (subject, actor) in [("article:1", "u1"), ("article:1", "actors"), ("article:2", "u1"), ("article:3", "u1")]
        {
            set(&world, &collects, true, subject, actor).await;
        }
        set(&world, &collects, false, "article:2", "u1").await;
        let names = |answer: &Answer, name: &str| -> Vec<String> {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            answer.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item[name].as_str().unwrap().to_owned())
                .collect()
        };
        let actors = ask(&world, &collects, "GET", "/v1/subjects/article:1/collects/actors").await;
        assert_eq!(names(&actors, "actor_id"), ["u1", "actors"]);
        let page = ask(&world, &collects, "GET", "/v1/actors/u1/collects/subjects?limit=1").await;
        assert_eq!(names(&page, "subject_id"), ["article:3"]);
        let next = page.body["next"].as_str().unwrap();
        let page = ask(&world, &collects, "GET", &format!("/v1/actors/u1/collects/subjects?cursor={next}")).await;
        assert_eq!(names(&page, "subject_id"), ["article:1"]);
        let viewer = world.get("/v1/counters?subject_id=article:1&subject_id=article:2&actor_id=u1").await.body;
        assert_eq!(viewer["items"][0]["viewer"], json!({"likes": false, "saves": false, "collects": true}));
        assert_eq!(viewer["items"][1]["viewer"]["collects"], false);
    });
}

#[test]
fn what_is_not_valid_is_told_and_changes_nothing() {
    on_each(async |world| {
        let collects = process(collects_parts(&world));
        for (method, path, status, detail) in [
            ("PUT", "/v1/subjects/nothing/collects/u1", 400, "`subject_id` \"nothing\""),
            ("PUT", "/v1/subjects/article:1/collects/a%20b", 400, "`actor_id` \"a b\""),
            ("DELETE", "/v1/subjects/article:1/collects/%ff", 400, "The path is not percent-encoded UTF-8"),
            ("PUT", "/v1/subjects/article:1/collects/u1?count=7", 400, "Unknown query parameter `count`"),
            ("GET", "/v1/subjects/article:1/collects/u1", 405, "supports PUT and DELETE"),
        ] {
            let answer = ask(&world, &collects, method, path).await;
            assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.body);
            assert!(answer.body["detail"].as_str().unwrap().contains(detail), "{path}: {}", answer.body);
        }
        assert_eq!(world.numbers("SELECT COUNT(*) FROM collects").await, [0]);
    });
}

#[test]
fn who_collects_too_much_is_told_when_to_come_again() {
    block_on(async {
        let world = World::new().await;
        let buckets = Arc::new(Buckets::new(None, AccessMetrics::new(&Registry::new()).unwrap()));
        let switches = vec!["collect".into(), "uncollect".into()];
        let limits =
            Some(ActionLimits { per_ip: Some(5), per_actor: Some(2), ipv6_prefix_bits: 64, switches, buckets });
        let collects = process(CollectsParts { limits, ..collects_parts(&world) });
        for (method, path, expected) in [
            ("PUT", "article:1/collects/u1", 200),
            ("PUT", "article:1/collects/u1", 200),
            ("DELETE", "article:1/collects/u1", 429),
            ("PUT", "nothing/collects/u2", 400),
            ("PUT", "article:1/collects/u2", 200),
            ("DELETE", "article:1/collects/u2", 200),
            // The fifth of the address: what is over one limit has counted against the others.
            ("PUT", "article:1/collects/u3", 429),
        ] {
            let answer = ask(&world, &collects, method, &format!("/v1/subjects/{path}")).await;
            assert_eq!(answer.status.as_u16(), expected, "{method} {path}: {}", answer.body);
            if expected == 429 {
                assert!(answer.retry_after.is_some());
                assert!(answer.body["detail"].as_str().unwrap().contains("Nothing was changed"), "{}", answer.body);
            }
        }
        assert_eq!(world.numbers("SELECT COUNT(*) FROM collects WHERE active = 1").await, [1]);
    });
}

#[test]
fn without_the_log_it_is_safe_and_another_process_tells_it_in_order() {
    on_each(async |world| {
        let without = process(CollectsParts { appender: Arc::new(Away), ..collects_parts(&world) });
        for active in [true, false, true] {
            let answer = set(&world, &without, active, "article:1", "u1").await;
            assert_eq!((&answer["count"], &answer["receipt"]), (&json!(i32::from(active)), &Value::Null));
        }
        assert_eq!(world.numbers("SELECT COUNT(*) FROM outbox").await, [3]);
        // It does not send an actor's event before older ones that are another's to send.
        let later = process(CollectsParts { takeover_after: Duration::from_secs(3_600), ..collects_parts(&world) });
        assert_eq!(set(&world, &later, false, "article:1", "u1").await["receipt"], Value::Null);
        assert_ne!(set(&world, &later, true, "article:1", "u2").await["receipt"], Value::Null);
        // The response is sent before the row is deleted.
        wait_for_outbox(&world, 4).await;
        drop((without, later));
        let _heir = process(collects_parts(&world));
        wait_for_empty_outbox(&world).await;
        let told = told(&world);
        assert_eq!(whole(&told[&("u1".to_owned(), "article:1".to_owned())]), [true, false, true, false]);
    });
}

#[test]
fn a_database_that_is_away_is_503() {
    block_on(async {
        let world = World::new().await;
        for url in ["sqlite:/nowhere/tally.db", "mysql://u:secret@127.0.0.1:1/db"] {
            let database = WriteAddress::parse(url).unwrap();
            let collects = process(CollectsParts { database, ..collects_parts(&world) });
            let answer = ask(&world, &collects, "PUT", "/v1/subjects/article:1/collects/u1").await;
            assert_eq!((answer.status, answer.retry_after.as_deref()), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
            assert!(answer.body["detail"].as_str().unwrap().contains("the request is idempotent"), "{}", answer.body);
        }
    });
}

/// Three processes, 64 requests at a time, of the same and different actors, while a reader compares rows and counts.
#[test]
fn rows_and_counts_agree_at_every_moment_with_concurrent_writers() {
    on_each(async |world| {
        let processes: Vec<_> = (0..3).map(|_| process(collects_parts(&world))).collect();
        let done = AtomicBool::new(false);
        let write = async {
            for round in 0..8 {
                let requests = (0..64).map(|lane| {
                    let (process, number) = (&processes[lane % 3], lane * 31 + round * 17);
                    let (subject, actor) = (format!("article:{}", number % 3), format!("u{}", number % 11));
                    let (world, active) = (&world, (lane + round) % 3 != 0);
                    async move {
                        let path = format!("/v1/subjects/{subject}/collects/{actor}");
                        ask(world, process, if active { "PUT" } else { "DELETE" }, &path).await
                    }
                });
                for answer in futures(requests).await {
                    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
                }
            }
            done.store(true, Ordering::Relaxed);
        };
        let look = async {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(disagreements(&world).await, [0; 0]);
                looks += 1;
            }
            looks
        };
        let ((), looks) = tokio::join!(write, look);
        assert!(looks > 0, "the reader never ran");
        wait_for_empty_outbox(&world).await;
        assert!(!world.numbers("SELECT value FROM collect_counts").await.is_empty());
        let mut active = 0;
        for told in told(&world).into_values() {
            active += i64::from(whole(&told).len() % 2 == 1);
        }
        assert_eq!(world.numbers("SELECT CAST(SUM(active) AS SIGNED) FROM collects").await, [active]);
    });
}

/// Subjects whose count differs from their rows, in one snapshot.
async fn disagreements(world: &World) -> Vec<i64> {
    let sql = "SELECT 1 FROM (SELECT c.subject_id AS subject_id, SUM(c.active) AS rows_on FROM collects c GROUP BY c.subject_id) r \
               LEFT JOIN collect_counts n ON n.subject_id = r.subject_id WHERE r.rows_on <> COALESCE(n.value, 0)";
    world.numbers(sql).await
}
