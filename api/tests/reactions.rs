//! Who likes what: pages over `reactions`, and what a viewer has switched on.

mod fixture;

use axum::http::StatusCode;
use fixture::{World, receipt};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn world() -> World {
    let world = World::new().await;
    for partition in [0, 1] {
        world.move_to("reactions", partition, &[(partition, 10, 2_000 + i64::from(partition))]).await;
    }
    world
}

fn ids<'a>(answer: &'a Value, column: &str) -> Vec<&'a str> {
    answer["items"].as_array().unwrap().iter().map(|item| item[column].as_str().unwrap()).collect()
}

#[tokio::test]
async fn who_likes_a_subject_newest_first() {
    let world = world().await;
    world.reaction("u1", "likes", "article:1", true, 10).await;
    world.reaction("u2", "likes", "article:1", true, 30).await;
    world.reaction("u3", "likes", "article:1", false, 20).await;
    world.reaction("u4", "saves", "article:1", true, 20).await;
    world.reaction("u5", "likes", "article:2", true, 20).await;
    let expected = json!({
        "subject_id": "article:1",
        "metric": "likes",
        "items": [
            {"actor_id": "u2", "occurred_at": "2026-11-21T08:00:00.030Z"},
            {"actor_id": "u1", "occurred_at": "2026-11-21T08:00:00.010Z"},
        ],
        "as_of": "2026-11-21T08:00:02.000Z",
    });
    world.expect("/v1/subjects/article:1/likes/actors", expected).await;
    let empty = json!({"subject_id": "article:3", "metric": "likes", "items": [], "as_of": "2026-11-21T08:00:02.000Z"});
    world.expect("/v1/subjects/article:3/likes/actors", empty).await;
}

#[tokio::test]
async fn what_an_actor_likes() {
    let world = world().await;
    world.reaction("u1", "likes", "article:1", true, 10).await;
    world.reaction("u1", "likes", "article:2", true, 20).await;
    world.reaction("u1", "saves", "article:3", true, 20).await;
    world.reaction("u2", "likes", "article:4", true, 20).await;
    let answer = world.get("/v1/actors/u1/likes/subjects").await.body;
    assert_eq!(ids(&answer, "subject_id"), ["article:2", "article:1"]);
    assert_eq!(answer["next"], Value::Null);
}

#[tokio::test]
async fn pages_go_on_where_the_one_before_ended_whatever_comes_between() {
    let world = world().await;
    // Pairs have the same time: the id orders them.
    for number in 0..10 {
        world.reaction(&format!("u{number}"), "likes", "article:1", true, number / 2 * 2).await;
    }
    let (mut seen, mut next) = (Vec::new(), Value::Null);
    for page in 0.. {
        let cursor = next.as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let answer = world.get(&format!("/v1/subjects/article:1/likes/actors?limit=3{cursor}")).await.body;
        seen.extend(ids(&answer, "actor_id").into_iter().map(str::to_owned));
        next = answer["next"].clone();
        if next.is_null() {
            break;
        }
        // New items appear, a shown item is removed, and so is one that was not shown yet.
        world.reaction(&format!("new{page}"), "likes", "article:1", true, 1_000).await;
        world.reaction(&seen[0], "likes", "article:1", false, 1_000).await;
        world.reaction("u0", "likes", "article:1", false, 1_000).await;
    }
    assert_eq!(seen, ["u9", "u8", "u7", "u6", "u5", "u4", "u3", "u2", "u1"]);
}

#[tokio::test]
async fn what_is_not_valid_is_told() {
    let world = world().await;
    for number in 0..3 {
        world.reaction(&format!("u{number}"), "likes", "article:1", true, number).await;
    }
    let page = world.get("/v1/subjects/article:1/likes/actors?limit=1").await.body;
    let cursor = page["next"].as_str().unwrap();
    let forged = format!("{}A", &cursor[..cursor.len() - 1]);
    for (uri, status, detail) in [
        ("/v1/subjects/article:1/views/actors".to_owned(), 404, "`views` is not a toggle metric"),
        ("/v1/actors/u1/nothing/subjects".to_owned(), 404, "toggle metrics: `likes`, `saves`"),
        ("/v1/subjects/nothing/likes/actors".to_owned(), 400, "`subject_id` \"nothing\""),
        ("/v1/actors/a%20b/likes/subjects".to_owned(), 400, "`actor_id` \"a b\""),
        ("/v1/subjects/article:1/likes/actors?limit=0".to_owned(), 400, "`limit` must be a number from 1 to 100"),
        ("/v1/subjects/article:1/likes/actors?limit=101".to_owned(), 400, "`limit` must be"),
        ("/v1/subjects/article:1/likes/actors?cursor=x".to_owned(), 400, "`cursor` was not issued by this service"),
        (format!("/v1/subjects/article:1/likes/actors?cursor={forged}"), 400, "`cursor` was not issued"),
        (format!("/v1/subjects/article:2/likes/actors?cursor={cursor}"), 400, "for this list"),
        (format!("/v1/subjects/article:1/saves/actors?cursor={cursor}"), 400, "for this list"),
        (format!("/v1/actors/article:1/likes/subjects?cursor={cursor}"), 400, "for this list"),
        (format!("/v1/subjects/article:1/likes/actors?cursor={}", receipt(&[])), 400, "`cursor` was not issued"),
        ("/v1/subjects/article:1/likes/actors?page=2".to_owned(), 400, "Unknown query parameter `page`"),
        ("/v1/counters?subject_id=article:1&actor_id=".to_owned(), 400, "`actor_id` \"\""),
    ] {
        let answer = world.get(&uri).await;
        assert_eq!(
            (answer.status, &*answer.content_type),
            (StatusCode::from_u16(status).unwrap(), "application/problem+json"),
            "{uri}"
        );
        assert!(answer.body["detail"].as_str().unwrap().contains(detail), "{uri}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_viewer_sees_what_it_has_switched_on() {
    let world = world().await;
    world.move_to("counters", 0, &[(0, 9, 5_000), (1, 9, 5_000)]).await;
    world.move_to("counters", 1, &[(0, 9, 5_000), (1, 9, 5_000)]).await;
    world.total("article:1", "likes", 3).await;
    world.reaction("u1", "likes", "article:1", true, 0).await;
    world.reaction("u1", "saves", "article:1", false, 0).await;
    world.reaction("u2", "likes", "article:2", true, 0).await;
    let zeros = json!({"likes": 0, "views": 0, "visitors": 0});
    let expected = json!({
        "items": [
            {"subject_id": "article:1", "counters": {"likes": 3, "views": 0, "visitors": 0}, "viewer": {"likes": true, "saves": false, "collects": false}},
            {"subject_id": "article:2", "counters": zeros, "viewer": {"likes": false, "saves": false, "collects": false}},
        ],
        // The older of both stores.
        "as_of": "2026-11-21T08:00:02.000Z",
    });
    world.expect("/v1/counters?subject_id=article:1&subject_id=article:2&actor_id=u1", expected).await;
}

#[tokio::test]
async fn a_list_waits_for_the_events_of_a_receipt() {
    let world = world().await;
    let uri = format!("/v1/subjects/article:1/likes/actors?wait_ms=0&after={}", receipt(&[(0, 9), (1, 10)]));
    assert_eq!(world.get(&uri).await.body["after"], "pending");
    let uri = uri.replace("wait_ms=0", "wait_ms=10000");
    let moved = async {
        world.reaction("u7", "likes", "article:1", true, 0).await;
        world.move_to("reactions", 1, &[(1, 11, 3_000)]).await;
    };
    let (answer, ()) = tokio::join!(world.get(&uri), moved);
    assert_eq!(answer.body["after"], "applied");
    assert_eq!(ids(&answer.body, "actor_id"), ["u7"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn pages_of_any_size_are_the_whole_list(times in prop::collection::vec(0..6i64, 0..40), limit in 1..12usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = world().await;
            let mut expected = BTreeSet::new();
            for (number, time) in times.iter().enumerate() {
                let subject = format!("article:{number}");
                world.reaction("u1", "likes", &subject, true, *time).await;
                expected.insert((*time, subject));
            }
            let (mut seen, mut next) = (Vec::new(), String::new());
            loop {
                let uri = format!("/v1/actors/u1/likes/subjects?limit={limit}{next}");
                let answer = world.get(&uri).await.body;
                assert!(ids(&answer, "subject_id").len() <= limit);
                seen.extend(ids(&answer, "subject_id").into_iter().map(str::to_owned));
                let Some(cursor) = answer["next"].as_str() else { break };
                next = format!("&cursor={cursor}");
            }
            let expected: Vec<_> = expected.into_iter().rev().map(|(_, subject)| subject).collect();
            assert_eq!(seen, expected);
        });
    }
}
