//! Counters: bodies, stores, waiting.

mod fixture;
mod live;

use axum::http::StatusCode;
use fixture::*;
use serde_json::json;
use std::time::{Duration, Instant};
use tally_streams::log::partition_of;

/// Two subjects of different partitions.
const IN_0: &str = "article:1";
const IN_1: &str = "article:2";

#[test]
fn the_subjects_lie_where_the_tests_want_them() {
    assert_eq!([IN_0, IN_1].map(|id| partition_of(id.as_bytes(), 2)), [0, 1]);
}

fn counters(uri_id: &str) -> String {
    format!("/v1/subjects/{uri_id}/counters")
}

#[tokio::test]
async fn a_subject_without_events_has_zeros() {
    let world = World::new().await;
    let zeros = json!({"likes": 0, "views": 0, "visitors": 0});
    world
        .expect(&counters(IN_0), json!({"subject_id": IN_0, "counters": zeros, "as_of": "1970-01-01T00:00:00.000Z"}))
        .await;
    world.move_to("counters", 0, &[(0, 5, 2_000), (1, 9, 1_500)]).await;
    tokio::time::sleep(Duration::from_millis(110)).await;
    world
        .expect(&counters(IN_0), json!({"subject_id": IN_0, "counters": zeros, "as_of": "2026-11-21T08:00:01.500Z"}))
        .await;
}

#[tokio::test]
async fn the_database_answers_until_the_cache_is_ready() {
    let world = World::new().await;
    world.move_to("counters", 0, &[(0, 5, 0)]).await;
    world.total(IN_0, "likes", 3).await;
    world.cache.put(IN_0, &[("likes", 4), ("visitors", 257)]);
    world.cache.move_to(0, &[(0, 5, 7)]);
    let of_database = json!({"likes": 3, "views": 0, "visitors": 0});
    world
        .expect(
            &counters(IN_0),
            json!({"subject_id": IN_0, "counters": of_database, "as_of": "2026-11-21T08:00:00.000Z"}),
        )
        .await;
    world.cache.ready();
    let of_cache = json!({"likes": 4, "views": 0, "visitors": 257});
    world
        .expect(
            &counters(IN_0),
            json!({
                "subject_id": IN_0, "counters": of_cache, "approximate": ["visitors"],
                "relative_errors": {"visitors": 0.008125},
                "as_of": "2026-11-21T08:00:00.007Z",
            }),
        )
        .await;
    assert_eq!((world.counter("database"), world.counter("memory")), (1.0, 1.0));
}

#[tokio::test]
async fn several_subjects_keep_their_order_and_come_from_both_stores() {
    let world = World::new().await;
    world.cache.ready();
    world.cache.put(IN_0, &[("likes", 4)]);
    world.cache.move_to(0, &[(0, 5, 9)]);
    world.total(IN_1, "views", 2).await;
    world.move_to("counters", 1, &[(0, 5, 3)]).await;
    let cached = json!({"subject_id": IN_0, "counters": {"likes": 4, "views": 0, "visitors": 0}});
    let stored = json!({"subject_id": IN_1, "counters": {"likes": 0, "views": 2, "visitors": 0}});
    world
        .expect(
            &format!("/v1/counters?subject_id={IN_1}&subject_id={IN_0}&subject_id=article%3A2"),
            json!({"items": [stored, cached, stored], "as_of": "2026-11-21T08:00:00.003Z"}),
        )
        .await;
    world
        .expect(
            &format!("/v1/counters?subject_id={IN_0}"),
            json!({"items": [cached], "as_of": "2026-11-21T08:00:00.009Z"}),
        )
        .await;
}

#[tokio::test]
async fn ids_are_decoded() {
    let world = World::new().await;
    world.total("article:a/b?用", "likes", 1).await;
    for id in ["article:a%2Fb%3F%E7%94%A8", "article%3aa%2fb%3f用"] {
        let answer = world.get(&counters(&id.replace('用', "%E7%94%A8"))).await;
        assert_eq!(answer.body["counters"]["likes"], 1, "{id}");
        assert_eq!(answer.body["subject_id"], "article:a/b?用");
    }
}

/// Sends a request while `moving` runs; returns its duration and body.
async fn ask_while(world: &World, uri: &str, moving: impl Future<Output = ()>) -> (Duration, serde_json::Value) {
    let started = Instant::now();
    let ask = async {
        let answer = world.get(uri).await;
        (started.elapsed(), answer.body)
    };
    let (answer, ()) = tokio::join!(ask, moving);
    answer
}

#[tokio::test]
async fn a_read_waits_until_the_cache_has_what_the_receipt_covers() {
    let world = World::new().await;
    world.cache.ready();
    world.cache.put(IN_0, &[("likes", 1)]);
    world.cache.move_to(0, &[(0, 7, 0), (1, 3, 0)]);
    let uri = format!("{}?after={}&wait_ms=9000", counters(IN_0), receipt(&[(0, 7), (1, 2)]));
    let moving = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        world.cache.move_to(0, &[(0, 7, 1), (1, 4, 1)]);
        tokio::time::sleep(Duration::from_millis(30)).await;
        world.cache.put(IN_0, &[("likes", 2)]);
        world.cache.move_to(0, &[(0, 8, 2), (1, 4, 2)]);
    };
    let (took, body) = ask_while(&world, &uri, moving).await;
    // It does not sit out its nine seconds.
    assert!(took >= Duration::from_millis(60) && took < Duration::from_secs(9), "{took:?}");
    assert_eq!((&body["after"], &body["counters"]["likes"]), (&json!("applied"), &json!(2)));
    assert_eq!(body["as_of"], "2026-11-21T08:00:00.002Z");
}

#[tokio::test]
async fn a_read_waits_until_the_database_has_what_the_receipt_covers() {
    let world = World::new().await;
    // The cache has passed the receipt, but does not have the subject: the database serves and decides.
    world.cache.ready();
    world.cache.move_to(0, &[(0, 8, 0), (1, 4, 0)]);
    world.move_to("counters", 0, &[(0, 7, 0), (1, 4, 0)]).await;
    let uri = format!("{}?after={}&wait_ms=9000", counters(IN_0), receipt(&[(0, 7)]));
    let moving = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.total(IN_0, "likes", 2).await;
        world.move_to("counters", 0, &[(0, 8, 2), (1, 4, 2)]).await;
    };
    let (took, body) = ask_while(&world, &uri, moving).await;
    assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(9), "{took:?}");
    assert_eq!((&body["after"], &body["counters"]["likes"]), (&json!("applied"), &json!(2)));
}

#[tokio::test]
async fn many_that_wait_for_the_database_all_get_their_answer_twice() {
    let world = World::new().await;
    for round in 1..=2u64 {
        let uri = format!("{}?after={}&wait_ms=9000", counters(IN_0), receipt(&[(0, round)]));
        let asks = (0..50).map(|_| world.get(&uri));
        let moving = async {
            tokio::time::sleep(Duration::from_millis(40)).await;
            world.move_to("counters", 0, &[(0, round + 1, 0)]).await;
        };
        let all = async {
            let mut set = Vec::new();
            for ask in asks {
                set.push(Box::pin(ask));
            }
            // Polls all of them at once.
            let mut answers = Vec::new();
            std::future::poll_fn(|cx| {
                set.retain_mut(|ask| match ask.as_mut().poll(cx) {
                    std::task::Poll::Ready(answer) => {
                        answers.push(answer);
                        false
                    }
                    std::task::Poll::Pending => true,
                });
                if set.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            answers
        };
        let (answers, ()) = tokio::join!(all, moving);
        assert!(answers.iter().all(|answer| answer.body["after"] == "applied"));
        assert_eq!(answers.len(), 50);
        // Long enough for the shared reader to stop because no request waits: the second round starts it again.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_read_that_is_too_late_says_so() {
    let world = World::new().await;
    world.move_to("counters", 0, &[(0, 7, 0)]).await;
    world.total(IN_0, "likes", 1).await;
    let pending = |wait_ms| format!("{}?after={}&wait_ms={wait_ms}", counters(IN_0), receipt(&[(0, 7)]));
    for (wait_ms, least) in [(0, 0), (80, 80)] {
        let (took, body) = ask_while(&world, &pending(wait_ms), async {}).await;
        assert!(took >= Duration::from_millis(least) && took < Duration::from_secs(60), "{took:?}");
        assert_eq!(
            body,
            json!({
                "subject_id": IN_0, "counters": {"likes": 1, "views": 0, "visitors": 0},
                "as_of": "2026-11-21T08:00:00.000Z", "after": "pending",
            })
        );
    }
    // The cache serves and is behind, although the database is not.
    world.cache.ready();
    world.cache.put(IN_0, &[("likes", 0)]);
    world.move_to("counters", 0, &[(0, 8, 0)]).await;
    let answer = world.get(&pending(20)).await;
    assert_eq!((&answer.body["after"], &answer.body["counters"]["likes"]), (&json!("pending"), &json!(0)));
    let several = format!("/v1/counters?subject_id={IN_0}&after={}&wait_ms=0", receipt(&[(0, 7)]));
    assert_eq!(world.get(&several).await.body["after"], "pending");
    assert_eq!(world.get(&several.replace(IN_0, "article:3")).await.body["after"], "applied", "not in the cache");
}

#[tokio::test]
async fn a_database_that_is_away_is_503_and_the_cache_goes_on() {
    let world = World::new().await;
    world.store.execute("DROP TABLE sink_progress", &[]).await;
    let answer = world.get(&counters(IN_0)).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.content_type, "application/problem+json");
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    assert_eq!(answer.body["detail"], "The database does not respond. Retry.");
    world.cache.ready();
    world.cache.put(IN_0, &[("likes", 1)]);
    assert_eq!(world.get(&counters(IN_0)).await.status, StatusCode::OK);
}
