//! Receipts and progress.

mod fixture;

use fixture::*;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tally_streams::log::{CommittedOffset, GroupMetadata, TopicPartition};

const DAY_MS: i64 = 86_400_000;

fn answer(state: &str, not_counted: Value) -> Value {
    json!({"state": state, "held": [], "not_counted": not_counted})
}

fn uri(offsets: &[(u32, u64)]) -> String {
    format!("/v1/receipts/{}", receipt(offsets))
}

#[tokio::test]
async fn a_receipt_is_applied_when_every_topic_has_passed_it_everywhere() {
    let world = World::new().await;
    world.events(0, 3);
    world.events(1, 3);
    let uri = uri(&[(0, 2), (1, 1)]);
    let pending = answer("pending", json!([]));
    world.expect(&uri, pending.clone()).await;
    world.move_to("counters", 0, &[(0, 3, 0), (1, 2, 0)]).await;
    world.move_to("verdicts", 0, &[(0, 3, 0)]).await;
    world.move_to("verdicts", 1, &[(1, 2, 0)]).await;
    world.expect(&uri, pending.clone()).await;
    world.move_to("counters", 1, &[(0, 3, 0)]).await;
    world.expect(&uri, pending.clone()).await;
    world.move_to("counters", 1, &[(0, 3, 0), (1, 1, 0)]).await;
    world.expect(&uri, pending.clone()).await;
    world.move_to("counters", 1, &[(0, 3, 0), (1, 2, 0)]).await;
    world.expect(&uri, answer("applied", json!([]))).await;
    world.move_to("verdicts", 1, &[(1, 1, 0)]).await;
    world.expect(&uri, pending).await;
}

#[tokio::test]
async fn what_was_not_counted_is_told_until_a_day_has_passed() {
    let world = World::new().await;
    world.events(0, 3);
    let request = "0a".repeat(16);
    world.verdict(2, &request, "e2", "limited").await;
    world.verdict(1, &request, "e1", "duplicate").await;
    world.verdict(0, &"0b".repeat(16), "e0", "late").await;
    world.verdict(3, &request, "e3", "held").await;
    let told = json!([
        {"event_id": "e1", "verdict": "duplicate", "reason": "why"},
        {"event_id": "e2", "verdict": "limited", "reason": "why"},
    ]);
    let told = json!({"state": "pending", "held": ["e3"], "not_counted": told});
    world.expect(&uri(&[(0, 2)]), told.clone()).await;
    world.now_ms.store(NOW_MS + DAY_MS, Ordering::Relaxed);
    world.expect(&uri(&[(0, 2)]), told).await;
    world.now_ms.store(NOW_MS + DAY_MS + 1, Ordering::Relaxed);
    world.expect(&uri(&[(0, 2)]), answer("pending", Value::Null)).await;
}

#[tokio::test]
async fn what_the_log_no_longer_has_is_forgotten() {
    use tally_streams::log::Log;
    let world = World::new().await;
    world.events(0, 3);
    world.log.delete_records(&TopicPartition::new("user-actions", 0), 2).unwrap();
    world.expect(&uri(&[(0, 1)]), answer("pending", Value::Null)).await;
    world.expect(&uri(&[(0, 2)]), answer("pending", json!([]))).await;
}

#[tokio::test]
async fn progress_is_told_by_partition() {
    let world = World::new().await;
    let partition = |partition, end, committed: Option<u64>, database, cache, lag_records, lag_seconds: Value| {
        json!({
            "partition": partition, "end": end, "committed": committed,
            "applied": {"database": database, "cache": cache},
            "lag_records": lag_records, "lag_seconds": lag_seconds,
        })
    };
    let nothing = |n| partition(n, 0, None, Value::Null, Value::Null, 0, json!(0.0));
    let empty = json!({"topic": "user-actions", "partitions": [nothing(0), nothing(1)]});
    world.expect("/v1/progress", empty).await;

    world.events(0, 5);
    world.events(1, 2);
    {
        let group = GroupMetadata { group: "tally".into(), ..GroupMetadata::default() };
        let offset = CommittedOffset { offset: 4, metadata: String::new() };
        let mut producer = world.producer.lock().unwrap();
        producer.send_offsets(&group, &[(TopicPartition::new("user-actions", 0), offset)]).unwrap();
        producer.commit().unwrap();
    }
    world.move_to("counters", 0, &[(0, 4, 0), (1, 2, 0)]).await;
    world.move_to("counters", 1, &[(0, 3, -2_500), (1, 2, 0)]).await;
    world.move_to("verdicts", 0, &[(0, 4, 0)]).await;
    for number in 0..2 {
        world.cache.move_to(number, &[(0, 5, 0), (1, 2, 0)]);
    }
    // The cache's progress is that of its slowest topic.
    world.cache.move_boards_to(&[(0, 4, 0), (1, 3, 0)]);
    let first = partition(0, 5, Some(4), json!(3), json!(4), 2, json!(2.5));
    let silent = partition(1, 2, None, Value::Null, json!(2), 2, Value::Null);
    world.expect("/v1/progress", json!({"topic": "user-actions", "partitions": [first, silent]})).await;
    // The wall clock is set back: nothing appears to lag, although records wait.
    world.now_ms.store(NOW_MS - 60_000, Ordering::Relaxed);
    world.waited_ms.store(0, Ordering::Relaxed);
    let at_least = |seconds| partition(0, 5, Some(4), json!(3), json!(4), 2, json!(seconds));
    world.expect("/v1/progress", json!({"topic": "user-actions", "partitions": [at_least(0.001), silent]})).await;
    world.waited_ms.store(4_000, Ordering::Relaxed);
    world.expect("/v1/progress", json!({"topic": "user-actions", "partitions": [at_least(4.0), silent]})).await;
    world.now_ms.store(NOW_MS, Ordering::Relaxed);
    world.move_to("verdicts", 1, &[(1, 2, 0)]).await;
    let first = at_least(4.0);
    let caught_up = partition(1, 2, None, json!(2), json!(2), 0, json!(0.0));
    world.expect("/v1/progress", json!({"topic": "user-actions", "partitions": [first, caught_up]})).await;
}
