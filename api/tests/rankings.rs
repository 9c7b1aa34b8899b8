//! Boards: the list, pages, stores, waiting.

mod fixture;

use axum::http::StatusCode;
use fixture::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use tally_api::{ApiConfig, Rankings};
use tally_cache::redis::RedisAddress;
use tally_model::{ProgressMark, Ranking};

const ITEMS: &[(&str, i64)] = &[("article:2", 12_345), ("article:1", 4_000), ("article:3", 4_000), ("user:1", 1)];

/// A board and some counters in the database; the cache is not ready.
async fn world() -> World {
    let world = World::new().await;
    fill(&world).await;
    world
}

async fn fill(world: &World) {
    for partition in [0, 1] {
        world.move_to("counters", partition, &[(0, 10, 5_000), (1, 10, 5_000)]).await;
        world.move_to("reactions", partition, &[(partition, 10, 5_000)]).await;
    }
    world.move_to("rankings", 0, &[(0, 10, 3_000), (1, 10, 2_000)]).await;
    world.board(&ranking("hot", ITEMS, 1_500)).await;
    world.total("article:2", "likes", 12).await;
    world.total("article:2", "visitors", 300).await;
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|item| item["subject_id"].as_str().unwrap()).collect()
}

fn ranks(answer: &Value) -> Vec<u64> {
    answer["items"].as_array().unwrap().iter().map(|item| item["rank"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_board_has_ranks_scores_and_counters() {
    let world = world().await;
    let zeros = json!({"likes": 0, "views": 0, "visitors": 0});
    let expected = json!({
        "board": "hot",
        "items": [
            {
                "rank": 1, "subject_id": "article:2", "score": 12.345,
                "counters": {"likes": 12, "views": 0, "visitors": 300}, "approximate": ["visitors"],
                "relative_errors": {"visitors": 0.008125},
            },
            {"rank": 2, "subject_id": "article:1", "score": 4, "counters": zeros},
            {"rank": 3, "subject_id": "article:3", "score": 4, "counters": zeros},
            {"rank": 4, "subject_id": "user:1", "score": 0.001, "counters": zeros},
        ],
        // The board is older than the counters.
        "as_of": "2026-11-21T08:00:02.000Z",
    });
    world.expect("/v1/rankings/hot", expected).await;
    world.move_to("counters", 0, &[(0, 10, 1_000), (1, 10, 1_000)]).await;
    tokio::time::sleep(std::time::Duration::from_millis(110)).await;
    assert_eq!(world.get("/v1/rankings/hot").await.body["as_of"], "2026-11-21T08:00:01.000Z", "now the counters are");
}

#[tokio::test]
async fn the_boards_are_those_that_were_written_and_those_of_the_topology() {
    let world = world().await;
    for group in ["hot@sports", "hot@a}b", "gone", "hotter"] {
        world.board(&ranking(group, &ITEMS[..2], 1_000)).await;
    }
    let board = |board, items, as_of| json!({"board": board, "items": items, "as_of": as_of});
    let second = "2026-11-21T08:00:01.000Z";
    let expected = json!({
        "boards": [
            board("hot", 4, "2026-11-21T08:00:01.500Z"),
            board("hot@a}b", 2, second),
            board("hot@sports", 2, second),
            {"board": "quiet", "items": 0},
        ],
        "as_of": "2026-11-21T08:00:02.000Z",
    });
    world.expect("/v1/rankings", expected).await;
    let group = world.get("/v1/rankings/hot@sports").await.body;
    assert_eq!((&group["board"], ids(&group)), (&json!("hot@sports"), vec!["article:2", "article:1"]));
    let empty = json!({"board": "quiet", "items": [], "as_of": "2026-11-21T08:00:02.000Z"});
    world.expect("/v1/rankings/quiet", empty).await;
}

#[tokio::test]
async fn a_viewer_sees_what_it_has_switched_on() {
    let world = world().await;
    world.reaction("u1", "likes", "article:1", true, 0).await;
    let answer = world.get("/v1/rankings/hot?actor_id=u1").await.body;
    let viewers: Vec<_> = answer["items"].as_array().unwrap().iter().map(|item| &item["viewer"]).collect();
    let viewer = |likes: bool| json!({"likes": likes, "saves": false, "collects": false});
    let (on, off) = (viewer(true), viewer(false));
    assert_eq!(viewers, [&off, &on, &off, &off]);
    world
        .expect(
            "/v1/rankings/quiet?actor_id=u1",
            json!({"board": "quiet", "items": [], "as_of": "2026-11-21T08:00:02.000Z"}),
        )
        .await;
}

#[tokio::test]
async fn the_database_answers_until_the_cache_is_ready() {
    let world = world().await;
    world.cache.cache.put_board(ranking("hot", &ITEMS[1..2], 1_600));
    world.cache.move_boards_to(&[(0, 11, 4_000), (1, 11, 4_500)]);
    assert_eq!(ids(&world.get("/v1/rankings/hot").await.body).len(), 4);
    world.cache.ready();
    let answer = world.get("/v1/rankings/hot").await.body;
    assert_eq!((ids(&answer), &answer["as_of"]), (vec!["article:1"], &json!("2026-11-21T08:00:04.000Z")));
    let list = world.get("/v1/rankings").await.body;
    assert_eq!(list["boards"][0], json!({"board": "hot", "items": 1, "as_of": "2026-11-21T08:00:01.600Z"}));
    // The view has all boards: a board that it lacks does not exist, even if the database has one.
    world.board(&ranking("hot@former", ITEMS, 1)).await;
    assert_eq!(world.get("/v1/rankings/hot@former").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_page_goes_on_behind_the_last_one_shown_whatever_rose_or_fell() {
    let world = World::new().await;
    world.cache.ready();
    let items = [("a:1", 9_000), ("a:2", 8_000), ("a:3", 8_000), ("a:4", 8_000), ("a:5", 7_000), ("a:6", 6_000)];
    world.cache.cache.put_board(ranking("hot", &items, 1));
    let first = world.get("/v1/rankings/hot?limit=2").await.body;
    assert_eq!((ids(&first), ranks(&first)), (vec!["a:1", "a:2"], vec![1, 2]));
    let next = first["next"].as_str().unwrap();
    let uri = format!("/v1/rankings/hot?limit=2&cursor={next}");
    assert_eq!(ids(&world.get(&uri).await.body), ["a:3", "a:4"]);
    // The last one shown has left, a new one leads, a:5 has risen over what was shown, and a:4 now ties behind it.
    let items = [("a:7", 20_000), ("a:5", 9_500), ("a:1", 9_000), ("a:3", 8_000), ("a:4", 8_000), ("a:6", 6_000)];
    world.cache.cache.put_board(ranking("hot", &items, 2));
    let second = world.get(&uri).await.body;
    assert_eq!((ids(&second), ranks(&second)), (vec!["a:3", "a:4"], vec![4, 5]));
    let last = world.get(&format!("/v1/rankings/hot?cursor={}", second["next"].as_str().unwrap())).await.body;
    assert_eq!((ids(&last), ranks(&last), &last["next"]), (vec!["a:6"], vec![6], &Value::Null));
    // A board that has become shorter than what was shown.
    world.cache.cache.put_board(ranking("hot", &items[..2], 3));
    assert_eq!(world.get(&uri).await.body["items"], json!([]));
    let longer: Vec<_> = (0..120).map(|i| (format!("a:{i:03}"), 500)).collect();
    let longer: Vec<_> = longer.iter().map(|(id, score)| (id.as_str(), *score)).collect();
    world.cache.cache.put_board(ranking("hot", &longer, 4));
    for (limit, len) in [("", 50), ("?limit=100", 100), ("?limit=1", 1)] {
        assert_eq!(ids(&world.get(&format!("/v1/rankings/hot{limit}")).await.body).len(), len);
    }
}

#[tokio::test]
async fn all_parts_of_an_answer_have_what_the_receipt_covers() {
    let world = world().await;
    let uri = |wait_ms| format!("/v1/rankings/hot?actor_id=u1&wait_ms={wait_ms}&after={}", receipt(&[(0, 10)]));
    assert_eq!(world.get(&uri(0)).await.body["after"], "pending");
    // One part after the other comes as far.
    world.move_to("rankings", 0, &[(0, 11, 6_000), (1, 10, 6_000)]).await;
    assert_eq!(world.get(&uri(30)).await.body["after"], "pending", "the counters are behind");
    for partition in [0, 1] {
        world.move_to("counters", partition, &[(0, 11, 6_000), (1, 10, 6_000)]).await;
    }
    assert_eq!(world.get(&uri(30)).await.body["after"], "pending", "the viewer's part is behind");
    let moved = async {
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        world.board(&ranking("hot", &ITEMS[..1], 1_700)).await;
        world.move_to("reactions", 0, &[(0, 11, 6_000)]).await;
    };
    let uri = uri(9_000);
    let (answer, ()) = tokio::join!(world.get(&uri), moved);
    assert_eq!(answer.body["after"], "applied");
    assert_eq!(world.get(&uri).await.body["as_of"], "2026-11-21T08:00:05.000Z", "the viewer's part");
    // In the cache.
    world.cache.ready();
    world.cache.cache.put_board(ranking("hot", ITEMS, 1_800));
    world.cache.move_boards_to(&[(0, 10, 0), (1, 10, 0)]);
    [0, 1].into_iter().for_each(|partition| world.cache.move_to(partition, &[(0, 11, 0), (1, 10, 0)]));
    let moved = async {
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
        world.cache.cache.put_board(ranking("hot", &ITEMS[..2], 1_900));
        world.cache.move_boards_to(&[(0, 11, 0), (1, 10, 0)]);
    };
    let (answer, ()) = tokio::join!(world.get(&uri), moved);
    assert_eq!((&answer.body["after"], ids(&answer.body).len()), (&json!("applied"), 2));
    let list = format!("/v1/rankings?wait_ms=0&after={}", receipt(&[(0, 11)]));
    assert_eq!(world.get(&list).await.body["after"], "pending");
    assert_eq!(world.get(&list.replace(&receipt(&[(0, 11)]), &receipt(&[(0, 10)]))).await.body["after"], "applied");
}

#[tokio::test]
async fn what_is_not_valid_is_told() {
    let world = world().await;
    world.board(&ranking("hot@a", ITEMS, 1)).await;
    let page = world.get("/v1/rankings/hot?limit=1").await.body;
    let cursor = page["next"].as_str().unwrap();
    let forged = format!("{}A", &cursor[..cursor.len() - 1]);
    let reactions = "/v1/subjects/article:1/likes/actors";
    for id in ["u1", "u2"] {
        world.reaction(id, "likes", "article:1", true, 0).await;
    }
    let of_reactions = world.get(&format!("{reactions}?limit=1")).await.body;
    let of_reactions = of_reactions["next"].as_str().unwrap();
    for (uri, status, detail) in [
        ("/v1/rankings/nothing".to_owned(), 404, "There is no board `nothing`; boards: `hot`, `hot@a`, `quiet`."),
        ("/v1/rankings/hot@b".to_owned(), 404, "There is no board `hot@b`; boards: `hot`, `hot@a`, `quiet`."),
        ("/v1/rankings/hot?limit=0".to_owned(), 400, "`limit` must be a number from 1 to 100."),
        ("/v1/rankings/hot?limit=101".to_owned(), 400, "`limit` must be a number from 1 to 100."),
        ("/v1/rankings/hot?cursor=x".to_owned(), 400, "`cursor` was not issued by this service for this board."),
        (format!("/v1/rankings/hot?cursor={forged}"), 400, "`cursor` was not issued"),
        (format!("/v1/rankings/hot@a?cursor={cursor}"), 400, "`cursor` was not issued"),
        (format!("/v1/rankings/hot?cursor={of_reactions}"), 400, "`cursor` was not issued"),
        (format!("{reactions}?cursor={cursor}"), 400, "`cursor` was not issued"),
        ("/v1/rankings/hot?actor_id=a%20b".to_owned(), 400, "`actor_id` \"a b\""),
        ("/v1/rankings/hot?after=x".to_owned(), 400, "`after` is not a receipt"),
        (
            "/v1/rankings/hot?page=2".to_owned(),
            400,
            "Unknown query parameter `page`; this route accepts: `limit`, `cursor`",
        ),
        (
            "/v1/rankings?limit=2".to_owned(),
            400,
            "Unknown query parameter `limit`; this route accepts: `after`, `wait_ms`.",
        ),
        ("/v1/rankings/%ff".to_owned(), 400, "`board` is not percent-encoded UTF-8."),
    ] {
        let answer = world.get(&uri).await;
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!((answer.status, &*answer.content_type), (status, "application/problem+json"), "{uri}");
        assert!(answer.body["detail"].as_str().unwrap().contains(detail), "{uri}: {}", answer.body);
    }
    for i in 0..30 {
        world.board(&ranking(&format!("hot@{i:02}"), ITEMS, 1)).await;
    }
    let answer = world.get("/v1/rankings/nothing").await.body;
    assert!(answer["detail"].as_str().unwrap().ends_with("`hot@18` and 13 more."), "{answer}");
}

#[tokio::test]
async fn where_no_store_answers_boards_are_as_they_were_last_known() {
    let world = world().await;
    for table in ["boards", "sink_progress"] {
        world.store.execute(&format!("DROP TABLE {table}"), &[]).await;
    }
    for uri in ["/v1/rankings", "/v1/rankings/hot"] {
        let answer = world.get(uri).await;
        assert_eq!(
            (answer.status, answer.retry_after.as_deref()),
            (StatusCode::SERVICE_UNAVAILABLE, Some("1")),
            "{uri}"
        );
    }
    assert_eq!(world.get("/v1/rankings/nothing").await.status, StatusCode::NOT_FOUND);
    world.cache.cache.put_board(ranking("hot", &[], 1));
    world.cache.move_boards_to(&[(0, 3, 500), (1, 3, 600)]);
    let expected = json!({"board": "hot", "items": [], "as_of": "2026-11-21T08:00:00.500Z", "stale": true});
    world.expect("/v1/rankings/hot", expected).await;
    let after = format!("/v1/rankings?after={}&wait_ms=0", receipt(&[(0, 2)]));
    let list = world.get(&after).await.body;
    assert_eq!(
        (&list["stale"], &list["after"], &list["boards"][0]["items"]),
        (&json!(true), &json!("applied"), &json!(0))
    );
}

#[tokio::test]
async fn a_first_page_without_an_actor_is_shared_by_all_requests_within_its_time() {
    let mut with_pages = config();
    let pages_for = Duration::from_secs(3_600);
    with_pages.rankings = with_pages.rankings.map(|rankings| Rankings { pages_for, ..rankings });
    let world = World::with(with_pages, None).await;
    world.cache.ready();
    world.cache.cache.put_board(ranking("hot", ITEMS, 1));
    world.cache.move_boards_to(&[(0, 3, 500), (1, 3, 600)]);
    let items = async |uri: &str| world.get(uri).await.body["items"].as_array().map_or(0, Vec::len);
    let all = items("/v1/rankings/hot").await;
    assert_eq!(all, ITEMS.len());
    world.cache.cache.put_board(ranking("hot", &ITEMS[..1], 2));
    for (uri, expected) in [
        ("/v1/rankings/hot", all),
        ("/v1/rankings/hot?limit=50", all),
        ("/v1/rankings/hot?limit=49", 1),
        ("/v1/rankings/hot?actor_id=u1", 1),
        (&format!("/v1/rankings/hot?after={}", receipt(&[(0, 2)])), 1),
    ] {
        assert_eq!(items(uri).await, expected, "{uri}");
    }
    assert_eq!(world.get("/v1/rankings/hot?limit=0").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_topology_without_boards_has_none() {
    let world = World::with(ApiConfig { rankings: None, ..config() }, None).await;
    world.expect("/v1/rankings", json!({"boards": [], "as_of": "2026-11-21T08:00:00.000Z"})).await;
    let answer = world.get("/v1/rankings/hot").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.body["detail"], "There is no board `hot`; boards: none.");
}

/// A record of `rankings`.
fn record(ranking: &Ranking) -> (Vec<u8>, Vec<u8>) {
    (ranking.board.clone().into_bytes(), serde_json::to_vec(ranking).unwrap())
}

fn mark(next_offset: u64, after_ms: i64) -> (Vec<u8>, Vec<u8>) {
    let (task, roots) = ("by-board/0".to_owned(), roots(&[(0, next_offset, after_ms), (1, next_offset, after_ms)]));
    let mark = ProgressMark { task, generation: 0, roots, version: 1 };
    (ProgressMark::key(&mark.task), serde_json::to_vec(&mark).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_redis_the_log_itself_feeds_a_view_of_all_boards() {
    // No Redis listens there: what is not in the view comes from the database.
    let world = World::with(config(), Some(RedisAddress::parse("redis://127.0.0.1:1").unwrap())).await;
    fill(&world).await;
    world.append("rankings", &[record(&ranking("hot", &ITEMS[..3], 2_000)), mark(20, 7_000)]);
    let uri = format!("/v1/rankings/hot?wait_ms=9000&after={}", receipt(&[(0, 9)]));
    // The view may not be ready at first; then the database answers.
    let since = std::time::Instant::now();
    while ids(&world.get(&uri).await.body).len() != 3 {
        assert!(since.elapsed() < std::time::Duration::from_secs(60));
    }
    let next = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let older = ranking("hot", &ITEMS[..1], 1_000);
        world.append("rankings", &[record(&ranking("hot", &ITEMS[..2], 3_000)), record(&older), mark(31, 8_000)]);
    };
    let uri = format!("/v1/rankings?wait_ms=9000&after={}", receipt(&[(0, 30)]));
    let (answer, ()) = tokio::join!(world.get(&uri), next);
    let expected = json!({
        "boards": [{"board": "hot", "items": 2, "as_of": "2026-11-21T08:00:03.000Z"}, {"board": "quiet", "items": 0}],
        "as_of": "2026-11-21T08:00:08.000Z",
        "after": "applied",
    });
    assert_eq!(answer.body, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pages_of_any_size_are_the_whole_board(scores in prop::collection::vec(1..6i64, 0..40), limit in 1..12usize, cached: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let mut expected: Vec<_> = scores.iter().enumerate().map(|(i, score)| (*score, format!("a:{i}"))).collect();
            expected.sort_by(|(a, a_id), (b, b_id)| (b, a_id).cmp(&(a, b_id)));
            let items: Vec<_> = expected.iter().map(|(score, id)| (id.as_str(), *score)).collect();
            let ranking = ranking("hot", &items, 1);
            if cached {
                world.cache.ready();
                world.cache.cache.put_board(ranking);
            } else {
                world.board(&ranking).await;
            }
            let (mut seen, mut seen_ranks, mut next) = (Vec::new(), Vec::new(), String::new());
            loop {
                let answer = world.get(&format!("/v1/rankings/hot?limit={limit}{next}")).await.body;
                assert!(ids(&answer).len() <= limit);
                seen.extend(ids(&answer).into_iter().map(str::to_owned));
                seen_ranks.extend(ranks(&answer));
                let Some(cursor) = answer["next"].as_str() else { break };
                next = format!("&cursor={cursor}");
            }
            assert_eq!(seen, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
            assert!(seen_ranks.into_iter().eq(1..=seen.len() as u64));
        });
    }
}
