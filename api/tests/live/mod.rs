//! Live streams over a real database and caches that tests fill.

use crate::fixture::*;
use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;
use tally_cache::redis::RedisAddress;
use tally_model::{Counters, ProgressMark};
use tally_streams::log::partition_of;

const ONE: &str = "/v1/live?subject_id=article:1";
const MANY: &str = "/v1/live?subject_id=article:1&subject_id=article:2&subject_id=article:1";

/// An open stream.
struct Events(Body);

#[derive(Debug, PartialEq)]
struct Event {
    id: String,
    name: String,
    data: Value,
}

impl Events {
    async fn open(world: &World, uri: &str, seen: Option<&str>) -> Self {
        let headers: Vec<_> = seen.iter().map(|id| ("last-event-id", *id)).collect();
        let response = world.response(uri, &headers).await;
        assert_eq!(response.status(), StatusCode::OK, "{uri}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut events = Self(response.into_body());
        assert_eq!(events.text().await.as_deref(), Some("retry: 2000\n\n"));
        events
    }

    async fn text(&mut self) -> Option<String> {
        let frame = poll_fn(|cx| Pin::new(&mut self.0).poll_frame(cx)).await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    /// The next event but heartbeats.
    async fn next(&mut self) -> Event {
        let text = loop {
            let text = self.text().await.expect("the stream goes on");
            if text != ":\n\n" {
                break text;
            }
        };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
            line.to_owned()
        };
        assert!(text.ends_with("\n\n"), "{text}");
        Event { id: field("id: "), name: field("event: "), data: serde_json::from_str(&field("data: ")).unwrap() }
    }

    async fn likes(&mut self) -> (String, i64) {
        let Event { data, .. } = self.next().await;
        (data["subject_id"].as_str().unwrap().to_owned(), data["counters"]["likes"].as_i64().unwrap())
    }
}

/// A world whose cache has everything.
async fn cached() -> World {
    let world = World::new().await;
    world.cache.ready();
    world.cache.put("article:1", &[("likes", 1)]);
    [0, 1].into_iter().for_each(|partition| world.cache.move_to(partition, &[(0, 9, 1_000), (1, 9, 1_000)]));
    world
}

fn like(world: &World, subject_id: &str, likes: i64) {
    world.cache.put(subject_id, &[("likes", likes)]);
    [0, 1].into_iter().for_each(|partition| world.cache.move_to(partition, &[(0, 9, 2_000), (1, 9, 2_000)]));
}

#[tokio::test]
async fn a_stream_begins_with_what_is_and_goes_on_with_what_changes() {
    let world = cached().await;
    let mut events = Events::open(&world, ONE, None).await;
    let Event { name, data, id } = events.next().await;
    let of = |likes, second| {
        let counters = json!({"likes": likes, "views": 0, "visitors": 0});
        json!({"subject_id": "article:1", "counters": counters, "as_of": format!("2026-11-21T08:00:0{second}.000Z")})
    };
    assert_eq!((name.as_str(), &data), ("counters", &of(1, 1)));
    // A record with the same content causes no event.
    like(&world, "article:1", 1);
    like(&world, "article:2", 5);
    like(&world, "article:1", 2);
    let changed = events.next().await;
    assert_eq!(changed.data, of(2, 2));
    assert_ne!(changed.id, id);
    // Back again: nothing is missing, so the next event is the next change.
    drop(events);
    let mut events = Events::open(&world, ONE, Some(&changed.id)).await;
    like(&world, "article:1", 3);
    let last = events.next().await;
    assert_eq!(last.data["counters"]["likes"], 3);
    // And the changes since then, or everything if the id is unknown.
    drop(events);
    like(&world, "article:1", 4);
    for seen in [Some(last.id.as_str()), None, Some("nonsense")] {
        assert_eq!(Events::open(&world, ONE, seen).await.likes().await.1, 4, "{seen:?}");
    }
}

#[tokio::test]
async fn each_subject_is_told_once_however_often_it_is_asked_for() {
    let world = cached().await;
    let mut events = Events::open(&world, MANY, None).await;
    let mut first = [events.likes().await, events.likes().await];
    first.sort();
    assert_eq!(first, [("article:1".into(), 1), ("article:2".into(), 0)]);
    like(&world, "article:2", 1);
    assert_eq!(events.likes().await, ("article:2".into(), 1), "the first record of a subject");
}

#[tokio::test]
async fn without_a_cache_the_database_is_read_again_and_again() {
    let world = World::new().await;
    for partition in [0, 1] {
        world.move_to("counters", partition, &[(0, 10, 5_000), (1, 10, 5_000)]).await;
    }
    let mut events = Events::open(&world, ONE, None).await;
    assert_eq!(events.likes().await.1, 0);
    world.total("article:1", "likes", 7).await;
    assert_eq!(events.likes().await.1, 7);
}

/// Records go to partition 0 and are for subjects of it.
fn in_partition_0(kind: &str) -> String {
    let mut ids = (0..).map(|n| format!("{kind}:{n}"));
    ids.find(|id| partition_of(id.as_bytes(), 2) == 0).unwrap()
}

fn append_likes(world: &World, id: &str, likes: i64) {
    let counters = [("likes".to_owned(), likes.into())].into_iter().collect();
    let (changed, approximate, as_of_ms) = (Vec::new(), Vec::new(), 0);
    let totals = Counters { subject_id: id.into(), counters, changed, approximate, as_of_ms, version: likes };
    let mark = ProgressMark { task: "t".into(), generation: 0, roots: roots(&[(0, 20, 7_000)]), version: likes };
    world.append(
        "counters",
        &[
            (id.as_bytes().to_vec(), serde_json::to_vec(&totals).unwrap()),
            (ProgressMark::key(&mark.task), serde_json::to_vec(&mark).unwrap()),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_subject_without_a_record_no_store_is_asked() {
    let world = World::with(config(), Some(RedisAddress::parse("redis://127.0.0.1:1").unwrap())).await;
    let (known, unknown) = (in_partition_0("a"), in_partition_0("b"));
    append_likes(&world, &known, 3);
    world.move_to("counters", 0, &[(0, 10, 5_000), (1, 10, 5_000)]).await;
    world.total(&known, "likes", 3).await;
    let uri = |id: &str| format!("/v1/subjects/{id}/counters");
    // Until the topic was read to its end, the stores answer.
    let since = std::time::Instant::now();
    while world.counter("none") == 0.0 {
        let answer = world.get(&uri(&unknown)).await.body;
        assert_eq!(answer["counters"]["likes"], 0);
        assert!(since.elapsed() < Duration::from_secs(60));
    }
    let answer = world.get(&uri(&unknown)).await.body;
    assert_eq!((&answer["counters"]["likes"], &answer["as_of"]), (&json!(0), &json!("2026-11-21T08:00:07.000Z")));
    let asked = world.counter("database");
    assert_eq!(world.get(&uri(&known)).await.body["counters"]["likes"], 3);
    assert!(world.counter("database") > asked, "of one that has a record they are");
    // An event that was just accepted may become the first record of a subject.
    let after = format!("{}?wait_ms=0&after={}", uri(&unknown), receipt(&[(0, 20)]));
    assert_eq!(world.get(&after).await.body["after"], "pending");
    append_likes(&world, &unknown, 1);
    world.total(&unknown, "likes", 1).await;
    while world.get(&uri(&unknown)).await.body["counters"]["likes"] != 1 {
        assert!(since.elapsed() < Duration::from_secs(60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_redis_the_log_itself_feeds_watched_subjects() {
    // No Redis listens there: what is not in the view comes from the database.
    let world = World::with(config(), Some(RedisAddress::parse("redis://127.0.0.1:1").unwrap())).await;
    for partition in [0, 1] {
        world.move_to("counters", partition, &[(0, 10, 5_000), (1, 10, 5_000)]).await;
    }
    let id = in_partition_0("a");
    let mut events = Events::open(&world, &format!("/v1/live?subject_id={id}"), None).await;
    assert_eq!(events.likes().await.1, 0);
    for likes in [3, 4] {
        append_likes(&world, &id, likes);
        assert_eq!(events.likes().await, (id.clone(), likes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_was_loaded_too_early_is_settled_by_a_later_load() {
    let world = World::with(config(), Some(RedisAddress::parse("redis://127.0.0.1:1").unwrap())).await;
    let (id, other) = (in_partition_0("a"), in_partition_0("b"));
    append_likes(&world, &id, 3);
    world.move_to("counters", 0, &[(0, 10, 5_000), (1, 10, 5_000)]).await;
    world.total(&id, "likes", 3).await;
    // The view has passed the record by now, and the database claims less: what is loaded may lack a change.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut events = Events::open(&world, &format!("/v1/live?subject_id={id}"), None).await;
    assert_eq!(events.likes().await.1, 3);
    append_likes(&world, &other, 1);
    // From now on a load is complete, and the next one belongs to the task that looks after such subjects.
    world.store.execute("UPDATE sink_progress SET next_offset = 1000", &[]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    append_likes(&world, &id, 5);
    let changed = tokio::time::timeout(Duration::from_secs(60), events.likes()).await;
    assert_eq!(changed.expect("the change is told"), (id, 5));
}

#[tokio::test]
async fn a_board_is_told_as_its_first_page() {
    let world = cached().await;
    world.cache.cache.put_board(ranking("hot", &[("article:1", 2_500)], 1));
    world.cache.move_boards_to(&[(0, 9, 1_000), (1, 9, 1_000)]);
    let mut events = Events::open(&world, "/v1/live?board=hot", None).await;
    let Event { name, data, id } = events.next().await;
    assert_eq!((name.as_str(), &data), ("ranking", &world.get("/v1/rankings/hot").await.body));
    world.cache.cache.put_board(ranking("hot", &[("article:2", 3_000), ("article:1", 2_500)], 2));
    world.cache.move_boards_to(&[(0, 10, 2_000), (1, 10, 2_000)]);
    let changed = events.next().await;
    assert_eq!(changed.data["items"][0]["subject_id"], "article:2");
    drop(events);
    assert_eq!(Events::open(&world, "/v1/live?board=hot", Some(&id)).await.next().await.id, changed.id);
    // A board that never had a subject is empty.
    let empty = Events::open(&world, "/v1/live?board=quiet", None).await.next().await;
    assert_eq!(empty.data["items"], json!([]));
}

#[tokio::test]
async fn what_is_not_valid_is_told_and_too_many_are_turned_away() {
    let world = cached().await;
    let many = "subject_id=a:1&".repeat(101);
    for (uri, status, detail) in [
        ("/v1/live", 400, "`subject_id` must be given 1 to 100 times, not 0; or a `board` instead."),
        (&*format!("/v1/live?{many}"), 400, "not 101"),
        ("/v1/live?subject_id=nokind", 400, "`subject_id` \"nokind\""),
        ("/v1/live?board=hot&subject_id=a:1", 400, "`board` cannot be combined with `subject_id`."),
        ("/v1/live?board=hot&board=hot", 400, "`board` may be given only once."),
        ("/v1/live?board=nothing", 404, "There is no board `nothing`; boards: `hot`, `quiet`."),
        ("/v1/live?subject=a:1", 400, "Unknown query parameter `subject`; this route accepts: `subject_id`, `board`"),
    ] {
        let answer = world.get(uri).await;
        assert_eq!(answer.status.as_u16(), status, "{uri}");
        assert!(answer.body["detail"].as_str().unwrap().contains(detail), "{uri}: {}", answer.body);
    }
    let uri = format!("{ONE}&access_token=secret");
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Events::open(&world, &uri, None).await);
    }
    let refused = world.get(ONE).await;
    assert_eq!((refused.status.as_u16(), refused.retry_after.as_deref()), (503, Some("5")));
    assert_eq!(refused.body["detail"], "This process has reached its limit of 3 live streams.");
    open.pop();
    open.push(Events::open(&world, ONE, None).await);
    // The end of the process is the end of all of them, at once.
    world.stopping.cancel();
    for mut events in open {
        while events.text().await.is_some() {}
    }
    assert_eq!(world.get(ONE).await.status.as_u16(), 503);
}
